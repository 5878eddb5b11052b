"""Metrics by which classifiers are ranked, known before torch is imported.

To add one: name it in `METRICS` here, and the function that computes it in
`trainables.tasks.metrics.SCORES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

WIDTH = NormalDist().inv_cdf(0.975)
"""The standard errors to each side of a value that its 95 % interval takes."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of the validation part by which trials are ranked, stopped and chosen."""

    name: str
    """How it is asked for (`--metric NAME`)."""
    title: str
    """How people read it."""
    key: str
    """What an epoch reports it as."""
    mode: str = "max"
    """`max` where higher is better, `min` where lower is."""
    is_share: bool = False
    """True where it is a share of independent images, so that binomial intervals apply."""

    @property
    def error_key(self) -> str:
        """The reported standard error, of metrics that are no share of the images."""
        return f"{self.key}_error"

    @property
    def deviation_key(self) -> str:
        """The reported sample standard deviation between folds."""
        return f"{self.key}_std"

    @property
    def best(self) -> float:
        """The value that none is better than."""
        return 1.0 if self.mode == "max" else 0.0

    @property
    def top_score(self) -> float:
        """The score that none is higher than."""
        return self.score(self.best)

    def score(self, value: float) -> float:
        """Turn a value into a score, of which higher is better; or a score into its value."""
        return value if self.mode == "max" else -value

    def interval(self, value: float, error: float) -> tuple[float, float]:
        """Return the ends of the 95 % interval for a value with this standard error."""
        low, high = value - WIDTH * error, value + WIDTH * error
        return max(0.0, low), high if self.mode == "min" else min(1.0, high)

    def gap(self, difference: float) -> str:
        """Say how far two values are apart: in points, hundredths of what is at most 1."""
        return f"{100 * difference:.2f} points" if self.mode == "max" else f"{difference:.4f}"

    def score_of(self, metrics: Mapping[str, float]) -> float:
        """Return the score of an epoch's metrics."""
        return self.score(metrics[self.key])


DEFAULT_METRIC = "accuracy"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="accuracy", title="accuracy", key="val/accuracy", is_share=True),
        Metric(name="balanced_accuracy", title="balanced accuracy", key="val/balanced_accuracy"),
        Metric(name="macro_f1", title="macro F1", key="val/macro_f1"),
        Metric(name="log_loss", title="log loss", key="val/log_loss", mode="min"),
        Metric(name="auc", title="AUC", key="val/auc"),
    )
}
