"""All forms of the pages: who may send them, and how large they are."""

from pathlib import Path

import pytest
from starlette.routing import Route

from search.web.pages.registry import PAGES
from tests.support.site import Visitor


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path)


def posts(visitor: Visitor) -> list[str]:
    found = [
        route.path
        for page in PAGES
        for route in page.routes(visitor.site)
        if isinstance(route, Route) and "POST" in (route.methods or ())
    ]
    return [
        path.replace("{name}", "one").replace("{verb}", "resume").replace("{trial}", "t0001")
        for path in found
    ]


@pytest.mark.parametrize("csrf", ["", "x", "0" * 64])
def test_no_form_is_taken_without_the_sessions_csrf_token(csrf: str, visitor: Visitor) -> None:
    paths = posts(visitor)
    assert "/new" in paths
    for path in paths:
        reply = visitor.send(path, {"data": "digits"}, csrf=csrf)
        assert reply.status == 403, path
        assert "belongs to another session" in reply.content.decode(), path


def test_no_form_is_taken_without_the_cookie(visitor: Visitor) -> None:
    visitor.cookie = "other=1"
    for path in posts(visitor):
        assert visitor.send(path, {"data": "digits"}).status == 401, path


def test_a_form_is_not_larger_than_it_can_be(visitor: Visitor) -> None:
    for path in posts(visitor):
        if not path.endswith("/ask") or path.startswith("/searches"):
            assert visitor.send(path, {"data": "x" * 300_000}).status == 413, path
    assert visitor.upload("/models/x/ask", "a", b"x" * 34_000_000, {}).status == 413
