"""Images that stay on the disk: everything is equal to what it is with images in memory.

They are either decoded in a file, or decoded whenever they are used.
"""

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.baselines.base import load_baseline
from trainables.config import DataConfig, TrialConfig
from trainables.datasets import cache
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.disk import evict
from trainables.on_disk import Encoded, Mapped
from trainables.tasks.classification.training import Classification
from trainables.tasks.pixels import Pixels
from trainables.training.loop import Training

Both = Callable[..., tuple[Dataset, Dataset]]
SMALL = {
    "model.name": "mnist_cnn",
    "model.width": 4,
    "epochs": 2,
    "batch_size": 16,
    "augment.crop": 2,
}


ON_DISK = {"mapped": Mapped, "encoded": Encoded}
only_mapped = pytest.mark.parametrize("both", ["mapped"], indirect=True)


@pytest.fixture(params=ON_DISK)
def both(
    request: pytest.FixtureRequest,
    write_noise: Callable[[], Path],
    little_room: Callable[[], AbstractContextManager[pytest.MonkeyPatch]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Both:
    """Loads a folder with images in memory, and with images that stay on the disk."""
    folder = write_noise()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load_both(**options: object) -> tuple[Dataset, Dataset]:
        config = DataConfig(name="folder", root=str(folder), **options)  # type: ignore[arg-type]
        in_memory = load(config)
        if request.param == "encoded":
            with little_room():
                on_disk = load(config)
        else:
            with monkeypatch.context() as patched:
                patched.setattr(cache, "is_large", lambda size: True)
                on_disk = load(config)
        assert type(on_disk.train.images) is ON_DISK[request.param]
        return in_memory, on_disk

    return load_both


def test_the_parts_are_the_same_images_and_copy_nothing(both: Both) -> None:
    in_memory, on_disk = both()
    assert on_disk.fingerprint == in_memory.fingerprint
    for name in ("train", "val", "test"):
        one, other = getattr(in_memory, name), getattr(on_disk, name)
        assert type(other.images) is type(on_disk.train.images)
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.targets, other.targets)
        assert one.names == other.names
        assert one.shape == other.shape
        assert other.memory == other.targets.nbytes
    assert all(map(np.array_equal, in_memory.channel_statistics, on_disk.channel_statistics))


def test_what_takes_long_to_count_is_counted_once(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory, on_disk = both()
    expected, _ = in_memory.channel_statistics, on_disk.channel_statistics
    again = pickle.loads(pickle.dumps(on_disk.sealed))  # noqa: S301 - as another process gets it
    monkeypatch.setattr(Part, "chunks", lambda part: pytest.fail("counted again"))
    assert all(map(np.array_equal, again.channel_statistics, expected))


@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"train_limit": 30}])
def test_a_training_is_equal_to_the_last_bit(both: Both, options: dict[str, int]) -> None:
    each = [dataset.of_one_network() for dataset in both(**options)]
    config = TrialConfig().override(SMALL)
    trainings = [Training(config, dataset) for dataset in each]
    one, other = ([epoch.values for epoch in training.epochs()] for training in trainings)
    for metrics in (*one, *other):
        del metrics["time/epoch_s"]
    assert one == other
    weights, same = (training.network.state_dict() for training in trainings)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_a_training_that_is_killed_anywhere_goes_on_with_exactly_the_next_images(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at 20 random steps, each some steps after the last state that was saved.

    The images of all steps, and the weights at the end, are those of an undisturbed training.
    """
    in_memory, on_disk = both()
    config = TrialConfig().override({**SMALL, "batch_size": 4})
    seen = list[tuple[int, ...]]()
    build = Classification.batch

    def noting(self: Classification, pixels: Pixels, rows: Any, changes: Any = None) -> Any:
        if changes is not None:
            seen.append(tuple(rows.tolist()))
        return build(self, pixels, rows, changes)

    monkeypatch.setattr(Classification, "batch", noting)
    undisturbed = Training(config, in_memory)
    epochs = [epoch.values["val/loss"] for epoch in undisturbed.epochs()]
    expected, steps = list(seen), len(seen) // config.epochs
    generator = np.random.default_rng(0)
    within = [step for step in range(1, 2 * steps) if step % steps]
    for saved in generator.choice(within, 20, replace=False):
        seen.clear()
        states = list[tuple[Any, Any]]()
        end = min(saved + generator.integers(0, 5), 2 * steps)

        def pause(
            state_of: Callable[[], tuple[Any, Any]],
            saved: int = saved,
            end: int = end,
            states: list[tuple[Any, Any]] = states,
        ) -> None:
            if len(seen) == saved:
                states.append(pickle.loads(pickle.dumps(state_of())))  # noqa: S301 - just written
            if len(seen) == end:
                raise Killed

        killed = Training(config, on_disk)
        killed.pause = pause
        with pytest.raises(Killed):
            list(killed.epochs())
        del seen[saved:]
        resumed = Training(config, on_disk)
        resumed.load_within(*states[0])
        metrics = [epoch.values["val/loss"] for epoch in resumed.epochs()]
        assert seen == expected
        assert metrics == epochs[-len(metrics) :]
        weights, same = (each.network.state_dict() for each in (undisturbed, resumed))
        assert all(torch.equal(weights[name], same[name]) for name in weights)


class Killed(Exception):
    """Stands for the end of a process."""


def test_a_pickle_has_the_path_and_reads_the_same_images(both: Both) -> None:
    _, on_disk = both()
    assert len(on_disk.train.images[:2]) == 2  # opened by now
    pickled = pickle.dumps(on_disk.train)
    assert len(pickled) < on_disk.train.size / 2
    again = pickle.loads(pickled)  # noqa: S301 - just written
    assert np.array_equal(again.images, on_disk.train.images)
    assert isinstance(on_disk.in_memory.train.images, np.ndarray)
    assert np.array_equal(on_disk.in_memory.val.images, on_disk.val.images)


@only_mapped
def test_the_next_batch_is_read_ahead(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system hears of the rows of a batch before the batch in front of it is used."""
    _, on_disk = both()
    calls: list[object] = []
    expect, get = Mapped.expect, Mapped.__getitem__

    def expecting(self: Mapped, rows: Any) -> None:
        calls.append(len(rows))
        expect(self, rows)

    def reading(self: Mapped, rows: Any) -> Any:
        calls.append("read")
        return get(self, rows)

    training = Training(TrialConfig().override(SMALL), on_disk)
    monkeypatch.setattr(Mapped, "expect", expecting)
    monkeypatch.setattr(Mapped, "__getitem__", reading)
    training.next_epoch()
    # The first batch is read only once the second is expected, and so on.
    assert calls[:6] == [16, "read", 16, 16, "read", 16]


def test_features_and_evaluations_are_equal(both: Both) -> None:
    config = TrialConfig().override({"model.name": "knn", "model.features": "edges"})
    baseline: Any = load_baseline(config)
    values = [
        baseline.probabilities(
            baseline.fit(dataset), baseline.features(dataset.val, dataset), dataset
        )
        for dataset in both()
    ]
    assert np.array_equal(*values)


@only_mapped
def test_a_file_that_was_removed_stays_readable_and_is_decoded_again(
    both: Both, tmp_path: Path
) -> None:
    in_memory, on_disk = both()
    for file in (tmp_path / "cache").rglob("train-images.npy"):
        file.unlink()
    assert np.array_equal(on_disk.train.images, in_memory.train.images)
    del on_disk
    _, again = both()
    assert np.array_equal(again.train.images, in_memory.train.images)


@only_mapped
def test_an_entry_in_use_is_not_evicted_and_mapped_once(both: Both, tmp_path: Path) -> None:
    _, on_disk = both()
    assert on_disk.val.images.array is on_disk.train.images.array
    (entry,) = (tmp_path / "cache").rglob("entry.json")
    folder, parts = entry.parent.parent, [on_disk.val, on_disk.train]
    del on_disk
    evict(folder, 0, name="entry.json", spare=tmp_path)
    assert entry.exists(), "some of its images are in use"
    parts.clear()
    evict(folder, 0, name="entry.json", spare=tmp_path)
    assert not entry.exists()
