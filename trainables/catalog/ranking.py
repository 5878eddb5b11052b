"""The rule by which an epoch, and so a trial, is better than another."""

from collections.abc import Mapping

from trainables.catalog.tasks import Metric


def rank(metrics: Mapping[str, float], metric: Metric) -> tuple[float, float]:
    """Return (score, -`Metric.loss`); the greater tuple is the better epoch."""
    return metric.score_of(metrics), -metrics[metric.loss]
