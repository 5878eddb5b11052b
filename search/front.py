"""The Pareto front of a search with several objectives: the trials than which none is better, as accurate and as cheap to use."""

from search.objectives import COSTS, Costs, costs_of, in_order
from search.result import SearchResult, TrialResult


def costs(trial: TrialResult, names: tuple[str, ...] = tuple(COSTS)) -> dict[str, float]:
    """What a trial's classifier costs to use, by name; empty where that is not known."""
    return dict(zip(names, costs_of(names, trial.cost), strict=True)) if trial.cost else {}


def costs_wanted(result: SearchResult) -> tuple[str, ...]:
    """What is to be low beside a high accuracy."""
    return tuple(result.started["experiment"].get("objectives", ())[1:])


def front(result: SearchResult) -> list[TrialResult]:
    """The trials than which none is better, the most accurate first; empty where accuracy is all that was looked for."""
    wanted = costs_wanted(result)
    known: dict[str, Costs] = {trial.trial: tuple(costs(trial, wanted).values()) for trial in result.ranking if wanted and trial.cost}
    ordered, count = in_order({name: result.trials[name].accuracy for name in known}, known)
    return [result.trials[name] for name in ordered[:count]]
