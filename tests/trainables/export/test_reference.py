"""What a promoted classifier keeps of its validation images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.errors import DataError
from trainables.export import image_features, predictor, reference
from trainables.export.image_features import features_of, shown
from trainables.export.reference import Met


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


def met(count: int, classes: int = 3) -> Met:
    generator = np.random.default_rng(0)
    return Met(
        generator.normal(size=(count, 5)).astype(np.float32),
        generator.dirichlet([1] * classes, count),
        generator.dirichlet([1] * classes, count),
        generator.integers(classes, size=count),
        generator.random(count).astype(np.float32),
        reference.short([f"{number:064x}"[::-1] for number in range(count)]),
    )


def test_what_was_met_before_goes_there_and_back(kept, tmp_path: Path) -> None:
    _, _, before = kept()
    assert before.met is None
    classes = len(before.classes)
    reference.add(tmp_path, met(40, classes))
    after = reference.read(tmp_path)
    assert after.met is not None
    for name in ("features", "probabilities", "labelled", "targets", "luck"):
        assert np.allclose(getattr(after.met, name), getattr(met(40, classes), name), atol=1e-6)
    assert after.met.was_trained_on(f"{39:064x}"[::-1])
    assert not after.met.was_trained_on(f"{40:064x}"[::-1])
    for name in ("targets", "probabilities", "features"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    reference.add(tmp_path, met(7, classes))  # in the place of what was there
    assert len(reference.read(tmp_path).met.features) == 7


def test_a_version_that_knows_nothing_of_it_reads_the_rest(kept, tmp_path: Path) -> None:
    """It takes the arrays that it knows, by their names, at their version."""
    kept()
    old = dict(np.load(tmp_path / reference.FILE))
    reference.add(tmp_path, met(40))
    new = dict(np.load(tmp_path / reference.FILE))
    assert all(np.array_equal(new[name], values) for name, values in old.items())
    assert all(name.startswith("met_") for name in new.keys() - old.keys())


def test_what_was_met_before_is_bounded(kept, tmp_path: Path, monkeypatch) -> None:
    kept()
    monkeypatch.setattr(reference, "IMAGES", 20)
    monkeypatch.setattr(reference, "NAMES", 10)
    reference.add(tmp_path, met(40))
    found = reference.read(tmp_path).met
    assert [len(some) for some in (found.features, found.probabilities, found.labelled)] == [20] * 3
    assert len(found.targets) == len(found.luck) == 20
    assert len(found.trained) == 10
    assert found.was_trained_on(f"{39:064x}"[::-1])  # the latest


def test_a_part_of_it_that_is_missing_is_told(kept, tmp_path: Path) -> None:
    kept()
    reference.add(tmp_path, met(40))
    arrays = dict(np.load(tmp_path / reference.FILE))
    del arrays["met_targets"]
    np.savez_compressed(tmp_path / reference.FILE, **arrays)
    with pytest.raises(DataError, match="cannot be read: promote it again"):
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
