"""The one rule for which epoch, and so which trial, is better."""

from collections.abc import Mapping


def rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Validation accuracy, then a lower validation loss; the greater tuple is the better epoch."""
    return metrics["val/accuracy"], -metrics["val/loss"]
