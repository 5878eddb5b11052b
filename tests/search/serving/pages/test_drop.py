"""The page to drop images on: who may send corrections, and what a browser shows."""

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from search.feedback.observer import ServedAnswer
from search.feedback.recorder import Recorder, RecordingPolicy
from search.feedback.records import RecordsInfo, image_name
from search.serving.pages.drop import MAX_CONCURRENT, DropContext, routes
from search.serving.pages.guard import BodyMemory, allowed_hosts
from tests.support.asgi import ask, listening
from tests.support.browser import Tab, browse

CLASSES = ("cat", "dog", "<script>alert(1)</script>", "two\nlines")
MANY = tuple(f"class {number}" for number in range(1000))


SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "scheme": "http",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"127.0.0.1:8000")],
    "client": ("127.0.0.1", 40_000),
    "server": ("127.0.0.1", 8000),
}


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def answered(content: bytes, name: str = "a1") -> ServedAnswer:
    chances = np.array([0.9, 0.1, 0, 0], dtype=np.float32)
    return ServedAnswer(name, content, np.zeros((1, 1, 3), np.uint8), "3", chances, 1000)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(
        tmp_path / "met", RecordsInfo("models:/pets", CLASSES), RecordingPolicy(share=0)
    )
    yield made
    made.close()


def app_of(recorder: Recorder | None, classes: tuple[str, ...] = CLASSES) -> Starlette:
    context = DropContext("models:/pets", classes, lambda: "3", recorder)

    async def predict(request: Request) -> Response:
        content = await request.body()
        if content.startswith(b"no image"):
            return JSONResponse({"error": "not an image"}, 422)
        name = image_name(content)[:12]
        if recorder is not None:
            recorder.remember([answered(content, name)])
        chances = dict.fromkeys(classes, 0.0) | {classes[0]: 0.9, classes[1]: 0.1}
        one = {"id": name, "class": classes[0], "probability": 0.9, "probabilities": chances}
        told = {"predictions": [{**one, "version": "3"}], "time_ms": 0, "took_ms": 1.25}
        return JSONResponse(told)

    async def explain(request: Request) -> Response:
        picture = base64.b64encode(png(3)).decode()
        scores = {"faithful": False, "score": 0.1, "random_score": 0.2}
        return JSONResponse({"class": classes[0], "map": picture, **scores})

    posted = [("/predict", predict), ("/explain", explain)]
    return Starlette(
        routes=[
            *routes(context),
            *(Route(path, answer, methods=["POST"]) for path, answer in posted),
        ]
    )


def test_a_correction_by_an_answers_name_is_kept(recorder: Recorder) -> None:
    recorder.remember([answered(png(1))])
    reply = ask(app_of(recorder), "POST", "/corrections", {"id": "a1", "class": "dog"})
    assert (reply.status, reply.json) == (200, {"image": image_name(png(1)), "class": "dog"})
    (said,) = recorder.records.corrections().values()
    assert (said.label, said.by) == ("dog", "api")
    assert recorder.records.image(said.image) == png(1)


def test_a_correction_by_the_page_says_so(recorder: Recorder) -> None:
    recorder.remember([answered(png(1))])
    headers = {"origin": "http://127.0.0.1:8000"}
    told = {"id": "a1", "class": "two\nlines"}
    assert ask(app_of(recorder), "POST", "/corrections", told, headers).status == 200
    (said,) = recorder.records.corrections().values()
    assert (said.label, said.by) == ("two\nlines", "page")


def test_an_image_is_sent_again_where_its_answer_is_not_known(recorder: Recorder) -> None:
    told = {"id": "elsewhere", "class": "dog"}
    assert ask(app_of(recorder), "POST", "/corrections", told).status == 404
    told["content"] = base64.b64encode(png(2)).decode()
    assert ask(app_of(recorder), "POST", "/corrections", told).status == 200
    assert list(recorder.records.corrections()) == [image_name(png(2))]


@pytest.mark.parametrize(
    ("told", "status", "why"),
    [
        (b"{", 400, "a correction must be"),
        (b"[]", 400, "a correction must be"),
        pytest.param(b"[" * 100_000, 400, "a correction must be", id="deep"),
        ({"id": "a1"}, 400, "a correction must be"),
        ({"id": 1, "class": "cat"}, 400, "a correction must be"),
        ({"id": "a1", "class": "cat", "by": "label"}, 400, "a correction must be"),
        ({"id": "a1", "class": "cow"}, 400, "unknown class 'cow'"),
        ({"image": "../about.json", "class": "cat"}, 404, "there is no recorded image"),
        ({"image": "0" * 64, "class": "cat"}, 404, "there is no recorded image"),
        ({"id": "b", "class": "cat"}, 404, "this answer is no longer known"),
        ({"content": "?", "class": "cat"}, 400, "`content` is not valid base64"),
        ({"content": base64.b64encode(b"<svg/>").decode(), "class": "cat"}, 400, "not an image"),
        ({"content": base64.b64encode(b"x" * 999).decode(), "class": "cat"}, 400, "not an image"),
    ],
)
def test_what_is_no_correction_is_refused_in_one_line(
    recorder: Recorder, told: Any, status: int, why: str
) -> None:
    reply = ask(app_of(recorder), "POST", "/corrections", told)
    assert reply.status == status
    assert why in reply.json["error"]
    assert "\n" not in reply.json["error"]
    assert recorder.records.corrections() == {}


def test_too_large_a_correction_is_refused(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.serving.pages.drop.MAX_BYTES", 100)
    told = {"content": "A" * 100, "class": "cat"}
    reply = ask(app_of(recorder), "POST", "/corrections", told)
    assert (reply.status, reply.json) == (413, {"error": "the body must have at most 100 bytes."})


def test_a_server_that_other_machines_reach_takes_corrections_only_if_it_is_to(
    recorder: Recorder,
) -> None:
    recorder.remember([answered(png(1))])
    context = DropContext("models:/pets", CLASSES, lambda: "3", recorder, None, is_open=False)
    told = {"id": "a1", "class": "dog"}
    closed = Starlette(routes=routes(context))
    reply = ask(closed, "POST", "/corrections", told)
    assert (reply.status, "--open-corrections" in reply.json["error"]) == (403, True)
    assert '"records": false' in ask(closed, "GET", "/").content.decode()
    is_open = Starlette(routes=routes(replace(context, is_open=True)))
    assert ask(is_open, "POST", "/corrections", told).status == 200


def test_clients_that_are_slow_hold_up_no_other(recorder: Recorder) -> None:
    """They have begun to send, and send no more until another was answered."""
    recorder.remember([answered(png(1))])
    app = app_of(recorder)
    body = json.dumps({"id": "a1", "class": "dog"}).encode()

    async def send(pieces: AsyncIterator[bytes]) -> int:
        statuses = list[int]()

        async def note(message: Message) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        async def whole() -> Message:
            piece = await anext(pieces, None)
            if piece is None:
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": piece, "more_body": True}

        scope = {**SCOPE, "path": "/corrections", "raw_path": b"/corrections", "method": "POST"}
        await app(scope, whole, note)
        return statuses[0]

    async def main() -> None:
        answered_one, begun = asyncio.Event(), list[int]()

        async def slow() -> AsyncIterator[bytes]:
            yield body[:5]
            begun.append(1)
            await answered_one.wait()
            yield body[5:]

        async def quick() -> AsyncIterator[bytes]:
            yield body

        waiting = [asyncio.create_task(send(slow())) for _ in range(2 * MAX_CONCURRENT)]
        while len(begun) < len(waiting):
            await asyncio.sleep(0)
        assert await send(quick()) == 200
        answered_one.set()
        assert await asyncio.gather(*waiting) == [200] * len(waiting)

    asyncio.run(main())


def test_bodies_that_are_read_have_a_bound_together() -> None:
    room = BodyMemory(10)
    with room.reserve() as first:
        first(6)
        with room.reserve() as second:
            second(4)
            with pytest.raises(HTTPException) as refused:
                second(1)
            assert refused.value.status_code == 503
        first(4)
    with room.reserve() as third:
        third(10)


def test_without_records_a_correction_is_refused() -> None:
    reply = ask(app_of(None), "POST", "/corrections", {"id": "a1", "class": "cat"})
    assert reply.status == 403
    assert reply.json == {
        "error": "this server does not store corrections. Start it with --record PLACE."
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"},
        {"host": "evil.example"},
        {"host": "evil.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"},
        {"host": "[", "origin": "http://["},
    ],
)
def test_another_sites_page_cannot_correct(recorder: Recorder, headers: dict[str, str]) -> None:
    recorder.remember([answered(png(1))])
    reply = ask(app_of(recorder), "POST", "/corrections", {"id": "a1", "class": "dog"}, headers)
    assert reply.status == 403
    assert recorder.records.corrections() == {}


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", {"127.0.0.1", "localhost", "::1"}),
        ("127.0.0.5", {"127.0.0.1", "127.0.0.5", "localhost", "::1"}),
        ("localhost", {"127.0.0.1", "localhost", "::1"}),
        ("0.0.0.0", None),
        ("gpu-box", None),
    ],
)
def test_a_server_of_its_own_machine_has_that_machines_names(
    host: str, allowed: set[str] | None
) -> None:
    assert allowed_hosts(host) == allowed


def test_the_page_has_a_strict_policy_and_all_names_escaped() -> None:
    reply = ask(app_of(None), "GET", "/")
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert {"default-src 'none'", "script-src 'self'"} <= set(policy.split("; "))
    text = reply.content.decode()
    assert "<script>alert" not in text
    (told,) = re.findall(r'id="facts">(.*?)</script>', text)
    assert tuple(json.loads(told)["classes"]) == CLASSES


def test_only_the_pages_files_are_sent() -> None:
    assert ask(app_of(None), "GET", "/page/drop.js").headers["content-type"].startswith("text/java")
    for name in ("guard.py", "..%2fguard.py", "drop.html", ""):
        assert ask(app_of(None), "GET", f"/page/{name}").status == 404


DROP = """(() => {
    const files = new DataTransfer();
    for (const [name, text] of %s) {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        files.items.add(new File([bytes], name));
    }
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
})()"""


def drop(**files: bytes) -> str:
    pairs = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    return DROP % json.dumps(pairs)


@pytest.mark.browser
@pytest.mark.parametrize("classes", [CLASSES, MANY], ids=["odd", "many"])
def test_a_browser_shows_answers_and_corrects_them(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    """By keyboard alone, at both widths, in light and dark, without a message of the console."""
    made = Recorder(
        tmp_path / "met", RecordsInfo("models:/pets", classes), RecordingPolicy(share=0)
    )
    with listening(app_of(made, classes)) as address:

        async def steps(tab: Tab) -> None:
            for width, dark in ((1280, False), (390, True)):
                await tab.open(address, width, dark=dark)
                await tab.value(drop(one=png(1), two=b"no image"))
                await tab.wait_for("document.querySelectorAll('#answers h2').length == 2")
                assert await tab.value("document.documentElement.scrollWidth") <= width
                assert "not an image" in await tab.value("document.body.innerText")
                await tab.value("document.querySelector('#answers button').focus()")
                await tab.press("Enter")  # on "Why?"
                await tab.wait_for("document.body.innerText.includes('Do not rely on this map')")
                await tab.value(
                    "[...document.querySelectorAll('#answers button')]"
                    ".find(button => button.innerText.startsWith('Correct')).focus()"
                )
                await tab.press("Enter")
                if classes is MANY:
                    for letter in "class 77":
                        await tab.press(letter)
                    await tab.press("ArrowDown")
                await tab.press("Enter")
                await tab.wait_for("document.body.innerText.includes('Corrected to')")
                await tab.shoot(tmp_path / f"drop-{len(classes)}-{width}.png")
            # The browser itself notes an answer of 422.
            assert [one for one in tab.messages if "422" not in one] == []
            assert [one for one in tab.requests if not one.startswith((address, "blob:"))] == []

        browse(tmp_path / "profile", steps)
    made.close()
    (said,) = made.records.corrections().values()
    assert (said.by, said.label) == ("page", "class 770" if classes is MANY else "dog")
