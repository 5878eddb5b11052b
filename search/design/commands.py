"""The command lines of other verbs for an experiment."""

from search.design.experiment import Experiment
from search.values.wording import verb_for


def verb(name: str, experiment: Experiment) -> str:
    """Return the command line of another command for this search."""
    return verb_for(name, experiment.name, experiment.storage)


def more_trials(experiment: Experiment, outcome: str) -> str:
    """Return the command that doubles the trials of a completed search.

    Empty if the search ended in another way, or if its space has no more points.
    """
    planned, most = experiment.planned_trials, experiment.most_trials
    count = 2 * planned if most is None else min(2 * planned, most)
    if outcome != "completed" or count <= planned:
        return ""
    return f"{verb('resume', experiment)} --trials {count}"
