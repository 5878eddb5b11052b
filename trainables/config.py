"""The full description of one training: the network, the data, and how it is trained.

Imports no torch. A search names its hyperparameters by dotted paths into `TrialConfig`:
"optimizer.lr", "model.filter_size", "epochs".
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.catalog.tasks import DEFAULT_TASK, TASKS, Metric, TaskEntry
from trainables.errors import ConfigError, unknown
from trainables.fields import check, name_of, number, parse
from trainables.values import Json, Params

OPTIMIZER_NAMES = ("adam", "adamw", "sgd")
SCHEDULE_NAMES = ("constant", "step", "plateau", "cosine")
SCALING_NAMES = ("unit", "symmetric", "standard")
PRECISION_NAMES = ("auto", "fp32", "bf16", "fp16")
WEIGHTS_NAMES = ("none", "sqrt", "balanced")
SAMPLING_NAMES = ("shuffled", "balanced")
TOGETHER, DROP, KEEP = "together", "drop", "keep"
LEAKS_NAMES = (TOGETHER, DROP, KEEP)
FREEZE_NAMES = ("nothing", "all_but_last_stage", "backbone")
FEATURE_NAMES = ("hog", "lbp", "edges", "all")
"""The names in `trainables.baselines.features.FEATURES`, and `all`.

They are repeated here because that module imports scikit-image.
"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network and its options.

    An option left at None takes the model's own default (`MODELS[name].options`).
    """

    name: str = name_of("deep_cnn", "model", MODELS)
    width: int | None = number(None, low=1, high=4096)
    layers: int | None = number(None, low=3, high=200)
    filter_size: int | None = number(None, low=1, high=31)
    dropout: float | None = number(None, low=0, below=1)
    patch: int | None = number(None, low=1, high=64)
    """The side of a transformer's patches, in pixels."""
    pretrained: bool | None = None
    """Start with weights that were trained on other images.

    Pixels are then scaled as those weights require, whatever `data.scaling` says.
    """
    weights: str | None = None
    """The file or folder of such weights (`models/weights.py`), if not in torch's cache."""
    freeze: str | None = name_of(None, "model.freeze", FREEZE_NAMES)
    """The part of a network that is not trained.

    `nothing`, `all_but_last_stage` (the last stage and the head are trained), or `backbone`, which
    is all but the head.
    """
    input_size: int | None = number(None, low=1, high=4096)
    """The height and width, in pixels, to which the network resizes images.

    None: the size that pre-trained weights require, or no resizing without such weights.
    """
    features: str | None = name_of(None, "kind of features", FEATURE_NAMES)
    """For a baseline: the features of an image (`trainables/baselines/features.py`).

    `all` joins all kinds.
    """
    c: float | None = number(None, above=0)
    """For `svm`: the penalty for images on the wrong side of the margin."""
    gamma: float | None = number(None, above=0)
    """For `svm`: how fast similarity decreases with distance.

    In multiples of scikit-learn's `scale`, which normalises by the features' number and variance.
    """
    neighbours: int | None = number(None, low=1)
    """For `knn`: the number of nearest images that vote."""
    tree_depth: int | None = number(None, low=1)
    """For `tree`: the largest number of comparisons for an image."""

    def __post_init__(self) -> None:
        check(self, "model.")
        allowed = MODELS[self.name].options
        set_options = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name != "name" and value is not None
        }
        for option in [option for option in set_options if option not in allowed]:
            raise ConfigError(
                f"model '{self.name}' has no option '{option}'. It takes: {', '.join(allowed)}."
            )
        if self.filter_size is not None and self.filter_size % 2 == 0:
            raise ConfigError(
                "model.filter_size must be odd, so that the filter has a centre "
                f"(got {self.filter_size})."
            )
        if self.freeze not in (None, "nothing") and not self.pretrained:
            raise ConfigError(
                f"model.freeze={self.freeze} freezes weights that have learnt nothing. "
                "Set model.pretrained=true, or leave it out."
            )

    @property
    def is_baseline(self) -> bool:
        """True for a classifier that is fitted once to hand-made features, instead of a network."""
        return MODELS[self.name].kind == "baseline"

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the model's builder: given values, else the model's defaults."""
        return {
            option: default if getattr(self, option) is None else getattr(self, option)
            for option, default in MODELS[self.name].options.items()
        }


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images, and how they are split and scaled.

    Fractions are of all images but those of a published test set.
    """

    name: str = name_of("digits", "data set", DATASETS)
    task: str = name_of(DEFAULT_TASK, "task", TASKS)
    """The task that is to be learned on the images."""
    root: str = ""
    image_size: int | None = number(None, low=1, high=4096)
    skip_bad: bool = False
    """Leave unreadable images of a folder out instead of refusing the folder."""
    scaling: str = name_of("standard", "scaling", SCALING_NAMES)
    train_limit: int | None = number(None, low=1)
    val_limit: int = number(5000, low=1)
    val_fraction: float = number(0.2, above=0, below=1)
    test_fraction: float = number(0.2, above=0, below=1)
    split_seed: int = number(0, low=0)
    folds: int | None = number(None, low=2, high=20)
    """The number of folds of a cross-validation; None trains one network on one split.

    Each trial trains one network per fold, on all images outside the test set and the fold, and
    measures it on the fold. There is then no separate validation set.
    """
    leaks: str = name_of(TOGETHER, "data.leaks", LEAKS_NAMES)
    """The treatment of copies of a picture in several parts (`trainables.inspection.leaks`).

    `together` draws the parts such that all copies are in one of them; where the parts are given,
    it acts like `drop`, which keeps copies only in the earlier part. `keep` does nothing. Published
    data sets are never changed.
    """

    def __post_init__(self) -> None:
        check(self, "data.")
        if self.task not in (served := DATASETS[self.name].tasks):
            raise ConfigError(
                f"the data set '{self.name}' has no targets for {self.task} "
                f"(--task): it serves {', '.join(served)}."
            )
        if self.folds is not None:
            TASKS[self.task].require("folds", "data.folds")
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "data.val_fraction and data.test_fraction add to "
                f"{self.val_fraction + self.test_fraction:g}; below 1, "
                "so that images to train on are left."
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of each training image; zero and False change nothing."""

    rotation: float = number(0.0, low=0, high=180)
    """The largest turn to either side, in degrees."""
    scale: float = number(0.0, low=0, below=1)
    """The largest relative change of size: 0.1 draws from 0.9 to 1.1."""
    crop: int = number(0, low=0, high=512)
    """The largest shift in each direction, in pixels; the uncovered border is black."""
    flip: bool = False
    """Mirror left and right with probability one half."""
    jitter: float = number(0.0, low=0, below=1)
    """The largest relative change of brightness, contrast and (colour images) saturation."""

    def __post_init__(self) -> None:
        check(self, "augment.")

    @property
    def is_on(self) -> bool:
        """True if anything is changed."""
        return any(dataclasses.astuple(self))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule, which is stepped once per epoch."""

    name: str = name_of("adam", "optimizer", OPTIMIZER_NAMES)
    lr: float = number(1e-3, above=0)
    backbone_lr: float | None = number(None, above=0)
    """The learning rate of the pre-trained layers; `lr` is then the head's. None: `lr` for all."""
    weight_decay: float = number(0.0, low=0)
    momentum: float | None = number(None, low=0, below=1)
    """For SGD only, where None means 0.9."""
    schedule: str = name_of("constant", "schedule", SCHEDULE_NAMES)
    decay: float = number(0.1, above=0, below=1)
    """The factor by which `step` and `plateau` multiply the learning rate."""
    step_epochs: int = number(10, low=1)
    """For `step`: the epochs between two decays."""
    patience: int = number(3, low=0)
    """For `plateau`: the epochs without a lower validation loss before a decay."""

    def __post_init__(self) -> None:
        check(self, "optimizer.")
        if self.momentum is not None and self.name != "sgd":
            raise ConfigError(
                f"optimizer.momentum belongs to sgd (got {self.momentum} with {self.name}). "
                "Leave it out, or search it only when optimizer.name is sgd."
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The weight of each class in training; the validation and test sets are never weighted."""

    class_weights: str = name_of("none", "train.class_weights", WEIGHTS_NAMES)
    """The weight of a class's images in the training loss.

    `balanced` divides by the class's number of training images, `sqrt` by its root; the mean over
    the training images is 1.
    """
    sampling: str = name_of("shuffled", "train.sampling", SAMPLING_NAMES)
    """The images of an epoch: each of them once, or as many of them drawn with replacement.

    `balanced` draws every class equally often.
    """

    def __post_init__(self) -> None:
        check(self, "train.")
        if self.class_weights != "none" and self.sampling != "shuffled":
            raise ConfigError(
                f"train.class_weights={self.class_weights} with train.sampling={self.sampling} "
                "corrects twice. Leave one of them out, or search train.class_weights only when "
                "train.sampling is shuffled."
            )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a training's result.

    Two equal configs train to equal metrics on one machine's CPU.

    Raises:
        ConfigError: on construction, when a value is not allowed.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    """For a baseline, only `class_weights` has an effect, if its classifier takes any."""
    batch_size: int = number(64, low=2)
    precision: str = name_of("auto", "precision", PRECISION_NAMES)
    """The number format in which the network is trained.

    `bf16` and `fp16` compute in bfloat16 or float16 under autocast, with weights and sums in
    float32; `auto` does so where that is faster (`trainables/training/precision.py`). In float16
    the loss is scaled.
    """
    epochs: int = number(20, low=1)
    """For a baseline always 1, because it is fitted once."""
    seed: int = number(0, low=0, high=2**31)
    warm_start: str = ""
    """The checkpoint from whose network, including the head, this training starts; empty for none.

    A path, relative to the data's folder (`data.root`). The optimizer's state is not restored.
    """
    metric: str = ""
    """The validation metric by which epochs, and so trials, are ranked.

    If it is empty, it becomes the task's primary one.
    """

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "metric", self.metric or self.task.primary.name)
        self._check_task()
        if self.warm_start and (self.model.is_baseline or self.data.folds is not None):
            raise ConfigError(
                f"warm_start={self.warm_start}: one network goes on from a checkpoint, neither a "
                "baseline nor the networks of data.folds. Leave it out."
            )
        if self.model.is_baseline:
            object.__setattr__(self, "epochs", 1)
            object.__setattr__(self, "train", self._train_of_baseline())
        if self.augment.flip and not DATASETS[self.data.name].flip:
            raise ConfigError(
                f"augment.flip: a mirrored image of '{self.data.name}' means something else. "
                "Leave it off."
            )
        if self.optimizer.backbone_lr is not None and (
            not self.model.pretrained or self.model.freeze == "backbone"
        ):
            raise ConfigError(
                "optimizer.backbone_lr is for a backbone that is pre-trained and learns: "
                "set model.pretrained=true and no model.freeze=backbone."
            )

    def _train_of_baseline(self) -> TrainConfig:
        """Return `train` without sampling, and with class weights if the classifier takes any."""
        weighs = MODELS[self.model.name].takes_class_weights
        return TrainConfig(class_weights=self.train.class_weights) if weighs else TrainConfig()

    def _check_task(self) -> None:
        task = self.task
        if self.metric not in task.names:
            raise ConfigError(unknown(f"metric of {task.name}", self.metric, task.names))
        if task.name not in (served := MODELS[self.model.name].tasks):
            raise ConfigError(
                f"the model '{self.model.name}' is for {', '.join(served)}, not for {task.name}. "
                f"Take one of: {', '.join(models_for(task.name))}."
            )
        if self.augment.is_on:
            task.require("augment", "augment")
        if self.train != TrainConfig():
            task.require("balance", "train.class_weights or train.sampling")
        if self.precision in ("bf16", "fp16"):
            task.require("half", f"precision={self.precision}")

    def override(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with the values at these dotted paths.

        For example `override({"optimizer.lr": 0.1, "epochs": 3})`. All values of a part are set
        together, so that they are checked as one.

        Raises:
            ConfigError: an unknown path (the nearest known one is suggested) or a value that does
                not fit.
        """
        for path in values:
            if path not in PATHS:
                raise unknown_key(path)
        changes: Params = {path: value for path, value in values.items() if "." not in path}
        if values.get("data.task", self.data.task) != self.data.task:
            changes.setdefault("metric", "")
        parts: dict[str, Params] = {}
        for path, value in values.items():
            if "." in path:
                part, name = path.split(".")
                parts.setdefault(part, {})[name] = value
        for part, part_values in parts.items():
            changes[part] = dataclasses.replace(getattr(self, part), **part_values)
        return dataclasses.replace(self, **changes)

    def on(self, data: DataConfig) -> Self:
        """Return a copy for these images, with a model and a metric that suit their task.

        Raises:
            ConfigError: there is no model for the task.
        """
        suited = models_for(data.task)
        if not suited:
            raise ConfigError(f"there is no model for {data.task} (--task).")
        return dataclasses.replace(
            self,
            data=data,
            model=self.model if self.model.name in suited else ModelConfig(name=suited[0]),
            metric=self.metric if self.metric in TASKS[data.task].names else "",
        )

    def value(self, path: str) -> Any:
        """Return the value at a dotted path; for a model's option left at None, its default."""
        part, _, name = path.rpartition(".")
        if part == "model" and name != "name":
            return self.model.options.get(name)
        return getattr(getattr(self, part) if part else self, name)

    @property
    def begins_with(self) -> Path | None:
        """The checkpoint of `warm_start`; None for none."""
        return Path(self.data.root, self.warm_start) if self.warm_start else None

    @property
    def task(self) -> TaskEntry:
        """The task."""
        return TASKS[self.data.task]

    @property
    def ranked_by(self) -> Metric:
        """The metric by which epochs are ranked."""
        return self.task.metric(self.metric)

    def to_dict(self) -> Json:
        """Return a nested dict of plain values, as JSON holds it.

        The default task and its primary metric are left out, and so are `train`, `warm_start` and
        `data.leaks` if they change nothing: so such a training keeps the training key that it had
        before these fields existed.
        """
        values = dataclasses.asdict(self)
        if self.train == TrainConfig():
            del values["train"]
        if not self.warm_start:
            del values["warm_start"]
        if self.data.leaks == KEEP:
            del values["data"]["leaks"]
        if self.data.task == DEFAULT_TASK:
            del values["data"]["task"]
            if self.metric == self.task.primary.name:
                del values["metric"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from the output of `to_dict`."""
        flat = {"data.leaks": KEEP} if "data" in values else {}
        flat |= {
            f"{key}.{name}": inner
            for key, value in values.items()
            if isinstance(value, Mapping)
            for name, inner in value.items()
        }
        flat |= {key: value for key, value in values.items() if not isinstance(value, Mapping)}
        return cls().override(flat)


def _paths(cls: type, prefix: str = "") -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(cls).items():
        kinds |= (
            _paths(kind, f"{name}.")
            if isinstance(kind, type) and dataclasses.is_dataclass(kind)
            else {prefix + name: kind}
        )
    return kinds


def models_for(task: str) -> list[str]:
    """Return the models that can be trained for a task."""
    return [name for name, entry in MODELS.items() if task in entry.tasks]


PATHS: dict[str, Any] = _paths(TrialConfig)
"""Every dotted path into a TrialConfig, with the type of its value."""


def unknown_key(path: str) -> ConfigError:
    """Return the error for an unknown path, which lists the keys of the same part."""
    part, _, last = path.rpartition(".")
    listed = [key for key in PATHS if key.rpartition(".")[0] == part]
    same = [key for key in PATHS if key.rpartition(".")[2] == last]
    if same:
        return ConfigError(
            f"unknown key '{path}'. Known: {', '.join(sorted(listed) or sorted(PATHS))}. "
            f"Did you mean '{same[0]}'?"
        )
    return ConfigError(unknown("key", path, PATHS, listed=listed))


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse `key=value`, with the value in the key's own type.

    Raises:
        ConfigError: no `=`, an unknown key, or a value of another type.
    """
    path, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"a setting has the form key=value (got '{text}').")
    if path not in PATHS:
        raise unknown_key(path)
    return path, parse(path, value, PATHS[path])
