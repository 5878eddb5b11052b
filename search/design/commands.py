"""Commands for a search whose experiment is at hand."""

from search.design.experiment import Experiment
from search.values.message import Remedy


def more_trials(experiment: Experiment, outcome: str) -> Remedy | None:
    """Build the command with which a search that has had all its trials gets as many again.

    None if it ended in another way, or if its space has no more.
    """
    planned, most = experiment.planned_trials, experiment.most_trials
    count = 2 * planned if most is None else min(2 * planned, most)
    if outcome != "completed" or count <= planned:
        return None
    return Remedy("resume", experiment.name, experiment.storage, options={"trials": count})
