"""The decode-once cache of `datasets.load`."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.caches import cache_folder
from trainables.config import DataConfig
from trainables.datasets import folder
from trainables.datasets.load import load


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
    monkeypatch.setattr(folder, "load", lambda config, *, download: (calls.append(config), original(config, download=download))[1])
    return calls


def contents(dataset):
    return [array for part in (dataset.train, dataset.val, dataset.test) for array in (part.images.tolist(), part.labels.tolist())]


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
        load(DataConfig(name="folder", root=config.root, split_seed=seed, train_limit=4, scaling="unit"))
    assert len(loads) == 1


def test_the_cache_is_under_xdg_cache_home_or_the_home_folder(cache_home, config, monkeypatch, tmp_path):
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
@pytest.mark.parametrize("file", ["train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy", "*.json"])
@pytest.mark.parametrize("config", ["given"], indirect=True)
def test_a_damaged_entry_is_decoded_anew_and_mended(file, damage, config, loads):
    before = load(config)
    (path,) = entry().glob(file)
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    assert contents(load(config)) == contents(before)
    assert len(loads) == 2
    assert contents(load(config)) == contents(before)
    assert len(loads) == 2


def test_a_pickle_planted_in_the_cache_is_not_run(config, loads, tmp_path):
    class Planted:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    before = load(config)
    for number, path in enumerate(sorted(entry().glob("*.npy"))):
        if number:
            path.write_bytes(pickle.dumps(Planted()))
        else:
            np.save(path, np.array([Planted()], dtype=object), allow_pickle=True)
    assert contents(load(config)) == contents(before)
    assert not (tmp_path / "ran").exists()


def test_a_cache_that_cannot_be_written_is_done_without(config, loads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first, second = load(config), load(config)
    assert contents(first) == contents(second)
    assert len(loads) == 2


def test_a_cached_part_is_trained_on_like_a_decoded_one(config, make_config, tmp_path):
    from trainables.run import run_trial

    reports = [list(run_trial(make_config(epochs=1), load(config).sealed, tmp_path / str(number))) for number in range(2)]
    first, second = ({name: value for name, value in run[0].metrics.items() if name != "time/epoch_s"} for run in reports)
    assert first == second


def test_digits_come_with_a_package_and_are_not_cached():
    load(DataConfig())
    assert not cache_folder().exists()
