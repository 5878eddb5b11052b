"""The objectives of a search: its metric and, with `--objective`, low cost of use.

They are not weighed against each other. Of two trials one is better if it is worse in no respect;
the trials that no other is better than are the Pareto front.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import ConfigError

COSTS = {"latency": ("inference", "batch_1", "median_ms"), "parameters": ("parameters",)}
"""The costs of using a classifier, lower is better.

Each names the keys of its value in what `trainables.evaluation.cost` measures.
"""
Costs = tuple[float, ...]


def value_of(metric: str) -> str:
    """Return the name of a metric as an objective: `val_macro_f1`."""
    return f"val_{metric}"


def parse_objectives(text: str, metric: str) -> tuple[str, ...]:
    """Return the objectives that `--objective` names, of a search by this metric.

    Raises:
        ConfigError: it names something else.
    """
    names = tuple(part.strip() for part in text.split(","))
    check(names, metric)
    return names


def check(names: Sequence[str], metric: str) -> None:
    """Check that the metric comes first, then costs, each once.

    Raises:
        ConfigError: the names are others, or in another order.
    """
    if (
        names[:1] != (value_of(metric),)
        or len(set(names)) < len(names)
        or not COSTS.keys() >= set(names[1:])
    ):
        got = ",".join(names)[:80]
        raise ConfigError(
            f"--objective must be {value_of(metric)}, alone or with {' or '.join(COSTS)}, or both, "
            f"after commas (got '{got}')."
        )


def one_cost(name: str, cost: Mapping[str, Any]) -> float | None:
    """Return one of `COSTS` from the measured costs of a classifier.

    None if it was not measured, or the classifier has no such cost.
    """
    value: Any = cost
    for key in COSTS[name]:
        value = (value or {}).get(key)
    return value  # type: ignore[no-any-return]


def costs_of(names: Sequence[str], cost: Mapping[str, Any]) -> Costs:
    """Return these of `COSTS` from the measured costs of a classifier, in the order of `names`.

    The metric is not to be among them. A cost that the classifier does not have counts as 0.
    """
    return tuple(float(one_cost(name, cost) or 0) for name in names)


class Front:
    """A front while trials join it in the order of falling values; its trials have two costs.

    Of its trials only those matter that none in it undercuts in both costs: sorted by the first
    cost, their second costs fall.
    """

    def __init__(self) -> None:
        self._firsts: list[float] = []
        self._seconds: list[float] = []

    def undercuts(self, first: float, second: float) -> bool:
        """True if a trial in it costs no more than these in both respects."""
        place = bisect_right(self._firsts, first)
        return place > 0 and self._seconds[place - 1] <= second

    def add(self, first: float, second: float) -> None:
        """Add a trial with these costs, which the front does not undercut."""
        place = bisect_left(self._firsts, first)
        end = place
        while end < len(self._seconds) and self._seconds[end] >= second:
            end += 1
        self._firsts[place:end] = [first]
        self._seconds[place:end] = [second]


def fronts(values: Sequence[float], costs: Sequence[Costs]) -> NDArray[np.int64]:
    """Return for each trial the number of its front.

    It is 0 if no trial is better, 1 if none but those in front 0 is, and so on (Goldberg 1989). A
    trial is better than another if its value is no less and it costs no more in any respect; of
    trials that are equal in all, the earlier one is better.

    Trials are taken by falling value, so that only earlier ones can be better, and the front of
    each is found by bisection, as every trial of a front is worse than one of the front before
    (efficient non-dominated sort, ENS-BS: Zhang et al. 2015, "An Efficient Approach to
    Nondominated Sorting for Evolutionary Multiobjective Optimization").

    Args:
        values: of the trials; the higher, the better.
        costs: of each trial, one or two.
    """
    pairs = [(cost[0], cost[1] if len(cost) > 1 else 0.0) for cost in costs]
    fronts_so_far: list[Front] = []
    numbers = np.zeros(len(values), dtype=np.int64)
    for index in sorted(
        range(len(values)), key=lambda trial: (-values[trial], pairs[trial], trial)
    ):
        number = bisect_left(
            fronts_so_far, True, key=lambda front: not front.undercuts(*pairs[index])
        )
        if number == len(fronts_so_far):
            fronts_so_far.append(Front())
        fronts_so_far[number].add(*pairs[index])
        numbers[index] = number
    return numbers


def in_order(values: Mapping[str, float], costs: Mapping[str, Costs]) -> tuple[list[str], int]:
    """Return the trials by front, the most accurate first in each, and the size of front 0.

    Without costs the order is that of the values, and front 0 is the first trial with the highest.
    """
    names = list(values)
    if not costs or not any(costs.get(name) for name in names):
        return sorted(names, key=values.__getitem__, reverse=True), min(1, len(names))
    unknown = (np.inf,) * max(len(cost) for cost in costs.values())
    numbers = dict(
        zip(
            names,
            fronts(list(values.values()), [costs.get(name) or unknown for name in names]).tolist(),
            strict=True,
        )
    )
    return sorted(names, key=lambda name: (numbers[name], -values[name])), list(
        numbers.values()
    ).count(0)


def in_turn(values: Mapping[str, float], costs: Mapping[str, Costs]) -> tuple[list[str], int, int]:
    """Return the trials by value and by front in turn, the size of front 0, and where it ends.

    The order takes the next trial by value and the next by front (`in_order`) alternately: while
    little is known of trials that cost much, cheap ones that learn sooner stand before them in
    every front. The last number is the place, from 1, of the last trial of front 0.
    """
    ordered, count = in_order(values, costs)
    if not costs:
        return ordered, count, count
    pairs = zip(sorted(values, key=values.__getitem__, reverse=True), ordered, strict=True)
    alternating = list(dict.fromkeys(name for pair in pairs for name in pair))
    places = {name: place for place, name in enumerate(alternating, 1)}
    return alternating, count, max((places[name] for name in ordered[:count]), default=0)
