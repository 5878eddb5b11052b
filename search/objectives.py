"""What a search looks for: validation accuracy, and beside it, where that is wanted, networks that
cost little to use (`--objective`).

Nothing is weighed against anything: of two trials one is better if it is in no respect worse, and
those than which none is better are the Pareto front.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import ConfigError

ACCURACY = "val_accuracy"
COSTS = {"latency": ("inference", "batch_1", "median_ms"), "parameters": ("parameters",)}
"""What a classifier costs, lower is better, and where that stands in what
`trainables.evaluation.cost` measures.
"""
Costs = tuple[float, ...]


def parsed(text: str) -> tuple[str, ...]:
    """The objectives that `--objective` names.

    Raises:
        ConfigError: they are not these.
    """
    names = tuple(part.strip() for part in text.split(","))
    check(names)
    return names


def check(names: Sequence[str]) -> None:
    """See that accuracy comes first, then costs, each once.

    Raises:
        ConfigError: they do not.
    """
    if (
        names[:1] != (ACCURACY,)
        or len(set(names)) < len(names)
        or not COSTS.keys() >= set(names[1:])
    ):
        got = ",".join(names)[:80]
        raise ConfigError(
            f"--objective must be {ACCURACY}, alone or with {' or '.join(COSTS)}, or both, after commas (got '{got}')."
        )


def one_cost(name: str, cost: Mapping[str, Any]) -> float | None:
    """One of `COSTS`, of what a classifier costs; None where that is not known, or it has nothing
    of it.
    """
    value: Any = cost
    for key in COSTS[name]:
        value = (value or {}).get(key)
    return value  # type: ignore[no-any-return]


def costs_of(names: Sequence[str], cost: Mapping[str, Any]) -> Costs:
    """Those of what a classifier costs, of `COSTS`; what it does not have costs nothing."""
    return tuple(float(one_cost(name, cost) or 0) for name in names)


def fronts(values: Sequence[float], costs: Sequence[Costs]) -> NDArray[np.int64]:
    """Of each trial, in which front it stands: 0 if none is better, 1 if none but those in front 0
    is, and so on (Goldberg 1989). One is better that has no less value and costs no more in any
    respect; of those alike in all, the earlier one.
    """
    better = np.greater_equal.outer(np.array(values), np.array(values))
    for column in np.array(costs).T:
        better &= np.less_equal.outer(column, column)
    better &= ~(better.T & np.tri(len(values), dtype=bool))
    found, ahead, front = np.full(len(values), -1), better.sum(axis=0), 0
    while (left := found < 0).any():
        found[foremost := left & (ahead == 0)] = front
        ahead, front = ahead - better[foremost].sum(axis=0), front + 1
    return found


def in_order(values: Mapping[str, float], costs: Mapping[str, Costs]) -> tuple[list[str], int]:
    """Trials by front, and in each the most accurate first; and how many of them none is better
    than.

    Without costs that is by value, and of those with the highest the first one.
    """
    names = list(values)
    if not any(costs.get(name) for name in names):
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
    """As `in_order`, but in turn the next by value and the next by front: while little is known of
    those that cost much, cheap ones that learn sooner stand before them in every front. And the
    place of the last of those than which none is better.
    """
    ordered, count = in_order(values, costs)
    if not costs:
        return ordered, count, count
    pairs = zip(sorted(values, key=values.__getitem__, reverse=True), ordered, strict=True)
    found = list(dict.fromkeys(name for pair in pairs for name in pair))
    return found, count, max((found.index(name) + 1 for name in ordered[:count]), default=0)
