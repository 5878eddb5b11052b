"""Which trials are combined, by their values on the validation images and by their costs."""

import dataclasses
from typing import Any

import pytest

from search.decisions.combining import find_members, is_answer
from search.journal.events import Epoch, Evaluated, EventData, Pooled, Resumed, Started, Tested
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from tests.support.played import started_event
from trainables.config import TrialConfig

IMAGES = 100
MS = 10.0


def searched(
    values: dict[str, float], *, model: str = "deep_cnn", **data: Any
) -> tuple[SearchResult, dict[str, TrialResult]]:
    """Return a search whose trials have these accuracies, each a training of its own."""
    values_of_started = started_event()
    values_of_started["data"] = {**values_of_started["data"], "val": IMAGES, "test": 100, **data}
    base = TrialConfig().override({"model.name": model})
    experiment = {"base": base.to_dict(), "space": {"name": "own"}}
    result = SearchResult(
        name="s", started=Started(name="s", experiment=experiment, **values_of_started)
    )
    for number, (name, value) in enumerate(values.items()):
        config = base.override({"seed": number}).to_dict()
        metrics = {"val/accuracy": value, "val/loss": 1.0, "time/epoch_s": 1.0}
        trial = TrialResult(name, {}, config, outcome="completed", epochs={1: metrics})
        trial.training_key = name
        times: Any = {"inference": {"batch_1": {"median_ms": MS}}}
        trial.evaluated = Evaluated(name, 1, {}, times)
        result.trials[name] = trial
    return result, result.trials


def names(trials: list[TrialResult]) -> list[str]:
    return [trial.trial for trial in trials]


def test_the_best_trials_within_two_standard_errors_are_combined() -> None:
    """The standard error of 0.80 is 0.04 with 100 images."""
    result, trials = searched({"a": 0.73, "b": 0.80, "c": 0.75, "d": 0.71, "e": 0.79})
    assert names(find_members(result, 5)) == ["b", "e", "c", "a"]
    assert names(find_members(result, 2)) == ["b", "e"]
    trials["e"].is_freed = True
    assert names(find_members(result, 2)) == ["b", "c"]


@pytest.mark.parametrize(
    "changes",
    [
        {"values": {"a": 0.80, "b": 0.60}},
        {"val": 1000},
        {"model": "svm"},
        {"most": 1},
    ],
)
def test_nothing_is_combined_if_that_is_no_help(changes: dict[str, Any]) -> None:
    """One trial is far ahead, there are many validation images, or there are no networks."""
    values, most = changes.pop("values", {"a": 0.80, "b": 0.79}), changes.pop("most", 5)
    result, _ = searched(values, **changes)
    assert find_members(result, most) == []


def test_members_whose_networks_would_take_too_long_are_left_out() -> None:
    """Each predicts 100 validation and 100 test images in 2 s."""
    result, trials = searched({"a": 0.80, "b": 0.79, "c": 0.78, "d": 0.77})
    assert names(find_members(result, 5, left_s=7)) == ["a", "b", "c"]
    assert find_members(result, 5, left_s=3) == []
    for trial in trials.values():
        trial.evaluated = None
    assert find_members(result, 5, left_s=7) == []
    assert names(find_members(result, 2)) == ["a", "b"]


def test_the_best_trial_is_a_member_or_the_answer() -> None:
    """Nothing is combined without it: neither if it has no network, nor if it takes too long."""
    result, trials = searched({"a": 0.80, "b": 0.79, "c": 0.78})
    assert names(find_members(result, 5)) == ["a", "b", "c"]
    slow: Any = {"inference": {"batch_1": {"median_ms": 1000 * MS}}}
    trials["a"].config = {**trials["a"].config, "model": {"name": "mnist_cnn"}}
    trials["a"].evaluated = Evaluated("a", 1, {}, slow)
    assert find_members(result, 5, left_s=60) == []
    trials["a"].config = {**trials["a"].config, "model": {"name": "svm"}}
    assert find_members(result, 5) == []


def test_an_ensemble_is_the_answer_until_a_trial_has_another_epoch() -> None:
    """A resume that trains nothing keeps it, and the result of its test."""
    result, trials = searched({"a": 0.80, "b": 0.79})
    metrics = {"val/accuracy": 0.82, "val/loss": 1.0, "time/epoch_s": 1.0}
    config = trials["a"].config
    pooled = Pooled("ensemble", ["a", "b"], config, metrics, "fp32", 0.02, 0.01, is_chosen=True)
    apply(result, pooled, Tested("ensemble", 1, {"accuracy": 0.81, "images": 100}))
    assert result.answer is result.ensembles["ensemble"]
    assert result.is_tested
    assert result.test["accuracy"] == 0.81
    assert result.best is trials["a"]
    apply(result, Resumed(**resumed()))
    assert result.answer is result.ensembles["ensemble"]
    assert result.is_tested
    apply(result, Epoch("b", 2, metrics))
    assert result.answer is trials["b"]
    assert not result.is_tested
    assert result.find("ensemble") is result.ensembles["ensemble"]
    # The same trials are combined again: this is the ensemble that was tested.
    apply(result, pooled)
    assert result.is_tested
    assert len(result.ensembles) == 1


def apply(result: SearchResult, *events: EventData) -> None:
    for number, event in enumerate(events, 1):
        result.apply(Event(number, 1000 + number, event))


def resumed() -> dict[str, Any]:
    """Return the values of an event with which a session starts."""
    values = started_event()
    names = {field.name for field in dataclasses.fields(Resumed)}
    return {name: value for name, value in values.items() if name in names}


def test_an_ensemble_that_is_clearly_behind_is_not_the_answer() -> None:
    assert is_answer(0.0, 0.0)
    assert is_answer(-0.01, 0.02)
    assert not is_answer(-0.03, 0.02)
