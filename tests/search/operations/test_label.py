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
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from search.feedback.records import RecordedAnswer, Records, RecordsInfo
from search.label import main
from search.operations.label import CONNECTIONS, app_of
from search.serving.protocol import BoundedProtocol
from tests.support.asgi import ask


def met(place: Path) -> str:
    """Make records with one image and return its name."""
    records = Records.at(place)
    records.begin(RecordsInfo("models:/pets", ("cat", "dog")))
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    name = records.keep_image(file.getvalue())
    records.write_answers([RecordedAnswer("a", 1, name, "3", (0.6, 0.4), "uncertain")])
    return name


def test_a_place_without_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"error: there are no records of predictions in '{tmp_path / 'none'}', and no images. To "
        "start a server that writes records: python -m search.serve MODEL --record "
        f"{tmp_path / 'none'}\n"
    )


def test_images_with_boxes_are_not_sorted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        image = tmp_path / "images" / f"{name}.png"
        image.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(image)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [cell]\ntrain: images\n")
    assert main([str(tmp_path)]) == 2
    assert "is a data set for detection, whose targets cannot be corrected here" in (
        capsys.readouterr().err
    )


def test_a_port_that_is_taken_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    met(tmp_path / "met")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tmp_path / "met"), "--port", str(port)]) == 4
    assert "Choose another --port or --host." in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "x", "²", "1" * 5000, "000001" * 9])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["met", f"--port={port}"])
    assert "a port must be a whole number from 0 to 65,535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--classes", "cat,train"], "the class 'train' would be read as a train set"),
        (["--classes", "cat,,dog"], "the class '' is empty"),
        (["--classes", "a/b"], "the class 'a/b' has a character that folders cannot have"),
        (["--classes", ".cat"], "the class '.cat' begins with a dot, or is reserved"),
        (["--classes", "猫" * 70], "is too long"),
        (["--classes", "cat,Cat"], "differs from 'cat' only in its case or in its separators"),
        (["--out", "pictures/sorted"], "must not be one in the other"),
        (["--out", "."], "must not be one in the other"),
        (["--out", "full"], "'full' is not a folder of sorted images (first other one: 'red.png')"),
        (["--weights", "nowhere"], "the weights of 'probe_mobilenet_v2' were not found"),
    ],
)
def test_options_with_which_a_folder_cannot_be_sorted_are_refused(
    options: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("pictures", "full"):
        Path(folder).mkdir()
        Image.new("RGB", (8, 8), "red").save(f"{folder}/red.png")
    try:
        code = main(["pictures", "--port", "0", *options])
    except SystemExit as error:  # refused as the command line is read
        code = int(str(error.code))
    told = capsys.readouterr().err
    assert code == 2
    assert why in told
    assert "Traceback" not in told
    assert not Path("pictures-sorted").exists()


def test_options_for_folders_of_images_are_refused_for_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    met(tmp_path / "met")
    assert main([str(tmp_path / "met"), "--classes", "cat"]) == 2
    assert "--classes is for a folder of images, but" in capsys.readouterr().err


def test_a_browser_is_led_by_a_file_so_that_its_command_line_has_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    met(tmp_path / "met")
    shown: list[str] = []

    def read(self: uvicorn.Server, sockets: Any = None) -> None:
        shown.append(Path(urlsplit(shown[0]).path).read_text())
        assert issubclass(self.config.http, BoundedProtocol)  # type: ignore[arg-type]
        assert self.config.http.limits.connections == CONNECTIONS

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr(uvicorn.Server, "run", read)
    assert main([str(tmp_path / "met"), "--port", "0"]) == 0
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", capsys.readouterr().out)
    opened, content = shown
    assert opened.startswith("file:///")
    assert address in content
    assert not Path(urlsplit(opened).path).exists()


def test_a_client_without_the_token_keeps_no_connection() -> None:
    async def page(request: Request) -> Response:
        return Response("images")

    app = app_of("t" * 20, [Route("/", page)])
    stranger, mine = ask(app, "GET", "/other/"), ask(app, "GET", f"/{'t' * 20}/")
    assert (stranger.status, stranger.headers["connection"]) == (404, "close")
    assert (mine.content, "connection" in mine.headers) == (b"images", False)


def test_a_folder_is_sorted_over_http_and_the_next_step_is_printed(tmp_path: Path) -> None:
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    for number in range(5):
        Image.new("RGB", (16, 16), (50 * number, 0, 0)).save(pictures / f"{number}.png")
    command = [sys.executable, "-m", "search.label", str(pictures), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            assert (
                it.stdout.readline() == "my pictures: 5 images left to label, 0 already labelled\n"
            )
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", it.stdout.readline())
            for name in ("dark red", "red"):
                told = json.dumps({"class": name}).encode()
                with urllib.request.urlopen(f"{address}classes", told, timeout=600) as answer:
                    classes = json.load(answer)["classes"]
            assert classes == ["dark red", "red"]
            with urllib.request.urlopen(f"{address}next", timeout=600) as answer:
                image = json.load(answer)["items"][0]["image"]
            told = json.dumps({"image": image, "class": "red"}).encode()
            with urllib.request.urlopen(f"{address}labels", told, timeout=600) as answer:
                assert json.load(answer) == {"corrected": 1, "here": 1, "left": 4}
            it.send_signal(signal.SIGINT)
            out, err = it.communicate(timeout=600)
        finally:
            it.kill()
    place = f"{tmp_path}/my pictures"
    assert out == (
        "1 image labelled\nTo train on the sorted images: python -m search.run "
        f"--data 'folder:{place}-sorted'\n"
    )
    assert err.endswith("stopped by Ctrl-C\n")
    (copy,) = (tmp_path / "my pictures-sorted" / "train" / "red").iterdir()
    assert copy.read_bytes() == (pictures / copy.name).read_bytes()


def test_an_image_is_corrected_over_http_until_it_is_stopped(tmp_path: Path) -> None:
    """It takes a process, whose signals and output a test's own process does not show."""
    name = met(tmp_path / "met")
    command = [sys.executable, "-m", "search.label", str(tmp_path / "met"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            assert (
                it.stdout.readline()
                == "models:/pets: 1 image left to correct, 0 already corrected\n"
            )
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
