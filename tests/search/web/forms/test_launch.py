"""Verbs that pages start: apart from the server, remembered, and never through a shell."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.values.message import Remedy, Start
from search.web.forms import carried, launch
from search.web.forms.carried import CODE, LOG, MAX_LOG, PROCESS, keep
from search.web.forms.launch import DESCRIPTION, LOCK, Launched, Launcher

LIGHT = "values.wording"
"""A module that is no verb, and ends at once."""
HOSTILE = "; touch $(pwd)/pwned"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def ended(started: Launched) -> int:
    """Return the exit code, once there is one."""
    until = time.monotonic() + 600
    while (code := started.code) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return code


@pytest.fixture(scope="module")
def refused(cache: Path) -> Launched:
    """A verb that has refused its words."""
    words = ["--space", "tabel3", HOSTILE]
    started = Launcher(cache).start("run", "one", words, "/new?space=tabel3")
    assert ended(started) == 2
    return started


def test_a_refusal_is_remembered_with_its_line(refused: Launched, cache: Path) -> None:
    again = Launcher(cache).find(refused.id)
    assert again is not None
    assert (again.words, again.back) == (("--space", "tabel3", HOSTILE), "/new?space=tabel3")
    assert f"unrecognized arguments: {HOSTILE}" in str(again.refused)


def test_a_refusal_names_the_commands_that_it_suggests(cache: Path) -> None:
    started = Launcher(cache).start("resume", "refused", ("one", f"--storage={cache}"), "/back")
    assert ended(started) == 2
    assert started.refused.remedies == [Remedy("run", start=Start.ANYWHERE)]
    assert str(started.refused) == started.lines[-1].removeprefix("error: ")


def test_what_was_started_is_of_its_search_and_place(refused: Launched, cache: Path) -> None:
    assert [one.id for one in Launcher(cache).of("one")] == [refused.id]
    assert Launcher(cache).of("two") == []
    assert Launcher(cache / "elsewhere").of("one") == []
    assert Launcher(cache).find("../" + refused.id) is None


def test_a_start_that_was_cut_off_is_none(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    cut_off = launcher._place("one") / "1-00000000"
    cut_off.mkdir(parents=True)
    assert launcher.find(cut_off.name) is None
    (cut_off / DESCRIPTION).write_text('{"id"')
    assert launcher.find(cut_off.name) is None
    assert launcher.of("one") == []


def test_what_was_started_is_forgotten_with_its_search(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    kept = launcher._place("two") / "1-00000000"
    kept.mkdir(parents=True)
    launcher.forget("two")
    assert not kept.parent.exists()


def test_the_oldest_that_have_ended_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one subject, and of all: each model that somebody names has a folder of its own."""
    monkeypatch.setattr(launch, "MAX_KEPT", 3)
    monkeypatch.setattr(launch, "MAX_ALL", 5)
    launcher = Launcher(tmp_path)
    made = {}
    for number in range(8):
        subject = "one" if number < 4 else f"models:/{number}"
        made[number] = launcher._place(subject) / f"{number + 1}-00000000"
        made[number].mkdir(parents=True)
    (made[0] / LOCK).touch()
    with (made[0] / LOCK).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        launcher._tidy("one")
    assert [number for number, folder in made.items() if folder.exists()] == [0, 4, 5, 6, 7]
    launcher._tidy("two")
    assert [number for number, folder in made.items() if folder.exists()] == [4, 5, 6, 7]
    assert not made[0].parent.exists()


def test_only_what_still_runs_is_stopped(tmp_path: Path) -> None:
    started = Launched("1", "predict", "models:/m", (), 0, "", tmp_path)
    started.stop()  # which has not said its number yet
    (tmp_path / LOCK).touch()
    wait = [sys.executable, "-c", "input()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE) as process:
        (tmp_path / PROCESS).write_text(str(process.pid))
        started.stop()
        assert process.poll() is None, "its carrier is gone: the number may be another's"
        with (tmp_path / LOCK).open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            (tmp_path / CODE).write_text("0")
            started.stop()
            assert process.poll() is None
            (tmp_path / CODE).unlink()
            started.stop()
            assert process.wait() == -signal.SIGTERM


def test_only_the_owner_can_read_what_a_verb_says(refused: Launched) -> None:
    assert (refused.folder / LOG).stat().st_mode & 0o777 == 0o600
    assert refused.folder.stat().st_mode & 0o777 == 0o700


def test_a_verb_outlives_the_server_that_started_it(tmp_path: Path) -> None:
    """The server is killed with all of its session right after the start."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from search.web.forms import launch\n"
        "from search.values.verbs import VerbEntry\n"
        f"launch.VERBS['{LIGHT}'] = VerbEntry(meaning='', start_title='{{}}')\n"
        f"started = launch.Launcher(Path(sys.argv[1])).start('{LIGHT}', 'one', [], '')\n"
        "print(started.id, flush=True)\n"
        "os.killpg(0, signal.SIGKILL)"
    )
    server = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert server.returncode == -signal.SIGKILL
    started = Launcher(tmp_path).find(server.stdout.strip())
    assert started is not None
    assert ended(started) == 0


def test_a_verb_whose_carrier_was_killed_is_at_work_until_it_ends(tmp_path: Path) -> None:
    """In place of the verb a program that waits."""
    waits = tmp_path / "python"
    waits.write_text("#!/bin/sh\nexec sleep 60\n")
    waits.chmod(0o700)
    code = (
        f"import sys; sys.executable = {str(waits)!r}\n"
        "from search.web.forms.carried import main\n"
        f"main([{str(tmp_path)!r}, 'run'])"
    )
    with (tmp_path / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        carrier = subprocess.Popen([sys.executable, "-c", code], pass_fds=[lock.fileno()])
    until = time.monotonic() + 600
    while not ((tmp_path / PROCESS).exists() and (tmp_path / PROCESS).read_text()):
        assert time.monotonic() < until
        assert carrier.poll() is None
        time.sleep(0.02)
    carrier.kill()
    carrier.wait()
    started = Launched("1", "run", "one", (), 0, "", tmp_path)
    assert started.state == "running"
    started.stop()
    while started.is_running:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert started.state == "ended before it was finished"


def test_a_carrier_that_was_killed_is_not_running(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    started = Launched("1", "run", "one", (), 0, "", tmp_path)
    assert started.code is None
    assert not started.is_running


def test_the_end_of_a_long_log_stays(tmp_path: Path) -> None:
    lines = b"".join(b"%07d\n" % number for number in range(100_000))
    keep(io.BytesIO(lines), tmp_path / "log")
    kept = (tmp_path / "log").read_bytes()
    assert len(kept) <= MAX_LOG
    assert lines.endswith(kept)


def test_hostile_lines_are_printable(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\x1b[2J\ntwo\xff\nerror: no\x00\n")
    (tmp_path / "code").write_text("2")
    shown = Launched("1", "run", "one", (), 0, "", tmp_path)
    assert shown.lines == ["one\\x1b[2J", "two\ufffd", "error: no\\x00"]
    assert str(shown.refused) == "no\\x00"


def test_what_stops_a_session_does_not_stop_the_carrier(tmp_path: Path) -> None:
    """It keeps the verb's last lines, also of a verb that heeds the signal."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        assert carried.main([str(tmp_path), LIGHT]) == 0
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (tmp_path / CODE).read_text() == "0"
