"""The Pareto front of a search with several objectives.

It holds the trials for which no other is at least as accurate and costs no more to use.
"""

from search.journal.result import SearchResult, TrialResult
from search.values.objectives import Costs, costs_of, in_order


def front(result: SearchResult) -> list[TrialResult]:
    """Return the trials on the Pareto front, the most accurate first.

    Empty if the metric is the only objective. Only trials count whose costs are known and whose
    checkpoint is not known to be damaged.
    """
    wanted, costs = result.costs_wanted, result.costs
    found = {
        trial.trial: trial
        for trial in result.ranking
        if wanted and trial.trial in costs and trial.trial not in result.passed_over
    }
    known: dict[str, Costs] = {name: costs_of(wanted, costs[name]) for name in found}
    ordered, count = in_order({name: trial.score for name, trial in found.items()}, known)
    return [found[name] for name in ordered[:count]]
