"""Images that are decoded from their own files whenever they are used."""

import math
import os
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.on_disk.conftest import leave_little_room
from trainables import trial
from trainables.config import DataConfig, TrialConfig
from trainables.datasets import cache
from trainables.datasets.arrays import Dataset, Decoded
from trainables.datasets.load import load, read
from trainables.disk import cache_folder
from trainables.errors import DataError
from trainables.inspection.copies import find_copies
from trainables.messages import Report
from trainables.on_disk import AHEAD, BATCHES, Encoded, EncodedFiles, images_per_second
from trainables.tasks.classification import reading as folder
from trainables.training.loop import Training
from trainables.trial import run_trial

Room = Callable[[], AbstractContextManager[pytest.MonkeyPatch]]
SMALL = TrialConfig().override(
    {
        "model.name": "mnist_cnn",
        "model.width": 2,
        "epochs": 2,
        "batch_size": 16,
        "augment.crop": 2,
    }
)


@pytest.fixture(autouse=True)
def no_batches() -> None:
    """Forget batches that an interrupted training of another test expected."""
    BATCHES.reset()


@pytest.fixture
def config(write_noise: Callable[[], Path]) -> DataConfig:
    return DataConfig(name="folder", root=str(write_noise()))


@pytest.fixture
def on_disk(config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set whose images are decoded whenever they are used."""
    leave_little_room(monkeypatch, tmp_path / "small")
    return load(config)


@pytest.fixture
def decoded_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    decode_into = EncodedFiles.decode_into

    def recording(files: EncodedFiles, images: Any, place: int, row: int) -> None:
        names.append(files.names[row])
        decode_into(files, images, place, row)

    monkeypatch.setattr(EncodedFiles, "decode_into", recording)
    return names


def values(reports: list[Report]) -> list[dict[str, float]]:
    return [
        {name: value for name, value in report.metrics.items() if name != "time/epoch_s"}
        for report in reports
        if report.metrics
    ]


class Killed(BaseException):
    """The process is killed."""


def test_a_trial_that_is_killed_within_an_epoch_continues_as_if_undisturbed_in_memory(
    config: DataConfig, little_room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "WITHIN_S", 0.0)
    monkeypatch.setattr(trial, "WITHIN_SHARE", math.inf)
    undisturbed = list(run_trial(SMALL, load(config).sealed, tmp_path / "memory"))
    steps: list[list[int]] = []
    step = Training.step

    def killed_at_eighth(training: Training, rows: Any, *arguments: Any) -> None:
        steps.append(rows.tolist())
        if len(steps) == 8:
            raise Killed
        step(training, rows, *arguments)

    with little_room():
        dataset = load(config).sealed
        assert isinstance(dataset.train.images, Encoded)
        with monkeypatch.context() as patched:
            patched.setattr(Training, "step", killed_at_eighth)
            with pytest.raises(Killed):
                list(run_trial(SMALL, dataset, tmp_path / "disk"))
        resumed = list(run_trial(SMALL, dataset, tmp_path / "disk"))
    assert values(resumed)[-1] == values(undisturbed)[-1]


def test_the_entry_has_no_images_and_the_second_load_decodes_nothing(
    config: DataConfig, on_disk: Dataset, decoded_files: list[str]
) -> None:
    again = load(config)
    assert isinstance(again.train.images, Encoded)
    assert decoded_files == []
    assert again.fingerprint == on_disk.fingerprint
    (entry,) = cache_folder().iterdir()
    assert not list(entry.glob("*images*"))
    assert {path.stat().st_mode & 0o777 for path in entry.iterdir()} == {0o600}


def test_images_are_decoded_into_memory_once_there_is_room(
    config: DataConfig, on_disk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "is_large", lambda size: False)
    monkeypatch.setattr(cache, "free_memory", lambda: 10**9)
    in_memory = load(config)
    assert isinstance(in_memory.train.images, np.ndarray)
    assert np.array_equal(in_memory.train.images, on_disk.train.images)


def test_images_are_decoded_into_a_file_once_the_cache_may_be_larger(
    config: DataConfig, on_disk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "cache_limit", lambda folder: 10**6)
    mapped = load(config)
    assert mapped.train.is_on_disk
    assert not isinstance(mapped.train.images, Encoded)
    assert np.array_equal(mapped.train.images, on_disk.train.images)


def test_a_full_disk_has_room_for_no_images_but_the_search_goes_on(
    config: DataConfig, little_room: Room
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with little_room() as patched:
        patched.setattr(cache, "cache_limit", lambda folder: 10**9)
        patched.setattr(os, "posix_fallocate", full)
        dataset = load(config)
    assert isinstance(dataset.train.images, Encoded)


def test_with_the_cache_turned_off_no_other_entry_is_evicted(
    config: DataConfig, little_room: Room, write_images: Callable[..., object], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / "earlier" / name, 5)
    with little_room() as patched:
        patched.setattr(cache, "free_memory", lambda: 10**9)
        patched.setattr(cache, "cache_limit", lambda folder: 10**6)
        load(DataConfig(name="folder", root=str(tmp_path / "earlier")))
        (entry,) = cache_folder().iterdir()
        patched.setattr(cache, "free_memory", lambda: 1000)
        patched.setattr(cache, "cache_limit", lambda folder: 0)
        dataset = load(config)
        assert dataset.train.images.folder is not None
        assert {entry, dataset.train.images.folder} == set(cache_folder().iterdir())


def test_the_cache_may_be_unwritable(config: DataConfig, little_room: Room, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with little_room() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        dataset = load(config)
    assert isinstance(dataset.train.images, Encoded)
    assert dataset.train.images.folder is None
    assert "decoded whenever they are used" in dataset.remarks[-1]
    assert all(values.shape == (3,) for values in dataset.channel_statistics)


def test_a_remark_says_why_and_what_to_do(on_disk: Dataset) -> None:
    (remark,) = [line for line in on_disk.remarks if "decoded whenever they are used" in line]
    assert remark == (
        "note: the images are decoded whenever they are used, because decoded they need 0.0 GB: "
        "more than 25% of the free memory, and more than is free on the disk or than the cache may "
        "have (0.0 GB). If the disk has room, IMAGE_CACHE_GB=N allows N GB, which makes trainings "
        "faster; smaller images (--set data.image_size=N) need less."
    )


def test_jpeg_files_are_reduced_with_the_same_decoder(tmp_path: Path, little_room: Room) -> None:
    """Large JPEG files are decoded at a smaller size: the pixels equal those of the cache."""
    generator = np.random.default_rng(0)
    for number in range(8):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((1200, 900)).save(file)
    config = DataConfig(name="folder", root=str(tmp_path / "photos"), image_size=16)
    in_memory = load(config)
    with little_room():
        on_disk = load(config)
    assert isinstance(on_disk.train.images, Encoded)
    assert np.array_equal(in_memory.train.images, on_disk.train.images)


@pytest.mark.parametrize("parts", [(), ("train", "test", "val")])
def test_each_file_is_decoded_once_until_the_fingerprint_is_known(
    parts: tuple[str, ...],
    tmp_path: Path,
    write_noise: Callable[[], Path],
    little_room: Room,
    decoded_files: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fingerprint is that of the images in memory, also if the folder has parts."""
    checked: list[Path] = []
    decode_telling = folder.decode_telling

    def recording(path: Path, *form: Any) -> Any:
        checked.append(path)
        return decode_telling(path, *form)

    root = write_noise()
    if parts:
        for part in parts:
            for letter in "abc":
                (tmp_path / "parts" / part / letter).mkdir(parents=True)
        for number, path in enumerate(sorted(root.rglob("*.png"))):
            path.rename(tmp_path / "parts" / parts[number % 3] / path.parent.name / path.name)
        root = tmp_path / "parts"
    config = DataConfig(name="folder", root=str(root))
    in_memory = read(config).decoded
    monkeypatch.setattr(folder, "decode_telling", recording)
    monkeypatch.setattr(folder, "CHUNK", 2000)  # of images that have 360 bytes each
    with little_room():
        on_disk = read(config).decoded
        assert isinstance(on_disk.train.images, Encoded)
        assert on_disk.fingerprint == in_memory.fingerprint
        assert sorted(checked) == sorted(root.rglob("*.png")), "each once"
        assert decoded_files == [], "and not again for the fingerprint"


def test_unreadable_files_are_left_out(config: DataConfig, little_room: Room) -> None:
    (Path(config.root) / "a" / "0.png").write_text("no image")
    lenient = DataConfig(name="folder", root=config.root, skip_bad=True)
    in_memory = load(lenient)
    with little_room():
        each = load(lenient), load(lenient)
    for on_disk in each:
        assert on_disk.skipped == 1
        assert on_disk.left_out == in_memory.left_out
        assert on_disk.fingerprint == in_memory.fingerprint
        assert np.array_equal(on_disk.train.images, in_memory.train.images)


def test_too_many_unreadable_files_are_refused(config: DataConfig, little_room: Room) -> None:
    for number in range(0, 9, 3):
        (Path(config.root) / "a" / f"{number}.png").write_text("no image")
    with little_room(), pytest.raises(DataError, match=r"^3 images cannot be read \(first: a/0"):
        load(config)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "cannot be read any more (No such file or directory)"),
    "time": (lambda path: os.utime(path, ns=(1, 1)), "has changed since the data was checked"),
    "content": (lambda path: path.write_text("no image"), "has changed since the data was checked"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_during_a_training_ends_it_with_one_line(
    change: str, on_disk: Dataset
) -> None:
    alter, message = CHANGES[change]
    training = Training(SMALL, on_disk)
    training.next_epoch()
    path = Path(on_disk.train.images.files.root) / (on_disk.train.names or ())[5]
    alter(path)
    with pytest.raises(DataError) as caught:
        training.next_epoch()
    text = str(caught.value)
    assert text.startswith(f"the image '{path.parent.name}/{path.name}' {message}")
    assert "\n" not in text


def test_the_next_batch_is_decoded_while_the_network_is_busy(
    on_disk: Dataset, decoded_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(SMALL, on_disk)
    first, second = (rows.tolist() for rows in training.draws(1)[0][:2])
    names = np.array(on_disk.train.names)
    busy = threading.Event()
    step = Training.step

    def waiting(training: Training, rows: Any, *arguments: Any) -> None:
        if not busy.is_set():
            pending = list(BATCHES._batches.values())
            assert len(pending) == 1, "the second; only it was expected so far"
            for future in pending[0][1]:
                future.result()
            assert sorted(decoded_files) == sorted(names[second])
            busy.set()
        step(training, rows, *arguments)

    monkeypatch.setattr(Training, "step", waiting)
    decoded_files.clear()
    training.next_epoch()
    assert busy.is_set()
    assert set(names[first]) <= set(decoded_files)
    assert not BATCHES._batches, "all that were expected are used"


def test_batches_that_are_not_read_do_not_fill_the_memory(on_disk: Dataset) -> None:
    images = on_disk.train.images
    for number in range(4 * AHEAD):
        images.expect(images.rows[number : number + 5])
    assert len(BATCHES._batches) == AHEAD
    assert np.array_equal(images[:5], np.asarray(images)[:5])


def test_no_more_images_than_a_few_chunks_are_in_memory(
    config: DataConfig, little_room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In passes over all images: the check, the fingerprint, copies and levels."""
    sizes: list[int] = []
    empty = np.empty

    def allocating(shape: Any, *arguments: Any, **keywords: Any) -> Any:
        array = empty(shape, *arguments, **keywords)
        sizes.append(array.nbytes)
        return array

    monkeypatch.setattr("trainables.datasets.arrays.CHUNK", 10 * 360)
    monkeypatch.setattr("trainables.inspection.copies.CHUNK", 10 * 360)
    monkeypatch.setattr("trainables.inspection.copies.MIN_SIDE", 8)
    with little_room() as patched:
        patched.setattr(np, "empty", allocating)
        whole = read(config)
        copies = find_copies(list(whole.decoded.parts.values()))
        assert len(copies.original) == 150
        load(config).channel_statistics  # noqa: B018 - it is counted now
    assert sizes
    assert max(sizes) <= 10 * 360


def test_another_process_decodes_the_same(
    on_disk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.asarray(on_disk.val.images)
    pickled = pickle.dumps(on_disk.val)
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)  # noqa: S301 - just written
    assert np.array_equal(again.images, expected)
    assert again.fingerprint == on_disk.val.fingerprint


def test_a_forked_process_decodes_with_its_own_threads(on_disk: Dataset) -> None:
    images = on_disk.train.images
    assert len(images[:3]) == 3, "the threads of this process have begun"
    child = os.fork()
    if not child:
        os._exit(0 if len(images[:3]) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_speed_is_measured_on_a_sample(on_disk: Dataset, decoded_files: list[str]) -> None:
    assert images_per_second(on_disk.train.images) > 0
    assert 0 < len(decoded_files) <= len(on_disk.train)


def test_damage_to_the_entry_is_repaired(
    config: DataConfig, on_disk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stamps,) = cache_folder().rglob("train-stamps.npy")
    stamps.unlink()
    calls: list[object] = []
    original = folder.load

    def recording(*arguments: Any, **options: Any) -> Decoded:
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(folder, "load", recording)
    again = load(config)
    assert isinstance(again.train.images, Encoded)
    assert len(calls) == 1
