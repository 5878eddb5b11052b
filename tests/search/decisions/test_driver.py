import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from search.decisions.driver import RETRIES, Driver
from search.design.budget import Budget, limit
from search.design.experiment import SURE, Experiment
from search.journal.events import Evaluated, Resumed, Suggested, Unevaluated
from search.journal.journal import read
from search.journal.result import SearchResult, Session
from search.space import Choice, Float, SearchSpace
from search.views.text.sentences import risk_text
from tests.support.played import (
    OpenDriver,
    changed,
    decisions,
    evaluation,
    good_lr_wins,
    play,
    reopened,
    report,
)
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.messages import Report


def test_a_played_grid_visits_every_point_and_knows_the_best(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    result = play(open_driver(experiment)).result
    assert result.counts == {"completed": 9}
    assert result.epochs_trained == 3 * (3 + 6 + 9)
    assert result.best is not None
    assert result.best.params == {"optimizer.lr": 0.1, "epochs": 9}
    assert result.best.best_epoch == 9
    assert result.outcome == "completed"


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
@pytest.mark.parametrize("algorithm", ["grid", "random", "bayes"])
def test_the_journal_alone_gives_the_same_result(
    open_driver: OpenDriver, experiment: Experiment, algorithm: str, scheduler: str
) -> None:
    driver = play(
        open_driver(changed(experiment, algorithm=algorithm, scheduler=scheduler, trials=9)),
        slots=2,
    )
    assert SearchResult.read(experiment.folder) == driver.result


def test_the_same_seed_makes_the_same_decisions(
    open_driver: OpenDriver, experiment: Experiment, tmp_path: Any
) -> None:
    searches = [
        changed(experiment, name=name, algorithm="bayes", scheduler="asha", trials=20, seed=5)
        for name in ("one", "two")
    ]
    first, second = (play(open_driver(search)) for search in searches)
    lines = [
        [event.data for event in read(search.folder / "journal.jsonl")[1:]] for search in searches
    ]
    assert lines[0] == lines[1]
    assert "stopped" in first.result.counts
    assert first.result.counts == second.result.counts


def test_a_suggestion_is_in_the_journal_before_it_is_given(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    suggestion = driver.suggest()
    assert suggestion is not None
    last = read(driver.journal.path)[-1]
    assert (last.kind, last.data.trial) == ("suggested", suggestion[0])
    assert TrialConfig.from_dict(last.data.config) == suggestion[1]


def test_who_waits_and_who_goes_on_is_in_the_journal_with_what_it_rests_on(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, scheduler="asha"))
    values = {f"t{number:04d}": number / 10 for number in range(1, 10)}
    for trial, value in values.items():
        assert driver.suggest() is not None
        driver.running(trial)
        if driver.report(trial, report(1, value)):
            held = read(driver.journal.path)[-1]
            assert (held.kind, held.data.trial, held.data.by, held.data.rung) == (
                "held",
                trial,
                "asha",
                1,
            )
            assert driver.result.trials[trial].outcome == "held"
        else:
            assert read(driver.journal.path)[-1].kind == "promoted"
    goes_on = driver.suggest()
    assert goes_on is not None
    assert driver.attempt(goes_on[0]) == 2
    assert [event.kind for event in read(driver.journal.path)][-1] == "promoted"


def test_trials_that_are_held_are_stopped_once_none_goes_on(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    space = SearchSpace(
        {"optimizer.lr": Float(0.001, 0.1, log=True)}, base={"model.name": "deep_cnn", "epochs": 27}
    )
    driver = play(
        open_driver(
            changed(
                experiment,
                space=space,
                base=TrialConfig().override(space.base),
                scheduler="asha",
                algorithm="random",
                trials=40,
            )
        )
    )
    counts = driver.result.counts
    assert counts.keys() == {"completed", "stopped"}
    assert counts["stopped"] > 20
    assert driver.result.best is not None
    assert driver.result.best.params == max(
        (trial.params for trial in driver.result.trials.values()),
        key=lambda params: params["optimizer.lr"],
    )
    for trial in driver.result.trials.values():
        if trial.outcome == "stopped":
            assert 0 <= trial.stop.risk < 0.2
            assert trial.stop.rung == max(trial.epochs)
    (risked,) = [event.data for event in read(driver.journal.path) if event.kind == "risked"]
    assert driver.result.risk == risked
    assert 0 < risked.chance <= 1 - driver.experiment.sure
    assert risked.epochs > 0
    assert 0 < risked.new < 0.5
    grid = play(open_driver(changed(experiment, name="grid", scheduler="asha")))
    assert grid.result.risk.chance > 0
    assert grid.result.risk.new == 0, "none are left"


def in_rungs(experiment: Experiment, **values: Any) -> Experiment:
    """Forty trials, of which some are lengths of one training, that wait for each other."""
    domains = {
        "optimizer.lr": Choice(*np.geomspace(0.001, 0.1, 20).tolist()),
        "epochs": Choice(9, 27),
    }
    space = SearchSpace(domains, base={"model.name": "deep_cnn", "epochs": 27})
    return changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        scheduler="asha",
        algorithm="random",
        trials=40,
        **values,
    )


def asked(driver: Driver) -> tuple[object, ...]:
    """Return a scheduler's answers.

    The first question is one to which nothing was computed before.
    """
    scheduler = driver.policy.scheduler
    return (
        scheduler.risk,
        scheduler.choose(new=False, fits=lambda trial: False),
        scheduler.choose(new=False),
        scheduler.choose(new=True),
        scheduler.ready,
    )


def test_what_a_scheduler_says_depends_on_what_it_was_told_alone(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """It does not depend on earlier questions: a resumed search was asked nothing yet."""
    driver = play(open_driver(in_rungs(experiment)), slots=3)
    events, always = read(driver.journal.path), Driver(driver.experiment, driver.journal)
    for number, event in enumerate(events, 1):
        always.replay([event])
        told = asked(always)
        if number % 8 == 0 or event.kind in ("promoted", "stopped"):
            never = Driver(driver.experiment, driver.journal)
            never.replay(events[:number])
            assert asked(never) == told, f"after event {number}, {event.kind}"


def cut_after(driver: Driver, last: int) -> Driver:
    """Return the driver of a search that goes on after it was killed after this event."""
    lines = driver.journal.path.read_text().splitlines(keepends=True)
    driver.journal.path.write_text(
        "".join(
            line
            for line, event in zip(lines, read(driver.journal.path), strict=True)
            if event.number <= last
        )
    )
    return play(reopened(driver))


@pytest.mark.parametrize("epochs", range(19, 92, 6))
def test_a_search_killed_at_its_budgets_end_tells_the_same_risk(
    epochs: int, open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(in_rungs(experiment, budget=Budget((limit(f"{epochs}epochs"),)))))
    (risked,) = [event for event in read(driver.journal.path) if event.kind == "risked"]
    again = cut_after(driver, risked.number - 1)
    assert again.result.outcome == "budget"
    assert again.result.risk == risked.data
    assert ("--sure" in risk_text(again.result)) == (1 - risked.data.chance / 2 > SURE), (
        "not less sure than was asked for"
    )


def test_a_search_killed_while_it_stops_its_trials_tells_the_same_risk(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(in_rungs(experiment)))
    events = read(driver.journal.path)
    (risked,) = [event for event in events if event.kind == "risked"]
    stopped = [
        event.number for event in events if event.kind == "stopped" and event.number > risked.number
    ]
    assert len(stopped) > 10
    again = cut_after(driver, stopped[len(stopped) // 2])
    assert asdict(again.result.risk) == pytest.approx(asdict(risked.data))
    assert again.result.counts == driver.result.counts


@pytest.mark.parametrize("by", ["interrupted", "budget"])
def test_a_search_that_closes_early_holds_what_it_held(
    by: str, open_driver: OpenDriver, experiment: Experiment
) -> None:
    search = changed(experiment, scheduler="asha")
    driver = play(open_driver(search), events=36)
    held = {name for name, trial in driver.result.trials.items() if trial.outcome == "held"}
    assert held
    driver.close(by, "because")
    driver.finish()
    assert bool(driver.result.risk) == (by == "budget"), "an interrupted search goes on"
    assert {name for name, trial in driver.result.trials.items() if trial.outcome == "held"} == held
    again = reopened(driver)
    assert not held & set(again.pending)
    assert not {"held", "interrupted"} & play(again).result.counts.keys()


def test_a_diverged_trial_is_never_best_and_the_search_goes_on(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    def train(config: TrialConfig, epoch: int) -> dict[str, Any]:
        if config.optimizer.lr == 0.1 and epoch == 2:
            return report(2, math.nan, "diverged", "train/loss is nan at epoch 2")
        return good_lr_wins(config, epoch)

    result = play(open_driver(experiment), train).result
    assert result.counts == {"completed": 6, "diverged": 3}
    assert result.best is not None
    assert result.best.params["optimizer.lr"] == 0.01
    assert {trial.outcome for trial in result.ranking} == {"completed"}
    assert all(len(trial.epochs) == 1 for trial in result.failed)


def test_a_trial_whose_process_died_is_failed_once(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "error", "killed")
    driver.fail(trial, "error", "told again")
    ends = [event for event in read(driver.journal.path) if event.kind == "ended"]
    assert [(event.data.outcome, event.data.reason) for event in ends] == [("failed", "killed")]


def test_the_time_budget_stops_each_trial_after_its_epoch(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    now = [0.0]

    def train(config: TrialConfig, epoch: int) -> dict[str, Any]:
        now[0] += 1
        return good_lr_wins(config, epoch)

    driver = play(
        open_driver(changed(experiment, budget=Budget((limit("10s"),))), clock=lambda: now[0]),
        train,
        slots=2,
    )
    assert driver.result.outcome == "budget"
    assert (driver.result.epochs_trained, now[0]) == (9, 9.0), (
        "an evaluation takes no longer than an epoch, of which the trial tells"
    )
    assert all(
        trial.outcome in ("completed", "interrupted") for trial in driver.result.trials.values()
    )
    assert driver.result.reason == (
        "the budget of 10s is used up but for 1 s, too little for another epoch and the evaluation"
    )


def test_closing_starts_nothing_more(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.close("interrupted", "Ctrl-C")
    assert driver.suggest() is None
    assert driver.report(trial, report(1))
    assert driver.result.trials[trial].outcome == "interrupted"


@pytest.mark.parametrize(
    ("algorithm", "trials", "planned"),
    [
        ("grid", None, 9),
        ("grid", 4, 4),
        ("random", 50, 9),
        ("random", 5, 5),
        ("bayes", None, 9),
        ("bayes", 2, 2),
    ],
)
def test_as_many_trials_as_planned(
    open_driver: OpenDriver,
    experiment: Experiment,
    algorithm: str,
    trials: int | None,
    planned: int,
) -> None:
    search = changed(experiment, algorithm=algorithm, trials=trials)
    assert search.planned_trials == planned
    assert len(play(open_driver(search)).result.trials) == planned


def test_max_epochs_caps_every_trial_and_all_points_are_still_visited(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    result = play(open_driver(changed(experiment, max_epochs=1))).result
    assert [len(trial.epochs) for trial in result.trials.values()] == [1] * 9
    assert len({str(trial.params) for trial in result.trials.values()}) == 9


def test_params_that_make_no_config_are_a_failed_trial_and_the_search_goes_on(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = open_driver(experiment)
    ask, calls = driver.policy.algorithm.ask, []

    def sometimes_wrong(trial: str) -> dict[str, Any] | None:
        calls.append(trial)
        return {"optimizer.lr": -1.0, "epochs": 3} if len(calls) == 2 else ask(trial)

    monkeypatch.setattr(driver.policy.algorithm, "ask", sometimes_wrong)
    result = play(driver).result
    assert result.counts == {"completed": 8, "failed": 1}
    assert "optimizer.lr must be > 0" in result.trials["t0002"].reason


def test_thousands_of_params_that_make_no_config_are_no_trouble(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SearchSpace({"optimizer.lr": Float(0.001, 1.0)}, base={"model.name": "deep_cnn"})
    driver = open_driver(changed(experiment, space=space, algorithm="random", trials=1500))
    monkeypatch.setattr(
        Experiment, "config", lambda self, params: TrialConfig().override({"epochs": -1})
    )
    assert driver.suggest() is None
    assert driver.result.counts == {"failed": 1500}


def test_a_trial_that_ends_without_a_word_has_failed(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.finish()
    assert driver.result.counts == {"failed": 1}
    assert read(driver.journal.path)[-1].kind == "finished"


def test_a_cut_off_search_leaves_its_running_trials_open(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.close("interrupted", "stopped by SIGINT")
    driver.finish()
    assert driver.result.counts == {"interrupted": 1}


def test_a_trial_whose_params_made_no_config_is_not_trained_after_a_resume(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    driver.journal.append(Suggested(trial="t0001", params={"optimizer.lr": -1}, config={}))
    again = reopened(driver)
    assert again.result.counts == {"failed": 1}
    assert not again.pending


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
@pytest.mark.parametrize("algorithm", ["grid", "random", "bayes"])
def test_a_search_cut_off_anywhere_goes_on_as_if_it_had_not_been(
    open_driver: OpenDriver, experiment: Experiment, algorithm: str, scheduler: str
) -> None:
    search = changed(experiment, algorithm=algorithm, scheduler=scheduler, trials=9, seed=3)
    undisturbed = play(open_driver(changed(search, name="undisturbed")))
    for events in range(2, undisturbed.journal.number, 3):
        cut = open_driver(changed(search, name=f"cut{events}"))
        play(cut, events=events)
        again = play(reopened(cut))
        assert decisions(again.experiment) == decisions(undisturbed.experiment)
        assert again.result.outcome == "completed"
        assert SearchResult.read(again.experiment.folder) == again.result


def test_a_search_cut_off_between_two_lines_carries_out_what_was_decided(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """It is cut after each single line of the journal.

    Among them are an epoch whose stop was not written yet, a stop whose end was not, and a last
    epoch.
    """
    search = changed(experiment, algorithm="bayes", scheduler="asha", trials=6, seed=3)
    undisturbed = play(open_driver(changed(search, name="undisturbed")))
    lines = undisturbed.journal.path.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        cut = open_driver(changed(search, name=f"cut{count}"))
        cut.journal.path.write_bytes(b"".join(lines[:count]))
        again = play(reopened(cut))
        assert decisions(again.experiment) == decisions(undisturbed.experiment), lines[count - 1]


def test_several_cuts_in_a_row_lose_nothing(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    search = changed(experiment, algorithm="bayes", scheduler="asha", trials=12)
    undisturbed = play(open_driver(changed(search, name="undisturbed")))
    driver = play(open_driver(search), events=8)
    for _ in range(30):
        driver = play(reopened(driver), events=driver.journal.number + 6)
    assert decisions(search) == decisions(undisturbed.experiment)
    assert len(driver.result.sessions) == 31


def test_an_interrupted_trial_is_paused_and_goes_on_after_a_resume(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.close("interrupted", "stopped by SIGINT")
    assert driver.report(trial, report(1))
    driver.finish()
    assert driver.result.counts == {"interrupted": 1}
    again = reopened(driver)
    assert (list(again.pending), again.attempt(trial)) == ([trial], 2)
    assert set(play(again).result.counts) == {"completed"}


@pytest.mark.parametrize(("kind", "times"), RETRIES.items())
def test_a_trial_is_tried_again_as_often_as_its_kind_of_failure_allows(
    open_driver: OpenDriver, experiment: Experiment, kind: str, times: int
) -> None:
    driver = open_driver(changed(experiment, trials=1))
    for attempt in range(1, times + 2):
        trial, _ = driver.suggest()  # type: ignore[misc]
        assert (trial, driver.attempt(trial)) == ("t0001", attempt)
        assert driver.suggest() is None
        driver.running(trial)
        assert not driver.over
        driver.fail(trial, kind, "because")
    ended = driver.result.trials["t0001"]
    assert (ended.outcome, ended.kind, ended.retries) == ("failed", kind, [kind] * times)
    assert driver.over


def test_retries_survive_a_resume(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = open_driver(changed(experiment, trials=1))
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "memory", "because")
    again = reopened(driver, slots=4)
    assert again.at_once == 2
    assert again.suggest() is not None
    again.running(trial)
    again.fail(trial, "memory", "because")
    assert again.result.trials[trial].outcome == "failed"


def test_out_of_memory_halves_how_many_run_until_it_is_the_trials_own_fault(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment, slots=4)
    trials = [driver.suggest()[0] for _ in range(4)]  # type: ignore[index]
    for trial in trials:
        driver.running(trial)
    assert driver.suggest() is None
    driver.fail(trials[0], "memory", "because")
    assert driver.at_once == 2
    assert driver.suggest() is None
    for trial in trials[1:3]:
        driver.fail(trial, "error", "its own fault")
    assert driver.suggest() is not None
    assert driver.attempt(trials[0]) == 2
    driver.running(trials[0])
    driver.fail(trials[0], "memory", "again")
    assert driver.at_once == 4
    assert driver.result.trials[trials[0]].outcome == "failed"


def test_what_a_trial_says_after_its_end_is_not_heard(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.fail(trial, "lost", "node gone")
    before = driver.journal.number
    assert driver.report(trial, report(1))
    assert driver.journal.number == before


def test_an_evaluation_is_of_the_best_epoch_alone_and_outlives_a_resume(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.report(trial, replace(report(1, 0.5), precision="bf16"))
    driver.journal.append(Evaluated(trial=trial, epoch=1, **evaluation(0.375)))
    driver.journal.append(Unevaluated(reasons={"damaged": ["t0009"]}))
    for result in (driver.result, SearchResult.read(experiment.folder), reopened(driver).result):
        assert result.trials[trial].precision == "bf16"
        assert result.trials[trial].evaluation.val["macro"]["f1"] == 0.375
        assert result.trials[trial].evaluation.cost["parameters"] == 1234567
    driver = reopened(driver)
    driver.suggest()
    driver.running(trial)
    driver.report(trial, report(2, 0.25))
    assert driver.result.trials[trial].evaluation
    driver.report(trial, report(3, 0.75))
    assert driver.result.trials[trial].evaluation is None


def test_an_epoch_told_twice_is_in_the_journal_once(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, scheduler="asha"))
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.report(trial, report(1, 0.5))
    driver.report(trial, report(1, 0.5))
    assert [event.kind for event in read(driver.journal.path)].count("epoch") == 1
    values = driver.policy.scheduler.standings.values  # type: ignore[attr-defined]
    assert values[0, 0] == 0.5
    assert np.isnan(values[1:, 0]).all()


def test_waiting_is_in_the_journal_and_ends_with_the_next_word(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    assert not driver.report(trial, Report(1, waiting="no space"))
    assert driver.result.trials[trial].wait_reason == "no space"
    assert not driver.report(trial, report(1))
    assert driver.result.trials[trial].wait_reason == ""


def test_the_time_of_earlier_sessions_counts_for_the_budget(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, budget=Budget((limit("1000s"),))))
    driver.suggest()
    journal, events = driver.journal, read(driver.journal.path)
    again = type(driver)(driver.experiment, journal, clock=lambda: 5.0)
    again.replay(events)
    again.result.sessions[0].elapsed_ms += 2_000_000
    journal.append(Resumed(slots=1, began_ms=0))
    again.go_on()
    assert again.suggest() is None
    assert again.over


@pytest.fixture
def mixed(experiment: Experiment) -> Experiment:
    """Networks and baselines in turn, with stops."""
    space = SearchSpace(
        {
            "model.name": Choice("deep_cnn", "svm", "tree"),
            "optimizer.lr": Choice(0.001, 0.01, 0.1),
            "epochs": Choice(9),
        }
    )
    return changed(experiment, space=space, scheduler="asha")


def beaten_by_baselines(config: TrialConfig, epoch: int) -> Report:
    return report(1, 0.99, "completed") if config.model.is_baseline else good_lr_wins(config, epoch)


def test_baselines_are_over_after_one_epoch_and_stop_no_network(
    open_driver: OpenDriver, experiment: Experiment, mixed: Experiment
) -> None:
    """Networks are stopped as if they were alone.

    The value that a baseline reaches at once is no bar for their first epochs.
    """
    driver = play(open_driver(mixed), beaten_by_baselines)
    trials = driver.result.trials.values()
    baselines = [trial for trial in trials if trial.params["model.name"] != "deep_cnn"]
    assert {(trial.outcome, len(trial.epochs), trial.config["epochs"]) for trial in baselines} == {
        ("completed", 1, 1)
    }
    networks = [trial for trial in trials if trial not in baselines]
    order = [trial.params for trial in networks]
    alone = open_driver(changed(mixed, name="alone"))
    asked = iter(order)
    alone.policy.algorithm.ask = lambda trial: next(asked, None)  # type: ignore[method-assign]
    play(alone, beaten_by_baselines)
    assert [(trial.outcome, trial.epochs) for trial in networks] == [
        (trial.outcome, trial.epochs) for trial in alone.result.trials.values()
    ]
    values = driver.policy.scheduler.standings.values  # type: ignore[attr-defined]
    assert np.nanmax(values[:-1]) < 0.99


@pytest.mark.parametrize("algorithm", ["grid", "random", "bayes"])
def test_a_search_of_networks_and_baselines_goes_on_from_anywhere(
    open_driver: OpenDriver, mixed: Experiment, algorithm: str
) -> None:
    search = changed(mixed, algorithm=algorithm, trials=9)
    undisturbed = play(open_driver(changed(search, name="undisturbed")), beaten_by_baselines)
    lines = undisturbed.journal.path.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        cut = open_driver(changed(search, name=f"cut{count}"))
        cut.journal.path.write_bytes(b"".join(lines[:count]))
        again = play(reopened(cut), beaten_by_baselines)
        assert decisions(again.experiment) == decisions(undisturbed.experiment), lines[count - 1]


def test_a_finished_trial_may_be_of_a_model_that_is_no_longer_registered(
    open_driver: OpenDriver, mixed: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = play(open_driver(mixed), beaten_by_baselines)
    monkeypatch.delitem(MODELS, "svm")
    assert reopened(driver).result.trials == driver.result.trials


def test_a_search_that_may_run_fewer_starts_none_until_enough_have_ended(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    def begun() -> str:
        suggestion = driver.suggest()
        assert suggestion is not None
        return suggestion[0]

    driver = open_driver(changed(experiment, algorithm="random", trials=6), slots=3)
    first, second, third = (begun() for _ in range(3))
    driver.resize(1, "two machines fewer")
    driver.resize(1, "as it was")
    for trial in (first, second):
        driver.report(trial, report(3, outcome="completed"))
        assert driver.suggest() is None
    assert driver.outstanding == 4
    driver.report(third, report(3, outcome="completed"))
    begun()
    driver.resize(2, "one more")
    begun()
    assert driver.suggest() is None
    assert [
        (event.data.count, event.data.reason)
        for event in read(driver.journal.path)
        if event.kind == "slots"
    ] == [
        (1, "two machines fewer"),
        (2, "one more"),
    ]


def test_the_slots_time_counts_as_many_as_there_were() -> None:
    session = Session(began_ms=1000, last_ms=1000, slots=2)
    for slots, elapsed_ms in ((4, 2000), (1, 3000), (1, 7000)):
        session.advance(elapsed_ms)
        session.slots = slots
    assert session.slot_s == 2 * 2 + 1 * 4 + 4 * 1
