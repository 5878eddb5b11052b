"""The page on which images are corrected: its calls, and a browser that is used by keys alone."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette

from search.feedback.labelling import LabellingQueue
from search.feedback.queue import ImageQueue
from search.feedback.records import RecordedAnswer, Records, RecordsInfo, image_name
from search.feedback.sorting import sort_folder
from search.serving.pages.guard import LOOPBACK
from search.serving.pages.label import routes
from tests.support.asgi import ask, listening
from tests.support.browser import Tab, browse

CLASSES = ("cat", "dog", "<script>alert(1)</script>", "two\nlines")
MANY = tuple(f"class {number}" for number in range(1000))


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def labelling_of(place: Path, images: int, classes: tuple[str, ...] = CLASSES) -> LabellingQueue:
    """Return records of images of which each is a little surer to be of the first class."""
    about, records = RecordsInfo("models:/pets", classes), Records.at(place)
    records.begin(about)
    for number in range(images):
        chances = (0.5 + number / 100, 0.3 - number / 100, 0.2, *[0.0] * (len(classes) - 3))
        name = records.keep_image(png(number))
        records.write_answers(
            [RecordedAnswer(f"a{number}", number, name, "3", chances, "uncertain")]
        )
    return LabellingQueue(records, about)


def app_of(labelling: ImageQueue) -> Starlette:
    return Starlette(routes=routes(labelling, LOOPBACK))


def test_a_program_corrects_skips_and_takes_back(tmp_path: Path) -> None:
    labelling = labelling_of(tmp_path / "met", 3)
    app = app_of(labelling)
    told = ask(app, "GET", "/next?count=2").json
    first, second = (one["image"] for one in told["items"])
    assert (first, second) == (image_name(png(0)), image_name(png(1)))
    assert (told["corrected"], told["left"]) == (0, 3)
    said = ask(app, "POST", "/labels", {"image": first, "class": "two\nlines"})
    assert (said.status, said.json) == (200, {"corrected": 1, "here": 1, "left": 2})
    assert ask(app, "POST", "/skips", {"image": second}).status == 200
    left = [one["image"] for one in ask(app, "GET", "/next").json["items"]]
    assert left == [image_name(png(2)), second]
    assert [one.label for one in labelling.records.corrections().values()] == ["two\nlines"]
    assert ask(app, "DELETE", f"/labels/{first}").json["corrected"] == 0
    assert labelling.records.corrections() == {}


def test_an_image_is_sent_as_png_alone(tmp_path: Path) -> None:
    labelling = labelling_of(tmp_path / "met", 1)
    hostile = labelling.records.keep_image(b"<script>alert(1)</script>")
    app = app_of(labelling)
    reply = ask(app, "GET", f"/images/{image_name(png(0))}")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.content.startswith(b"\x89PNG")
    reply = ask(app, "GET", f"/images/{hostile}")
    assert (reply.status, b"script" in reply.content) == (400, False)
    for name in ("0" * 64, "..%2fabout.json", "about.json"):
        assert ask(app, "GET", f"/images/{name}").status == 404


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "the body must be a JSON object"),
        (b'["image"]', "the body must be a JSON object"),
        (b'{"image": 1, "class": "cat"}', "the body must be a JSON object"),
        (b'{"class": "cat"}', "the body must be a JSON object"),
        (b'{"image": "a", "class": "cow"}', "unknown class 'cow'"),
        (b'{"image": "a", "class": "cat", "by": "page"}', "the body must be a JSON object"),
    ],
    ids=range(6),
)
def test_what_is_no_correction_is_refused(tmp_path: Path, body: bytes, why: str) -> None:
    reply = ask(app_of(labelling_of(tmp_path / "met", 1)), "POST", "/labels", body)
    assert reply.status == 400
    assert why in reply.json["error"]


@pytest.mark.parametrize("count", ["0", "101", "-1", "x", "²", "9" * 5000, "0" * 8 + "1" * 5000])
def test_a_count_is_a_small_number(tmp_path: Path, count: str) -> None:
    reply = ask(app_of(labelling_of(tmp_path / "met", 1)), "GET", f"/next?count={count}")
    assert reply.status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/labels"), ("POST", "/skips"), ("DELETE", f"/labels/{image_name(png(0))}")],
)
def test_another_sites_page_changes_nothing(tmp_path: Path, method: str, path: str) -> None:
    labelling = labelling_of(tmp_path / "met", 1)
    labelling.correct(image_name(png(0)), "cat")
    body = {"image": image_name(png(0)), "class": "dog"}
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        assert ask(app_of(labelling), method, path, body, headers).status == 403
    assert [one.label for one in labelling.records.corrections().values()] == ["cat"]


def test_images_are_shown_to_no_other_name(tmp_path: Path) -> None:
    app = app_of(labelling_of(tmp_path / "met", 1))
    for path in ("/", "/next", f"/images/{image_name(png(0))}"):
        assert ask(app, "GET", path, headers={"host": "evil.example"}).status == 403


@pytest.mark.browser
def test_classes_that_differ_in_case_alone_have_keys_of_their_own(tmp_path: Path) -> None:
    classes = ("C", "c", "S", "7", "b", "B")
    app = app_of(labelling_of(tmp_path / "met", 2, classes))
    found = "[...document.querySelectorAll('#classes button')].map(one => one.textContent)"

    async def steps(tab: Tab, address: str) -> None:
        await tab.open(address, 1280)
        await tab.wait_for("document.querySelector('#one img')?.naturalWidth")
        texts = await tab.value(found)
        assert len({text[0] for text in texts}) == len(classes), texts
        assert {"Cc", "Bb", "77"} <= set(texts)
        await tab.press("c")
        await tab.wait_for(f"{LEFT}.startsWith('1 corrected')")

    with listening(app) as address:
        browse(tmp_path / "profile", lambda tab: steps(tab, address))
    (said,) = Records.at(tmp_path / "met").corrections().values()
    assert said.label == "c"


LEFT = "document.getElementById('progress').textContent"


def test_the_classes_of_a_model_stay_as_they_are(tmp_path: Path) -> None:
    app = app_of(labelling_of(tmp_path / "met", 1))
    reply = ask(app, "POST", "/classes", {"class": "cow"})
    assert reply.status == 400
    assert "the classes are those of the model" in reply.json["error"]


@pytest.mark.browser
def test_a_folder_is_sorted_by_keys_with_classes_that_are_added(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        (tmp_path / "pictures" / f"{number}, #%.png").write_bytes(png(20 * number))
    app = app_of(sort_folder(tmp_path / "pictures", tmp_path / "out", [], None))
    buttons = "[...document.querySelectorAll('#classes button')].map(one => one.textContent)"

    async def steps(tab: Tab, address: str) -> None:
        await tab.open(address, 390)
        await tab.wait_for("document.querySelector('#one img')?.naturalWidth")
        for name in ("cat", "dog"):
            await tab.press("+")
            for letter in name:
                await tab.press(letter)
            await tab.press("Enter")
            await tab.wait_for(f"{buttons}.at(-1)?.endsWith('{name}')")
        for key in ("1", "2", "2", "u"):
            await tab.press(key)
        await tab.wait_for(f"{LEFT}.startsWith('2 labelled')")
        await tab.press("+")
        await tab.press(".")
        await tab.press("Enter")
        await tab.wait_for("!document.getElementById('problem').hidden")
        problem = await tab.value("document.getElementById('problem').textContent")
        assert problem.startswith("the class '.' begins with a dot")
        await tab.press("Escape")
        for number in range(10):
            await tab.wait_for("document.querySelector('#one:not([hidden]) img')?.naturalWidth")
            await tab.press("1")
            await tab.wait_for(f"{LEFT}.startsWith('{3 + number} labelled')")
        await tab.wait_for("!document.getElementById('end').hidden")
        step = await tab.value("document.getElementById('next').textContent")
        assert step.endswith(f"python -m search.run --data folder:{tmp_path}/out")
        assert await tab.value("document.title") == "Label images: pictures"

    with listening(app) as address:
        browse(tmp_path / "profile", lambda tab: steps(tab, address))
    found = [path.parent.name for path in (tmp_path / "out").glob("*/*/*")]
    assert sorted(found) == ["cat"] * 11 + ["dog"]


HELD = """(() => {
    const answer = window.fetch;
    window.fetch = async (place, ...options) => {
        if (!String(place).startsWith("next")) return answer(place, ...options);
        window.isAsked = true;
        const answered = await answer(place, ...options);
        const read = answered.json.bind(answered);
        answered.json = async () => {
            const told = await read();
            setTimeout(() => { window.isHeard = true; }, 0);
            return told;
        };
        await new Promise((release) => { window.release = release; });
        return answered;
    };
    return true;
})()"""
"""Holds the answers that name further images until `release` is called."""


@pytest.mark.browser
@pytest.mark.slow
def test_an_answer_that_a_correction_has_overtaken_does_not_count_backwards(tmp_path: Path) -> None:
    labelling = labelling_of(tmp_path / "met", 30, CLASSES)

    async def steps(tab: Tab, address: str) -> None:
        await tab.open(address, 1280)
        await tab.wait_for("document.querySelector('#one img')?.naturalWidth")
        assert await tab.value(HELD)
        corrected = 0
        while not await tab.value("window.isAsked"):
            await tab.press("Enter")
            corrected += 1
            await tab.wait_for(f"{LEFT}.startsWith('{corrected} corrected')")
        await tab.wait_for("window.release")
        await tab.press("Enter")
        await tab.wait_for(f"{LEFT}.startsWith('{corrected + 1} corrected')")
        await tab.value("window.release()")
        await tab.wait_for("window.isHeard")
        assert (await tab.value(LEFT)).startswith(f"{corrected + 1} corrected")

    with listening(app_of(labelling)) as address:
        browse(tmp_path / "profile", lambda tab: steps(tab, f"{address}/"))


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("classes", [CLASSES, MANY], ids=["odd", "many"])
def test_ten_images_are_corrected_by_keys_alone(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """In a real browser: right as it is, another class, skipped, undone, found by its name."""
    labelling = labelling_of(tmp_path / "met", 11, classes)
    many = classes is MANY

    async def press(tab: Tab, key: str, corrected: int) -> None:
        await tab.wait_for(
            "!document.getElementById('one').hidden"
        )  # a skipped one is fetched again
        await tab.press(key)
        await tab.wait_for(f"{LEFT}.startsWith('{corrected} corrected')")

    async def steps(tab: Tab, address: str) -> None:
        await tab.open(address, 390, dark=True)
        await tab.wait_for("document.querySelector('#one img')?.naturalWidth")
        assert await tab.value("document.documentElement.scrollWidth") <= 390
        await tab.shoot(tmp_path / f"label-{len(classes)}-390.png")
        await tab.open(address, 1280)
        await tab.wait_for("document.querySelector('#one img')?.naturalWidth")
        await tab.shoot(tmp_path / f"label-{len(classes)}-1280.png")
        await press(tab, "Enter", 1)
        for _ in range(9):  # the key is held
            await tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", autoRepeat=True)
        await press(tab, "2", 2)
        await press(tab, "u", 1)
        await press(tab, "1", 2)
        await press(tab, "s", 2)
        for number in range(3, 10):
            await press(tab, "Enter", number)
        if many:
            await tab.wait_for("!document.getElementById('one').hidden")
            await tab.press("/")
            for letter in "class 77":
                await tab.press(letter)
            await tab.press("ArrowDown")
            await press(tab, "Enter", 10)
        else:
            await press(tab, "4", 10)
        assert "1 left" in await tab.value(LEFT)
        await press(tab, "Enter", 11)
        await tab.wait_for("!document.getElementById('end').hidden")
        assert tab.messages == []
        assert [one for one in tab.requests if not one.startswith(address)] == []

    with listening(app_of(labelling)) as address:
        browse(tmp_path / "profile", lambda tab: steps(tab, f"{address}/"))
    said = {name: one.label for name, one in labelling.records.corrections().items()}
    last = "class 770" if many else "two\nlines"
    expected = {image_name(png(number)): classes[0] for number in range(11)}
    assert said == {**expected, image_name(png(10)): last}
