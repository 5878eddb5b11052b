"""The decode-once cache of `datasets.load`."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.datasets.cache import ENTRY_FILE
from trainables.datasets.load import load
from trainables.disk import cache_folder, cache_limit, evict, make_private
from trainables.errors import ConfigError
from trainables.tasks.classification import reading as folder


@pytest.fixture(params=["drawn", "given"])
def config(request, tmp_path, write_images):
    """A folder of images whose test part is drawn or given."""
    root = tmp_path / "images"
    for part in ["."] if request.param == "drawn" else ["train", "test"]:
        for name in ("a", "b"):
            write_images(root / part / name, 5)
    return DataConfig(name="folder", root=str(root))


@pytest.fixture
def loads(monkeypatch):
    """How often the images were decoded."""
    calls = []
    original = folder.load
    monkeypatch.setattr(
        folder,
        "load",
        lambda config, **options: (calls.append(config), original(config, **options))[1],
    )
    return calls


def contents(dataset):
    return [
        array
        for part in (dataset.train, dataset.val, dataset.test)
        for array in (part.images.tolist(), part.targets.tolist())
    ]


def entry() -> Path:
    (only,) = cache_folder().iterdir()
    return only


def an_image(config) -> Path:
    return sorted(Path(config.root).rglob("*.png"))[0]


def test_the_second_load_decodes_nothing_and_gives_the_same(config, monkeypatch):
    first = load(config)

    def fail(*arguments, **keywords):
        raise AssertionError("decoded again")

    monkeypatch.setattr(folder, "load", fail)
    second = load(config)
    assert contents(second) == contents(first)
    assert (second.classes, second.fingerprint) == (first.classes, first.fingerprint)


def test_how_a_data_set_is_split_is_not_part_of_the_cache(config, loads):
    for seed in (0, 1):
        load(
            DataConfig(
                name="folder", root=config.root, split_seed=seed, train_limit=4, scaling="unit"
            )
        )
    assert len(loads) == 1


def test_the_cache_is_under_xdg_cache_home_or_the_home_folder(
    cache_home, config, monkeypatch, tmp_path
):
    load(config)
    assert cache_folder() == cache_home / "image-classifier-search" / "decoded"
    assert entry().parent == cache_folder()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "image-classifier-search" / "decoded"


def test_the_cache_holds_arrays_and_names_and_nothing_left_over(config):
    load(config)
    assert {path.suffix for path in entry().iterdir()} == {".npy", ".json"}
    assert not [path for path in cache_folder().rglob("*") if path.name.startswith("tmp")]


@pytest.mark.parametrize("change", ["pixels", "time", "added", "removed", "renamed"])
def test_a_changed_file_is_decoded_anew(change, config, loads):
    before = load(config)
    path = an_image(config)
    if change == "pixels":
        Image.new("RGB", (9, 8), "red").save(path)
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "added":
        Image.new("RGB", (9, 8), "red").save(path.with_name("new.png"))
    elif change == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("zz.png"))
    after = load(config)
    assert len(loads) == 2
    assert (after.fingerprint == before.fingerprint) == (change == "time")


def test_a_file_of_equal_size_and_other_content_is_decoded_anew(config):
    before = load(config)
    path = an_image(config)
    bitmap = path.with_suffix(".bmp")
    path.unlink()
    fingerprints = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (9, 8), colour).save(bitmap)
        os.utime(bitmap, ns=(number + 10**9, number + 10**9))
        fingerprints.append(load(config).fingerprint)
    assert len({before.fingerprint, *fingerprints}) == 3


def test_another_image_size_is_another_entry(config, loads):
    load(config)
    load(DataConfig(name="folder", root=config.root, image_size=4))
    load(config)
    assert len(loads) == 2
    assert len(list(cache_folder().iterdir())) == 2


def test_the_same_files_elsewhere_are_another_entry(config, loads, tmp_path):
    load(config)
    Path(config.root).rename(tmp_path / "moved")
    load(DataConfig(name="folder", root=str(tmp_path / "moved")))
    assert len(loads) == 2


def test_a_relative_root_seen_from_elsewhere_is_another_entry(config, loads, tmp_path, monkeypatch):
    for name in ("here", "there"):
        shutil.copytree(config.root, tmp_path / name / "images")
        monkeypatch.chdir(tmp_path / name)
        load(DataConfig(name="folder", root="images"))
    assert len(loads) == 2


DAMAGES = {
    "missing": None,
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) * 3 // 4],
    "cut off in its header": lambda content: content[:9],
    "one bit turned": lambda content: content[:-2] + bytes([content[-2] ^ 1]) + content[-1:],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>no</html>",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "file", ["train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy", "*.json"]
)
@pytest.mark.parametrize("config", ["given"], indirect=True)
def test_a_damaged_entry_is_decoded_anew_and_mended(file, damage, config, loads):
    before = contents(load(config))
    (path,) = entry().glob(file)
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    assert contents(load(config)) == before
    assert len(loads) == 2
    assert contents(load(config)) == before
    assert len(loads) == 2


def test_a_pickle_planted_in_the_cache_is_not_run(config, loads, tmp_path):
    class Planted:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    before = contents(load(config))
    for number, path in enumerate(sorted(entry().glob("*.npy"))):
        if number:
            path.write_bytes(pickle.dumps(Planted()))
        else:
            np.save(path, np.array([Planted()], dtype=object), allow_pickle=True)
    assert contents(load(config)) == before
    assert not (tmp_path / "ran").exists()


def test_a_cache_that_cannot_be_written_is_done_without(config, loads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first, second = load(config), load(config)
    assert contents(first) == contents(second)
    assert len(loads) == 2


def test_a_cached_part_is_trained_on_like_a_decoded_one(config, make_config, tmp_path):
    from trainables.trial import run_trial

    reports = [
        list(run_trial(make_config(epochs=1), load(config).sealed, tmp_path / str(number)))
        for number in range(2)
    ]
    first, second = (
        {name: value for name, value in run[0].metrics.items() if name != "time/epoch_s"}
        for run in reports
    )
    assert first == second


# Who may read it, and how large it gets


def test_only_the_owner_can_read_what_is_cached(config, cache_home):
    """Images may be private, whatever the mask of the process says."""
    (cache_home / "image-classifier-search" / "decoded").mkdir(parents=True, mode=0o755)
    before = os.umask(0o022)
    try:
        load(config)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in entry().iterdir()} == {0o600}
    folders = (entry(), cache_folder(), cache_folder().parent)
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700] * 3


def test_images_are_decoded_into_the_entry_itself(config):
    """No second copy of them is made in memory."""
    decoded = []
    original = folder.load

    def kept(config, **options):
        decoded.append(original(config, **options))
        return decoded[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "load", kept)
        load(config)
    (found,) = decoded
    assert isinstance(found.train.images.base, np.memmap)
    assert Path(found.train.images.base.filename).name == "train-images.npy"
    assert np.array_equal(np.load(entry() / "train-images.npy"), found.train.images)


def test_an_entry_with_unreadable_images_holds_the_others(config, loads):
    an_image(config).write_text("no image")
    lenient = DataConfig(name="folder", root=config.root, skip_bad=True)
    first, second = load(lenient), load(lenient)
    assert contents(first) == contents(second)
    assert (first.skipped, second.skipped, len(loads)) == (1, 1, 1)


@pytest.fixture
def three(tmp_path, write_images):
    """Three data sets, loaded one after the other, an hour between two."""
    configs = []
    for number in range(3):
        for name in ("a", "b"):
            write_images(tmp_path / str(number) / name, 5)
        configs.append(DataConfig(name="folder", root=str(tmp_path / str(number))))
        known = set(cache_folder().iterdir()) if cache_folder().exists() else set()
        load(configs[-1])
        (new,) = set(cache_folder().iterdir()) - known
        os.utime(new, (time.time() - 3600 * (3 - number),) * 2)
    return configs


def size_of(path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*"))


def by_age() -> list[Path]:
    return sorted(cache_folder().iterdir(), key=lambda path: path.stat().st_mtime)


def test_what_was_not_used_for_longest_is_evicted_and_decoded_anew(
    three, monkeypatch, tmp_path, write_images, loads
):
    load(three[0])  # now it is the newest
    _, oldest, middle = [by_age()[2], *by_age()[:2]]
    for name in ("a", "b"):
        write_images(tmp_path / "new" / name, 5)
    monkeypatch.setenv("IMAGE_CACHE_GB", str(3.5 * size_of(oldest) / 10**9))
    load(DataConfig(name="folder", root=str(tmp_path / "new")))
    assert not oldest.exists()
    assert middle.exists()
    assert len(by_age()) == 3
    loads.clear()
    load(three[0])
    assert loads == []
    load(three[1])
    assert len(loads) == 1


def test_what_somebody_uses_is_not_evicted(three):
    oldest, middle, newest = by_age()
    with (oldest / ENTRY_FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        evict(cache_folder(), 0, name=ENTRY_FILE, spare=newest)
        assert by_age() == [oldest, newest]
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=newest)
    assert by_age() == [newest]
    assert not middle.exists()


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_where_files_cannot_be_locked_entries_are_evicted_all_the_same(reason, three, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", refuse)
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=by_age()[2])
    assert len(by_age()) == 1


def test_what_locks_only_files_that_may_be_written_evicts(three, monkeypatch):
    """As NFS does, for a lock of one's own alone."""
    lock, refused = fcntl.flock, []

    def as_nfs(descriptor, how):
        if (
            how & fcntl.LOCK_EX
            and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        ):
            refused.append(descriptor)
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=by_age()[2])
    assert (len(by_age()), refused) == (1, [])


@pytest.mark.parametrize("bytes_left", [-1, -600, -1200])
def test_an_entry_larger_than_the_limit_is_not_kept_and_evicts_nothing(
    bytes_left, three, monkeypatch, tmp_path, write_images, loads
):
    before = by_age()
    for part in ("train", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / "large" / part / name, 5)
    large = DataConfig(name="folder", root=str(tmp_path / "large"))
    wanted = contents(load(large))
    (entry,) = set(by_age()) - set(before)
    monkeypatch.setenv("IMAGE_CACHE_GB", str((size_of(entry) + bytes_left) / 10**9))
    shutil.rmtree(entry)
    loads.clear()
    assert contents(load(large)) == contents(load(large)) == wanted
    assert by_age() == before
    assert len(loads) == 2


def test_a_mapped_entry_is_in_use_until_the_images_are_gone(config):
    given = sorted(path.name for path in Path(config.root).iterdir()) == ["test", "train"]
    load(config)
    dataset = load(config)
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=cache_folder())
    assert (len(by_age()) == 1) == given  # a drawn test part is a copy
    del dataset
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=cache_folder())
    assert by_age() == []


def read_later(config, held, go_on, answer):
    """Map an entry in a process of its own, and look at the images when told."""
    dataset = load(config)
    held.set()
    assert go_on.wait(300)
    answer.put(contents(dataset))


@pytest.fixture
def reader(tmp_path, write_images):
    """A data set with an entry, another process that holds it, and what that process sees when
    asked.
    """
    for part in ("train", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / part / name, 5)
    config = DataConfig(name="folder", root=str(tmp_path))
    wanted = contents(load(config))
    spawn = multiprocessing.get_context("spawn")
    held, go_on, answer = spawn.Event(), spawn.Event(), spawn.Queue()
    process = spawn.Process(target=read_later, args=(config, held, go_on, answer), daemon=True)
    process.start()

    def look():
        go_on.set()
        seen = answer.get(timeout=300)
        process.join()
        assert process.exitcode == 0
        return seen

    assert held.wait(300)
    yield config, wanted, look
    process.kill()
    process.join()


def test_an_entry_that_another_process_reads_is_evicted_only_after_it(reader):
    _, wanted, look = reader
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=cache_folder())
    assert (entry() / ENTRY_FILE).exists()
    assert look() == wanted
    evict(cache_folder(), 0, name=ENTRY_FILE, spare=cache_folder())
    assert by_age() == []


@pytest.mark.parametrize("gone", [False, True], ids=["made anew", "removed"])
def test_another_process_reads_on_when_its_entry_is_replaced(gone, reader, loads):
    """The entry was damaged since, or somebody has emptied the cache."""
    config, wanted, look = reader
    if gone:
        shutil.rmtree(cache_folder())
    else:
        (entry() / ENTRY_FILE).write_text("{")
    known = None if gone else entry().stat().st_ino
    assert contents(load(config)) == wanted
    assert (len(loads), entry().stat().st_ino == known) == (1, False)
    assert look() == wanted
    assert contents(load(config)) == wanted
    assert len(loads) == 1


@pytest.mark.parametrize("again", [False, True], ids=["decoded", "mapped"])
def test_given_parts_are_shared_and_not_copied_into_each_process(again, tmp_path, write_images):
    for part in ("train", "val", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / part / name, 5)
    config = DataConfig(name="folder", root=str(tmp_path))
    dataset = [load(config) for _ in range(1 + again)][-1]
    shared: list[pickle.PickleBuffer] = []
    pickle.dumps(dataset, protocol=5, buffer_callback=shared.append)
    size = {part.images.nbytes for part in (dataset.train, dataset.val, dataset.test)}
    assert size <= {buffer.raw().nbytes for buffer in shared}


def test_what_a_killed_process_left_is_removed_a_day_later(config, cache_home):
    make_private(cache_folder())
    for age in (3600, 3 * 86400):
        left = cache_folder() / f"partial-{age}"
        left.mkdir()
        os.utime(left, (time.time() - age,) * 2)
    load(config)
    assert [path.name for path in by_age() if path.name.startswith("partial-")] == ["partial-3600"]


def test_without_room_nothing_is_cached(config, loads, monkeypatch):
    monkeypatch.setenv("IMAGE_CACHE_GB", "0")
    first, second = load(config), load(config)
    assert contents(first) == contents(second)
    assert len(loads) == 2
    assert by_age() == []


@pytest.mark.parametrize("value", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(value, config, monkeypatch):
    monkeypatch.setenv("IMAGE_CACHE_GB", value)
    with pytest.raises(
        ConfigError,
        match=rf"^IMAGE_CACHE_GB must be a number of GB, 0 or more \(got '{value}'\)\.$",
    ):
        load(config)


@pytest.mark.parametrize(
    ("total_gb", "free_gb", "limit_gb"), [(40, 30, 10), (500, 100, 20), (4000, 3000, 300)]
)
def test_the_usual_limit_depends_on_the_disk(total_gb, free_gb, limit_gb, tmp_path, monkeypatch):
    disk = shutil.disk_usage("/")._replace(total=total_gb * 10**9, free=free_gb * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    assert cache_limit(tmp_path) == limit_gb * 10**9


def test_a_disk_without_room_for_the_images_is_done_without(config, monkeypatch):
    before = contents(load(config))
    shutil.rmtree(cache_folder())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert contents(load(config)) == before


def test_digits_come_with_a_package_and_are_not_cached():
    load(DataConfig())
    assert not cache_folder().exists()
