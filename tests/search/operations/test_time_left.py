"""The time that a search leaves is used for a choice among its best trials."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.errors import Refused
from cluster.exit_codes import ExitCode
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.result import SearchResult
from search.operations import time_left
from search.operations.select import SelectionCost, SelectRequest
from search.operations.time_left import choose_in_time_left
from search.views.base import Finished
from tests.conftest import Command
from tests.support.played import OpenDriver, Train, good_lr_wins, play, report

End = Callable[..., Finished]
CHOICE = 31
"""The exit code of a choice that did not take place."""


@pytest.fixture
def end(experiment: Experiment, open_driver: OpenDriver) -> End:
    """Plays a search with an adaptive space that took so many of the 100 s of its budget."""

    def ended(wall_s: float, train: Train = good_lr_wins, **options: object) -> Finished:
        options = {"space_source": "auto", "budget": Budget((limit("100s"),)), **options}
        searched = replace(experiment, **options)  # type: ignore[arg-type]
        driver = play(open_driver(searched), train)
        return Finished(searched, driver.result, {}, 0, wall_s)

    return ended


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[SelectRequest]:
    """The choices that are asked for, none of which takes place."""
    asked: list[SelectRequest] = []

    def select(request: SelectRequest, **options: object) -> Finished:
        asked.append(request)
        result = SimpleNamespace(selection=None)
        return Finished(None, result, {}, CHOICE, 0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(time_left, "select", select)
    return asked


@pytest.mark.parametrize(("left_s", "top", "seeds"), [(90, 5, 5), (53, 5, 3), (45, 3, 3)])
def test_the_more_time_is_left_the_more_is_trained(
    end: End,
    requests: list[SelectRequest],
    capsys: pytest.CaptureFixture[str],
    left_s: int,
    top: int,
    seeds: int,
) -> None:
    assert choose_in_time_left(end(100 - left_s)).exit_code == CHOICE
    (request,) = requests
    assert (request.top, request.seeds) == (top, seeds)
    assert f"{left_s} s of the budget are left" in capsys.readouterr().err


def test_if_the_time_is_too_short_the_command_is_named(
    end: End, requests: list[SelectRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    finished = end(70)
    assert choose_in_time_left(finished) is finished
    said = capsys.readouterr().err
    assert "30 s of the budget are not used" in said
    assert "search.select played" in said
    assert requests == []


def test_an_error_of_the_search_is_still_in_the_exit_code(
    end: End, requests: list[SelectRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.search.operations.test_time_left.CHOICE", 0)
    finished = replace(end(0), exit_code=ExitCode.SOME_FAILED)
    assert choose_in_time_left(finished).exit_code == ExitCode.SOME_FAILED
    assert len(requests) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"space_source": "table3"},
        {"budget": Budget()},
        {"sealed": True},
        {"wall_s": 91.0},
        {"budget": Budget((limit("100s"), limit("500epochs")))},
        {"train": lambda config, epoch: report(epoch, 0.5, "diverged")},
    ],
    ids=["another space", "no budget", "sealed", "used", "two limits", "nothing to choose"],
)
def test_otherwise_nothing_follows_and_nothing_is_said(
    end: End,
    requests: list[SelectRequest],
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
) -> None:
    finished = end(**{"wall_s": 0.0, **options})
    assert choose_in_time_left(finished) is finished
    assert requests == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", [130, 143, ExitCode.NOT_READY, ExitCode.REFUSED])
def test_after_a_signal_or_an_error_nothing_follows(
    end: End, requests: list[SelectRequest], code: int
) -> None:
    finished = replace(end(0), exit_code=code)
    assert choose_in_time_left(finished) is finished
    assert requests == []


def test_a_choice_that_cannot_begin_is_named_and_the_search_stands(
    end: End, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def select(request: SelectRequest, **options: object) -> Finished:
        raise Refused("the data has changed.")

    monkeypatch.setattr(time_left, "select", select)
    finished = end(0)
    assert choose_in_time_left(finished) is finished
    said = capsys.readouterr().err
    assert "no choice was made: the data has changed. The search is done." in said
    assert "search.select played" in said


@pytest.mark.slow
def test_a_search_goes_on_with_a_choice_and_tests_it(
    call: Command, database: str, tmp_path: Path
) -> None:
    words = "--space auto --data digits --set model.name=svm --budget 150s --trials 2 --no-learn"
    how = ("--executor", "inline", "--tracking", database, "--name", "both")
    done = call("search.run", *words.split(), *how)
    assert done.returncode == 0, done.stderr
    assert "the best 2 trials again with fresh seeds" in done.stderr
    result = SearchResult.read(tmp_path / "searches" / "both")
    assert result.selection is not None
    assert result.selection.outcome == "completed"
    assert result.selection.is_tested
    first, second = result.sessions[-1], result.selection.sessions[-1]
    assert second.began_ms >= first.began_ms + first.elapsed_ms - 1, "its own time alone is counted"


@pytest.mark.slow
def test_the_choice_ends_with_the_budget_and_can_be_continued(
    call: Command, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainings take longer than the search let expect: the search stands nevertheless."""
    words = "--space auto --data digits --set model.name=svm --budget 150s --trials 2 --no-learn"
    how = ("--executor", "inline", "--tracking", database)
    with monkeypatch.context() as patched:
        patched.setattr(time_left, "_left_s", lambda finished: 0.5)
        patched.setattr(time_left, "cost_of", lambda result, terms: SelectionCost(4, 4, -1000.0))
        done = call("search.run", *words.split(), *how, "--name", "both")
    assert done.returncode == 0, done.stderr
    assert "the selection ended early: the budget of time is used up" in done.stdout + done.stderr
    assert "search.select both" in done.stdout + done.stderr
    done = call("search.select", "both", *how)
    assert done.returncode == 0, done.stderr
    result = SearchResult.read(tmp_path / "searches" / "both")
    assert result.selection is not None
    assert result.selection.is_tested
