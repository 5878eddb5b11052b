"""Images that stay in their file: everything is equal to what it is with images in memory."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.baselines.base import load_baseline
from trainables.caches import evict
from trainables.config import DataConfig, TrialConfig
from trainables.datasets import cache
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.mapped import Mapped
from trainables.training.loop import Training

Both = Callable[..., tuple[Dataset, Dataset]]
SMALL = {
    "model.name": "mnist_cnn",
    "model.width": 4,
    "epochs": 2,
    "batch_size": 16,
    "augment.crop": 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """150 colour images of 12 x 10 pixels in three classes."""
    generator = np.random.default_rng(0)
    for number in range(150):
        file = tmp_path / "data" / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 160, (10, 12, 3)) + 40 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "data"


@pytest.fixture
def both(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Both:
    """Loads the folder with images in memory, and with images that stay in their file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load_both(**options: object) -> tuple[Dataset, Dataset]:
        config = DataConfig(name="folder", root=str(folder), **options)  # type: ignore[arg-type]
        in_memory = load(config)
        with monkeypatch.context() as patched:
            patched.setattr(cache, "is_large", lambda size: True)
            return in_memory, load(config)

    return load_both


def test_the_parts_are_the_same_images_and_copy_nothing(both: Both) -> None:
    in_memory, mapped = both()
    assert mapped.fingerprint == in_memory.fingerprint
    for name in ("train", "val", "test"):
        one, other = getattr(in_memory, name), getattr(mapped, name)
        assert isinstance(other.images, Mapped)
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.targets, other.targets)
        assert one.names == other.names
        assert one.shape == other.shape
        assert other.memory == other.targets.nbytes
    assert all(map(np.array_equal, in_memory.channel_statistics, mapped.channel_statistics))


def test_what_takes_long_to_count_is_counted_once(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory, mapped = both()
    expected, _ = in_memory.channel_statistics, mapped.channel_statistics
    again = pickle.loads(pickle.dumps(mapped.sealed))  # noqa: S301 - as another process gets it
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


def test_a_pickle_has_the_path_and_reads_the_same_images(both: Both) -> None:
    _, mapped = both()
    assert len(mapped.train.images[:2]) == 2  # mapped by now
    pickled = pickle.dumps(mapped.train)
    assert len(pickled) < mapped.train.size / 2
    again = pickle.loads(pickled)  # noqa: S301 - just written
    assert np.array_equal(again.images, mapped.train.images)
    assert isinstance(mapped.in_memory.train.images, np.ndarray)
    assert np.array_equal(mapped.in_memory.val.images, mapped.val.images)


def test_the_next_batch_is_read_ahead(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system hears of the rows of a batch before the batch in front of it is used."""
    _, mapped = both()
    calls: list[object] = []
    expect, get = Mapped.expect, Mapped.__getitem__

    def expecting(self: Mapped, rows: Any) -> None:
        calls.append(len(rows))
        expect(self, rows)

    def reading(self: Mapped, rows: Any) -> Any:
        calls.append("read")
        return get(self, rows)

    training = Training(TrialConfig().override(SMALL), mapped)
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


def test_a_file_that_was_removed_stays_readable_and_is_decoded_again(
    both: Both, tmp_path: Path
) -> None:
    in_memory, mapped = both()
    for file in (tmp_path / "cache").rglob("train-images.npy"):
        file.unlink()
    assert np.array_equal(mapped.train.images, in_memory.train.images)
    del mapped
    _, again = both()
    assert np.array_equal(again.train.images, in_memory.train.images)


def test_an_entry_in_use_is_not_evicted_and_mapped_once(both: Both, tmp_path: Path) -> None:
    _, mapped = both()
    assert mapped.val.images.array is mapped.train.images.array
    (entry,) = (tmp_path / "cache").rglob("entry.json")
    folder, parts = entry.parent.parent, [mapped.val, mapped.train]
    del mapped
    evict(folder, 0, name="entry.json", spare=tmp_path)
    assert entry.exists(), "some of its images are in use"
    parts.clear()
    evict(folder, 0, name="entry.json", spare=tmp_path)
    assert not entry.exists()
