"""What a promoted classifier keeps of its validation images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.errors import DataError
from trainables.export import reference
from trainables.export.reference import EarlierImages
from trainables.predictors import base as predictor


@pytest.fixture
def kept(make_dataset, tmp_path: Path):
    """Write the reference of a data set, whose classes lie one behind another, and read it."""

    def make(count: int = 30, **changes: object):
        dataset = replace(make_dataset(side=8, train=12, val=count), **changes)
        chances = np.random.default_rng(0).dirichlet([1] * len(dataset.classes), count)
        (tmp_path / predictor.DESCRIPTION).write_text(
            json.dumps({"classes": dataset.classes, "image": [8, 8, 1]})
        )
        reference.write(tmp_path, dataset, chances[reference.sample(dataset)])
        return dataset, chances, reference.read(tmp_path)

    return make


def test_targets_and_probabilities_are_of_one_image(kept, monkeypatch) -> None:
    monkeypatch.setattr(reference, "IMAGES", 20)
    dataset, chances, found = kept()
    rows = reference.sample(dataset)
    assert len(set(rows)) == 20
    assert list(rows) != sorted(rows)  # so that the first of them are a sample too
    assert found.targets.tolist() == dataset.val.targets[rows].tolist()
    assert np.allclose(found.probabilities, chances[rows], atol=1e-6)


def test_networks_of_folds_have_seen_all_and_say_nothing(kept) -> None:
    _, _, found = kept(folds=2)
    assert found.probabilities.shape == (0, len(found.classes))
    assert len(found.targets) == 30


def test_images_themselves_are_not_kept(kept, tmp_path: Path) -> None:
    kept()
    with np.load(tmp_path / reference.FILE) as file:
        assert set(file) == {"version", "targets", "probabilities"}


def test_another_version_is_refused(kept, tmp_path: Path, monkeypatch) -> None:
    kept()
    monkeypatch.setattr(reference, "VERSION", 2)
    with pytest.raises(
        DataError,
        match=r"was written by another version of this program\. Promote the model again\.",
    ):
        reference.read(tmp_path)


def met(count: int, classes: int = 3) -> EarlierImages:
    generator = np.random.default_rng(0)
    return EarlierImages(
        generator.dirichlet([1] * classes, count),
        generator.dirichlet([1] * classes, count),
        generator.integers(classes, size=count),
        generator.random(count).astype(np.float32),
        reference.short([f"{number:064x}"[::-1] for number in range(count)]),
    )


def test_what_was_met_before_goes_there_and_back(kept, tmp_path: Path) -> None:
    _, _, before = kept()
    assert before.earlier is None
    classes = len(before.classes)
    reference.add(tmp_path, met(40, classes))
    after = reference.read(tmp_path)
    assert after.earlier is not None
    for name in ("probabilities", "labelled", "targets", "luck"):
        assert np.allclose(getattr(after.earlier, name), getattr(met(40, classes), name), atol=1e-6)
    assert after.earlier.was_trained_on(f"{39:064x}"[::-1])
    assert not after.earlier.was_trained_on(f"{40:064x}"[::-1])
    for name in ("targets", "probabilities"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    reference.add(tmp_path, met(7, classes))  # in the place of what was there
    assert len(reference.read(tmp_path).earlier.probabilities) == 7


def test_features_that_an_earlier_version_wrote_are_ignored(kept, tmp_path: Path) -> None:
    _, _, plain = kept()
    reference.add(tmp_path, met(40))
    arrays = dict(np.load(tmp_path / reference.FILE))
    arrays |= {"features": np.zeros((30, 40)), "met_features": np.zeros((40, 40))}
    np.savez_compressed(tmp_path / reference.FILE, **arrays)
    found = reference.read(tmp_path)
    assert np.array_equal(found.probabilities, plain.probabilities)
    assert len(found.earlier.probabilities) == 40


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
    found = reference.read(tmp_path).earlier
    assert [len(some) for some in (found.probabilities, found.labelled)] == [20] * 2
    assert len(found.targets) == len(found.luck) == 20
    assert len(found.trained) == 10
    assert found.was_trained_on(f"{39:064x}"[::-1])  # the latest


def test_a_part_of_it_that_is_missing_is_told(kept, tmp_path: Path) -> None:
    kept()
    reference.add(tmp_path, met(40))
    arrays = dict(np.load(tmp_path / reference.FILE))
    del arrays["met_targets"]
    np.savez_compressed(tmp_path / reference.FILE, **arrays)
    with pytest.raises(DataError, match=r"cannot be read\. Promote the model again\."):
        reference.read(tmp_path)
