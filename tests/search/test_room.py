"""Room for checkpoints, on disks of several sizes."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cluster.errors import NotReady
from search.experiment import Experiment
from search.room import Room, check_room, room
from search.space import Choice, SearchSpace
from tests.search.conftest import changed
from trainables.datasets.arrays import Dataset, Part

DATASET = Dataset("made", ("a", "b"), *[Part(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64))] * 3, "f00d")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The free bytes, as the disk tells them."""
    disk = SimpleNamespace(free=0, asked=None)

    def usage(path: Path) -> SimpleNamespace:
        disk.asked = path
        return disk

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return disk


def needed(experiment: Experiment, free: SimpleNamespace) -> int:
    found = room(experiment, DATASET)
    assert isinstance(found, Room)
    return found.needed


def test_the_largest_network_counts_three_times_a_trial(experiment: Experiment, free: SimpleNamespace) -> None:
    from trainables.estimate import checkpoint_bytes

    largest = checkpoint_bytes(experiment.config({}).model, DATASET.image, 2)
    assert needed(experiment, free) == 9 * 3 * largest
    assert room(experiment, DATASET).least == 9 * largest
    assert needed(changed(experiment, trials=2), free) == 2 * 3 * largest


def test_too_little_room_is_not_ready(experiment: Experiment, free: SimpleNamespace) -> None:
    free.free = needed(experiment, free) // 3 - 1
    with pytest.raises(NotReady, match=r"needs about .* to .* GB for checkpoints, .* are free\. Use another --storage, or fewer --trials\."):
        check_room(experiment, DATASET)
    free.free += 1
    check_room(experiment, DATASET)


def test_ample_room_is_seen_without_building_a_network(experiment: Experiment, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trainables.estimate", None)
    free.free = 9 * 10**9
    assert room(experiment, DATASET) is None


def test_the_nearest_folder_that_is_there_is_asked(experiment: Experiment, free: SimpleNamespace, tmp_path: Path) -> None:
    room(changed(experiment, storage=tmp_path / "not" / "yet"), DATASET)
    assert free.asked == tmp_path


def test_sizes_are_told_in_round_numbers() -> None:
    assert "needs about 4.1 GB to 12 GB for checkpoints, 3.0 GB are free" in str(Room(4_100_000_000, 12_345_678_901, 3_000_000_000, Path("here")))


def test_a_baseline_counts_by_the_images_whose_features_it_keeps(experiment: Experiment, free: SimpleNamespace) -> None:
    space = SearchSpace({"model.name": Choice("svm", "tree"), "seed": Choice(1, 2)})
    one = needed(changed(experiment, space=space), free)
    part = Part(np.zeros((40, 8, 8, 1), np.uint8), np.zeros(40, np.int64))
    ten = room(changed(experiment, space=space), Dataset("made", ("a", "b"), part, part, part, "f00d"))
    assert ten is not None
    assert ten.needed == 10 * one > 0
