import os
import subprocess
import sys
from pathlib import Path

from search.execution.hang_detector import Watch, _kill
from trainables.checkpoints.heartbeat import Heartbeat


def test_a_trial_that_makes_no_step_is_killed_once_whatever_its_clock_says(tmp_path: Path) -> None:
    now, killed = [100.0], list[tuple[int, str]]()
    watch = Watch(10, clock=lambda: now[0], kill=lambda pid, node: killed.append((pid, node)))
    for trial in ("quick", "hung"):
        Heartbeat(tmp_path / trial, node="n1")
    Heartbeat(tmp_path / "of an earlier attempt", node="n1")
    folders = {tmp_path / trial: 1 for trial in ("quick", "hung", "not yet there")} | {
        tmp_path / "of an earlier attempt": 2
    }
    for second in range(30):
        now[0] += 1
        os.utime(tmp_path / "quick" / "heartbeat", (second, second))
        watch.look(folders)
    assert killed == [(os.getpid(), "n1")]
    assert watch.killed == {"hung": "it did not complete a step within 10 s"}


def test_a_trial_that_is_begun_again_has_its_time_anew(tmp_path: Path) -> None:
    now, killed = [100.0], list[int]()
    watch = Watch(10, clock=lambda: now[0], kill=lambda pid, node: killed.append(pid))
    Heartbeat(tmp_path / "t", node="n1")
    for _ in range(9):
        now[0] += 1
        watch.look({tmp_path / "t": 1})
    watch.look({})
    now[0] += 5
    watch.look({})
    for _ in range(9):
        now[0] += 1
        watch.look({tmp_path / "t": 1})
    assert killed == []


def test_a_driver_that_was_held_up_blames_no_trial_for_it(tmp_path: Path) -> None:
    """Its journal's disk may have been full for long, so that the trials waited to report."""
    now, killed = [100.0], list[int]()
    watch = Watch(10, clock=lambda: now[0], kill=lambda pid, node: killed.append(pid))
    Heartbeat(tmp_path / "t", node="n1")
    for seconds in (1, 1, 700, 1, 1):
        now[0] += seconds
        watch.look({tmp_path / "t": 1})
    assert killed == []
    for _ in range(10):
        now[0] += 1
        watch.look({tmp_path / "t": 1})
    assert killed == [os.getpid()]


def test_only_rays_workers_are_killed() -> None:
    """The number comes from a file that others may have written."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        for pid in (innocent.pid, 0, -1, 2**30):
            _kill(pid)
        assert innocent.poll() is None
        assert innocent.stdin
        innocent.stdin.close()
    with subprocess.Popen(
        ["ray::Trainer", "-c", "print(flush=True); input()"],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout
        worker.stdout.readline()  # until then the system may not tell its name yet
        _kill(worker.pid)
        assert worker.wait(600) == -9
