"""The objectives of a search: its metric and, with `--objective`, the inference cost.

They are not weighted against each other. A trial dominates another if it is not worse in any
objective (ties go to the earlier trial). The trials that no other dominates are the Pareto front.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import ConfigError

COSTS = {"latency": ("inference", "batch_1", "median_ms"), "parameters": ("parameters",)}
"""The objectives besides the metric, each with the keys that lead to its value in the result of
`trainables.evaluation.cost`.

Lower is better. `latency` is in milliseconds per image, `parameters` is a number of weights.
"""
Costs = tuple[float, ...]
"""The one or two costs of a trial, in the order of the objectives."""


def value_of(metric: str) -> str:
    """Return the name that a metric has as an objective, such as `val_macro_f1`."""
    return f"val_{metric}"


def parse_objectives(text: str, metric: str) -> tuple[str, ...]:
    """Parse the value of `--objective`, for a search with this metric.

    Raises:
        ConfigError: the objectives are not valid (see `check`).
    """
    names = tuple(part.strip() for part in text.split(","))
    check(names, metric)
    return names


def check(names: Sequence[str], metric: str) -> None:
    """Check that the objectives are the metric, followed by any of `COSTS`, without duplicates.

    Raises:
        ConfigError: a name is unknown or occurs twice, or the metric is not the first.
    """
    if (
        names[:1] != (value_of(metric),)
        or len(set(names)) < len(names)
        or not COSTS.keys() >= set(names[1:])
    ):
        got = ",".join(names)[:80]
        raise ConfigError(
            f"--objective must be {value_of(metric)}, optionally followed by one or more of "
            f"{', '.join(COSTS)}, separated by commas (got '{got}')."
        )


def one_cost(name: str, cost: Mapping[str, Any]) -> float | None:
    """Return the value of one of `COSTS` from the measured costs of a trial.

    None if it was not measured, or if the model has no such cost.
    """
    value: Any = cost
    for key in COSTS[name]:
        value = (value or {}).get(key)
    return value  # type: ignore[no-any-return]


def costs_of(names: Sequence[str], cost: Mapping[str, Any]) -> Costs:
    """Return the costs called `names` from the measured costs of a trial, in the same order.

    `names` must not include the metric. A missing cost counts as 0.
    """
    return tuple(float(one_cost(name, cost) or 0) for name in names)


class Front:
    """One of the fronts that `fronts` builds, by adding trials in descending order of their values.

    It stores the two costs of each trial, unless another trial of the front costs no more in both.
    The pairs are sorted by ascending first cost, so their second costs descend.
    """

    def __init__(self) -> None:
        self._firsts: list[float] = []
        self._seconds: list[float] = []

    def undercuts(self, first: float, second: float) -> bool:
        """True if the front has a trial whose two costs are at most these."""
        place = bisect_right(self._firsts, first)
        return place > 0 and self._seconds[place - 1] <= second

    def add(self, first: float, second: float) -> None:
        """Add a trial with these costs, for which `undercuts` must be false."""
        place = bisect_left(self._firsts, first)
        end = place
        while end < len(self._seconds) and self._seconds[end] >= second:
            end += 1
        self._firsts[place:end] = [first]
        self._seconds[place:end] = [second]


def fronts(values: Sequence[float], costs: Sequence[Costs]) -> NDArray[np.int64]:
    """Sort trials into non-dominated fronts; return the number of each trial's front.

    Front 0 has the trials that no trial dominates, front 1 those that only trials of front 0
    dominate, and so on (Goldberg 1989). A trial dominates another if its value is at least as high
    and none of its costs is higher; if both are equal in everything, the earlier one dominates.

    Trials are added in descending order of their values, so that only earlier ones can dominate.
    The front of each is found by bisection, since every trial of a front is dominated by one of the
    front before (ENS-BS: Zhang et al. 2015, "An Efficient Approach to Nondominated Sorting for
    Evolutionary Multiobjective Optimization").

    Args:
        values: the value of each trial; higher is better.
        costs: the one or two costs of each trial; lower is better.

    Returns:
        The numbers of the fronts, from 0, with shape (trials,).
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
    """Return the trials sorted by front, then by descending value, and the size of front 0.

    Without costs they are sorted by descending value, and front 0 is the first trial, if any. A
    trial without costs counts as infinitely costly.

    Args:
        values: the value of each trial; higher is better.
        costs: the costs of each trial; lower is better.
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
