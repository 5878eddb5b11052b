"""Verbs that pages start: apart from the server, remembered, and never through a shell."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.views.web.forms import carried
from search.views.web.forms.carried import LOG, MAX_LOG, keep
from search.views.web.forms.launch import LOCK, Launched, Launcher


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ended(started: Launched) -> int:
    """Return the exit code, once there is one."""
    until = time.monotonic() + 60
    while (code := started.code) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return code


def test_a_refusal_is_remembered_with_its_line_and_code(tmp_path: Path) -> None:
    words = ["--space", "tabel3", "; touch $(pwd)/pwned"]
    started = Launcher(tmp_path).start("run", "one", words, "/new?space=tabel3")
    assert ended(started) == 2
    again = Launcher(tmp_path).find(started.id)
    assert again is not None
    assert (again.words, again.back) == (tuple(words), "/new?space=tabel3")
    assert "unrecognized arguments: ; touch $(pwd)/pwned" in again.refused


def test_what_was_started_is_of_its_search_and_place(tmp_path: Path) -> None:
    started = Launcher(tmp_path).start("run", "one", ["--help"], "")
    ended(started)
    assert [one.id for one in Launcher(tmp_path).of("one")] == [started.id]
    assert Launcher(tmp_path).of("two") == []
    assert Launcher(tmp_path / "elsewhere").of("one") == []
    assert Launcher(tmp_path).find("../" + started.id) is None


def test_only_the_owner_can_read_what_a_verb_says(tmp_path: Path) -> None:
    started = Launcher(tmp_path).start("run", "one", ["--help"], "")
    ended(started)
    assert (started.folder / LOG).stat().st_mode & 0o777 == 0o600
    assert started.folder.stat().st_mode & 0o777 == 0o700


def test_a_verb_outlives_the_server_that_started_it(tmp_path: Path) -> None:
    """The server is killed with all of its session right after the start."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from search.views.web.forms.launch import Launcher\n"
        "print(Launcher(Path(sys.argv[1])).start('run', 'one', ['--help'], '').id, flush=True)\n"
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
    assert shown.refused == "no\\x00"


def test_what_stops_a_session_does_not_stop_the_carrier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the verb's last lines, also of a verb that heeds the signal."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hangup = signal.getsignal(signal.SIGHUP)
    try:
        assert carried.main([str(tmp_path), "run", "--help"]) == 0
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in {**before, signal.SIGHUP: hangup}.items():
            signal.signal(number, handler)
    assert "usage: python -m search.run" in (tmp_path / LOG).read_text()
