import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.processors import processors
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
