"""What a search may use: how limits are read, what counts, and what ends when one is used up."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.runtime.resources import Demand
from search.decisions import timing
from search.decisions.driver import MAX_UNFIT
from search.design.budget import Budget, Limit, limit, shares_of, shares_text
from search.design.experiment import Experiment
from search.facts.standing import SearchStanding
from search.journal.events import Evidence, Started, Tested, from_json
from search.journal.events import Finished as SearchFinished
from search.journal.journal import Event, Journal, read
from search.journal.result import NO_TIME, SearchResult
from search.operations.continuation import UsageLimits
from search.operations.refine import RefineRequest
from search.operations.refine import experiment_of as refinement_of
from search.operations.resume import ResumeRequest, check_budget, experiment_of, is_done
from search.preflight.changes import changes
from search.process import lifetime
from search.process.lifetime import command_start, process_age_s
from search.run import parse_options
from search.sessions.estimate import Estimate
from search.space import Choice, Float, SearchSpace
from search.views.base import Finished, ViewContext
from search.views.live import Display
from search.views.outcome import JsonSummary, Summary, print_summary
from search.views.page.sections import cost
from search.views.standing import standing_lines
from search.views.terminal import Terminal
from tests.support.played import (
    OpenDriver,
    changed,
    good_lr_wins,
    play,
    reopened,
    report,
    started_event,
)
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.messages import Report, WarmStart

CPU, GPU = Demand(cpus=2, gpus=0, workers=2), Demand(cpus=4, gpus=0.5, workers=1)
STARTED = {**started_event(), "name": "s", "slots": 4, "began_ms": 0}


@pytest.mark.parametrize(
    ("text", "of", "amount"),
    [
        ("90s", "time", 90),
        ("30m", "time", 1800),
        ("2h", "time", 7200),
        ("1.5H", "time", 5400),
        ("1d", "time", 86_400),
        ("2 hours", "time", 7200),
        ("5min", "time", 300),
        ("90 secs", "time", 90),
        ("3Days", "time", 259_200),
        ("500epochs", "epochs", 500),
        ("1 epoch", "epochs", 1),
        ("10gpu-hours", "gpu", 36_000),
        ("10 cpu-hours", "cpu", 36_000),
        ("3600device-seconds", "device", 3600),
        ("1device-minute", "device", 60),
        ("20usd", "money", 20),
        ("$0.5", "money", 0.5),
    ],
)
def test_a_limit_is_read_and_read_again_from_its_text(text: str, of: str, amount: float) -> None:
    found = limit(text)
    assert (found.of, found.amount) == (of, amount)
    assert limit(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "600",
        "2",
        "h",
        "2 ours",
        "5mon",
        "-2h",
        "2h30m",
        "nan",
        "inf",
        "nans",
        "0h",
        "0epochs",
        "1.5epochs",
        "1e999s",
        "10gpuhours",
        "10tpu-hours",
        "usd",
        "$",
        "20eur",
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        limit(text)
    assert f"(got '{text}')" in str(caught.value)
    assert "90s, 30m, 2h, 1d; 500epochs" in str(caught.value) or re.search(
        "> 0 and finite|whole number of epochs", str(caught.value)
    )


def test_a_budget_comes_back_from_the_journal_that_of_version_0_1_too() -> None:
    budget = Budget((limit("2h"), limit("$3")), 1.5)
    assert Budget.of(json.loads(json.dumps(budget.describe()))) == budget
    assert Budget.of({"time_budget": 60.5}) == Budget((Limit("60.5s", "time", 60.5),))
    assert Budget.of({"time_budget": 1e6}).limits[0].amount == 1e6
    assert Budget.of({"time_budget": None}) == Budget.of({}) == Budget()


def heard(*events: tuple[int, str, dict[str, Any]]) -> SearchResult:
    """The result of events at these milliseconds."""
    result = SearchResult()
    for number, (time_ms, kind, data) in enumerate(events, 1):
        result.apply(Event(number, time_ms, from_json(kind, data)))
    return result


def began(name: str) -> tuple[str, dict[str, Any]]:
    return "running", {"trial": name, "attempt": 1}


def ended(name: str) -> tuple[str, dict[str, Any]]:
    return "ended", {"trial": name, "outcome": "completed", "reason": ""}


def suggested(name: str) -> tuple[str, dict[str, Any]]:
    return "suggested", {"trial": name, "params": {}, "config": {}}


def two_sessions() -> SearchResult:
    """Two trials at once for 10 s, one of which is cut off after 12 s and goes on for 3 s, sharing
    a worker with one that does not run.
    """
    started = {**STARTED, "experiment": {}}
    return heard(
        (1000, "started", started),
        (1000, *suggested("a")),
        (1000, *suggested("b")),
        (2000, *began("a")),
        (2000, *began("b")),
        (7000, "epoch", {"trial": "a", "epoch": 1, "metrics": report(1).metrics}),
        (12_000, *ended("a")),
        (14_000, "epoch", {"trial": "b", "epoch": 1, "metrics": report(1).metrics}),
        (
            100_000,
            "resumed",
            {"slots": 2, "began_ms": 99_000, "packing": {"members": 2, "per_gpu": 3}},
        ),
        (101_000, *began("b")),
        (104_000, *ended("b")),
        (110_000, "evaluated", {"trial": "b", "epoch": 1, "val": {}, "cost": {}}),
    )


@pytest.mark.parametrize(
    ("of", "demand", "used"),
    [
        ("time", CPU, 14 + 11),
        ("epochs", CPU, 2),
        ("cpu", CPU, 4 * (10 + 12 + 3 / 2)),
        ("device", CPU, 4 * (10 + 12 + 3 / 2)),
        ("cpu", GPU, 4 * (10 + 12 + 3 / 2)),
        ("gpu", GPU, 0.5 * (10 + 12 + 3 / 6)),
        ("device", GPU, 0.5 * (10 + 12 + 3 / 6)),
        ("money", GPU, 0.5 * (10 + 12 + 3 / 6) / 3600 * 1.2),
    ],
)
def test_what_is_used_is_computed_from_the_journal(of: str, demand: Demand, used: float) -> None:
    assert Budget(price=1.2).used(of, two_sessions(), demand) == pytest.approx(used)


def test_the_first_limit_that_is_used_up_counts() -> None:
    result, budget = two_sessions(), Budget((limit("3epochs"), limit("95cpu-seconds"), limit("1h")))
    assert budget.spent(result, CPU, wall_s=25, ahead=0) is None
    assert str(budget.spent(result, CPU, wall_s=25, ahead=1)) == "3 epochs"
    assert str(budget.spent(result, CPU, wall_s=3600, ahead=0)) == "1h"
    assert (
        str(Budget((limit("90cpu-seconds"),)).spent(result, CPU, wall_s=25, ahead=0))
        == "90 cpu-seconds"
    )
    assert (
        shares_text(budget.shares(result, CPU))
        == "67% of the 3 epochs budget, 99% of the 95 cpu-seconds budget, 1% of the 1h budget"
    )


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("epochs", [1, 7, 20])
def test_never_more_epochs_are_trained_than_the_budget_allows_and_no_fewer(
    open_driver: OpenDriver, experiment: Experiment, slots: int, epochs: int
) -> None:
    search = changed(experiment, budget=Budget((limit(f"{epochs}epochs"),)))
    driver = play(open_driver(search), slots=slots)
    assert driver.result.epochs_trained == epochs
    assert (driver.result.outcome, driver.result.reason) == (
        "budget",
        f"the budget of {epochs} epochs is used up",
    )
    assert {trial.outcome for trial in driver.result.trials.values()} <= {
        "completed",
        "interrupted",
    }
    assert not driver.interrupted
    assert not driver.out_of_time


@pytest.mark.parametrize("limits", [["5epochs"], ["5s"], ["5device-seconds"]])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_what_a_budget_cut_off_in_mid_training_goes_on_when_there_is_more(
    open_driver: OpenDriver, experiment: Experiment, limits: list[str], slots: int
) -> None:
    now = [0.0]
    driver = open_driver(
        changed(experiment, budget=Budget(tuple(map(limit, limits)))), clock=lambda: now[0]
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        now[0] += 1
        if driver.result.sessions:
            driver.result.sessions[-1].trials_ms += 1000
        return good_lr_wins(config, epoch)

    cut_off = {
        trial.trial: max(trial.epochs)
        for trial in play(driver, train, slots=slots).result.unfinished
    }
    assert cut_off
    assert driver.result.outcome == "budget"
    driver.policy.experiment = changed(driver.experiment, budget=Budget((limit("1d"),)))
    again = reopened(driver, clock=lambda: now[0])
    play(again, slots=slots)
    assert again.result.counts == {"completed": 9}
    assert again.result.epochs_trained == 3 * (3 + 6 + 9), "no epoch is trained twice"
    assert SearchResult.read(experiment.folder).trials == again.result.trials


def test_a_budget_of_time_counts_from_the_commands_beginning(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """What its end takes is forecast from how long imports and Ray took, half as much again; what
    was waited for at the start does not count.
    """
    now = [0.0]
    driver = open_driver(
        changed(experiment, budget=Budget((limit("30s"),))),
        clock=lambda: now[0],
        ago_s=10.0,
        start_s=6.5,
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        now[0] += 1
        return good_lr_wins(config, epoch)

    play(driver, train)
    assert now[0] == 10
    assert (
        driver.result.reason
        == "the budget of 30s is used up but for 10 s, which the end of the search takes"
    )
    now[0] = 14
    assert not driver.out_of_time
    now[0] = 15
    assert driver.out_of_time
    assert not driver.is_late
    now[0] = 18
    assert driver.is_late


@pytest.mark.parametrize(("ago_s", "epochs"), [(9.0, 1), (9.9, 1), (10.0, 0), (11.0, 0)])
def test_a_start_that_leaves_little_time_leaves_one_epoch_and_no_time_none(
    open_driver: OpenDriver, experiment: Experiment, ago_s: float, epochs: int
) -> None:
    now = [0.0]
    driver = open_driver(
        changed(experiment, budget=Budget((limit("10s"),))), clock=lambda: now[0], ago_s=ago_s
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        now[0] += 1
        return good_lr_wins(config, epoch)

    assert play(driver, train).result.epochs_trained == epochs
    assert driver.over


def test_an_epoch_that_would_not_end_in_time_is_not_begun(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """One trial's epochs take 4 s and another's 1: the first waits when 3 s are left, the other has
    them.
    """
    now = [0.0]
    driver = open_driver(
        changed(experiment, trials=2, budget=Budget((limit("10s"),))), clock=lambda: now[0]
    )
    slow, quick = (suggestion[0] for _ in range(2) if (suggestion := driver.suggest()) is not None)
    for trial in (slow, quick):
        driver.running(trial)
    for second in range(1, 9):
        now[0] = second
        if second % 4 == 0:
            assert driver.report(slow, report(second // 4)) is (second == 8)
        assert not driver.report(quick, report(second))
    paused = read(driver.journal.path)[-2]
    assert (paused.kind, paused.data.reason) == (
        "paused",
        "its next epoch would not end within the budget of 10s",
    )
    now[0] = 9
    assert driver.report(quick, report(9, outcome="completed"))
    assert driver.suggest() is None
    assert driver.over, "nobody has an epoch that short"
    driver.finish()
    assert (driver.result.outcome, driver.trials[slow].outcome) == ("budget", "interrupted")


class Clock:
    """Seconds that pass by the epoch; `train` plays one."""

    def __init__(self, epoch_s: float = 1.0) -> None:
        self.now, self.epoch_s = 0.0, epoch_s

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def train(self, config: TrialConfig, epoch: int) -> dict[str, Any]:
        """Take the time of an epoch, of which the trial tells."""
        self.now += self.epoch_s
        return self.told(good_lr_wins(config, epoch))

    def told(self, said: Report) -> Report:
        """Have a report tell how long its epoch took."""
        return replace(said, metrics={**said.metrics, "time/epoch_s": self.epoch_s})


def within(experiment: Experiment, seconds: str, **values: Any) -> Experiment:
    return changed(experiment, budget=Budget((limit(seconds),)), **values)


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [("8.4s", "budget"), ("10s", "completed"), ("10.2s", "completed"), ("30s", "completed")],
)
def test_a_search_of_which_nothing_is_left_is_completed_however_little_time_there_is(
    open_driver: OpenDriver, experiment: Experiment, seconds: str, outcome: str
) -> None:
    """One trial of three epochs, after a start of 4 s; at its end 3 s are kept."""
    clock = Clock()
    driver = open_driver(
        within(experiment, seconds, trials=1, max_epochs=3), clock=clock, ago_s=4.0, start_s=4 / 3
    )
    assert play(driver, clock.train).result.outcome == outcome
    assert driver.over


def test_only_who_has_time_for_an_epoch_is_promoted(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    space = SearchSpace(
        {"optimizer.lr": Float(0.001, 0.1, log=True)}, base={"model.name": "deep_cnn", "epochs": 27}
    )
    search = changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        scheduler="asha",
        algorithm="random",
        trials=60,
    )
    clock = Clock()
    driver = open_driver(within(search, "40.5s"), clock=clock, ago_s=2.0, start_s=2.0)
    assert play(driver, clock.train).result.outcome == "budget"
    assert driver.policy.scheduler.ready > 1, "others would have gone on"
    events = read(driver.journal.path)
    last = max(event.number for event in events if event.kind == "epoch")
    assert [event.kind for event in events if event.number > last] in (
        ["paused", "risked", "finished"],
        ["held", "risked", "finished"],
    )


def test_a_trial_with_a_quicker_epoch_is_promoted_where_the_first_does_not_fit(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    asha = open_driver(changed(experiment, scheduler="asha")).policy.scheduler
    for trial, value in (("t1", 0.5), ("t2", 0.9), ("t3", 0.7)):
        asha.begin(trial, {}, trial)
        assert asha.on_epoch(trial, 1, value)
    assert asha.choose(new=False) == "t2"
    assert asha.choose(new=False, fits=lambda trial: trial != "t2") == "t3"
    assert asha.choose(new=False, fits=lambda trial: False) is None


@pytest.mark.parametrize("algorithm", ["grid", "bayes"])
def test_who_is_set_aside_for_want_of_time_keeps_no_new_trial_back(
    open_driver: OpenDriver, experiment: Experiment, algorithm: str
) -> None:
    clock = Clock()
    driver = open_driver(
        within(experiment, "15s", algorithm=algorithm, trials=2), clock=clock, slots=1
    )
    slow, _ = driver.suggest()  # type: ignore[misc]
    driver.running(slow)
    clock.now = 1
    assert not driver.report(slow, report(1))
    clock.now = 9
    assert driver.report(slow, report(2)), "its next would take 8 s more"
    assert driver.suggest() is not None, "a first one takes 1"
    assert driver.closing is None


def test_what_the_evaluation_takes_depends_on_how_many_images_it_has(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    assert timing.evaluation_epochs(4000, 2000) == 0.25
    assert timing.evaluation_epochs(100, 5000) == 1
    ends = []
    for epochs in (1.0, 0.25):
        clock = Clock(4.0)
        driver = open_driver(within(experiment, "1d", name=f"s{epochs:g}"[:2]), clock=clock)
        driver.timing.evaluation_epochs = epochs
        play(driver, clock.train, events=12)
        ends.append(driver.timing.end_s)
    assert ends == [4.0, 1.0]


def test_towards_the_end_models_with_quick_epochs_are_still_started(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Some whose first epoch does not fit any more are proposed, but few."""
    slow, quick = {"model.name": "deep_cnn"}, {"model.name": "table2"}
    space = SearchSpace(
        {"model.name": Choice("deep_cnn", "table2"), "optimizer.lr": Float(0.001, 0.1, log=True)},
        base={"epochs": 1},
        first=[slow, quick, slow, slow, quick, quick],
    )
    search = changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        algorithm="random",
        trials=40,
    )
    clock = Clock()
    driver = open_driver(within(search, "30s"), clock=clock, slots=1)

    def train(config: TrialConfig, epoch: int) -> Report:
        clock.now += 10 if config.model.name == "deep_cnn" else 1
        return good_lr_wins(config, epoch)

    play(driver, train)
    trained = [trial.config["model"]["name"] for trial in driver.trials.values() if trial.epochs]
    assert trained[:5] == ["deep_cnn", "table2", "deep_cnn", "table2", "table2"]
    assert trained.count("deep_cnn") == 2
    assert 1 <= sum(not trial.epochs for trial in driver.trials.values()) <= MAX_UNFIT
    assert driver.closing is not None


def test_a_resume_with_little_more_time_trains_whatever_evaluations_took_before(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """Four models whose epochs take 3 s, of 9 s: half are for training, and more once some need not
    be evaluated again.
    """
    space = SearchSpace(
        {"model.name": Choice("deep_cnn", "table2", "mnist_cnn", "multi_scale")}, base={"epochs": 9}
    )
    clock = Clock(3.0)
    driver = open_driver(
        changed(
            experiment,
            space=space,
            base=TrialConfig().override(space.base),
            budget=Budget((limit("4epochs"),)),
        ),
        slots=4,
        clock=clock,
    )
    play(driver, clock.train, slots=4)
    assert driver.result.wall_s == 12
    driver.policy.experiment = within(driver.experiment, "22s")
    again = reopened(driver, clock=clock)
    assert 4 < again.timing.end_s <= 5
    assert again.timing.forecast(None) == 3, "as long as those that are known"
    play(again, clock.train)
    assert again.result.epochs_trained > 4
    for trial in again.trials.values():
        again.timing.record_evaluation(trial)
    assert again.timing.end_s == 0


def test_epochs_that_others_have_trained_say_how_long_the_next_takes(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    clock = Clock(5.0)
    driver = open_driver(within(experiment, "1d"), clock=clock)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    begun = WarmStart("earlier", "t0001", 2)
    driver.report(trial, Report(2, restored=[], begun=begun, more=True))
    for epoch in (1, 2):
        driver.report(trial, replace(clock.told(report(epoch, 0.5)), more=epoch < 2))
    assert driver.timing.forecast(driver.trials[trial]) == 5
    assert driver.timing.forecast(None) == 5


def test_an_interruption_ends_what_a_used_up_budget_leaves_to_be_done(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, budget=Budget((limit("1epochs"),))))
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    assert driver.report(trial, report(1))
    assert driver.over
    assert not driver.interrupted, "what was trained is evaluated"
    driver.close("interrupted", "stopped by SIGINT")
    assert driver.interrupted
    driver.close("lost", "the search broke off")
    driver.finish()
    assert (driver.result.outcome, driver.result.reason) == ("interrupted", "stopped by SIGINT")
    assert [trial.outcome for trial in driver.result.unfinished] == ["interrupted"]


def test_a_start_is_not_blamed_for_trials_that_could_not_be_trained(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    clock = Clock()
    driver = open_driver(within(experiment, "20s"), clock=clock)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.fail(trial, "error", "its params are none")
    clock.now = 21
    assert driver.over
    driver.finish()
    assert driver.result.reason == "the budget of 20s is used up"


def test_only_the_time_until_something_is_entered_is_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=clock))

    @contextmanager
    def slow() -> Iterator[str]:
        clock.now += 3
        yield "entered"
        clock.now += 10

    waiting = timing.WaitingTime()
    with waiting.counting():
        clock.now += 1
    with waiting.entering(slow()) as found:
        assert found == "entered"
        clock.now += 5
    assert waiting.seconds == 4


def test_a_command_begins_with_its_process_where_that_is_there_for_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began_s = psutil.Process().create_time()
    youngest = time.time() - began_s
    age_s = process_age_s()
    assert youngest - 1.1 <= age_s <= time.time() - began_s + 1.1  # the boot is known to a second
    monkeypatch.setattr(lifetime, "process_age_s", lambda: 1000.0)
    assert command_start().ago_s < 500, "it is called by another program"
    assert command_start().time_ms == pytest.approx(time.time() * 1000, abs=500_000)
    monkeypatch.setitem(
        sys.modules, "__main__", SimpleNamespace(__spec__=SimpleNamespace(name="search.run"))
    )
    assert command_start().ago_s == pytest.approx(1000, abs=500)
    assert command_start().time_ms == pytest.approx(time.time() * 1000 - 1_000_000, abs=500_000)


def test_an_epoch_that_was_lost_does_not_count_and_a_larger_budget_goes_on(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, trials=3, budget=Budget((limit("4epochs"),))))
    first, second = (driver.suggest()[0] for _ in range(2))  # type: ignore[index]
    for trial in (first, second):
        driver.running(trial)
    assert not driver.report(first, report(1, 0.5))
    driver.fail(second, "lost", "node gone")
    assert not driver.report(first, report(2, 0.5))
    assert driver.suggest() is not None
    driver.running(second)
    assert driver.report(first, report(3, 0.5))
    assert driver.report(second, report(1, 0.5))
    driver.finish()
    assert driver.result.epochs_trained == 4
    assert shares_of(driver.result) == {"4 epochs": 1.0}
    driver.policy.experiment = changed(driver.experiment, budget=Budget((limit("40epochs"),)))
    again = play(reopened(driver))
    assert again.result.counts == {"completed": 3}
    assert again.result.outcome == "completed"


def test_epochs_that_are_under_way_and_never_trained_are_there_for_others(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """One trial diverges, one is lost, one only takes over what was trained before; the budget is
    trained all the same, and no more.
    """
    driver = open_driver(changed(experiment, budget=Budget((limit("4epochs"),))), slots=4)
    suggestions = [driver.suggest() for _ in range(4)]
    configs = dict(suggestion for suggestion in suggestions if suggestion is not None)
    diverged, lost, known, whole = configs
    for trial in configs:
        driver.running(trial)
    assert driver.suggest() is None, "four epochs are under way"
    assert driver.report(diverged, report(1, outcome="diverged"))
    driver.fail(lost, "lost", "node gone")
    begun = WarmStart("earlier", "t0001", 3)
    driver.report(known, Report(3, restored=[], begun=begun, more=True))
    for epoch in (1, 2, 3):
        driver.report(known, replace(report(epoch, 0.5), more=epoch < 3))
    assert driver.report(whole, report(1, 0.5)) is False
    while driver.active:
        while (suggestion := driver.suggest()) is not None:
            configs |= dict([suggestion])
            driver.running(suggestion[0])
        for trial in list(driver.active):
            driver.report(
                trial, good_lr_wins(configs[trial], max(driver.trials[trial].epochs, default=0) + 1)
            )
    driver.finish()
    assert driver.result.epochs_trained == 4
    assert (driver.result.outcome, driver.result.reason) == (
        "budget",
        "the budget of 4 epochs is used up",
    )


def test_who_was_set_aside_goes_on_if_others_leave_something_of_the_budget(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, trials=2, budget=Budget((limit("3epochs"),))), slots=2)
    suggestions = [driver.suggest() for _ in range(2)]
    one, other = (suggestion[0] for suggestion in suggestions if suggestion is not None)
    for trial in (one, other):
        driver.running(trial)
    assert driver.report(one, report(1, 0.5)) is False, "one epoch was trained, two are under way"
    assert driver.report(one, report(2, 0.5)), "and the third is the other's"
    assert driver.trials[one].outcome == "interrupted"
    assert driver.suggest() is None
    driver.report(other, report(1, outcome="diverged"))
    again = driver.suggest()
    assert again is not None
    assert again[0] == one
    driver.running(one)
    assert driver.report(one, report(3, 0.5))
    driver.finish()
    assert driver.result.epochs_trained == 3
    assert driver.result.counts["diverged"] == 1


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
@pytest.mark.parametrize("seed", range(12))
def test_a_budget_is_trained_whole_whatever_fails(
    open_driver: OpenDriver, experiment: Experiment, scheduler: str, seed: int
) -> None:
    """Or all trials come to their end before; and what the journal tells is what happened."""
    generator = np.random.default_rng(seed)
    epochs, slots = int(generator.integers(2, 25)), int(generator.integers(1, 5))
    driver = open_driver(
        changed(experiment, scheduler=scheduler, budget=Budget((limit(f"{epochs}epochs"),))),
        slots=slots,
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        return (
            report(epoch, outcome="diverged")
            if generator.random() < 0.15
            else good_lr_wins(config, epoch)
        )

    result = play(driver, train, slots=slots).result
    assert result.epochs_trained <= epochs
    assert result.outcome in ("budget", "completed")
    assert result.outcome == "completed" or result.epochs_trained == epochs
    assert result.outcome == "budget" or (len(result.trials) == 9 and not result.unfinished)
    assert SearchResult.read(driver.experiment.folder).trials == result.trials


def test_device_time_ends_a_search(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver = open_driver(changed(experiment, budget=Budget((limit("10usd"),), 3600.0)))

    def train(config: TrialConfig, epoch: int) -> Report:
        driver.result.sessions[0].trials_ms += 2000
        return good_lr_wins(config, epoch)

    result = play(driver, train).result
    assert result.epochs_trained == 5
    assert (result.outcome, result.reason) == ("budget", "the budget of 10 usd is used up")
    assert shares_of(result)["10 usd"] == pytest.approx(1.0, abs=0.1)


def test_a_search_of_version_0_1_that_its_time_ended_is_read_and_gone_on_with(
    experiment: Experiment,
) -> None:
    """`time_budget` was a number in the description, and the name of an outcome."""
    description = {
        name: value
        for name, value in experiment.describe().items()
        if name not in ("budget", "price", "min_gain")
    } | {"time_budget": 60.0}
    journal = Journal(experiment.folder)
    journal.append(Started(name=experiment.name, experiment=description, **started_event()))
    journal.append(
        SearchFinished(outcome="time_budget", reason="the time budget of 60 s is used up")
    )
    journal.close()
    result = SearchResult.read(experiment.folder)
    assert (result.outcome, result.is_over) == ("budget", True)
    assert list(shares_of(result)) == ["60s"]
    again = experiment_of(resumed(experiment), result)
    assert again.budget == Budget((limit("60s"),))
    assert changes(result.started, replace(result.started, experiment=again.describe())) == []


def resumed(experiment: Experiment, *limits: str, price: float | None = None) -> ResumeRequest:
    """A request to continue with these limits, whatever has changed."""
    return ResumeRequest(
        name=experiment.name,
        storage=experiment.storage,
        allow_change=True,
        limits=UsageLimits(budget=tuple(map(limit, limits)), price=price),
    )


def test_a_resume_whose_budget_is_used_up_is_refused_before_anything_starts(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(
        open_driver(changed(experiment, scheduler="asha", budget=Budget((limit("9epochs"),))))
    )
    result = driver.result
    assert result.best is not None
    assert result.unfinished, "some wait at a rung"
    for limits, refused in (([], True), (["9epochs"], True), (["10epochs"], False)):
        request = resumed(experiment, *limits)
        again = experiment_of(request, result)
        check_budget(request, again, result)  # what is to be tested and drawn is done first
        driver.journal.append(
            Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={})
        )
        driver.journal.append(Evidence(trial="", file="pictures", path=""))
        assert not is_done(result, again, request)
        if not refused:
            check_budget(request, again, result)
            continue
        with pytest.raises(
            ConfigError,
            match=r"the budget of 9 epochs is used up: all sessions together used 100% of the 9 "
            r"epochs budget\. To continue with a larger budget: .* --budget LIMIT",
        ):
            check_budget(request, again, result)
        result.is_drawn = False
    assert any(
        line.endswith("search.resume played --budget LIMIT (a larger one)")
        for line in standing_lines(SearchStanding("played", result))
    )


def test_a_resume_takes_a_new_budget_and_goes_on_where_there_was_none_left(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(
        open_driver(changed(experiment, budget=Budget((limit("3epochs"), limit("2usd")), 1.0)))
    )
    result = driver.result
    assert result.best is not None
    driver.journal.append(Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={}))
    driver.journal.append(Evidence(trial="", file="pictures", path=""))

    assert experiment_of(resumed(experiment), result).budget == driver.experiment.budget
    more = resumed(experiment, "9epochs", price=2.0)
    assert not is_done(result, driver.experiment, more)
    assert experiment_of(more, result).budget == Budget((limit("2usd"), limit("9epochs")), 2.0)
    assert experiment_of(resumed(experiment, "1h", "2h"), result).budget == Budget(
        (limit("3epochs"), limit("2usd"), limit("1h"), limit("2h")), 1.0
    )


def test_a_refinement_given_a_budget_has_that_alone(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """It counts from now on; the search's own limits are for the search."""
    search = changed(experiment, budget=Budget((limit("3epochs"), limit("1d"), limit("2usd")), 1.0))
    result = play(open_driver(search)).result
    request = RefineRequest(name=search.name, limits=UsageLimits(budget=(limit("5epochs"),)))
    refined = refinement_of(request, search, result, goes_on=True)
    assert refined.budget == Budget((limit("8epochs"),), 1.0)


def test_new_limits_replace_all_of_their_own_kinds_and_no_others() -> None:
    budget = Budget(tuple(map(limit, ("10m", "500epochs", "2h", "3usd"))), 1.5)
    found = budget.with_limits([limit("30m"), limit("1h")])
    assert found == Budget(tuple(map(limit, ("500epochs", "3usd", "30m", "1h"))), 1.5)
    assert budget.with_limits([]) == budget
    assert budget.is_priced
    assert not Budget((limit("10m"),), 1.5).is_priced


def test_a_budget_of_time_that_its_end_has_not_used_whole_is_used_up_all_the_same(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    now = [0.0]
    search = changed(experiment, budget=Budget((limit("100s"), limit("1000epochs"))))

    def train(config: TrialConfig, epoch: int) -> Report:
        now[0] += 4
        return good_lr_wins(config, epoch)

    result = play(open_driver(search, clock=lambda: now[0], ago_s=60.0), train).result
    assert result.outcome == "budget"
    assert result.best is not None
    result.tested, result.is_drawn = (
        Tested(result.best.trial, result.best.best_epoch or 0, {}),
        True,
    )
    result.unevaluated = {NO_TIME: ["t0001"]}
    for limits, is_refused in (
        ([], True),
        (["90s"], True),
        (["2m"], False),
        (["2000epochs"], True),
    ):
        request = resumed(experiment, *limits)
        with (
            pytest.raises(ConfigError, match=r"the budget of (100|90)s is used up: all")
            if is_refused
            else nullcontext()
        ):
            check_budget(request, experiment_of(request, result), result)


def test_the_command_line_wins_over_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("space: smoke\nbudget: [2h, 20epochs]\n")
    from_file = parse_options(["--config", str(file)]).request
    assert [str(limit) for limit in from_file.limits.budget] == ["2h", "20 epochs"]
    replaced = parse_options(["--config", str(file), "--budget", "3h", "--budget", "5epochs"])
    assert [str(limit) for limit in replaced.request.limits.budget] == ["3h", "5 epochs"]


@pytest.mark.parametrize(
    ("limits", "price", "said"),
    [
        (
            ["1008s"],
            None,
            ["  the budget of 1008s buys about 1,000 of 4,000 epochs (25 of 100 configurations)"],
        ),
        (
            ["2h", "2000epochs"],
            None,
            [
                (
                    "  the budget of 2000 epochs buys about 2,000 of 4,000 epochs "
                    "(50 of 100 configurations)"
                )
            ],
        ),
        (
            ["2h", "4008s"],
            None,
            ["  the budget is sufficient: 4008s is enough for about 4,000 epochs"],
        ),
        (
            ["4cpu-hours"],
            None,
            [
                (
                    "  the budget of 4 cpu-hours buys about 1,800 of 4,000 epochs "
                    "(45 of 100 configurations)"
                )
            ],
        ),
        (
            ["4usd"],
            2.0,
            [
                "  the budget of 4 usd buys about 900 of 4,000 epochs (22 of 100 configurations)",
                "  about 4.00 usd for 2 cpu-hours of training",
            ],
        ),
        ([], 0.5, ["  about 4.44 usd for 8.89 cpu-hours of training"]),
        ([], None, []),
    ],
)
def test_a_plan_says_what_the_budget_buys(
    experiment: Experiment, limits: list[str], price: float | None, said: list[str]
) -> None:
    """100 trials of 40 epochs, of which one takes 4 seconds on 2 CPUs, four at once."""
    data = {**started_event()["data"]}
    plan = Estimate(100, 5000, 4000, 4, 4008, 5008, 4.0, data)
    search = changed(
        experiment,
        demand=Demand(cpus=2),
        budget=Budget(tuple(limit(text) for text in limits), price),
    )
    found = plan.lines(search)
    assert [line for line in found if "budget" in line or "usd" in line] == said


def test_a_summary_says_how_much_was_used(
    open_driver: OpenDriver, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = play(open_driver(changed(experiment, budget=Budget((limit("10epochs"),)))))
    print_summary(
        Finished(
            driver.experiment,
            driver.result,
            {"tracking_uri": "http://here", "experiment_id": "1", "parent_run_id": "2"},
            0,
            1.0,
        ),
        Terminal(),
    )
    said = capsys.readouterr().out
    assert "the search ended early: the budget of 10 epochs is used up" in said
    assert "used 100% of the 10 epochs budget" in said
    assert re.search("continue .*search.resume .* --budget LIMIT", said), "a trial waits"
    assert standing_lines(SearchStanding("played", driver.result))[2].endswith(
        "; used 100% of the 10 epochs budget"
    )
    assert cost(driver.result).endswith("; used 100% of the 10 epochs budget")


def test_the_summary_in_json_has_the_share_of_the_one_in_words_and_of_the_page(
    open_driver: OpenDriver, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = play(open_driver(changed(experiment, budget=Budget((limit("10epochs"),)))))
    tracking = {"tracking_uri": "http://here", "experiment_id": "1", "parent_run_id": "2"}
    finished = Finished(driver.experiment, driver.result, tracking, 0, 50_000.0)
    shown = ViewContext(Terminal(stderr=True), as_json=True)
    Summary(shown).render(finished)
    JsonSummary(shown).render(finished)
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert "epochs in 50000 s" in told.err
    share = shares_of(driver.result)["10 epochs"]
    used = f"used {share:.0%} of the 10 epochs budget"
    assert used in told.err
    assert used in cost(driver.result)
    assert (summary["wall_s"], summary["budget"]) == (50_000.0, {"10 epochs": share})


def test_how_much_is_used_is_shown_while_the_search_runs(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, budget=Budget((limit("4epochs"), limit("1d")))))
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.report(trial, report(1))
    assert (
        Display(driver.result, 9, Terminal())
        ._line()
        .endswith("; used 25% of the 4 epochs budget, 0% of the 1d budget")
    )
