"""Tasks, and the metrics by which their trials are ranked, known before torch is imported.

To add a task: write a `Task` in a file of `trainables/tasks`, and name it in `TASKS`. To add a
metric: name it in its task's entry, and have the task's meter report it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from trainables.catalog.entries import imported
from trainables.errors import ConfigError

WIDTH = NormalDist().inv_cdf(0.975)
"""The standard errors to each side of a value that a 95 % interval takes, of a normal one."""
INTERVAL_LEVEL = 0.96
"""The level at which the interval of a value is computed, which is stated as 95 %.

What is approximate about some of them then still holds (`tests/bench/rates/intervals.py`).
"""
LEAST_FREEDOM = 10
"""The degrees of freedom below which no interval is stated: it would miss too often.

Measured by `tests/bench/rates/intervals.py`.
"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of the validation part by which trials are ranked, stopped and chosen."""

    name: str
    """The name by which it is asked for (`--metric NAME`)."""
    title: str
    """Its name for people."""
    key: str
    """Its name in an epoch's report."""
    mode: str = "max"
    """`max` where higher is better, `min` where lower is."""
    is_share: bool = False
    """True where it is the share of independent images that are named right.

    Binomial intervals apply to it.
    """
    limits: tuple[float, float]
    """The smallest and the largest value that it can have; infinite where there is no limit."""
    is_skewed: bool = False
    """True where a few images may make up most of the mean.

    No interval is stated for it, since an image that makes up most may be among those not measured.
    """
    in_percent: bool = False
    """True where sentences show its values in percent."""
    is_primary: bool = False
    """True for the first of a task's metrics, which is told whatever its trials are ranked by."""
    unit: str = ""
    """Its unit, for people, such as `dB`."""
    loss: str = "val/loss"
    """The reported value, lower is better, that tells equally good epochs apart.

    The `plateau` schedule of the learning rate follows it too.
    """

    @property
    def error_key(self) -> str:
        """The reported standard error, of metrics that are no share of the images."""
        return f"{self.key}_error"

    @property
    def freedom_key(self) -> str:
        """The reported degrees of freedom of the standard error.

        Where they are not reported, the error is that of a mean over the images.
        """
        return f"{self.key}_freedom"

    @property
    def deviation_key(self) -> str:
        """The reported sample standard deviation between folds."""
        return f"{self.key}_std"

    @property
    def best(self) -> float:
        """The value that none is better than."""
        return self.limits[1] if self.mode == "max" else self.limits[0]

    @property
    def top_score(self) -> float:
        """The score that none is higher than."""
        return self.score(self.best)

    @property
    def score_limits(self) -> tuple[float, float]:
        """The lowest and the highest score."""
        low, high = sorted(map(self.score, self.limits))
        return low, high

    @property
    def is_fraction(self) -> bool:
        """True where values lie between 0 and 1, and 1 is best: a hundredth of it is a point."""
        return self.mode == "max" and self.limits == (0.0, 1.0)

    def score(self, value: float) -> float:
        """Turn a value into a score, of which higher is better; or a score into its value."""
        return value if self.mode == "max" else -value

    def interval(self, value: float, error: float, freedom: float) -> tuple[float, float] | None:
        """Return the ends of the 95 % interval for a value, by Student's t.

        None where it is not known: there are too few images, of a class or in all, or `is_skewed`.

        Args:
            error: the value's standard error.
            freedom: the degrees of freedom of that; of a mean over images their number less 1.
        """
        if self.is_skewed or not freedom >= LEAST_FREEDOM:
            return None
        # Imported here since it takes time, and most of those who ask for metrics need no interval.
        from scipy.special import stdtrit

        width = error * float(stdtrit(freedom, (1 + INTERVAL_LEVEL) / 2))
        # A value moves in steps of about an image: half of one may be luck (continuity).
        width += 0.5 / freedom if self.is_fraction else 0.0
        return max(self.limits[0], value - width), min(self.limits[1], value + width)

    def evaluated(self, value: float, error: float, freedom: float) -> dict[str, Any]:
        """Return a value as an evaluation has it (`Task.evaluate`); see `interval`."""
        low, high = self.interval(value, error, freedom) or (None, None)
        return {"name": self.name, "value": value, "error": error, "low": low, "high": high}

    def gap(self, difference: float) -> str:
        """Say how far two values are apart: in points, hundredths of what is at most 1."""
        if self.unit:
            return f"{difference:.2f} {self.unit}"
        return f"{100 * difference:.2f} points" if self.is_fraction else f"{difference:.4f}"

    def score_of(self, metrics: Mapping[str, float]) -> float:
        """Return the score of an epoch's metrics."""
        return self.score(metrics[self.key])


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """The facts about a task that are known before torch is imported."""

    name: str
    """Its name in a config."""
    title: str
    """Its name for people."""
    implementation: str
    """The `trainables.tasks.base.Task`, as `module:Class`."""
    predictor: str
    """The module that uses a promoted model, of which a copy goes with it.

    It imports nothing of this project, and has a class `Predictor`, as `trainables.export.model`
    describes it.
    """
    metrics: tuple[Metric, ...]
    """The metrics to rank its trials by; the first, its primary one, unless asked otherwise."""
    targets: str = "trainables.datasets.targets:Targets"
    """The class that knows its targets without torch, as `module:Class`."""
    can: frozenset[str] = frozenset()
    """The abilities beyond a network on one process that it has: some of `CAPABILITIES`."""

    def __post_init__(self) -> None:
        if [metric.is_primary for metric in self.metrics] != [True] + [False] * (
            len(self.metrics) - 1
        ):
            raise ValueError(f"the first metric of {self.name}, and no other, is to be primary")

    @property
    def primary(self) -> Metric:
        """The metric that it is ranked by unless asked otherwise, and that every page tells."""
        return self.metrics[0]

    @property
    def names(self) -> list[str]:
        """The names of its metrics."""
        return [metric.name for metric in self.metrics]

    @cached_property
    def metric_of_name(self) -> dict[str, Metric]:
        """Its metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    def metric(self, name: str) -> Metric:
        """Return one of its metrics.

        Raises:
            KeyError: it has none of this name.
        """
        return self.metric_of_name[name]

    def require(self, capability: str, asked: str) -> None:
        """Check that it supports one of `CAPABILITIES`; `asked` is what the user asked for.

        Raises:
            ConfigError: it does not.
        """
        if capability not in self.can:
            raise ConfigError(
                f"{asked}: not for {self.name}, where {CAPABILITIES[capability]}. Leave it out."
            )

    def load(self) -> Any:
        """Return the implementation, a `trainables.tasks.base.Task`; torch is imported."""
        return imported(self.implementation)(self)

    def load_targets(self) -> Any:
        """Return what is known of its targets without torch, a `trainables.datasets.targets`."""
        return imported(self.targets)()


CAPABILITIES = {
    "augment": "no augmentation is known that moves its targets too",
    "balance": "its targets have no classes to weigh",
    "folds": "the predictions of several networks cannot be combined",
    "fuse": "its networks are not trained as one",
    "workers": "its metrics are not gathered from several processes",
    "half": "its targets do not survive half precision",
    "onnx": "its networks have no ONNX form",
}
"""The capabilities that a task may have, and what is said where it lacks one."""

UNIT = (0.0, 1.0)
"""The limits of a value that is a fraction of something."""

CLASSIFICATION = TaskEntry(
    name="classification",
    title="classification",
    implementation="trainables.tasks.classification:Classification",
    predictor="trainables.export.predictor",
    targets="trainables.datasets.targets:ClassNumbers",
    metrics=(
        Metric(
            name="accuracy",
            title="accuracy",
            key="val/accuracy",
            limits=UNIT,
            is_share=True,
            in_percent=True,
            is_primary=True,
        ),
        Metric(
            name="balanced_accuracy",
            title="balanced accuracy",
            key="val/balanced_accuracy",
            limits=UNIT,
            in_percent=True,
        ),
        Metric(name="macro_f1", title="macro F1", key="val/macro_f1", limits=UNIT),
        Metric(
            name="log_loss",
            title="log loss",
            key="val/log_loss",
            mode="min",
            is_skewed=True,
            limits=(0.0, float("inf")),
        ),
        Metric(name="auc", title="AUC", key="val/auc", limits=UNIT),
    ),
    can=frozenset(CAPABILITIES),
)

TASKS: dict[str, TaskEntry] = {entry.name: entry for entry in (CLASSIFICATION,)}

DEFAULT_TASK = CLASSIFICATION.name
