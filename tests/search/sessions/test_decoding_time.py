"""The estimate of a search whose images are decoded whenever they are used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.sessions import estimate
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.images import files_to_decode
from trainables.on_disk import Encoded, stamp_of


@pytest.fixture
def on_disk(tmp_path: Path) -> Dataset:
    """Six training images and two validation images, which are decoded whenever they are used."""
    names = [f"{number}.png" for number in range(8)]
    for name in names:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    stamps = np.array([stamp_of(tmp_path / name) for name in names])
    images = Encoded.whole(files_to_decode(tmp_path, names, stamps, (8, 8, 3), None))
    train, val = (
        Part(images.take(rows), np.arange(len(rows)) % 2) for rows in np.split(np.arange(8), [6])
    )
    return Dataset("made", ("a", "b"), train, val, None, "f00d")


def test_decoding_counts_in_the_time_of_an_epoch(
    on_disk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "images_per_second", lambda images: 4.0)
    seconds, notes = estimate._with_decoding([1.0, 9.0], on_disk, 3, "cpu")
    assert seconds == [7.0, 15.0], "three trials share the speed of 8 images in two seconds"
    assert notes == [
        "note: this machine decodes about 4 images a second (measured on a sample), so that an "
        "epoch takes at least 6 s, with 3 trials at once."
    ]
    assert estimate._with_decoding([1.0, 9.0], on_disk, 3, "cuda")[0] == [6.0, 9.0]
    folded = replace(on_disk, val=on_disk.train, folds=4)
    assert estimate._with_decoding([1.0], folded, 1, "cpu")[0] == [1.0 + 6 * 4 / 4.0]


def test_the_speed_is_measured(on_disk: Dataset) -> None:
    ((seconds,), (note,)) = estimate._with_decoding([0.0], on_disk, 1, "cpu")
    assert 0 < seconds < 60
    assert note.startswith("note: this machine decodes about ")


def test_images_in_memory_take_no_time(on_disk: Dataset) -> None:
    in_memory = replace(on_disk, train=on_disk.train.copied, val=on_disk.val.copied)
    assert estimate._with_decoding([1.0], in_memory, 1, "cpu") == ([1.0], [])
