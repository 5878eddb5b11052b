"""The page *Data*: what is in a folder of images, whatever its classes and files are called."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from search.web.forms import look
from search.web.forms.children import NEWER, Asker, ProcessOutput
from tests.support.asgi import Reply
from tests.support.site import Visitor

HOSTILE = '"><img src=x onerror=alert(1)>'
CLASSES = ("rose", HOSTILE, "two\nlines")


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody whose questions are answered in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    async def ask(self: Asker, module: str, words: list[str]) -> ProcessOutput:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = look.main(words)
        return ProcessOutput(code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(Asker, "ask", ask)
    return Visitor(tmp_path, tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of 100 x 100 pixels, as far as can be told from their colours."""
    draw = np.random.default_rng(0)
    for kind in CLASSES:
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(0, 255, (100, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{number}.png")
    return tmp_path / "photos"


def text(reply: Reply) -> str:
    return reply.content.decode()


def test_a_folder_is_told_with_classes_samples_and_warnings(visitor: Visitor, photos: Path) -> None:
    page = text(visitor.see("/data/report", part=True, data=f"folder:{photos}"))
    assert "24 images in 3 classes" in page
    assert "<b>Warning:</b> 3 classes of 3 have fewer than 10 training images" in page
    assert 'src="data:image/png;base64,' in page
    assert "two\\nlines" in page
    assert "<img src=x" not in page
    assert "<html" not in page


def test_a_picture_with_two_classes_is_listed(visitor: Visitor, photos: Path) -> None:
    shutil.copy(photos / "rose" / "0.png", photos / "two\nlines" / "copy.png")
    page = text(visitor.see("/data/report", part=True, data=f"folder:{photos}"))
    _, _, listed = page.partition("Check these: one picture, two classes")
    rows = listed.partition("</table>")[0]
    assert "rose/0.png" in rows
    assert "copy.png" in rows
    other = visitor.see("/data/report", part=True, data="digits")
    assert "Check these" not in text(other)


def test_without_a_script_the_report_is_a_page(visitor: Visitor, photos: Path) -> None:
    assert "/data/report?" in text(visitor.see("/data", data=f"folder:{photos}"))
    page = text(visitor.see("/data/report", data=f"folder:{photos}"))
    assert "24 images in 3 classes" in page
    assert "<html" in page


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("table3", "These are few photographs."),
        ("auto", "These are few photographs."),
        ("transfer", "24 images in 3 classes"),
    ],
)
def test_few_photographs_are_led_to_trained_weights(
    space: str, told: str, visitor: Visitor, photos: Path
) -> None:
    page = text(visitor.see("/data/report", part=True, data=f"folder:{photos}", space=space))
    assert told in page
    assert ("&amp;space=auto&amp;download=on" in page) == (space != "transfer")
    with_download = {"data": f"folder:{photos}", "space": space, "download": "on"}
    page = text(visitor.see("/data/report", part=True, **with_download))
    assert ("These are few photographs." in page) == (space == "table3")


def test_unreadable_files_are_told_of_with_a_way_to_leave_them_out(
    visitor: Visitor, photos: Path
) -> None:
    (photos / "rose" / "broken.png").write_bytes(b"no image")
    reply = visitor.see("/data/report", part=True, data=f"folder:{photos}")
    assert reply.status == 200
    assert "broken.png" in text(reply)
    assert "skip_bad=on" in text(reply)
    with_it = visitor.see("/data/report", part=True, data=f"folder:{photos}", skip_bad="on")
    assert "1 left out" in text(with_it)


def test_a_report_whose_place_a_newer_one_took_says_so(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(self: Asker, module: str, words: list[str]) -> ProcessOutput:
        raise HTTPException(409, NEWER)

    monkeypatch.setattr(Asker, "ask", ask)
    reply = visitor.see("/data/report", part=True, data=f"folder:{photos}")
    assert (reply.status, NEWER in text(reply)) == (200, True)


def test_a_folder_outside_the_data_root_is_not_looked_at(visitor: Visitor) -> None:
    assert "is not inside" in text(visitor.see("/data/report", part=True, data="folder:/etc"))
