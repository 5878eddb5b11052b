"""python -m search.label: what it refuses, and what it serves until it is stopped."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from search.feedback.records import About, Records, Seen
from search.label import main


def met(place: Path) -> str:
    """Make records with one image and return its name."""
    records = Records.at(place)
    records.begin(About("models:/pets", ("cat", "dog")))
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    name = records.keep_image(file.getvalue())
    records.write_seen([Seen("a", 1, name, "3", (0.6, 0.4), "uncertain")])
    return name


def test_a_place_without_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"error: there are no records in '{tmp_path / 'none'}'. "
        f"`python -m search.serve MODEL --record {tmp_path / 'none'}` keeps some.\n"
    )


def test_a_port_that_is_taken_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    met(tmp_path / "met")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tmp_path / "met"), "--port", str(port)]) == 4
    assert "Use another --port, or another --host." in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "x", "²", "1" * 5000, "000001" * 9])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["met", f"--port={port}"])
    assert "a port is a whole number from 0 to 65,535" in capsys.readouterr().err


def test_an_image_is_corrected_over_http_until_it_is_stopped(tmp_path: Path) -> None:
    """It takes a process, whose signals and output a test's own process does not show."""
    name = met(tmp_path / "met")
    command = [sys.executable, "-m", "search.label", str(tmp_path / "met"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            assert it.stdout.readline() == "models:/pets: 1 image to correct, 0 corrected\n"
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", it.stdout.readline())
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address.rsplit("/", 2)[0] + "/next", timeout=600)
            told = json.dumps({"image": name, "class": "dog"}).encode()
            with urllib.request.urlopen(f"{address}labels", told, timeout=600) as answer:
                assert json.load(answer) == {"corrected": 1, "here": 1, "left": 0}
            it.send_signal(signal.SIGINT)
            assert it.communicate(timeout=600) == ("1 image corrected\n", "stopped by Ctrl-C\n")
        finally:
            it.kill()
    assert it.returncode == 130
    assert Records.at(tmp_path / "met").corrections()[name].label == "dog"
