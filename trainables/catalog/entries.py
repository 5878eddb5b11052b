"""The entries of the registries of tasks, models and data sets, and the metrics that rank trials.

This module imports neither torch nor other modules of this project, except for errors and fields.
Therefore a config can be checked without waiting for slow imports: an entry refers to code by name,
and the code is imported when it is used.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from trainables.errors import ConfigError
from trainables.fields import Options

if TYPE_CHECKING:
    from torch import nn


def import_object(name: str) -> Any:
    """Import the object of this name, which has the form `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


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
    def key(self) -> str:
        """The metric's name among the values of an epoch, such as `val/auc`."""
        return f"val/{self.name}"

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

    def rank(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """Return the sort key of an epoch: its score, and minus the loss (`loss`) to break ties.

        The better of two epochs has the greater key.
        """
        return self.score_of(metrics), -metrics[self.loss]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """The facts about a model that are known before torch is imported."""

    builder: str
    """The builder, as `module:name`.

    A network's builder is a function of the image's (channels, height, width), the number of
    outputs (such as the number of classes), and the options. A baseline's is a subclass
    of `trainables.baselines.base.Baseline`.
    """
    name: str = ""
    """The `name` argument of the builder, if it builds several networks; else empty."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of `ModelConfig` that this model has, with their defaults."""
    min_side: int = 1
    """The smallest height and width of an image, in pixels, that the model accepts."""
    native_side: int = 0
    """The height and width, in pixels, of the images on which the published weights were trained.

    0 if there are no such weights.
    """
    multiple: int = 1
    """If above 1, images are resized to squares whose side is a multiple of this number.

    The option `patch`, if the model has it, is used instead.
    """
    weights: str = ""
    """The file name of torchvision's `DEFAULT` weights; empty if there are none."""
    source: str = ""
    """Torchvision's name of the network with which these weights were published.

    Empty if it is the model's own name, and not that of the encoder of a larger network.
    """
    tasks: tuple[str, ...] = ()
    """The tasks for which the model can be trained; set by `trainables.catalog.models`."""
    kind: str = "network"
    """`network` or `baseline`.

    A network is trained in epochs by gradient descent; a baseline is fitted once.
    """
    takes_class_weights: bool = True
    """False for a baseline that cannot weight classes."""
    method: str = ""
    """For a baseline: the words that follow its name in a sentence, such as `on ... features`."""
    fitted_by: str = ""
    """For a baseline whose model is a network with a fitted last layer: its class, `module:name`.

    Then `builder` builds the network of which all but the last layer is used.
    """
    fit_options: tuple[str, ...] = ()
    """The options of such a fit, which the builder of the network does not take."""
    extended_by: str = ""
    """A class, `module:name`, that adds images to the training set; empty if none does.

    `fit_options` has its options.
    """
    has_feature_map: bool = True
    """False for a network without a convolutional feature map near its outputs: a transformer."""
    max_classes: int | None = None
    """The largest number of classes that the model can predict; None if there is no limit."""

    def effective_size(
        self, image: tuple[int, int, int], options: Mapping[str, Any]
    ) -> tuple[int, int]:
        """Return the (height, width) of images, in pixels, after the network's own resizing.

        Args:
            image: (channels, height, width) of the images before this resizing.
            options: the model's options.
        """
        _, height, width = image
        if side := options.get("input_size") or (
            self.native_side if options.get("pretrained") else 0
        ):
            height = width = side
        if (multiple := options.get("patch") or self.multiple) > 1:
            height = width = -(-max(height, width) // multiple) * multiple
        return height, width

    def build(self, image: tuple[int, int, int], outputs: int, **options: Any) -> "nn.Module":
        """Build a freshly initialised network for images of (channels, height, width).

        Its input is float32 (batch, channels, height, width), and its output is in the form that
        its task expects, such as (batch, outputs) for one vector per image.
        """
        name_option = {"name": self.name} if self.name else {}
        own = {option: options[option] for option in options if option not in self.fit_options}
        network: nn.Module = import_object(self.builder)(image, outputs, **name_option, **own)
        return network

    @property
    def has_network(self) -> bool:
        """True if the trained model is a network, which can be exported as one."""
        return self.kind == "network" or bool(self.fitted_by)

    @property
    def extension(self) -> Any:
        """The class that adds images to the training set (`PseudoLabels`); None if none does."""
        return import_object(self.extended_by) if self.extended_by else None

    @property
    def baseline(self) -> Any:
        """The class of a baseline (`trainables.baselines.base.Baseline`); imports scikit-learn."""
        return import_object(self.fitted_by or self.builder)


DECODING = 3
"""The version of the code that finds and decodes images.

Increment it if images decode to other pixels, or if more files are read. Cached arrays of other
versions are not used. A search's journal records the version; a journal without it has version 1.
Version 1 decoded large JPEGs, transparent images and images of more than 8 bits differently.
Version 2 read fewer formats and folder layouts.
"""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """The facts about a data set that are known before it is loaded."""

    module: str
    """The module with `load(config, *, download) -> Decoded` and `files(config) -> list[Path]`.

    `files` returns the files that `load` reads.
    """
    from_folder: bool = False
    """True if the images are in a folder that the user names.

    Instead of `files`, the module then has `find(config) -> Layout`, which finds the images. Its
    `load` also takes this `layout`, and `allocate`, which allocates the arrays to decode into.
    """
    tasks: tuple[str, ...] = ()
    """The tasks for which the data set has targets (`DataConfig.task`); the first is the default.

    They are set by `trainables.catalog.datasets`.
    """
    readers: Mapping[str, str] = field(default_factory=dict)
    """The modules that replace `module` for some of the tasks, by the task's name."""
    is_own: bool = False
    """True if a command of this project creates the data set, and users do not select it by name.
    """
    description: str = ""
    """A line that describes the data set to users."""
    has_files: bool = True
    """False if the data is part of a package or drawn, so that it needs no folder."""
    flip: bool = False
    """True if mirroring an image horizontally does not change its class."""

    def reader(self, task: str) -> str:
        """Return the module that loads the data set for a task."""
        return self.readers.get(task, self.module)

    @property
    def decoding(self) -> int | None:
        """The version of decoding (`DECODING`); None if no image files are decoded."""
        return DECODING if self.from_folder else None


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

    It imports nothing of this project but `trainables.predictors.base`, and has a `Predictor`,
    a subclass of its `TaskPredictor`.
    """
    metrics: tuple[Metric, ...]
    """The metrics that can rank the task's trials; the first is the primary one, the default."""
    targets: str = "trainables.datasets.targets:Targets"
    """The class that checks and describes the task's targets without torch, as `module:Class`."""
    reader: str = ""
    """The module that reads a user's folder for this task: `find(config) -> Layout`, and `load`.

    It also has `recognise(root) -> str`, which returns the reason why a folder is meant for this
    task, as a clause; empty if it is not. If no task recognises a folder, it is read for the task
    that `is_implied`.
    """
    folder: str = ""
    """The form of such a folder, as a clause that begins with a noun; empty without a `reader`."""
    bare_images: str = ""
    """What the task learns from images without annotations, as an infinitive; empty if nothing."""
    models: Mapping[str, ModelEntry] = field(default_factory=dict, hash=False)
    """The models that can be trained for the task, by name.

    Tasks may share a model (`trainables.catalog.networks`).
    """
    datasets: Mapping[str, DatasetEntry] = field(default_factory=dict, hash=False)
    """The data sets with targets for the task, besides a user's folders, by name."""
    is_implied: bool = False
    """True for the task that configs, cache keys and model folders do not name.

    Those written before there were several tasks name none, and must stay equal to new ones.
    """
    options_class: type[Options] = Options
    """The dataclass of the task's own options; their paths in a config are `task.NAME`."""
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
