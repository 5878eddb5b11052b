"""What the charts of the report and of the pages have in common."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from search.facts.series import Axis, BestSoFar, Course, lowest_visible
from search.space import Cases, Choice, Float, Int, SearchSpace
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

ACCURACY = CLASSIFICATION.primary
LOSS = next(metric for metric in CLASSIFICATION.metrics if metric.name == "log_loss")
SPACE = SearchSpace(
    {
        "model.name": Choice("table2", "deep_cnn"),
        "optimizer.lr": Cases(
            Float(1e-4, 1e-1, log=True, when={"model.name": "table2"}),
            Float(1e-3, 1.0, log=True, when={"model.name": "deep_cnn"}),
        ),
        "model.layers": Int(4, 9, when={"model.name": "deep_cnn"}),
    },
    base={"epochs": 9},
)


@pytest.fixture
def result() -> Any:
    """Make the part of a search's result that axes are made of."""
    return SimpleNamespace(started=SimpleNamespace(experiment={"space": SPACE.describe()}))


@pytest.mark.parametrize(
    ("metric", "reached", "records"),
    [
        (ACCURACY, [0.5, 0.5, 0.7, 0.7], [True, False, True, False]),
        (LOSS, [0.5, 0.4, 0.4, 0.4], [True, True, False, False]),
    ],
    ids=["max", "min"],
)
def test_only_a_better_value_is_the_best_so_far(
    metric: Any, reached: list[float], records: list[bool]
) -> None:
    best = BestSoFar(metric)
    assert math.isnan(best.value)
    values = [0.5, 0.4, 0.7, 0.7 if metric is ACCURACY else 0.4]
    assert [(best.add(value), best.value) for value in values] == list(
        zip(records, reached, strict=True)
    )


@pytest.mark.parametrize("metric", [ACCURACY, LOSS], ids=["max", "min"])
def test_the_values_of_a_failed_trial_are_no_records(metric: Any) -> None:
    course = Course(metric)
    worst, best = (0.2, 0.9) if metric is ACCURACY else (0.9, 0.2)
    assert course.add("t0001", 1.0, worst)
    assert course.add("t0002", 2.0, best)
    assert not course.add("t0001", 3.0, 0.5)
    course.drop("t0002")
    assert [record.value for record in course.records] == [worst, 0.5]
    assert not course.add("t0002", 4.0, best)


def test_axes_are_as_the_space_has_its_parameters(result: Any) -> None:
    model, rate, layers = Axis.all_of(result)
    assert (model.title, model.is_choice, model.options) == (
        "model",
        True,
        ("table2", "deep_cnn"),
    )
    assert (rate.title, rate.is_log, rate.is_choice, rate.options) == ("lr", True, False, ())
    assert (layers.is_log, layers.is_choice) == (False, False)


def test_a_trial_meets_the_axes_of_its_parameters_only(result: Any) -> None:
    trial: Any = SimpleNamespace(params={"model.name": "table2", "optimizer.lr": 0.01})
    assert [axis.value(trial) for axis in Axis.all_of(result)] == ["table2", 0.01, None]


def test_some_of_the_worst_may_lie_beyond_the_edge_but_not_those_that_must_be_seen() -> None:
    scores = [0.1, 0.5, 0.6, 0.7, 0.8]
    assert lowest_visible(scores, 0.25, [0.9]) == 0.5
    assert lowest_visible(scores, 0.25, [0.3]) == 0.3
    assert lowest_visible([0.1, 0.2, 0.3], 0.25, [0.3]) == 0.1, "a quarter of three is none"
