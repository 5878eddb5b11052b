"""The pages of models: what was promoted, and what a model says of an image."""

import time
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NotReady
from search.tracking.model_registry import RegisteredModel, Version
from search.web.forms.answers import Models
from search.web.pages import models
from tests.support.asgi import Reply
from tests.support.site import Visitor

HOSTILE = '"><img src=x onerror=alert(1)>'
DESCRIPTION = f"cnn of {HOSTILE}\n\n| | |\n|---|---|\n| accuracy | 0.9 {HOSTILE} |\n\nSearched."


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    found = [
        RegisteredModel(
            f"flowers {HOSTILE}",
            (
                Version("2", (), 1_700_000_000_000, DESCRIPTION, "second", "t0002"),
                Version("1", ("champion",), 1_600_000_000_000, "", "", ""),
            ),
        )
    ]

    def known(tracking: str, name: str = "") -> list[RegisteredModel]:
        return [one for one in found if name in ("", one.name)]

    monkeypatch.setattr(models, "models_in", known)
    return Visitor(tmp_path)


def text(reply: Reply) -> str:
    return reply.content.decode()


PATH = "/models/flowers%20%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"


def test_models_are_listed_with_versions_aliases_and_figures(visitor: Visitor) -> None:
    page = text(visitor.see("/models", list="1"))
    assert "champion" in page
    assert "accuracy: 0.9" in page
    assert "/searches/second" in page
    assert "<img src=x" not in page


def test_a_page_is_there_before_mlflow_has_answered(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(models, "models_in")
    page = text(visitor.see("/models"))
    assert page.count("/models?list=1") == 2  # with a script, and without


def test_mlflow_in_trouble_is_told_on_the_page(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(tracking: str, name: str = "") -> list[RegisteredModel]:
        raise NotReady(f"MLflow cannot be reached {HOSTILE}")

    monkeypatch.setattr(models, "models_in", refuses)
    page = text(visitor.see("/models", list="1"))
    assert "MLflow cannot be reached" in page
    assert "<img src=x" not in page


def test_mlflow_that_does_not_answer_is_not_waited_for(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "LIMIT_S", 0.05)
    monkeypatch.setattr(models, "models_in", lambda *_: time.sleep(0.5))
    assert "MLflow has not answered within 0.05 s" in text(visitor.see("/models", list="1"))


def test_a_page_shows_the_champion_unless_another_is_asked_for(visitor: Visitor) -> None:
    name = f"/models/flowers {HOSTILE}"
    assert "version 1 · champion" in text(visitor.see(name))
    assert "version 2 · promoted" in text(visitor.see(name, version="2"))
    assert visitor.see(name, version="7").status == 404
    assert visitor.see("/models/nix").status == 404


def test_an_image_gets_its_class_beside_its_name(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def says(self: Models, uri: str, content: bytes) -> dict[str, Any]:
        asked.append((uri, content))
        chances = {f"<b>{HOSTILE}": 0.75, "rose": 0.25}
        one = {"class": f"<b>{HOSTILE}", "probability": 0.75, "probabilities": chances}
        return {**one, "version": "1", "took_ms": 3.2}

    monkeypatch.setattr(Models, "ask", says)
    name = f"/models/flowers {HOSTILE}"
    reply = visitor.upload(f"{name}/ask", "<script>.png", b"pixels", {"version": "1"})
    assert asked == [(f"models:/flowers {HOSTILE}/1", b"pixels")]
    page = text(reply)
    assert "75.0 %" in page
    assert "&lt;script&gt;.png" in page
    assert "<img src=x" not in page
    assert "<b>&#34;" not in page


def test_an_image_that_cannot_be_read_is_told_of(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says(self: Models, uri: str, content: bytes) -> dict[str, Any]:
        return {"error": "not an image"}

    monkeypatch.setattr(Models, "ask", says)
    name = f"/models/flowers {HOSTILE}"
    assert "not an image" in text(visitor.upload(f"{name}/ask", "a", b"x", {"version": "1"}))


@pytest.mark.parametrize("version", ["", "1/../2", "champion", "-1", "1" * 20])
def test_a_version_is_a_number(version: str, visitor: Visitor) -> None:
    reply = visitor.upload("/models/x/ask", "a", b"x", {"version": version})
    assert reply.status == 400
    assert "the version must be a whole number" in text(reply)


def test_a_form_without_an_image_is_refused(visitor: Visitor) -> None:
    reply = visitor.upload("/models/x/ask", "", b"", {"version": "1"})
    assert reply.status == 400
    assert "choose 1 to 20 images" in text(reply)
