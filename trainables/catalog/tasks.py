"""The registry of tasks, with the metrics that rank their trials. It does not import torch.

To add a task, write a `Task` in a module of `trainables/tasks`, and list it in `TASKS`. To add a
metric, list it in the entry of its task, and make the task's meter report it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

from trainables.catalog.entries import import_object
from trainables.errors import ConfigError
from trainables.fields import Options

WIDTH = NormalDist().inv_cdf(0.975)
"""The half-width of a 95 % confidence interval of a normal distribution, in standard errors."""
INTERVAL_LEVEL = 0.96
"""The nominal level at which the confidence intervals that are reported as 95 % are computed.

Some intervals are approximations; with this margin they still cover 95 % (measured by
`tests/bench/rates/intervals.py`).
"""
LEAST_FREEDOM = 10
"""The minimum degrees of freedom for a confidence interval.

With fewer, intervals miss the true value too often (measured by `tests/bench/rates/intervals.py`).
"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric on the validation set that can rank trials, stop them early, and choose the best."""

    name: str
    """The metric's name on the command line (`--metric NAME`)."""
    title: str
    """The metric's name as shown to users."""
    key: str
    """The metric's name among the values of an epoch, such as `val/accuracy`."""
    mode: str = "max"
    """`max` if higher values are better, else `min`."""
    is_share: bool = False
    """True if the metric is the share of images that are classified correctly.

    Binomial confidence intervals apply to such a metric.
    """
    limits: tuple[float, float]
    """The smallest and the largest possible value; infinite if there is no limit."""
    is_skewed: bool = False
    """True if a few images may contribute most of the mean.

    Then there is no confidence interval, because such an image may be missing from the sample.
    """
    is_lowest: bool = False
    """True for the lowest of several shares, of which a mean over folds says nothing."""
    in_percent: bool = False
    """True if the metric's values are shown to users in percent."""
    is_primary: bool = False
    """True for the first of a task's metrics, which is always reported."""
    unit: str = ""
    """The unit of the metric's values, such as `dB`; empty if it has none."""
    is_gain: bool = False
    """True for the difference to a method that learns nothing, which is no matter of chance."""
    loss: str = "val/loss"
    """The name of the loss that breaks ties between equally good epochs; lower is better.

    The `plateau` schedule of the learning rate monitors this loss too.
    """

    @property
    def error_key(self) -> str:
        """The key of the metric's standard error in the values of an epoch.

        The error is reported unless the metric is a share of the images (`is_share`).
        """
        return f"{self.key}_error"

    @property
    def freedom_key(self) -> str:
        """The key of the standard error's degrees of freedom in the values of an epoch.

        If an epoch does not report them, the error is that of a mean over the images.
        """
        return f"{self.key}_freedom"

    @property
    def deviation_key(self) -> str:
        """The key of the metric's sample standard deviation over folds in an epoch's values."""
        return f"{self.key}_std"

    @property
    def best(self) -> float:
        """The best possible value."""
        return self.limits[1] if self.mode == "max" else self.limits[0]

    @property
    def top_score(self) -> float:
        """The highest possible score."""
        return self.score(self.best)

    @property
    def score_limits(self) -> tuple[float, float]:
        """The lowest and the highest score."""
        low, high = sorted(map(self.score, self.limits))
        return low, high

    @property
    def is_fraction(self) -> bool:
        """True if values are between 0 and 1, and 1 is best; 0.01 is then called a point."""
        return self.mode == "max" and self.limits == (0.0, 1.0)

    def score(self, value: float) -> float:
        """Convert a value to a score, for which higher is better, or a score back to a value."""
        return value if self.mode == "max" else -value

    def interval(self, value: float, error: float, freedom: float) -> tuple[float, float] | None:
        """Return the ends of the 95 % confidence interval of a value, by Student's t distribution.

        The result is None if there are too few degrees of freedom (`LEAST_FREEDOM`), or if the
        metric `is_skewed`.

        Args:
            value: the metric's value.
            error: its standard error.
            freedom: the degrees of freedom of the error; n - 1 for a mean over n images.
        """
        if self.is_skewed or not freedom >= LEAST_FREEDOM:
            return None
        # Imported here because importing scipy is slow, and most callers need no interval.
        from scipy.special import stdtrit

        width = error * float(stdtrit(freedom, (1 + INTERVAL_LEVEL) / 2))
        # Continuity correction: values change in steps of about 1 / n; half a step may be chance.
        width += 0.5 / freedom if self.is_fraction else 0.0
        return max(self.limits[0], value - width), min(self.limits[1], value + width)

    def evaluated(self, value: float, error: float, freedom: float) -> dict[str, Any]:
        """Return a value and its confidence interval in the form that `Task.evaluate` uses.

        The arguments are those of `interval`. The ends of the interval are `low` and `high`, which
        are None if there is no interval.
        """
        low, high = self.interval(value, error, freedom) or (None, None)
        return {"name": self.name, "value": value, "error": error, "low": low, "high": high}

    def gap(self, difference: float) -> str:
        """Format the difference of two values, with the metric's unit.

        The differences of fractions are given in points.
        """
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
    """The task's name in a config."""
    title: str
    """The task's name as shown to users."""
    implementation: str
    """The subclass of `trainables.tasks.base.Task` for this task, as `module:Class`."""
    predictor: str
    """The module that predicts with an exported model; a copy of it is exported with the model.

    It imports nothing of this project, and has a class `Predictor` with the interface
    `trainables.export.model.TaskPredictor`.
    """
    metrics: tuple[Metric, ...]
    """The metrics that can rank the task's trials; the first is the primary one, the default."""
    targets: str = "trainables.datasets.targets:Targets"
    """The class that checks and describes the task's targets without torch, as `module:Class`."""
    options: str = "trainables.fields:Options"
    """The dataclass of the task's own options, a subclass of `Options`, as `module:Class`.

    Their paths in a config are `task.NAME`. Its module does not import torch.
    """
    model: str = "trainables.export.model:Model"
    """The class that applies an exported model without importing torch, as `module:Class`.

    It is `trainables.export.model.Model` or a subclass of it.
    """
    goal: str = "are best for {task} of {data}"
    """What a search asks of the values of its parameters, after "which values ...".

    The placeholders are `task` (its `title`), `data` (the name of the data set) and `classes` (the
    number of classes).
    """
    output: str = "predictions"
    """The noun for what a model of this task returns."""
    committee: str = "predictions are combined from those of"
    """Begins the sentence about a model of several networks, before "5 models, one trained ..."."""
    columns: str = ""
    """The columns of the predictor's table, in Markdown; if empty, their names are listed."""
    accepts: str = (
        "Pass images as one uint8 NumPy array of shape (count, height, width, channels), where an "
        "image has the same shape as in the training: {shape}. The model scales them."
    )
    """The form in which an exported model takes images, in Markdown.

    The placeholder is `shape`, the shape of a training image (height x width x channels).
    """
    baselines: str = ""
    """A sentence that names a space with baselines of this task; empty if there is none."""
    terms: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Explanations of words that only this task's reports use, by the word."""
    can: frozenset[str] = frozenset()
    """The task's capabilities beyond training a network in one process: keys of `CAPABILITIES`."""

    def __post_init__(self) -> None:
        if [metric.is_primary for metric in self.metrics] != [True] + [False] * (
            len(self.metrics) - 1
        ):
            primary = ", ".join(metric.name for metric in self.metrics if metric.is_primary)
            raise ValueError(
                f"the first metric of the task '{self.name}' must be its only primary metric (got "
                f"{primary or 'none'} as primary)"
            )

    @property
    def primary(self) -> Metric:
        """The metric that ranks the task's trials by default, and that every page shows."""
        return self.metrics[0]

    @property
    def is_implied(self) -> bool:
        """True for the task that configs, cache keys and model folders do not name.

        Those written before there were several tasks name none, and must stay equal to new ones.
        """
        return self.name == DEFAULT_TASK

    @property
    def names(self) -> list[str]:
        """The names of the task's metrics."""
        return [metric.name for metric in self.metrics]

    @cached_property
    def metric_of_name(self) -> dict[str, Metric]:
        """The task's metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    def metric(self, name: str) -> Metric:
        """Return the metric of this name.

        Raises:
            KeyError: the task has no such metric.
        """
        return self.metric_of_name[name]

    def require(self, capability: str, setting: str) -> None:
        """Check that the task has a capability, one of `CAPABILITIES`, that `setting` needs.

        Raises:
            ConfigError: the task lacks the capability; the message names the setting.
        """
        if capability in self.can:
            return
        option = INSTEAD.get(capability)
        has_option = option is not None and hasattr(self.options_class, option)
        instead = f", or use task.{option}" if has_option else ""
        raise ConfigError(
            f"{setting} cannot be used for {self.name}: {CAPABILITIES[capability]}. Remove this "
            f"setting{instead}."
        )

    def load(self, options: Options | None = None) -> Any:
        """Return an instance of `implementation`, a `trainables.tasks.base.Task`; imports torch.

        Args:
            options: an instance of `options_class`; None for the default of each option.
        """
        return import_object(self.implementation)(self, options or self.options_class())

    @property
    def options_class(self) -> type[Options]:
        """The class that `options` names."""
        cls: type[Options] = import_object(self.options)
        return cls

    def load_targets(self) -> Any:
        """Return an instance of `targets`, which checks and describes targets without torch."""
        return import_object(self.targets)()


CAPABILITIES = {
    "augment": "no augmentation also transforms its targets",
    "balance": "its targets have no classes that could be weighted",
    "sampling": "its images have no classes of which equal numbers could be drawn",
    "folds": "the predictions of several networks cannot be combined",
    "fuse": "its networks cannot be trained as one",
    "workers": "its metrics cannot be collected from several processes",
    "half": "its targets cannot be represented in half precision",
    "onnx": "its networks cannot be exported to ONNX",
    "enlarge": "its images are not enlarged",
    "policy": "its targets would have to change with its images",
    "average": "its predictions for an image are not simply right or wrong",
    "soft_labels": "its images have no single class, of which a share could be another one",
    "robustness": "its predictions have no class that a changed image could turn wrong",
    "feedback": "its predictions cannot be recorded, compared and corrected",
    "promises": "its answers are not classes, of which some could be wrong",
    "groups": "its predictions are not right or wrong, so groups have no accuracy",
    "explain": "its predictions cannot be explained by a map of the image",
}
"""The capabilities that a task may have, and the reason that is printed if one is missing."""
INSTEAD = {"augment": "turns"}
"""The options of a task that may do instead what a capability would."""

UNIT = (0.0, 1.0)
"""The limits of a metric that is a fraction."""

CLASSIFICATION = TaskEntry(
    name="classification",
    title="classification",
    implementation="trainables.tasks.classification:Classification",
    predictor="trainables.predictors.classification",
    targets="trainables.datasets.class_numbers:ClassNumbers",
    model="trainables.export.classifier:Classifier",
    goal="classify {data} ({classes} classes) best",
    output="probabilities",
    committee="probabilities are the mean of those of",
    columns="`class`, `probability`, and `probability of NAME` for each class",
    accepts=(
        "Pass images as one uint8 NumPy array of shape (count, height, width, channels), of "
        "any height and width, grey (1 channel) or RGB (3 channels); as a grey array of shape "
        "(count, height, width); or as a list of images, whose sizes may differ. Pass a single "
        "image as `image[None]`. The model converts images to grey or colour, and resizes and "
        "scales them; transparent pixels become white."
    ),
    baselines=(
        "The space baselines fits a support vector machine, nearest neighbours and a decision tree "
        "to hand-made features."
    ),
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
        Metric(
            name="worst_group_accuracy",
            title="worst-group accuracy",
            key="val/worst_group_accuracy",
            limits=UNIT,
            is_lowest=True,
            in_percent=True,
        ),
    ),
    terms={
        "worst-group accuracy": (
            "The lowest share of images that are classified correctly, among the classes within "
            "the groups of --groups; without groups, among the classes."
        ),
    },
    can=frozenset(
        {
            *("augment", "average", "balance", "explain", "feedback", "folds", "fuse", "groups"),
            *("half", "onnx", "policy", "promises", "robustness", "sampling", "soft_labels"),
            "workers",
        }
    ),
)

SEGMENTATION = TaskEntry(
    name="segmentation",
    title="segmentation",
    implementation="trainables.tasks.segmentation:Segmentation",
    predictor="trainables.predictors.segmentation",
    targets="trainables.datasets.masks.targets:MaskTargets",
    options="trainables.catalog.segmentation_options:SegmentationOptions",
    model="trainables.export.segmenter:Segmenter",
    goal="give each pixel of {data} its class ({classes} classes) best",
    output="masks",
    committee="the probabilities of each pixel's classes are the mean of those of",
    columns="the share of each class, and `mask`, a PNG whose pixels are class numbers",
    accepts=(
        "Pass images as a list of uint8 NumPy arrays (height, width, channels) of any height and "
        "width, with as many channels as the training images had. They are predicted at their own "
        "size, tile by tile, so that memory does not grow with their size."
    ),
    baselines=(
        "The space segmentation_zoo also has a threshold for each image, and a random forest on "
        "hand-made features of pixels."
    ),
    metrics=(
        Metric(name="iou", title="mean IoU", key="val/iou", limits=UNIT, is_primary=True),
        Metric(name="dice", title="mean Dice", key="val/dice", limits=UNIT),
        Metric(
            name="pixel_accuracy",
            title="pixel accuracy",
            key="val/pixel_accuracy",
            limits=UNIT,
            in_percent=True,
        ),
        Metric(name="boundary_f1", title="boundary F1", key="val/boundary_f1", limits=UNIT),
    ),
    can=frozenset({"augment", "balance", "folds", "workers", "half", "onnx"}),
)

SUPER_RESOLUTION = TaskEntry(
    name="super_resolution",
    title="super-resolution",
    implementation="trainables.tasks.super_resolution.task:SuperResolution",
    predictor="trainables.predictors.super_resolution",
    targets="trainables.datasets.photographs.targets:PhotographTargets",
    options="trainables.catalog.super_resolution_options:SuperResolutionOptions",
    model="trainables.export.enlarger:Enlarger",
    goal="enlarge the images of {data} best",
    output="enlargements",
    committee="pixels are the mean of those of",
    columns="`width` and `height` of the enlarged image, and `image`, a PNG",
    accepts=(
        "Pass images as a list of uint8 NumPy arrays (height, width, channels) of any height and "
        "width, with as many channels as the training images had. They are enlarged tile by tile, "
        "so that memory does not grow with their size."
    ),
    baselines=(
        "The space super_resolution_zoo also has four interpolations: nearest, bilinear, bicubic "
        "and Lanczos."
    ),
    metrics=(
        Metric(
            name="gain",
            title="PSNR above bicubic",
            key="val/gain",
            limits=(-math.inf, math.inf),
            is_gain=True,
            unit="dB",
            is_primary=True,
        ),
        Metric(name="psnr", title="PSNR", key="val/psnr", limits=(0.0, math.inf), unit="dB"),
        Metric(name="ssim", title="SSIM", key="val/ssim", limits=(-1.0, 1.0)),
    ),
    terms={
        "bicubic": (
            "The usual way to enlarge an image without learning: smooth curves through pixels."
        ),
        "PSNR": (
            "How close an enlarged image is to the true one, in dB: 10 times the logarithm of the "
            "largest possible squared error of a pixel over the mean one. 1 dB more means that the "
            "mean squared error is a fifth smaller."
        ),
        "PSNR above bicubic": (
            "The PSNR minus that of the bicubic enlargement of the same image; 0 is as good as "
            "bicubic."
        ),
        "SSIM": (
            "The similarity of brightness, contrast and structure around each pixel; 1 is equal."
        ),
    },
    can=frozenset({"enlarge", "folds", "workers", "half", "onnx"}),
)

DETECTION = TaskEntry(
    name="detection",
    title="detection",
    implementation="trainables.tasks.detection.task:Detection",
    predictor="trainables.predictors.detection",
    targets="trainables.datasets.boxes.targets:BoxTargets",
    options="trainables.catalog.detection_options:DetectionOptions",
    model="trainables.export.detector:ObjectDetector",
    goal="find the objects in the images of {data} ({classes} classes) best",
    output="boxes",
    committee="boxes around the same object are combined from those of",
    columns=(
        "the number of objects of each class that are found at the model's working point, and "
        "`boxes as JSON`, with the `box` (left, top, right, bottom in pixels), `class` and "
        "`score` of every one"
    ),
    accepts=(
        "Pass images as a list of uint8 NumPy arrays (height, width, channels) of any height and "
        "width, with as many channels as the training images had. The model resizes them, and "
        "boxes refer to the pixels of the images that were passed."
    ),
    baselines=(
        "The spaces detection and detection_zoo also have a random forest on hand-made features of "
        "blobs."
    ),
    metrics=(
        # Detectors compute no loss of validation images.
        Metric(
            name="map",
            title="mAP50-95",
            key="val/map",
            limits=UNIT,
            is_primary=True,
            loss="train/loss",
        ),
        Metric(name="map50", title="mAP50", key="val/map50", limits=UNIT, loss="train/loss"),
    ),
    terms={
        "IoU": (
            "The intersection of two boxes over their union: 1 for equal boxes, 0 for boxes beside "
            "each other."
        ),
        "AP50": (
            "Average precision: the mean precision over all values of recall, where a box is right "
            "if its IoU with an object of its class is at least 0.5."
        ),
        "mAP50-95": (
            "The mean of average precision over the classes, and over ten thresholds of IoU from "
            "0.5 to 0.95: it also rates how exactly boxes fit."
        ),
        "precision, recall of boxes": (
            "Of the boxes with at least this score, the share that is around an object of their "
            "class; of the objects, the share that is found."
        ),
        "missed, background": (
            "Objects around which there is no box; boxes that are around no object."
        ),
    },
    can=frozenset({"augment", "folds", "workers", "half", "onnx"}),
)

TASKS: dict[str, TaskEntry] = {
    entry.name: entry for entry in (CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION, DETECTION)
}

DEFAULT_TASK = CLASSIFICATION.name


def task_name(values: Mapping[str, Any]) -> str:
    """Return the name of the task in the values of a `DataConfig`, or of an `about.json`."""
    name: str = values.get("task", DEFAULT_TASK)
    return name
