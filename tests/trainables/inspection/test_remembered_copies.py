"""What was found among many images, on disk."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainables.inspection.test_copies import photographs
from tests.trainables.inspection.test_leaks import FOLDER, named
from trainables.datasets.arrays import Dataset
from trainables.inspection import remembered


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of which copies are remembered, below `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(remembered, "MIN_IMAGES", 10)
    images = photographs(30, side=32)
    images[25] = images[3]
    return Dataset(
        "folder", ("a", "b"), named(images[:20], "train"), named(images[20:], "val"), None, "f00d"
    )


def test_copies_are_looked_for_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = remembered.copies_in(dataset, FOLDER)
    monkeypatch.delattr(remembered, "find_copies")
    np.testing.assert_array_equal(remembered.copies_in(dataset, FOLDER).original, first.original)
    assert first.original[25] == 3


def test_a_damaged_entry_is_found_anew(dataset: Dataset, tmp_path: Path) -> None:
    first = remembered.copies_in(dataset, FOLDER)
    (file,) = tmp_path.rglob(remembered.FILE)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(remembered.copies_in(dataset, FOLDER).original, first.original)
    assert file.stat().st_size == len(whole)
