"""The Pareto front of a search with several objectives.

A trial is on the front if no other trial is at least as good in all objectives.
"""

from search.journal.result import SearchResult, TrialResult
from search.values.objectives import Costs, costs_of, in_order


def front(result: SearchResult) -> list[TrialResult]:
    """Return the trials on the Pareto front, the one with the best value first.

    Empty if the metric is the only objective. Trials without values in the further objectives,
    or with a damaged checkpoint, are left out.
    """
    objectives, costs = result.further_objectives, result.costs
    candidates = {
        trial.trial: trial
        for trial in result.ranking
        if objectives and trial.trial in costs and trial.trial not in result.passed_over
    }
    costs_of_trial: dict[str, Costs] = {
        name: costs_of(objectives, costs[name]) for name in candidates
    }
    ordered, count = in_order(
        {name: trial.score for name, trial in candidates.items()}, costs_of_trial
    )
    return [candidates[name] for name in ordered[:count]]
