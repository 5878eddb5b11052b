"""Who gets a page: the token, the session's cookie, the Host, the form's own token, its size."""

import asyncio
import re
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from search.serving.limits import Limits
from search.web import own_files as own_files_module
from search.web import site as site_module
from search.web.access import TOKEN
from search.web.app import app_of
from search.web.once import Once
from search.web.own_files import static_address
from search.web.site import Site
from tests.support.asgi import Reply, ask, listening
from tests.support.site import FORM, Visitor
from trainables.errors import ConfigError

OWN = {"sec-fetch-site": "same-origin", "content-type": FORM}


class Changing:
    """A page with a form that changes something."""

    NAV = None

    def __init__(self) -> None:
        self.changed = list[str]()

    def routes(self, site: Site) -> list[Any]:
        async def change(request: Request, form: FormData) -> Response:
            self.changed.append(str(form["name"]))
            if form["name"] == "refused":
                raise ConfigError("refused")
            return PlainTextResponse("changed")

        return [site.changes("/change", change, limit=1000)]


@pytest.fixture
def changing(tmp_path: Path) -> tuple[Visitor, Changing]:
    page, visitor = Changing(), Visitor(tmp_path)
    visitor.app = app_of(replace(visitor.site, pages=(page,)))
    return visitor, page


def post(visitor: Visitor, body: str, **headers: str) -> Reply:
    given = {**OWN, "cookie": visitor.cookie} | headers
    return ask(visitor.app, "POST", "/change", body.encode(), given)


def test_without_the_token_there_is_nothing(visitor: Visitor) -> None:
    for path in ("/", "/searches/played", f"{static_address()}/style.css", f"/?{TOKEN}=wrong"):
        reply = ask(visitor.app, "GET", path)
        assert (reply.status, b"played" in reply.content) == (401, False)


def test_a_client_that_is_refused_keeps_no_connection(visitor: Visitor) -> None:
    for headers in ({}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert ask(visitor.app, "GET", "/", headers=headers).headers["connection"] == "close"
    mine = ask(visitor.app, "GET", "/", headers={"cookie": visitor.cookie})
    assert (mine.status, "connection" in mine.headers) == (200, False)


def test_strangers_take_no_place_from_whoever_has_the_token(visitor: Visitor) -> None:
    """They connect more often than there are places, some silent and some refused."""
    with ExitStack() as opened, listening(visitor.app, Limits(connections=4)) as address:
        port = int(address.rpartition(":")[2])
        place = ("127.0.0.1", port)
        for number in range(20):
            stranger = opened.enter_context(socket.create_connection(place, timeout=600))
            if number % 2:
                stranger.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                assert stranger.recv(12) == b"HTTP/1.1 401"
        mine = opened.enter_context(socket.create_connection(place, timeout=600))
        head = f"Host: 127.0.0.1:{port}\r\nCookie: {visitor.cookie}\r\n\r\n"
        mine.sendall(f"GET / HTTP/1.1\r\n{head}".encode())
        assert mine.recv(12) == b"HTTP/1.1 200"


def test_the_token_is_changed_for_a_cookie_that_scripts_and_others_never_see(
    visitor: Visitor,
) -> None:
    token = visitor.site.access.token
    reply = ask(visitor.app, "GET", f"//evil.example/x?{TOKEN}={token}&q=a")
    assert (reply.status, reply.headers["location"]) == (303, "/evil.example/x?q=a")
    assert {"httponly", "samesite=strict"} <= set(
        reply.headers["set-cookie"].lower().replace(" ", "").split(";")
    )
    assert token not in reply.headers["set-cookie"]


def test_the_cookie_of_an_earlier_server_is_worth_nothing(visitor: Visitor, tmp_path: Path) -> None:
    later = Visitor(tmp_path / "later")
    assert ask(later.app, "GET", "/", headers={"cookie": later.cookie}).status == 200
    assert ask(later.app, "GET", "/", headers={"cookie": visitor.cookie}).status == 401
    name = later.cookie.partition("=")[0]
    value = visitor.cookie.partition("=")[2]
    assert ask(later.app, "GET", "/", headers={"cookie": f"{name}={value}"}).status == 401


def test_another_name_for_this_server_is_refused(visitor: Visitor) -> None:
    headers = {"host": "evil.example", "cookie": visitor.cookie}
    reply = ask(visitor.app, "GET", "/", headers=headers)
    assert (reply.status, b"'evil.example' is not a host name of this server" in reply.content) == (
        403,
        True,
    )


def test_a_form_changes_something_with_the_sessions_own_token_alone(
    changing: tuple[Visitor, Changing],
) -> None:
    visitor, page = changing
    for body in ("name=a", "name=a&csrf=", "name=a&csrf=%C3%A9", f"name=a&csrf={'0' * 64}"):
        assert post(visitor, body).status == 403
    assert page.changed == []
    assert post(visitor, f"name=a&csrf={visitor.site.access.csrf}").content == b"changed"
    assert page.changed == ["a"]


def test_another_sites_page_changes_nothing(changing: tuple[Visitor, Changing]) -> None:
    visitor, page = changing
    body = f"name=a&csrf={visitor.site.access.csrf}"
    for site in ("cross-site", "same-site"):
        assert post(visitor, body, **{"sec-fetch-site": site}).status == 403
    asked = ask(visitor.app, "GET", f"/change?{body}", headers={"cookie": visitor.cookie})
    assert asked.status in (404, 405)
    assert page.changed == []


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_a_page_of_another_server_of_this_host_starts_nothing(site: str, visitor: Visitor) -> None:
    headers = {"cookie": visitor.cookie, "sec-fetch-site": site}
    for path in ("/", "/data/report?data=digits&download=on", "/new/plan?data=digits"):
        reply = ask(visitor.app, "GET", path, headers=headers)
        assert (reply.status, b"Cross-site request refused" in reply.content) == (403, True)
    opened = ask(visitor.app, "GET", f"/?{TOKEN}={visitor.site.access.token}", headers=headers)
    assert (opened.status, b"0;url=/" in opened.content) == (200, True)


def test_a_token_leads_to_no_markup(visitor: Visitor) -> None:
    path = f'/"><b>?{TOKEN}={visitor.site.access.token}&q="><b>'
    reply = ask(visitor.app, "GET", path, headers={"sec-fetch-site": "cross-site"})
    assert (reply.status, b"<b>" in reply.content) == (200, False)


def test_a_form_that_is_sent_twice_acts_once(changing: tuple[Visitor, Changing]) -> None:
    visitor, page = changing
    body = f"name=a&csrf={visitor.site.access.csrf}&once="
    for once in ("1", "1", "2"):
        assert post(visitor, body + once).content == b"changed"
    assert page.changed == ["a", "a"]


def test_what_was_refused_may_be_sent_again(changing: tuple[Visitor, Changing]) -> None:
    visitor, page = changing
    for _ in range(2):
        reply = post(visitor, f"name=refused&csrf={visitor.site.access.csrf}&once=1")
        assert reply.status == 400
    assert page.changed == ["refused", "refused"]


def test_two_clicks_that_come_together_act_once() -> None:
    acted = list[int]()

    async def act() -> Response:
        acted.append(1)
        await asyncio.sleep(0)
        return PlainTextResponse("done")

    async def both() -> None:
        once, form = Once(), FormData({"once": "1"})
        await asyncio.gather(*(once.answer("/", form, act) for _ in range(2)))

    asyncio.run(both())
    assert acted == [1]


@pytest.mark.parametrize("length", [{}, {"content-length": "1000000000"}], ids=["untold", "told"])
def test_a_body_too_large_is_refused(
    length: dict[str, str], changing: tuple[Visitor, Changing]
) -> None:
    visitor, page = changing
    reply = post(visitor, f"csrf={visitor.site.access.csrf}&name={'a' * 2000}", **length)
    assert (reply.status, b"at most 1,000 bytes are accepted" in reply.content) == (413, True)
    assert page.changed == []


def test_a_form_that_does_not_arrive_is_not_waited_for(
    changing: tuple[Visitor, Changing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_module, "RECEIVE_S", 0.05)
    visitor, page = changing
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"host": "127.0.0.1", "cookie": visitor.cookie, **OWN}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/change",
        "raw_path": b"/change",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(visitor.app(scope, receive, send))
    assert (sent[0]["status"], page.changed) == (408, [])


@pytest.mark.parametrize(
    "path",
    [
        "/searches/..",
        "/searches/%2e%2e",
        "/searches/..%2fplayed",
        "/searches/.hidden",
        "/searches/" + "a" * 10_000,
        "/searches/nosuch",
        "/searches/played/trials/..",
        "/searches/played/trials/nosuch",
        "/searches/played/trials/t0001/files/../../../journal.jsonl",
        "/searches/played/trials/t0001/files//etc/passwd",
        f"{static_address()}/../site.py",
        f"{static_address()}/%2e%2e/site.py",
        "/static/0123456789ab/style.css",
    ],
    ids=range(13),
)
def test_a_path_that_leads_elsewhere_is_no_page(path: str, visitor: Visitor) -> None:
    reply = visitor.see(path)
    assert reply.status == 404
    assert b"import " not in reply.content
    assert b'"event"' not in reply.content


def test_a_browser_keeps_scripts_under_an_address_that_changes_with_them(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visitor.see("/searches/played").content.decode()
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(named) > 5
    for address in named:
        reply = visitor.see(address)
        assert (reply.status, reply.headers["cache-control"]) == (
            200,
            "max-age=31536000, immutable",
        )
    content = {**own_files_module.own_files(), "style.css": b"changed"}
    monkeypatch.setattr(own_files_module, "own_files", lambda: content)
    assert own_files_module.static_address.__wrapped__() != static_address()


def test_pages_without_end_are_not_told_what_is_new(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.web.stream.MAX_WATCHERS", 0)
    reply = visitor.see("/searches/played/events")
    assert (reply.status, b"are already open, and more are not allowed." in reply.content) == (
        409,
        True,
    )
