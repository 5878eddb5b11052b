"""Command lines that continue an experiment."""

from search.design.experiment import Experiment
from search.values.message import Remedy


def more_trials(experiment: Experiment, outcome: str) -> Remedy | None:
    """Return the command that doubles the number of trials of a completed search.

    None if the search is not completed, or if its space has no further points.
    """
    planned, most = experiment.planned_trials, experiment.most_trials
    count = 2 * planned if most is None else min(2 * planned, most)
    if outcome != "completed" or count <= planned:
        return None
    return Remedy("resume", experiment.name, experiment.storage, options={"trials": count})
