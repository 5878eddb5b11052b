"""How much memory there is, and that no more is taken than is needed."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trainables import machine
from trainables.config import DataConfig
from trainables.datasets import arrays, cache
from trainables.datasets.arrays import Dataset, Decoded, Part, PartSubset
from trainables.datasets.load import Whole, divide, load
from trainables.errors import DataError
from trainables.machine import free_memory, require_memory


def peak(call) -> int:
    """Bytes that were taken at most at once, beside those before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def large(monkeypatch):
    """Images of 6 MB, gone through in twenty times."""
    monkeypatch.setattr(arrays, "CHUNK", 300_000)
    images = np.random.default_rng(0).integers(0, 256, (1000, 50, 40, 3), dtype=np.uint8)
    return Part(images, np.arange(1000) % 2)


@pytest.mark.parametrize(
    "kind",
    [lambda part: part, lambda part: PartSubset(part, np.arange(0, 1000, 2))],
    ids=["whole", "selected"],
)
def test_statistics_and_fingerprints_need_no_second_copy_of_the_images(kind, large):
    part = kind(large)
    dataset = Dataset("made", ("a", "b"), part, large, None, "f00d")
    found = {}
    taken = peak(
        lambda: found.update(statistics=dataset.channel_statistics, fingerprint=part.fingerprint)
    )
    assert taken < 2_500_000
    mean, deviation = found["statistics"]
    np.testing.assert_allclose(mean, part.images.mean(axis=(0, 1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(deviation, part.images.std(axis=(0, 1, 2)) / 255, rtol=1e-4)
    assert found["fingerprint"] == Part(part.images.copy(), part.targets).fingerprint


def test_a_whole_data_sets_fingerprint_needs_no_copy(large):
    reversed_ = Part(large.images[:, ::-1], large.targets)  # not as it lies in memory
    assert peak(lambda: Decoded(("a", "b"), reversed_).fingerprint) < 2_500_000


@pytest.mark.parametrize("is_test_given", [False, True])
def test_a_given_validation_part_is_divided_among_folds_without_a_second_copy(is_test_given, large):
    """What the folds get is one copy of the images, whichever part they are of."""
    first, other = large.take(np.arange(0, 1000, 3)), large.take(np.arange(1, 1000, 3))
    decoded = Decoded(
        ("a", "b"), first, first.take(np.arange(9)) if is_test_given else None, val=other
    )
    found, config = [], DataConfig(name="folder", folds=3)
    taken = peak(lambda: found.append(divide(Whole(decoded, None), config)[0]))
    assert taken < 1.25 * (first.size + other.size)
    (dataset,) = found
    both = np.concatenate([first.images, other.images])
    parts = [dataset.train.images] if is_test_given else [dataset.train.images, dataset.test.images]
    assert sorted(image.tobytes() for image in np.concatenate(parts)) == sorted(
        image.tobytes() for image in both
    )
    labels = dict(
        zip(
            (image.tobytes() for image in both),
            np.concatenate([first.targets, other.targets]),
            strict=True,
        )
    )
    assert [
        labels[image.tobytes()] for image in dataset.train.images
    ] == dataset.train.targets.tolist()


def test_images_with_masks_that_do_not_fit_are_refused_before_they_are_decoded(
    monkeypatch, tmp_path, write_images
):
    from trainables.tasks.segmentation import reading as folder

    for name in ("images", "masks"):
        write_images(tmp_path / name, 5)
    monkeypatch.setattr(cache, "free_memory", lambda: 200)
    monkeypatch.setenv("IMAGE_CACHE_GB", "0")
    monkeypatch.setattr(folder, "decode_telling", lambda *arguments: pytest.fail("decoded"))
    text = (
        r"^the decoded images need at least 0\.0 GB of memory, but only 0\.0 GB are free, and the "
        r"cache on the disk is limited to 0\.0 GB\. Raise that limit \(IMAGE_CACHE_GB=N\), or use "
        r"smaller images \(--set data\.image_size=N\), fewer images, or a machine with more "
        r"memory\.$"
    )
    with pytest.raises(DataError, match=text):
        load(DataConfig(name="folder", root=str(tmp_path), task="segmentation"))


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 10**9)
    require_memory(1000, (1000, 1000, 1))
    with pytest.raises(
        DataError,
        match=(
            r"^1,001 images of 1000 x 1000 pixels need 1\.0 GB of memory, but only 1\.0 GB are "
            r"free\."
        ),
    ):
        require_memory(1001, (1000, 1000, 1))


@pytest.fixture
def _available(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 9 kB of memory that programs may still take."""
    memory = SimpleNamespace(available=9 * 1024)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize(
    ("used", "limit", "free"),
    [
        ("1000", "1500", 800),  # 500 are left, and 300 are files
        ("1500", "1100", 0),
        ("1000", "20000", 9 * 1024),
        ("1000", "max", 9 * 1024),
        (None, None, 9 * 1024),
    ],
)
@pytest.mark.usefixtures("_available")
def test_what_is_free_is_what_machine_and_container_leave(used, limit, free, tmp_path: Path):
    """Files in a container's memory are given back, those that were read twice as well."""
    if used:
        for name, text in (
            ("current", used),
            ("max", limit),
            ("stat", "anon 700\ninactive_file 200\nactive_file 100\nfile 300\n"),
        ):
            (tmp_path / f"memory.{name}").write_text(text)
    assert free_memory(tmp_path, tmp_path / "own") == free


@pytest.mark.usefixtures("_available")
@pytest.mark.parametrize("group", ["/", "/one/two"])
def test_the_limit_of_an_older_container_counts(group: str, tmp_path: Path):
    """In version 1, the groups of memory have a folder of their own."""
    own = tmp_path / "memory" / group[1:]
    own.mkdir(parents=True)
    for name, text in (
        ("usage_in_bytes", "1000"),
        ("limit_in_bytes", "1500"),
        ("stat", "inactive_file 9\ntotal_inactive_file 200\ntotal_active_file 100\n"),
    ):
        (own / f"memory.{name}").write_text(text)
    (tmp_path / "own").write_text(f"5:cpu,cpuacct:/\n4:memory:{group}\n0::/\n")
    assert free_memory(tmp_path, tmp_path / "own") == 800
    (tmp_path / "own").write_text("4:memory:/docker/0a1b\n")
    if group == "/":  # the container's group, mounted as the topmost one
        assert free_memory(tmp_path, tmp_path / "own") == 800


def test_this_machines_memory_is_known():
    assert 10**7 < free_memory() < 10**14
