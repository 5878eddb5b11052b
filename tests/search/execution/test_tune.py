"""The watch over Ray beside Tune's own loop."""

from threading import Event
from typing import Any

import pytest

from search.execution import tune
from search.execution.tune import RayWatchdog


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, list[str]]:
    """Give an event that is set once the last words were said, and these words."""
    heard: tuple[Event, list[str]] = Event(), []

    def say(self: Any, reason: str) -> None:
        heard[1].append(reason)
        heard[0].set()

    monkeypatch.setattr(RayWatchdog, "say", say)
    monkeypatch.setattr(tune, "LOOK_S", 0.01)
    monkeypatch.setattr(tune, "LAST_WORDS_S", 0.01)
    return heard


def test_rays_death_is_seen_while_tune_waits_for_it(
    said: tuple[Event, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: list[str] = []
    monkeypatch.setattr(tune, "dead_parts", lambda: dead)
    words = RayWatchdog(None)  # type: ignore[arg-type]
    words.watch()
    dead.append("gcs_server")
    assert said[0].wait(600)
    words.start("once more")
    assert said[1] == ["Ray's gcs_server died; the results so far are kept"]


def test_once_tune_has_ended_nothing_is_said(
    said: tuple[Event, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Event()
    monkeypatch.setattr(tune, "dead_parts", lambda: looked.set() or [])
    words = RayWatchdog(None)  # type: ignore[arg-type]
    words.watch()
    assert looked.wait(600)
    words.cancel()
    words.start("Ray's gcs_server died")
    assert words.timer is None
    assert said[1] == []
