"""The registry of views: what each is told, and what becomes of a search whose view raises."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from cluster.exit_codes import ExitCode
from search.design.experiment import Experiment
from search.journal.events import Opened
from search.journal.journal import FILE_NAME, Event, TakenOver, read
from search.journal.result import SearchResult
from search.sessions.ending import show_outcome
from search.views.base import Finished, View, ViewContext
from search.views.opened import OpenViews
from search.views.registry import VIEWS, ViewEntry
from tests.conftest import Command
from tests.support import status_file
from tests.support.played import OpenDriver, play

TINY = [
    *("--space", "smoke", "--name", "tiny", "--executor", "inline", "--device", "cpu"),
    *("--no-cache", "--trials", "2", "--set", "epochs=1"),
    *("--set", "data.train_limit=100", "--set", "data.val_limit=100"),
]
TRACKING = {"tracking_uri": "sqlite:///m.db", "experiment_id": "1", "parent_run_id": "r"}
EVENT = Event(1, 1, Opened("t0001"))


class Told(View):
    """Notes what it is told, and raises where a test says so."""

    raises: ClassVar[dict[str, Exception]] = {}
    """The errors by method."""
    calls: ClassVar[list[str]] = []

    def __init__(self, shown: ViewContext) -> None:
        self._note("open")

    def apply(self, event: Event) -> None:
        """Note the call."""
        self._note("apply")

    def tick(self) -> None:
        """Note the call."""
        self._note("tick")

    def keep(self) -> None:
        """Note the call."""
        self._note("keep")

    def close(self) -> None:
        """Note the call."""
        self._note("close")

    def render(self, finished: Finished) -> None:
        """Note the call."""
        self._note("render")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.raises:
            raise self.raises[call]


class Other(Told):
    """Another view, which never raises."""

    raises: ClassVar[dict[str, Exception]] = {}
    calls: ClassVar[list[str]] = []


@pytest.fixture(autouse=True)
def details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of details, which belong into the system's temporary folder, in the test's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenViews]:
    """Make views of two, of which the first raises the errors that are given by method."""

    def make(**raises: Exception) -> OpenViews:
        monkeypatch.setattr(Told, "raises", raises)
        monkeypatch.setattr(Told, "calls", [])
        monkeypatch.setattr(Other, "calls", [])
        for name in list(VIEWS):
            monkeypatch.delitem(VIEWS, name)
        monkeypatch.setitem(VIEWS, "told", ViewEntry(f"{__name__}:Told", "the first"))
        monkeypatch.setitem(VIEWS, "other", ViewEntry(f"{__name__}:Other", "the other"))
        return OpenViews(ViewContext(Console(file=io.StringIO(), width=200)))

    return make


def said(views: OpenViews) -> str:
    return views.context.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_new_view_is_one_file_and_one_line_of_the_registry(
    call: Command, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ViewEntry("tests.support.status_file:StatusFile", "the status file")
    monkeypatch.setitem(VIEWS, "status", entry)
    done = call("search.run", *TINY, "--tracking", database)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "searches" / "tiny"
    status = json.loads((folder / status_file.FILE_NAME).read_text())
    assert status["kinds"] == [event.kind for event in read(folder / FILE_NAME)]
    best = SearchResult.read(folder).best
    assert best is not None
    assert status["result"] == ["completed", best.trial]


def test_a_search_whose_view_raises_goes_on_to_its_end(
    call: Command, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "raises", {"apply": ValueError("no such colour")})
    monkeypatch.setattr(Told, "calls", [])
    monkeypatch.setitem(VIEWS, "told", ViewEntry(f"{__name__}:Told", "the web page"))
    done = call("search.run", *TINY, "--tracking", database)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "no such colour" in line]
    assert line.startswith("note: the web page failed (ValueError: no such colour; the details")
    (details,) = tmp_path.glob("*.log")
    assert "in _note" in details.read_text()
    assert line.endswith("The search continues. All results are in the journal.")
    result = SearchResult.read(tmp_path / "searches" / "tiny")
    assert (result.outcome, result.is_tested, result.is_drawn) == ("completed", True, True)
    assert "2 trials (2 completed)" in done.stdout


@pytest.mark.parametrize("method", ["apply", "tick"])
def test_a_view_that_raises_is_told_once_closed_and_called_no_more(
    views: Callable[..., OpenViews], method: str
) -> None:
    with views(**{method: ValueError("a mistake")}) as opened:
        for _ in range(3):
            getattr(opened, method)(*[EVENT] * (method == "apply"))
        opened.keep()
    assert Told.calls == ["open", method, "close"]
    assert Other.calls == ["open", method, method, method, "keep", "close"]
    assert said(opened).count("the first failed (ValueError: a mistake") == 1


@pytest.mark.parametrize(
    ("method", "told"), [("open", "could not be opened"), ("close", "failed when it was closed")]
)
def test_a_view_that_cannot_be_opened_or_closed_is_told_and_holds_up_no_other(
    views: Callable[..., OpenViews], method: str, told: str
) -> None:
    with views(**{method: ValueError("a mistake")}) as opened:
        opened.apply(EVENT)
    assert Other.calls == ["open", "apply", "close"]
    assert said(opened).count(f"the first {told} (ValueError: a mistake") == 1


def test_what_a_view_that_cannot_be_opened_was_to_show_is_an_error(
    views: Callable[..., OpenViews],
) -> None:
    unseen: Any = None
    with views(open=ValueError("a mistake")) as opened:
        pass
    (line,) = opened.render(Finished(unseen, unseen, TRACKING, 0, 1.0))
    assert line.startswith("the first could not be shown (ValueError: a mistake")
    assert Other.calls == ["open", "close", "render"]


def test_a_terminal_that_refuses_ends_no_search(views: Callable[..., OpenViews]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with views(apply=ValueError("a mistake")) as opened:
        opened.context.console.file = Full()
        opened.apply(EVENT)
    assert Other.calls == ["open", "apply", "close"]


def test_a_signal_while_views_open_closes_those_that_are_open(
    views: Callable[..., OpenViews], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = views()
    monkeypatch.setitem(VIEWS, "last", ViewEntry(f"{__name__}:interrupted", "the last"))
    with pytest.raises(KeyboardInterrupt), made:
        pass
    assert Other.calls == ["open", "close"]


def interrupted(shown: ViewContext) -> None:
    raise KeyboardInterrupt


def test_a_view_that_a_disk_refuses_to_keep_is_a_trouble_in_the_systems_words(
    views: Callable[..., OpenViews],
) -> None:
    with views(keep=OSError(28, "full")) as opened:
        assert opened.keep() == [
            "the first could not be written ([Errno 28] full). All results are in the journal."
        ]
    assert Other.calls == ["open", "keep", "close"]
    assert said(opened) == ""


def test_a_search_that_another_driver_has_taken_over_is_no_failure_of_a_view(
    views: Callable[..., OpenViews],
) -> None:
    with views(keep=TakenOver("another")) as opened, pytest.raises(TakenOver):
        opened.keep()


def test_a_result_that_a_view_cannot_show_is_an_error_and_the_others_show_it(
    views: Callable[..., OpenViews], capsys: pytest.CaptureFixture[str]
) -> None:
    unseen: Any = None
    with views(render=ValueError("a mistake")) as opened:
        pass
    finished = show_outcome(opened, Finished(unseen, unseen, TRACKING, 0, 1.0))
    assert finished.exit_code == ExitCode.NOT_READY
    assert capsys.readouterr().err.startswith(
        "error: the first could not be shown (ValueError: a mistake; the details are in "
    )
    assert Other.calls[-1] == "render"


def test_a_reader_of_the_result_that_has_gone_away_ends_the_command(
    views: Callable[..., OpenViews],
) -> None:
    unseen: Any = None
    with views(render=BrokenPipeError()) as opened:
        pass
    with pytest.raises(BrokenPipeError):
        opened.render(unseen)


def test_each_registered_view_hears_a_whole_search_and_shows_its_result(
    experiment: Experiment, open_driver: OpenDriver, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = open_driver(experiment)
    console = Console(file=io.StringIO(), width=200)
    with OpenViews(ViewContext(console, as_json=True, driver=driver, planned=9)) as opened:
        driver.journal.listeners.append(opened.apply)
        play(driver)
        opened.tick()
    assert opened.views.keys() == VIEWS.keys()
    assert opened.render(Finished(experiment, driver.result, TRACKING, 0, 1.0)) == []
    assert said(opened) == ""
    assert json.loads(capsys.readouterr().out)["outcome"] == "completed"


def test_where_nothing_is_left_to_do_only_the_result_is_shown() -> None:
    with OpenViews(ViewContext(Console(file=io.StringIO()))) as opened:
        assert list(opened.views) == ["summary"]
