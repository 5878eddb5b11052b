"""A search that the pages show, and somebody who looks at it."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.design.experiment import Experiment
from search.journal.events import from_json
from search.journal.journal import FILE_NAME, Event
from search.web.forms import launch
from tests.support.played import OpenDriver, play
from tests.support.site import Visitor

HOSTILE = "<script>alert(1)</script>\n\x1b[31m\"'" + "x" * 10_000


@pytest.fixture
def played(open_driver: OpenDriver, experiment: Experiment) -> Experiment:
    """The search `played`, nine trials of three, six or nine epochs, that has come to its end."""
    play(open_driver(experiment))
    return experiment


@pytest.fixture
def visitor(played: Experiment) -> Visitor:
    """A visitor of the place with the search `played`."""
    return Visitor(played.folder.parent, place=played.storage)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collects the command lines that would be started."""
    found: list[list[str]] = []

    def start(
        self: launch.Launcher,
        verb: str,
        subject: str,
        words: Any,
        back: str,
        pictures_option: str = "",
    ) -> Any:
        found.append([verb, subject, *words])
        return launch.Launched("1", verb, subject, tuple(words), 0, back, Path("/nowhere"))

    monkeypatch.setattr(launch.Launcher, "start", start)
    monkeypatch.setattr(launch, "REFUSES_S", 0.0)
    return found


def make_hostile(folder: Path) -> None:
    """Write a search's journal anew, as somebody would who wants to do harm by its texts."""
    written = []
    for line in (folder / FILE_NAME).read_bytes().splitlines():
        values = json.loads(line)
        if values["event"] == "started":
            values["data"]["classes"] = [HOSTILE, "b"]
            values["data"]["name"] = HOSTILE
            domains = values["experiment"]["space"]["domains"]
            domains[HOSTILE] = domains["optimizer.lr"]
        if values["event"] == "suggested":
            values["params"] |= {HOSTILE: HOSTILE}
        if values["event"] == "ended":
            values |= {"outcome": "failed", "reason": HOSTILE}
        number, at, _ = values.pop("n"), values.pop("time_ms"), values.pop("crc")
        kind = values.pop("event")
        written.append(Event(number, at, from_json(kind, values)).to_line())
    (folder / FILE_NAME).write_text("".join(written))
