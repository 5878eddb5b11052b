"""The ranking of epochs, and thereby of trials."""

from collections.abc import Mapping

from trainables.catalog.tasks import Metric


def rank(metrics: Mapping[str, float], metric: Metric) -> tuple[float, float]:
    """Return the sort key of an epoch: its score, and minus the loss (`Metric.loss`) to break ties.

    The better of two epochs has the greater key.
    """
    return metric.score_of(metrics), -metrics[metric.loss]
