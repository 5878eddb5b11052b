"""What a promoted classifier keeps of its validation images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.errors import DataError
from trainables.export import image_features, predictor, reference
from trainables.export.image_features import features_of, shown


@pytest.fixture
def kept(make_dataset, tmp_path: Path):
    """Write the reference of a data set, whose classes lie one behind another, and read it."""

    def make(count: int = 30, **changes: object):
        dataset = replace(make_dataset(side=8, train=12, val=count), **changes)
        chances = np.random.default_rng(0).dirichlet([1] * len(dataset.classes), count)
        (tmp_path / predictor.ABOUT).write_text(
            json.dumps({"classes": dataset.classes, "image": [8, 8, 1]})
        )
        reference.write(tmp_path, dataset, chances[reference.sample(dataset)])
        return dataset, chances, reference.read(tmp_path)

    return make


def test_targets_probabilities_and_features_are_of_one_image(kept, monkeypatch) -> None:
    monkeypatch.setattr(reference, "IMAGES", 20)
    dataset, chances, found = kept()
    rows = reference.sample(dataset)
    assert len(set(rows)) == 20
    assert list(rows) != sorted(rows)  # so that the first of them are a sample too
    assert found.targets.tolist() == dataset.val.targets[rows].tolist()
    assert np.allclose(found.probabilities, chances[rows], atol=1e-6)
    assert np.allclose(found.features, features_of(dataset.val.images[rows]))


def test_networks_of_folds_have_seen_all_and_say_nothing(kept) -> None:
    _, _, found = kept(folds=2)
    assert found.probabilities.shape == (0, len(found.classes))
    assert len(found.features) == 30


def test_images_themselves_are_not_kept(kept, tmp_path: Path) -> None:
    kept()
    with np.load(tmp_path / reference.FILE) as file:
        assert set(file) == {"version", "targets", "probabilities", "features"}
        assert file["features"].shape[1] < 8 * 8


def test_features_of_another_version_are_refused(kept, tmp_path: Path, monkeypatch) -> None:
    kept()
    monkeypatch.setattr(image_features, "VERSION", 2)
    with pytest.raises(DataError, match="another version: promote it again"):
        reference.read(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_tell_what_people_see(channels: int) -> None:
    generator = np.random.default_rng(0)
    plain = generator.integers(60, 120, (5, 16, 20, channels)).astype(np.uint8)
    brighter, flat = plain + 60, np.full_like(plain, 90)
    before, lighter, even = (shown(features_of(some), channels) for some in (plain, brighter, flat))
    assert ("colour" in before) == (channels == 3)
    assert np.all(lighter["brightness"] > before["brightness"] + 0.2)
    assert np.allclose(lighter["contrast"], before["contrast"], atol=1e-5)
    assert np.all(even["fine detail"] < before["fine detail"] - 2)
    assert np.all(even["contrast"] < before["contrast"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 3), (8, 8, 1), (224, 224, 3)])
def test_images_of_any_size_have_finite_features(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    assert np.isfinite(features_of(images)).all()
