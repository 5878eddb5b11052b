"""python -m search.ui: what it refuses, and what it serves until it is stopped."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from search.design.experiment import Experiment
from search.ui import main
from search.web.forms.children import Asker
from search.web.server import TOKEN_VARIABLE, name_of
from tests.support.played import OpenDriver, play


@pytest.mark.parametrize("token", ["short", "with a space in it", "ü" * 20, "a" * 15, ""])
def test_a_token_is_long_and_plain(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--token={token}"])
    assert "at least 16 ASCII letters, digits and punctuation marks" in capsys.readouterr().err


def test_a_token_may_stand_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    assert main([]) == 2
    assert "at least 16 ASCII letters, digits and punctuation marks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "name"),
    [("0.0.0.0", socket.gethostname()), ("::", socket.gethostname()), ("::1", "[::1]")],
)
def test_the_address_has_a_name_that_leads_there(host: str, name: str) -> None:
    assert name_of(host) == name


def test_a_browser_is_led_by_a_file_so_that_its_command_line_has_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def read(self: uvicorn.Server, sockets: Any = None) -> None:
        shown.append(Path(urlsplit(shown[0]).path).read_text())

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr(uvicorn.Server, "run", read)
    token = "t" * 20
    words = ["--storage", str(tmp_path), "--port", "0", "--host", "127.0.0.2", "--token", token]
    assert main(words) == 0
    opened, content = shown
    assert token not in opened
    assert f"/?open={token}" in content
    assert not Path(urlsplit(opened).path).exists()


def test_what_pages_have_asked_ends_with_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Asker] = []

    def stop(self: uvicorn.Server, sockets: Any = None) -> None:
        asyncio.run(self.shutdown())

    async def end(self: Asker) -> None:
        ended.append(self)

    async def nothing(self: uvicorn.Server, sockets: Any = None) -> None:
        pass

    monkeypatch.setattr(uvicorn.Server, "run", stop)
    monkeypatch.setattr(uvicorn.Server, "shutdown", nothing)
    monkeypatch.setattr(Asker, "end", end)
    assert main(["--storage", str(tmp_path), "--port", "0", "--no-browser"]) == 0
    assert len(set(ended)) == 3  # of new searches, of verbs, of data


def test_an_option_without_a_value_has_no_default_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert "--no-browser" in said
    assert "(default: True)" not in said
    assert "(default: 8420)" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_host_needs_to_know_where_images_may_lie(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host", host]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: with --host {host}, other machines can reach this server.")
    assert said.count("\n") == 1


def test_a_folder_for_images_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "photos"
    assert main(["--data-root", str(missing)]) == 2
    assert f"error: --data-root '{missing}' is not an existing folder." in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 4
    assert "Choose another --port or --host." in capsys.readouterr().err


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
        with browser.open(found[0], timeout=600) as page:
            assert b"played" in page.read()
        with browser.open(f"{found[1]}/searches/played/events", timeout=600) as events:
            assert events.readline() == b"retry: 2000\n"
            running.send_signal(signal.SIGTERM)
            events.read()
        assert running.wait(timeout=600) == 143
