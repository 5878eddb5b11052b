"""Disks that fill up, names that nobody expects."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from cluster.exit_codes import ExitCode
from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search
from tests.faults.oracle import assert_contract, assert_same_best

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here ({mounted.stderr.strip()})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def write_for_ever(file: RawIOBase, content: bytes) -> NoReturn:
    """Until the disk refuses."""
    while True:
        file.write(content)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """No byte is left, until this ends."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MB, 4096, 1):
            with pytest.raises(OSError, match="No space left"):
                write_for_ever(file, b"x" * size)
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_storage_holds_the_search_until_there_is_space(
    open_search: OpenSearch, disk: Path, undisturbed: tuple[Search, Done]
) -> None:
    """F14: journal and checkpoints share a disk that fills up for ten seconds. The search says what
    it waits for, and goes on by itself.
    """
    search = open_search(storage=disk / "searches")
    search.plan({"do": "sleep", "seconds": 0.3})
    search.run(*GRID).wait_for_epochs(5)
    with filled(disk):
        search.wait_until(
            lambda: "no space left" in search.err.lower(), timeout=300, what="word of the full disk"
        )
        trained = len(search.truth())
        with pytest.raises(subprocess.TimeoutExpired):
            search.alive.wait(5)
        assert len(search.truth()) <= trained + 2
    done = search.finish()
    assert done.code == 0, done.err
    assert_contract(search, kills=4, undisturbed=undisturbed[0])
    assert_same_best(done, undisturbed[1])


def test_a_full_disk_under_mlflow_does_not_hold_the_search(
    open_search: OpenSearch, disk: Path, undisturbed: tuple[Search, Done]
) -> None:
    """F14: MLflow's SQLite file cannot grow; training goes on, and MLflow catches up, by itself or
    by `search.sync`.
    """
    search = open_search(folder=disk)
    search.storage = disk.parent / "searches"
    search.faults = disk.parent / "faults"
    search.faults.mkdir()
    search.plan({"do": "sleep", "seconds": 0.3})
    search.run(*GRID).wait_for_epochs(5)
    with filled(disk):
        search.wait_for_epochs(27)
    done = search.finish()
    if done.code == 4:
        assert f"search.sync {search.name}" in done.err
        synced = search.start("sync", search.name).finish()
        assert synced.code == 0, synced.err
    else:
        assert done.code == 0, done.err
    assert_contract(search, undisturbed=undisturbed[0])


def test_odd_names_are_names_like_others(open_search: OpenSearch, tmp_path: Path) -> None:
    """F27, F21: spaces, other scripts and URL characters in the storage's, the data's and the
    classes' names; killed and resumed there.
    """
    folder = tmp_path / "ünï ☃ #1%20"
    folder.mkdir()
    data = tmp_path / "фото & кошки"
    colours = np.random.default_rng(0)
    for name in ("a,b [0] ..x", "日本語 100%", "c" * 200):
        (data / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(colours.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(
                data / name / f"bild #{number}?.png"
            )
    search = open_search(folder=folder, name="odd", storage=folder / "таблица 3")
    search.plan({"do": "sleep", "seconds": 0.5})
    search.run(
        *GRID, "--data", f"folder:{data}", "--trials", 2, "--set", "batch_size=8"
    ).wait_for_epochs(2)
    search.kill9()
    done = search.resume().finish()
    assert done.code == ExitCode.AT_CHANCE, done.err  # random pixels teach nothing
    assert_contract(search, kills=2)
