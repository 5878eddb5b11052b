"""The objectives of a search: its metric and, with `--objective`, inference cost or robustness.

They are not weighted against each other. A trial dominates another if it is not worse in any
objective (ties go to the earlier trial). The trials that no other dominates are the Pareto front.

To add an objective, list it in `OBJECTIVES`. If it is measured after each epoch, also list its
measurement in `trainables.robustness.measure.MEASUREMENTS`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import ConfigError
from trainables.robustness.stress_tests import CORRUPTION_ACCURACY


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An objective besides the metric, with the texts that describe it."""

    keys: tuple[str, ...]
    """The keys that lead to its value in `SearchResult.costs`.

    That is the result of `trainables.evaluation.cost`, and what was measured after the best epoch.
    """
    mode: str = "min"
    """`max` if higher values are better, else `min`."""
    is_measured: bool = False
    """True if it is measured after each epoch, and reported among the epoch's metrics."""
    capability: str = ""
    """The capability that a task needs for it, one of `CAPABILITIES`; empty if none."""
    summary: str
    """What it measures, for the help."""
    column: str
    """The title of its column in tables."""
    axis: str
    """The title of its axis in plots."""
    form: Callable[[float], str]
    """Formats a value, under the title of the column."""
    unit: str = ""
    """The unit of its values in plots; empty if `form` includes it."""
    saving: str
    """The advantage of a trial over the answer, with the placeholders `answer`, `share` (of the
    answer's value), `value` and `before` (the formatted values of the trial and the answer).
    """

    @property
    def adjective(self) -> str:
        """`high` or `low`: the values that are better."""
        return "high" if self.mode == "max" else "low"

    def cost(self, value: float) -> float:
        """Convert a value to a cost, for which lower is better."""
        return -value if self.mode == "max" else value


OBJECTIVES = {
    "latency": Objective(
        keys=("inference", "batch_1", "median_ms"),
        summary="milliseconds per image",
        column="ms/image alone",
        axis="milliseconds for one image",
        form="{:.3g}".format,
        unit="ms",
        saving="needs {share} of the time that {answer} needs",
    ),
    "parameters": Objective(
        keys=("parameters",),
        summary="number of weights",
        column="weights",
        axis="weights of the network",
        form=lambda count: f"{count / 1e6:.3g} M",
        unit="weights",
        saving="has {share} as many weights as {answer}",
    ),
    "corruption_accuracy": Objective(
        keys=(CORRUPTION_ACCURACY,),
        mode="max",
        is_measured=True,
        capability="robustness",
        summary="accuracy on corrupted validation images",
        column="corrupted accuracy",
        axis="accuracy on corrupted validation images",
        form="{:.1%}".format,
        saving="classifies {value} instead of {before} of corrupted images correctly",
    ),
}
"""The objectives besides the metric, by name."""
MAX_FURTHER = 2
"""The maximum number of objectives besides the metric: `fronts` compares at most two costs."""
OBJECTIVE_HELP = "; ".join(
    f"{name} ({objective.summary}, {objective.adjective}er is better)"
    for name, objective in OBJECTIVES.items()
)
Costs = tuple[float, ...]
"""The values of a trial in the one or two objectives besides the metric, in their order.

Lower is better: a value that is better when it is higher is negated (`Objective.cost`).
"""


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
    """Check that the objectives are the metric, then some of `OBJECTIVES`, without duplicates.

    Raises:
        ConfigError: a name is unknown or occurs twice, the metric is not the first, or there are
            more than `MAX_FURTHER` other objectives.
    """
    if (
        names[:1] != (value_of(metric),)
        or len(set(names)) < len(names)
        or len(names) > 1 + MAX_FURTHER
        or not OBJECTIVES.keys() >= set(names[1:])
    ):
        got = ",".join(names)[:80]
        raise ConfigError(
            f"--objective must be {value_of(metric)}, optionally followed by one or two of "
            f"{', '.join(OBJECTIVES)}, separated by commas (got '{got}')."
        )


def measured_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the metrics that trials must report after each epoch for objectives.

    `names` may include the metric, which every trial reports.
    """
    return tuple(
        OBJECTIVES[name].keys[0]
        for name in names
        if name in OBJECTIVES and OBJECTIVES[name].is_measured
    )


def need_costs(names: Sequence[str]) -> bool:
    """Check whether objectives depend on the inference cost (`trainables.evaluation.cost`)."""
    return any(name in OBJECTIVES and not OBJECTIVES[name].is_measured for name in names)


def objective_value(name: str, cost: Mapping[str, Any]) -> float | None:
    """Return the value of one of `OBJECTIVES` from the measurements of a trial.

    None if it was not measured, or if the model has no such value.
    """
    value: Any = cost
    for key in OBJECTIVES[name].keys:
        value = (value or {}).get(key)
    return value  # type: ignore[no-any-return]


def costs_of(names: Sequence[str], cost: Mapping[str, Any]) -> Costs:
    """Return the values of the objectives called `names` as costs, in the same order.

    `names` must not include the metric. A missing value counts as 0, the worst accuracy.

    Args:
        names: the names of the objectives.
        cost: the measurements of a trial, as in `objective_value`.
    """
    return tuple(OBJECTIVES[name].cost(float(objective_value(name, cost) or 0)) for name in names)


def goals_text(names: Sequence[str]) -> str:
    """Name objectives with the values that are better: `low latency and parameters`.

    `names` must not include the metric; the result is empty if there are none.
    """
    listed = [name for name in names if name in OBJECTIVES]
    words = []
    for before, name in zip(["", *listed], listed, strict=False):
        adjective = OBJECTIVES[name].adjective
        is_repeated = bool(before) and OBJECTIVES[before].adjective == adjective
        words.append(name if is_repeated else f"{adjective} {name}")
    return " and ".join(words).replace("_", " ")


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
