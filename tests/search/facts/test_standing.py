"""The standing of a search, and the operations that read a search."""

import pytest

from search.design.experiment import Experiment
from search.facts.standing import SearchStanding, Stage
from search.facts.trials import best_first, failures_by_kind
from search.journal.events import Concluded, Selecting
from search.journal.lease import Lease
from search.journal.naming import NoSuchSearch
from search.operations.export import ExportRequest, export
from search.operations.status import StatusRequest, status
from search.operations.why import WhyRequest, why
from search.views.text.story import story_of
from tests.support.played import OpenDriver, changed, play, report
from trainables.errors import ConfigError


def test_a_search_runs_is_over_or_waits_to_be_continued(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment), events=9)
    assert SearchStanding("played", driver.result, "process 7").stage is Stage.RUNNING
    halted = SearchStanding("played", driver.result)
    assert halted.stage is Stage.HALTED
    assert halted.cut_off_s is not None
    play(driver)
    assert driver.result.outcome == "completed"
    over = SearchStanding("played", driver.result, "process 7, which removes checkpoints")
    assert (over.stage, over.cut_off_s) == (Stage.OVER, None)


def test_a_selection_runs_until_its_driver_ends(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment))
    candidates = ["t0001", "t0002"]
    driver.journal.append(
        Selecting(candidates=candidates, seeds=3, alpha=0.05, slots=2, began_ms=1)
    )
    assert SearchStanding("played", driver.result, "process 7").stage is Stage.SELECTING
    assert SearchStanding("played", driver.result).stage is Stage.OVER
    driver.journal.append(Concluded(outcome="interrupted", reason=""))
    assert SearchStanding("played", driver.result).stage is Stage.OVER


def test_a_search_is_read_by_requests(open_driver: OpenDriver, experiment: Experiment) -> None:
    play(open_driver(changed(experiment, scheduler="asha")))
    place = experiment.folder.parent
    with Lease(experiment.folder):
        assert status(StatusRequest(name="played", storage=place)).holder.startswith("process ")
    standing = status(StatusRequest(name="played", storage=place))
    assert (standing.name, standing.holder, standing.stage) == ("played", "", Stage.OVER)
    assert len(export(ExportRequest(name="played", storage=place)).rows) == 9
    story = why(WhyRequest(name="played", storage=place, trial="t0001"))
    assert "suggested by grid" in next(story_of(story.events, story.trial, story.history))
    assert {event.trial for event in story.events} == {"", "t0001"}
    with pytest.raises(ConfigError, match="no trial 't77' in played, which has t0001 to t0009"):
        why(WhyRequest(name="played", storage=place, trial="t77"))
    with pytest.raises(NoSuchSearch, match="Did you mean 'played'"):
        status(StatusRequest(name="playd", storage=place))


def test_failed_trials_are_grouped_and_come_last(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    first, _ = driver.suggest()  # type: ignore[misc]
    driver.running(first)
    driver.report(first, report(1, outcome="diverged", reason="loss is inf"))
    second, _ = driver.suggest()  # type: ignore[misc]
    driver.running(second)
    driver.report(second, report(1, outcome="failed", reason="no"))
    result = play(driver).result
    groups = failures_by_kind(result)
    assert {kind: [trial.trial for trial in trials] for kind, trials in groups.items()} == {
        "diverged": [first],
        "failed": [second],
    }
    assert {trial.trial for trial in best_first(result)[-2:]} == {first, second}
    assert best_first(result)[:-2] == result.ranking
