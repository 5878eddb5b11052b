"""The commands of other verbs for an experiment."""

from search.design.experiment import Experiment
from search.values.message import Remedy


def more_trials(experiment: Experiment, outcome: str) -> Remedy | None:
    """The command that doubles the trials of a completed search.

    None if the search ended in another way, or if its space has no more points.
    """
    planned, most = experiment.planned_trials, experiment.most_trials
    count = 2 * planned if most is None else min(2 * planned, most)
    if outcome != "completed" or count <= planned:
        return None
    return Remedy("resume", experiment.name, experiment.storage, options={"trials": count})
