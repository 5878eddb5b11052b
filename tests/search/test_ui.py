"""python -m search.ui: what it refuses, and what it serves until it is stopped."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar

import pytest

from search.experiment import Experiment
from search.ui import main
from tests.support.played import OpenDriver, play


@pytest.mark.parametrize("token", ["short", "with a space in it", "ü" * 20, "a" * 15, ""])
def test_a_token_is_long_and_plain(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--token={token}"])
    assert "at least 16 letters, digits and signs" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_host_needs_to_know_where_images_may_lie(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host", host]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --host {host}: other machines reach it there.")
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 4
    assert "Use another --port, or another --host." in capsys.readouterr().err


def test_it_serves_until_it_is_stopped_though_a_page_is_open(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """It takes a process, whose signals and output a test's own process does not show."""
    play(open_driver(experiment))
    words = ["--storage", str(experiment.storage), "--port", "0", "--no-browser"]
    command = [sys.executable, "-m", "search.ui", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        found = re.search(r"(http://127\.0\.0\.1:\d+)/\S+", running.stdout.readline())
        assert found is not None
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with browser.open(found[0], timeout=30) as page:
            assert b"played" in page.read()
        with browser.open(f"{found[1]}/searches/played/events", timeout=30) as events:
            assert events.readline() == b"retry: 2000\n"
            running.send_signal(signal.SIGTERM)
            events.read()
        assert running.wait(timeout=30) == 143
