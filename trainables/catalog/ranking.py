"""The one rule by which an epoch, and so a trial, is better than another."""

from collections.abc import Mapping


def rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Return (validation accuracy, -validation loss); the greater tuple is the better epoch."""
    return metrics["val/accuracy"], -metrics["val/loss"]
