"""Room for checkpoints, on disks of several sizes."""

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.errors import NotReady
from search.design.experiment import Experiment
from search.preflight import disk as room_module
from search.preflight.disk import DiskEstimate, check_memory, check_room, image_memory, room
from search.preflight.prepare import in_reach
from search.preflight.warnings import notes
from search.space import Choice, SearchSpace
from tests.support.played import changed
from trainables.datasets.arrays import Dataset, Part
from trainables.on_disk import Mapped

DATASET = Dataset(
    "made", ("a", "b"), *[Part(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64))] * 3, "f00d"
)


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
    assert isinstance(found, DiskEstimate)
    return found.needed


def test_the_largest_network_counts_three_times_a_trial(
    experiment: Experiment, free: SimpleNamespace
) -> None:
    from trainables.evaluation.estimate import checkpoint_bytes

    largest = checkpoint_bytes(experiment.config({}).model, DATASET.image, 2)
    assert needed(experiment, free) == 9 * 3 * largest
    assert room(experiment, DATASET).least == 9 * largest
    assert needed(changed(experiment, trials=2), free) == 2 * 3 * largest


def test_too_little_room_is_not_ready(experiment: Experiment, free: SimpleNamespace) -> None:
    free.free = needed(experiment, free) // 3 - 1
    with pytest.raises(
        NotReady,
        match=(
            r"the checkpoints need about .* to .* GB, and storage '.*' has .* free\. "
            r"Use another --storage, or fewer --trials\."
        ),
    ):
        check_room(experiment, DATASET)
    free.free += 1
    check_room(experiment, DATASET)


def test_ample_room_is_seen_without_building_a_network(
    experiment: Experiment, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trainables.evaluation.estimate", None)
    free.free = 9 * 10**9
    assert room(experiment, DATASET) is None


def test_the_nearest_folder_that_is_there_is_asked(
    experiment: Experiment, free: SimpleNamespace, tmp_path: Path
) -> None:
    room(changed(experiment, storage=tmp_path / "not" / "yet"), DATASET)
    assert free.asked == tmp_path


def test_sizes_are_told_in_round_numbers() -> None:
    assert "the checkpoints need about 4.1 GB to 12 GB, and storage 'here' has 3.0 GB free" in str(
        DiskEstimate(4_100_000_000, 12_345_678_901, 3_000_000_000, Path("here"))
    )


def test_a_baseline_counts_by_the_images_whose_features_it_keeps(
    experiment: Experiment, free: SimpleNamespace
) -> None:
    space = SearchSpace({"model.name": Choice("svm", "tree"), "seed": Choice(1, 2)})
    one = needed(changed(experiment, space=space), free)
    part = Part(np.zeros((40, 8, 8, 1), np.uint8), np.zeros(40, np.int64))
    ten = room(
        changed(experiment, space=space), Dataset("made", ("a", "b"), part, part, part, "f00d")
    )
    assert ten is not None
    assert ten.needed == 10 * one > 0


def with_images(count: int) -> Dataset:
    """Return so many training images of 1,000 bytes, and four in each other part.

    They take no memory to speak of.
    """
    whole = Part(np.broadcast_to(np.uint8(0), (count, 10, 100, 1)), np.arange(count) % 2)
    four = Part(np.zeros((4, 10, 100, 1), np.uint8), np.arange(4) % 2)
    return replace(DATASET, train=whole, val=four, test=four)


def test_images_that_memory_cannot_hold_again_are_refused_or_told(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that train get the images in memory that all processes share."""
    dataset = with_images(10**6)
    labels = 8  # bytes an image
    assert image_memory(dataset).needed == (10**6 + 4) * (1000 + labels)
    assert image_memory(replace(dataset, val=dataset.train, folds=3)).needed == 10**6 * (
        1000 + labels
    )
    said = "the images need 1.0 GB of memory in the training processes, and {} is free. "
    said += (
        "Use smaller images (--set data.image_size=N) or fewer images (--set data.train_limit=N)."
    )
    monkeypatch.setattr(room_module, "free_memory", lambda: 900_000_000)
    with pytest.raises(NotReady) as caught:
        check_memory(dataset, is_local=True)
    assert str(caught.value) == said.format("0.9 GB")
    small = with_images(10)
    for free, told in ((15_000, ["warning"]), (10**9, [])):
        monkeypatch.setattr(room_module, "free_memory", lambda free=free: free)
        check_memory(small, is_local=True)
        assert [
            line.partition(":")[0]
            for line in notes(experiment, small)
            if "of memory in the training processes" in line
        ] == told


@dataclass(frozen=True)
class Inspected:
    """The field of an `InspectedData` that counts here."""

    dataset: Dataset


def test_images_in_a_file_need_memory_only_for_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.arange(10 * 1000, dtype=np.uint8).reshape(10, 20, 50, 1)
    np.save(tmp_path / "images.npy", images)
    mapped = Mapped.whole(tmp_path / "images.npy", tmp_path / "images.npy", "f00d")
    parts = [Part(mapped.take(np.arange(*span)), np.zeros(3, int)) for span in ((0, 3), (3, 6))]
    dataset = replace(with_images(3), train=parts[0], val=parts[1], test=None)
    assert image_memory(dataset).needed == 2 * 3 * 8, "targets alone"
    assert image_memory(dataset, is_local=False).needed == 2 * 2 * 3 * 1008, "here, and in Ray"
    inspection: Any = Inspected(dataset)
    assert in_reach(inspection, is_local=True) is inspection
    sent = in_reach(inspection, is_local=False).dataset
    assert np.array_equal(sent.val.images, images[3:6])
    assert isinstance(sent.train.images, np.ndarray)
    monkeypatch.setattr(room_module, "free_memory", lambda: 12_000)
    in_reach(inspection, is_local=True)
    with pytest.raises(NotReady, match="the images need"):
        in_reach(inspection, is_local=False)
