"""A selection's decisions, played without Ray.

Which training is next, which candidate leaves, and what a kill between two lines changes.
"""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster.errors import Refused
from search.decisions.driver import Driver
from search.decisions.selection_policy import SelectionPolicy, seed_number, training_name
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.events import Freed, Opened, Resumed, Selecting, Tested, Unevaluated
from search.journal.journal import FILE_NAME, Journal
from search.journal.result import SearchResult, TrialResult
from search.operations import select
from search.operations.select import (
    SelectRequest,
    best_few,
    cost_of,
    few_text,
    is_done,
    refuse_changed,
    terms_of,
)
from search.space import SearchSpace
from search.views.live import RaceDisplay
from tests.support.played import OpenDriver, changed, good_lr_wins, play, reopened, report
from trainables.config import TrialConfig
from trainables.messages import Report

TRUE = {0.1: 0.95, 0.01: 0.94, 0.001: 0.70}


def noisy(config: TrialConfig, epoch: int) -> Report:
    """The learning rate decides, and a little the seed."""
    luck = np.random.default_rng([config.seed, round(1000 * config.optimizer.lr)]).normal(0, 0.006)
    accuracy = TRUE[config.optimizer.lr] + luck - 0.01 * (config.epochs - epoch)
    return report(epoch, accuracy, "completed" if epoch == config.epochs else None)


@pytest.fixture
def searched(experiment: Experiment, open_driver: OpenDriver) -> Driver:
    """A search that has come to its end."""
    return play(open_driver(experiment))


@pytest.fixture
def begin(searched: Driver) -> Iterator[Any]:
    """Begins a session of the selection; again, after a kill, when called again."""
    opened: list[Journal] = []

    def make(**terms: Any) -> Driver:
        journal, events = Journal.reopen(searched.experiment.folder)
        opened.append(journal)
        driver = Driver(searched.experiment, journal, SelectionPolicy)
        driver.replay(events)
        candidates = [
            name for name, trial in searched.result.trials.items() if trial.params["epochs"] == 3
        ]
        before = searched.result.started
        facts = {name: getattr(before, name) for name in ("experiment", "data", "provenance")}
        journal.append(
            Selecting(
                **{"candidates": candidates, "seeds": 4, "alpha": 0.05, **terms},
                **facts,
                slots=2,
                began_ms=time.time_ns() // 1_000_000,
            )
        )
        driver.go_on()
        return driver

    yield make
    for journal in opened:
        journal.close()


def lr_of(driver: Driver, candidate: str) -> float:
    return float(driver.result.trials[candidate].params["optimizer.lr"])


def test_names_tell_the_seeds_number() -> None:
    assert seed_number(training_name("t0007", 12)) == 12


def test_all_candidates_get_the_same_fresh_seeds_and_the_clearly_worse_leaves(begin: Any) -> None:
    driver: Driver = play(begin(), noisy)
    worst = next(name for name in driver.policy.race.candidates if lr_of(driver, name) == 0.001)
    seeds = {
        name: [trial.config["seed"] for trial in driver.trials.values() if trial.repeat_of == name]
        for name in driver.policy.race.candidates
    }
    assert driver.experiment.seed not in {seed for of_one in seeds.values() for seed in of_one}
    assert list(driver.policy.race.out) == [worst]
    assert len(seeds[worst]) < 4
    assert all(of_one == [1, 2, 3, 4] for name, of_one in seeds.items() if name != worst)
    assert driver.result.selection is not None
    assert driver.result.selection.outcome == "completed"


def test_its_progress_tells_each_epoch_not_only_ended_trainings(begin: Any) -> None:
    driver: Driver = begin()
    display = RaceDisplay(driver.result, 12, Console(file=io.StringIO()))
    told: list[str] = []
    driver.journal.listeners.append(lambda event: told.append(display._line()))
    play(driver, noisy)
    assert any("0 trainings ended, 1 running of at most 12; 1 epoch" in line for line in told)
    trained = sum(len(trial.epochs) for trial in driver.trials.values() if trial.repeat_of)
    assert f"; {trained} epochs; 1 candidate dropped" in told[-1]


def test_the_searchs_own_trials_stay_as_they_were(begin: Any, searched: Driver) -> None:
    before = {
        name: (trial.outcome, trial.primary_value) for name, trial in searched.result.trials.items()
    }
    driver = play(begin(), noisy)
    assert {
        name: (trial.outcome, trial.primary_value) for name, trial in driver.result.trials.items()
    } == before
    assert driver.result.best is not None
    assert driver.result.best.trial == searched.result.best.trial  # type: ignore[union-attr]
    assert driver.result.wall_s == pytest.approx(searched.result.wall_s, abs=0.1)


def one_diverges(config: TrialConfig, epoch: int) -> Report:
    """Play the highest rate's training with seed 3 as one that diverges."""
    if config.optimizer.lr == 0.1 and config.seed == 3:
        return report(epoch, 0, "diverged", "loss is inf")
    return noisy(config, epoch)


def test_a_candidate_whose_training_diverges_has_failed(begin: Any) -> None:
    driver = play(begin(), one_diverges)
    failed = next(name for name in driver.policy.race.candidates if lr_of(driver, name) == 0.1)
    assert "s3 diverged: loss is inf" in driver.policy.race.out[failed]
    assert failed not in driver.policy.race.worse
    assert training_name(failed, 4) not in driver.trials


def fail_all(driver: Driver, kind: str, *, of: str = "") -> Driver:
    """Let each training of a candidate, by default of all, fail for good; play the others."""
    for _ in range(1000):
        if (suggestion := driver.suggest()) is None:
            break
        name, config = suggestion
        driver.running(name)
        if of in ("", driver.trials[name].repeat_of):
            driver.fail(name, kind, "it will pass")
            continue
        for epoch in range(1, config.epochs + 1):
            driver.report(name, noisy(config, epoch))
    driver.finish()
    return driver


@pytest.mark.parametrize("kind", ["error", "lost", "hung", "memory"])
def test_trainings_that_failed_are_tried_again_when_the_selection_is_repeated(
    begin: Any, kind: str
) -> None:
    first = fail_all(begin(), kind)
    assert first.policy.race.alive == []
    again: Driver = begin()
    assert again.policy.race.alive == again.policy.race.candidates
    play(again, noisy)
    assert again.policy.race.rounds == 4
    assert {trial.outcome for trial in again.trials.values()} <= {"completed", "stopped"}
    selection = SearchResult.read(again.experiment.folder).selection
    assert selection is not None
    assert {name: trial.outcome for name, trial in selection.repeats.items()} == {
        name: trial.outcome for name, trial in again.trials.items()
    }


@pytest.mark.parametrize("kind", ["lost", "hung", "memory"])
def test_what_is_tried_again_is_given_as_many_attempts_as_before(begin: Any, kind: str) -> None:
    first = fail_all(begin(), kind)
    count = sum(trial.attempt for trial in first.trials.values())
    again = fail_all(begin(), kind)
    assert sum(trial.attempt for trial in again.trials.values()) == 2 * count
    assert again.policy.race.alive == []


def test_a_selection_is_not_done_while_a_candidate_is_out_by_a_failure_that_may_pass(
    begin: Any, searched: Driver
) -> None:
    best = searched.result.ranking[0].trial
    others = [trial.trial for trial in searched.result.ranking[1:3]]
    first = fail_all(begin(candidates=[best, *others]), "memory", of=best)
    assert best in first.policy.race.out
    assert first.result.selection is not None
    selection = first.result.selection
    assert (selection.outcome, selection.failed) == ("completed", {best})
    selection.verdict = SimpleNamespace(trial="t")  # type: ignore[assignment]
    selection.tested = Tested(trial="t", epoch=1, test={})
    assert not is_done(first.result, selection.started)
    again = play(begin(candidates=[best, *others]), noisy)
    assert best not in again.policy.race.out
    assert again.trials[training_name(best, 4)].outcome == "completed"


def test_a_candidate_that_diverged_is_out_though_another_training_of_it_failed(
    begin: Any, searched: Driver
) -> None:
    name = searched.result.ranking[0].trial
    driver: Driver = begin(candidates=[name], seeds=2)
    for _ in range(2):
        (handed, _) = driver.suggest() or ("", None)
        driver.running(handed)
    driver.report(training_name(name, 2), report(1, 0, "diverged", "loss is inf"))
    driver.fail(training_name(name, 1), "error", "its own fault")
    driver.finish()
    again: Driver = begin(candidates=[name], seeds=2)
    assert "diverged" in again.policy.race.out[name]
    assert again.suggest() is None
    assert again.trials[training_name(name, 1)].outcome == "failed"


def test_trainings_of_who_has_left_go_on_no_further(begin: Any, searched: Driver) -> None:
    """The worst trains for longer than the others.

    When its first two trainings are known, its third runs already.
    """

    def worst_last(config: TrialConfig, epoch: int) -> Report:
        return (
            report(epoch, 0.5, "completed" if epoch == config.epochs else None)
            if config.epochs == 9
            else noisy(config, epoch)
        )

    of = {
        (trial.params["optimizer.lr"], trial.params["epochs"]): name
        for name, trial in searched.result.trials.items()
    }
    driver = play(begin(candidates=[of[0.001, 9], of[0.1, 3], of[0.01, 3]]), worst_last, slots=4)
    assert list(driver.policy.race.out) == [of[0.001, 9]]
    stopped = driver.trials[training_name(of[0.001, 9], 3)]
    assert (stopped.outcome, len(stopped.epochs) < 9, stopped.stop.by) == (
        "stopped",
        True,
        "the race",
    )


@pytest.mark.parametrize("events", range(1, 60, 4))
def test_a_kill_between_two_lines_changes_nothing(begin: Any, events: int) -> None:
    first = begin()
    play(first, noisy, events=first.journal.number + events)
    again = play(begin(), noisy)
    assert {
        name: trial.outcome
        for name, trial in again.trials.items()
        if trial.repeat_of not in again.policy.race.out
    } == {
        training_name(name, number): "completed"
        for name in again.policy.race.alive
        for number in (1, 2, 3, 4)
    }
    assert len(again.policy.race.out) == 1
    assert [
        event
        for event in again.trials.values()
        if event.outcome in ("running", "interrupted", "pending")
    ] == []


def test_a_kill_between_a_failure_and_what_follows_from_it_changes_nothing(begin: Any) -> None:
    whole = play(begin(), one_diverges)
    path = whole.experiment.folder / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    failed = next(row for row, line in enumerate(lines) if b'"diverged"' in line)
    path.write_bytes(b"".join(lines[: failed + 1]))
    again = play(begin(), one_diverges)
    assert again.policy.race.out == whole.policy.race.out
    assert again.policy.race.rounds == whole.policy.race.rounds == 4


def test_a_training_without_its_checkpoints_is_the_last_to_stand_for_its_candidate(
    begin: Any,
) -> None:
    driver: Driver = play(begin(), noisy)
    first, *others = driver.policy.ranked(driver.policy.race.alive[0])
    driver.journal.append(Freed([first.trial], "answer", 0))
    assert driver.policy.ranked(first.repeat_of) == [*others, first]


def test_more_seeds_go_on_from_those_there_are(begin: Any) -> None:
    play(begin(seeds=2), noisy)
    driver = begin(seeds=3)
    (name, config) = driver.suggest() or ("", None)
    assert seed_number(name) == 3
    assert config is not None
    assert config.seed == 3


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_a_search_that_goes_on_after_its_selection_suggests_what_it_would_have(
    experiment: Experiment, open_driver: OpenDriver, algorithm: str
) -> None:
    """The selection's trainings are no trials of the search.

    Neither the algorithm nor the scheduler hears of them.
    """
    seen = []
    for with_selection in (False, True):
        own = changed(
            experiment, name=f"s{with_selection}", algorithm=algorithm, scheduler="asha", trials=4
        )
        driver = play(open_driver(own))
        if with_selection:
            journal, events = Journal.reopen(own.folder)
            race = Driver(own, journal, SelectionPolicy)
            race.replay(events)
            journal.append(
                Selecting(
                    candidates=["t0001"],
                    seeds=2,
                    alpha=0.05,
                    slots=2,
                    began_ms=time.time_ns() // 1_000_000,
                )
            )
            race.go_on()
            play(race, noisy)
            journal.close()
        driver.policy.experiment = changed(own, trials=7)
        again = play(reopened(driver))
        seen.append(
            {name: (trial.params, trial.outcome) for name, trial in again.result.trials.items()}
        )
        assert (again.result.selection is not None) == with_selection
    assert len(seen[0]) == 7
    assert seen[0] == seen[1]


def test_a_look_at_the_test_part_that_was_cut_off_counts_as_one(searched: Driver) -> None:
    result, best = searched.result, searched.result.best
    assert best is not None
    facts = {"trial": best.trial, "epoch": best.best_epoch}
    searched.journal.append(Opened(**facts, by="search.run"))
    assert [(opening.trial, opening.by) for opening in result.openings] == [
        (best.trial, "search.run")
    ]
    assert not result.is_tested
    searched.journal.append(Opened(**facts, by="search.resume"))
    searched.journal.append(Tested(**facts, test={}))
    assert [opening.by for opening in result.openings] == ["search.run", "search.resume"]
    assert result.is_tested


def test_a_result_read_from_the_journal_knows_the_selection(begin: Any) -> None:
    driver = play(begin(), noisy)
    result = SearchResult.read(driver.experiment.folder)
    assert result.selection is not None
    assert result.selection.repeats.keys() == driver.trials.keys()
    assert result.selection.dropped.keys() == driver.policy.race.out.keys()
    assert result.chosen is result.best


def test_other_terms_make_another_race(begin: Any, searched: Driver) -> None:
    """Without the leader of that time among the candidates, a dropped one is judged anew.

    Its training that was stopped goes on to its end.
    """

    def worst_last(config: TrialConfig, epoch: int) -> Report:
        accuracy = 0.5 + 0.001 * config.seed if config.epochs == 9 else 0.9 + 0.001 * config.seed
        return report(epoch, accuracy, "completed" if epoch == config.epochs else None)

    of = {
        (trial.params["optimizer.lr"], trial.params["epochs"]): name
        for name, trial in searched.result.trials.items()
    }
    worst, leader = of[0.001, 9], of[0.1, 3]
    first = play(begin(candidates=[worst, leader]), worst_last, slots=4)
    assert list(first.policy.race.out) == [worst]
    assert "stopped" in {trial.outcome for trial in first.trials.values()}
    alone = play(begin(candidates=[worst]), worst_last)
    assert alone.policy.race.alive == [worst]
    assert {trial.outcome for trial in alone.trials.values()} == {"completed"}
    assert alone.policy.race.rounds == 4
    again = play(begin(candidates=[worst, leader]), worst_last)
    assert list(again.policy.race.out) == [worst]


def test_the_same_terms_leave_out_who_was_clearly_worse(begin: Any) -> None:
    first = play(begin(), noisy)
    again = begin()
    assert (again.policy.race.out, again.suggest()) == (first.policy.race.out, None)


def test_a_training_that_waits_to_be_tried_again_is_not_once_its_candidate_has_left(
    begin: Any, searched: Driver
) -> None:
    of = {
        trial.params["optimizer.lr"]: name
        for name, trial in searched.result.trials.items()
        if trial.params["epochs"] == 3
    }
    driver: Driver = begin(candidates=[of[0.001], of[0.1]], seeds=3)
    handed = [driver.suggest() for _ in range(6)]
    for suggestion in handed:
        assert suggestion is not None
        driver.running(suggestion[0])
    driver.fail(training_name(of[0.001], 3), "lost", "its node was lost")
    for suggestion in handed[:5]:
        assert suggestion is not None
        name, config = suggestion
        for epoch in (1, 2, 3):
            if name != training_name(of[0.001], 3):
                driver.report(name, noisy(config, epoch))
    assert list(driver.policy.race.out) == [of[0.001]]
    assert (list(driver.pending), driver.trials[training_name(of[0.001], 3)].outcome) == (
        [],
        "stopped",
    )


def test_a_selection_remembers_which_trainings_ran_out_of_memory_beside_others(begin: Any) -> None:
    driver: Driver = begin()
    (name, _) = driver.suggest() or ("", None)
    driver.running(name)
    driver.fail(name, "memory", "out of memory")
    assert begin().out_of_memory == {name}


def test_fresh_seeds_are_none_that_the_search_has_trained_with(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    """The space fixes one, or searches it."""
    own = changed(experiment, base=experiment.base.override({"seed": 2}))
    searched = play(open_driver(own))
    assert {trial.config["seed"] for trial in searched.result.trials.values()} == {2}
    journal, events = Journal.reopen(own.folder)
    race = Driver(own, journal, SelectionPolicy)
    race.replay(events)
    journal.append(
        Selecting(
            candidates=["t0001", "t0002"],
            seeds=3,
            alpha=0.05,
            slots=2,
            began_ms=time.time_ns() // 1_000_000,
        )
    )
    race.go_on()
    play(race, noisy)
    journal.close()
    seeds = [
        [trial.config["seed"] for trial in race.trials.values() if trial.repeat_of == name]
        for name in ("t0001", "t0002")
    ]
    assert seeds == [[1, 3, 4], [1, 3, 4]]


def test_what_a_search_could_not_evaluate_after_its_selection_is_known(
    begin: Any,
) -> None:
    driver = begin()
    driver.journal.append(Unevaluated(reasons={"of the selection": ["t0001-s1"]}))
    assert driver.result.unevaluated == {}
    driver.journal.append(Resumed(slots=2, began_ms=time.time_ns() // 1_000_000))
    driver.journal.append(Unevaluated(reasons={"no time was left": ["t0002"]}))
    assert driver.result.unevaluated == {"no time was left": ["t0002"]}


def test_candidates_are_asked_for_anew_once_the_search_has_gone_on(
    begin: Any, searched: Driver
) -> None:
    request = SelectRequest(name="played")
    few = [trial.trial for trial in best_few(searched.result, 2)]
    driver = begin(candidates=list(reversed(few)))
    assert terms_of(request, driver.result).candidates == list(reversed(few))
    driver.journal.append(Resumed(slots=2, began_ms=time.time_ns() // 1_000_000))
    assert terms_of(request, driver.result).candidates == few


def test_a_selections_cost_is_told_and_what_was_trained_before_is_off(
    begin: Any, searched: Driver
) -> None:
    few = [trial.trial for trial in best_few(searched.result, 2)]
    lengths = [searched.result.trials[name].config["epochs"] for name in few]
    terms = Selecting(candidates=few, seeds=3, alpha=0.05)
    cost = cost_of(searched.result, terms)
    assert (cost.trainings, cost.epochs) == (6, 3 * sum(lengths))
    assert searched.result.started.slots == 2
    assert cost.seconds == pytest.approx(3 * 0.25 * max(lengths)), "three rounds of two at once"
    assert str(cost).startswith(f"at most 6 trainings and {cost.epochs} epochs, about ")
    driver = begin(candidates=few, seeds=3)
    name, config = driver.suggest()
    driver.running(name)
    for epoch in range(1, config.epochs + 1):
        driver.report(name, report(epoch))
    after = cost_of(driver.result, terms)
    assert (after.trainings, after.epochs) == (5, cost.epochs - config.epochs)


def test_two_trials_that_differ_by_their_seed_alone_are_one_candidate(searched: Driver) -> None:
    result = searched.result
    first, second = result.ranking[:2]
    second.config = {**first.config, "seed": 99}
    assert second not in best_few(result, 9)
    assert len(best_few(result, 9)) == 8


@pytest.fixture
def lengths(experiment: Experiment) -> Experiment:
    """The same nine configurations; those of one learning rate are lengths of one training."""
    space = SearchSpace(experiment.space.domains, base={"model.name": "deep_cnn"})
    return changed(experiment, space=space, base=TrialConfig().override(space.base))


def test_trials_that_differ_in_length_alone_are_one_candidate_the_longest(
    lengths: Experiment, open_driver: OpenDriver
) -> None:
    result = play(open_driver(lengths)).result
    assert [trial.params["epochs"] for trial in result.ranking[:3]] == [9, 6, 3]
    assert [
        (trial.params["optimizer.lr"], trial.params["epochs"]) for trial in best_few(result, 5)
    ] == [(0.1, 9), (0.01, 9), (0.001, 9)]
    assert result.distinct == best_few(result, 5)
    assert SearchResult.read(lengths.folder).distinct == result.distinct


def test_a_longer_trial_that_came_less_far_or_failed_does_not_replace_a_shorter(
    lengths: Experiment, open_driver: OpenDriver
) -> None:
    def train(config: TrialConfig, epoch: int) -> Report:
        diverges = config.optimizer.lr == 0.1 and epoch == 8
        return (
            report(epoch, 0, "diverged", "loss is inf") if diverges else good_lr_wins(config, epoch)
        )

    result = play(open_driver(lengths), train).result
    longest = next(
        trial for trial in result.ranking if trial.params == {"optimizer.lr": 0.01, "epochs": 9}
    )
    longest.outcome, longest.epochs = "stopped", {1: longest.epochs[1]}
    assert [
        (trial.params["optimizer.lr"], trial.params["epochs"]) for trial in best_few(result, 5)
    ] == [(0.1, 6), (0.01, 6), (0.001, 9)]


def test_a_length_and_another_seed_make_no_candidate_of_their_own(
    lengths: Experiment, open_driver: OpenDriver
) -> None:
    result = play(open_driver(lengths)).result
    best = result.ranking[0]
    again = replace(
        best, trial="t0099", config={**best.config, "seed": 5, "epochs": 6}, training_key="another"
    )
    result.trials["t0099"] = again
    assert again in result.distinct
    assert again not in best_few(result, 9)


def test_what_waits_at_a_rung_when_a_budget_ends_a_search_is_a_candidate(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    search = changed(
        experiment,
        algorithm="random",
        trials=9,
        scheduler="asha",
        budget=Budget((limit("11epochs"),)),
    )
    result = play(open_driver(search), slots=2).result
    held = {trial.trial for trial in result.trials.values() if trial.outcome == "held"}
    assert (result.outcome, result.is_over, bool(held)) == ("budget", True, True)
    assert [trial.trial for trial in best_few(result, 99)] == [
        trial.trial for trial in result.ranking
    ]


def test_that_there_are_fewer_candidates_than_asked_for_is_said_with_the_reason(
    lengths: Experiment, searched: Driver, open_driver: OpenDriver
) -> None:
    terms = terms_of(SelectRequest(name="played", top=12), searched.result)
    assert (
        few_text(searched.result, terms.candidates, terms.top)
        == "note: 9 candidates, not 12: no more of the search's 9 trials have a result that counts"
    )
    result = play(open_driver(changed(lengths, name="lengths"))).result
    terms = terms_of(SelectRequest(name="lengths"), result)
    told = (
        "note: 3 candidates, not 5: the 9 trials that count are 3 trainings (trials that differ "
        "only in length or seed count once)"
    )
    assert few_text(result, terms.candidates, terms.top) == told
    assert few_text(result, terms.candidates, 3) == ""


def test_a_first_selection_compares_the_weights_with_those_of_the_search(searched: Driver) -> None:
    request = SelectRequest(name="played")
    started = searched.result.started
    now = replace(started, weights={"resnet18.pth": "2"})
    searched.result.started = replace(started, weights={"resnet18.pth": "2"})
    refuse_changed(request, searched.result, now)
    searched.result.started = replace(started, weights={"resnet18.pth": "1"})
    with pytest.raises(Refused, match=r"weights\.resnet18\.pth: 1 -> 2"):
        refuse_changed(request, searched.result, now)


def test_no_more_of_many_trials_are_looked_at_than_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = list[Any]()
    key_of = select.training_key_of
    monkeypatch.setattr(
        select, "training_key_of", lambda config: looks.append(config) or key_of(config)
    )
    result = SearchResult()
    for number in range(1_000):
        name = f"t{number:05d}"
        config = {"model": {"name": "deep_cnn"}, "optimizer": {"name": "adam", "lr": number}}
        result.trials[name] = TrialResult(
            name,
            {},
            config,
            "completed",
            epochs={1: report(1, number / 1_000).metrics},
            ended_ms=1,
        )
    assert [trial.trial for trial in best_few(result, 5)] == [
        "t00999",
        "t00998",
        "t00997",
        "t00996",
        "t00995",
    ]
    assert len(looks) == 5
