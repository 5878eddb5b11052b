"""The processors that may be used, and how busy others keep them."""

import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from trainables import machine
from trainables.config import DataConfig
from trainables.machine import Load, processors
from trainables.tasks.classification import reading as folder


def test_this_machine_has_a_processor() -> None:
    assert processors() >= 1


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("6400000 100000", 64),
        ("max 100000", 64),
        ("", 64),
    ],
)
def test_a_containers_share_of_the_processors_counts(quota: str, cpus: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert processors(tmp_path) == min(cpus, len(os.sched_getaffinity(0)))
    assert processors(tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cpus"), [("100000", 1), ("50000", 1), ("-1", 64), ("6400000", 64)]
)
def test_so_does_a_share_in_the_words_of_older_systems(
    quota: str, cpus: int, tmp_path: Path
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processors(tmp_path) == min(cpus, len(os.sched_getaffinity(0)))


def test_a_system_that_knows_no_affinity_has_all_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert processors(tmp_path) == 7


def test_images_are_decoded_by_as_many_threads_as_there_are_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int | None]()

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads: int | None = None) -> None:
            asked.append(threads)
            super().__init__(1)

    monkeypatch.setattr(folder, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(folder, "processors", lambda: 3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "one.png")
    config = DataConfig(name="folder", root=str(tmp_path))
    folder.load(config, download=False, layout=folder.find(config))
    assert asked
    assert set(asked) == {3}


CASES = {
    "others alone": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.0, 0.8),
    "idle": ("cpu  0 0 0 210 10 0 0 0 0 0", 0.0, 0.0),
    "this process alone": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.8, 0.0),
    "half and half": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.4, 0.4),
    "stolen by other machines": ("cpu  0 0 0 150 10 0 0 40 0 0", 0.0, 0.4),
}


@pytest.mark.parametrize(("now", "own_s", "share"), CASES.values(), ids=CASES)
def test_the_share_of_others_is_what_is_neither_idle_nor_ones_own(
    now: str, own_s: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, names = iter([1.0, 1.0 + own_s]), "user nice system idle iowait irq softirq steal"
    texts = iter(["cpu  0 0 0 100 0 0 0 0 0 0", now])

    def cpu_times() -> tuple[float, ...]:
        ticks = map(int, next(texts).split()[1:9])
        return namedtuple("Times", names)(*(tick / 100 for tick in ticks))

    monkeypatch.setattr(machine.time, "process_time", lambda: next(own))
    monkeypatch.setattr(machine.psutil, "cpu_times", cpu_times)
    assert Load().of_others() == pytest.approx(share)


def test_a_process_that_got_a_quarter_of_the_time_took_four_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, clock = iter([1.0, 3.0]), iter([10.0, 18.0])
    monkeypatch.setattr(machine.time, "process_time", lambda: next(own))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    assert Load().slowdown() == 4.0
