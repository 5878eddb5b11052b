"""The complete configuration of a training: model, data, augmentation, optimizer and so on.

This module does not import torch. A search names its hyperparameters by dotted paths into
`TrialConfig`: "optimizer.lr", "model.filter_size", "epochs".

Configs that differ only in their number of epochs share a training key, since the first epochs of
the longer training are those of the shorter one: a resumed training equals an uninterrupted one to
the last bit, and its randomness depends only on the config's seed and the epoch. The exception is a
schedule of the learning rate that depends on the number of epochs.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from trainables.catalog.datasets import DATASETS
from trainables.catalog.entries import Metric, TaskEntry
from trainables.catalog.models import MODELS
from trainables.errors import ConfigError, unknown
from trainables.fields import Options, check, name_of, number, parse
from trainables.tasks import TASKS, task_name
from trainables.values import Json, Params

OPTIMIZER_NAMES = ("adam", "adamw", "sgd")
SCHEDULE_NAMES = ("constant", "step", "plateau", "cosine")
SCALING_NAMES = ("unit", "symmetric", "standard")
PRECISION_NAMES = ("auto", "fp32", "bf16", "fp16")
WEIGHTS_NAMES = ("none", "sqrt", "balanced")
SHUFFLED, BALANCED, GROUPS = "shuffled", "balanced", "groups"
SAMPLING_NAMES = (SHUFFLED, BALANCED, GROUPS)
CLEAN, TOGETHER, DROP, KEEP = "clean", "together", "drop", "keep"
LEAKS_NAMES = (CLEAN, TOGETHER, DROP, KEEP)
HORIZON_FREE = ("constant", "step", "plateau")
"""Schedules that do not depend on the number of epochs.

`cosine` is not listed, because its period is the number of epochs.
"""
ELSEWHERE = ("root", "bucket", "groups", "skip_bad", "leaks")
"""Fields of `DataConfig` that are left out of the training key.

They state where the images and their groups are and how they are read; the images themselves, with
their groups, are identified by their fingerprint.
"""
FREEZE_NAMES = ("nothing", "all_but_last_stage", "backbone")
MEMBERS = "members"
"""The field of the configs of an ensemble, which no setting changes."""
NORM_NAMES = ("batch", "group", "none")
POLICY_NAMES = ("none", "trivial", "randaugment", "augmix")
MIX_ALPHAS = {"mixup": 0.2, "cutmix": 1.0}
"""The values of `augment.mix`, each with the default of `augment.mix_alpha`."""
MIX_NAMES = ("none", *MIX_ALPHAS)
SCALES, SCALE = (2, 3, 4), 2
"""The values of `data.scale`, and its default."""
LATER_OPTIONS: dict[str, tuple[str, ...]] = {
    "model": ("depth", "norm", "trees", "unlabelled"),
    "data": ("bucket", "groups", "scale"),
    "augment": ("policy", "mix", "mix_alpha"),
    "train": ("group_dro", "ema", "smoothing", "adversarial"),
}
"""By section, the options that the first version did not have (`TrialConfig.to_dict`)."""
FEATURE_NAMES = ("hog", "lbp", "edges", "all")
"""The names in `trainables.baselines.features.FEATURES`, and `all`.

They are repeated here because that module imports scikit-image.
"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model, a network or a baseline, and its options.

    For an option that is None, the model's own default is used (`MODELS[name].options`).
    """

    name: str = name_of("deep_cnn", "model", MODELS)
    width: int | None = number(None, low=1, high=4096)
    layers: int | None = number(None, low=3, high=200)
    filter_size: int | None = number(None, low=1, high=31)
    dropout: float | None = number(None, low=0, below=1)
    depth: int | None = number(None, low=1, high=5)
    """For `unet`: how often images are halved."""
    norm: str | None = name_of(None, "model.norm", NORM_NAMES)
    """For U-Nets: the normalisation after each convolution of the network or, with an encoder, of
    its decoder.
    """
    patch: int | None = number(None, low=1, high=64)
    """The side of a transformer's patches, in pixels."""
    pretrained: bool | None = None
    """True to start with weights that were trained on other images.

    Pixels are then scaled as these weights require, and `data.scaling` has no effect.
    """
    weights: str | None = None
    """The file with the pretrained weights, or its folder (`trainables.models.weights`).

    None to use the file in torch's cache.
    """
    freeze: str | None = name_of(None, "model.freeze", FREEZE_NAMES)
    """The layers of a network that are not trained: one of `FREEZE_NAMES`.

    With `all_but_last_stage` only the last stage and the head are trained, with `backbone` only the
    head.
    """
    input_size: int | None = number(None, low=1, high=4096)
    """The height and width, in pixels, to which the network resizes images.

    None for the size that the pre-trained weights require; without such weights, images are not
    resized.
    """
    features: str | None = name_of(None, "kind of features", FEATURE_NAMES)
    """For a baseline: the kind of features that it uses (`trainables.baselines.features`).

    `all` concatenates the features of all kinds.
    """
    c: float | None = number(None, above=0)
    """For `svm`: the penalty for images on the wrong side of the margin.

    For a probe: the weight of the training loss beside the squares of the weights.
    """
    gamma: float | None = number(None, above=0)
    """For `svm`: the coefficient of the Gaussian kernel, in multiples of scikit-learn's `scale`.

    `scale` is 1 / (number of features * their variance).
    """
    neighbours: int | None = number(None, low=1)
    """For `knn`: the number of nearest training images that vote on the class.

    For `spread_*` and `pseudo_*`: the number of neighbours from which an image without a label gets
    its class.
    """
    unlabelled: str | None = None
    """For `spread_*` and `pseudo_*`: the folder of the images without labels
    (`trainables.probes.unlabelled`).
    """
    tree_depth: int | None = number(None, low=1)
    """For `tree` and `pixel_forest`: the maximum depth of a tree."""
    trees: int | None = number(None, low=1, high=500)
    """For `pixel_forest` and `blob_forest`: the number of trees."""

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
                f"model '{self.name}' has no option '{option}'. It accepts: {', '.join(allowed)}."
            )
        if allowed.get("pretrained"):
            if self.pretrained is False:
                raise ConfigError(
                    f"model.pretrained=false cannot be used with {self.name}, which begins with a "
                    "pretrained network. Remove it, or use another model."
                )
            object.__setattr__(self, "pretrained", True)
        if self.filter_size is not None and self.filter_size % 2 == 0:
            raise ConfigError(
                "model.filter_size must be odd, so that the filter has a centre "
                f"(got {self.filter_size})."
            )
        if self.freeze not in (None, "nothing") and not self.pretrained:
            raise ConfigError(
                f"model.freeze={self.freeze} would freeze weights that have never been trained. "
                "Set model.pretrained=true, or remove model.freeze."
            )

    @property
    def is_baseline(self) -> bool:
        """True for a model that is fitted once, instead of trained in epochs."""
        return MODELS[self.name].kind == "baseline"

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the model's builder, where the defaults replace None."""
        return {
            option: default if getattr(self, option) is None else getattr(self, option)
            for option, default in MODELS[self.name].options.items()
        }


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data set, and how its images are split and scaled.

    `val_fraction` and `test_fraction` are fractions of the data set's own training set. A data set
    without its own validation and test sets consists only of a training set.
    """

    name: str = name_of("digits", "data set", DATASETS)
    task: str = name_of(task_name({}), "task", TASKS)
    """The name of the task, which determines the targets (`trainables.tasks.TASKS`)."""
    root: str = ""
    bucket: str = ""
    """The address of the bucket of which `root` is a copy; empty for other data."""
    image_size: int | None = number(None, low=1, high=4096)
    scale: int = number(SCALE, low=min(SCALES), high=max(SCALES))
    """For super-resolution: how many times larger the images become, in height and width."""
    skip_bad: bool = False
    """True to leave out unreadable images of a folder; otherwise they are an error."""
    scaling: str = name_of("standard", "scaling", SCALING_NAMES)
    train_limit: int | None = number(None, low=1)
    val_limit: int = number(5000, low=1)
    val_fraction: float = number(0.2, above=0, below=1)
    test_fraction: float = number(0.2, above=0, below=1)
    split_seed: int = number(0, low=0)
    folds: int | None = number(None, low=2, high=20)
    """The number of folds of a cross-validation; None for one network and one validation set.

    Each trial trains one network per fold, on all images outside the test set and the fold, and
    validates it on the fold. There is then no separate validation set.
    """
    leaks: str = name_of(CLEAN, "data.leaks", LEAKS_NAMES)
    """The treatment of copies of a picture in several parts (`trainables.inspection.leaks`).

    `clean` and `together` draw parts such that all copies of a picture are in the same one; if the
    data set has its own parts, they act like `drop`, which leaves copies only in the earliest part
    (training, validation, test). `clean` also leaves out equal test images of different classes.
    `keep` does nothing. Published data sets are never changed.
    """
    groups: str = ""
    """The CSV file with attributes of the images, which divide them into groups; empty for none
    (`trainables.fairness.groups`).
    """

    def __post_init__(self) -> None:
        check(self, "data.")
        if self.task not in (served := DATASETS[self.name].tasks):
            raise ConfigError(
                f"the data set '{self.name}' has no targets for {self.task} (--task). "
                f"It supports: {', '.join(served)}."
            )
        if self.folds is not None:
            TASKS[self.task].require("folds", "data.folds")
        if self.scale != SCALE:
            TASKS[self.task].require("enlarge", "data.scale")
        if self.groups:
            TASKS[self.task].require("groups", "data.groups (--groups)")
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "the sum of data.val_fraction and data.test_fraction must be below 1, so that "
                f"training images are left (got {self.val_fraction + self.test_fraction:g})."
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of training images; an option that is 0 or False is off."""

    rotation: float = number(0.0, low=0, high=180)
    """The largest rotation in either direction, in degrees."""
    scale: float = number(0.0, low=0, below=1)
    """The largest relative change of size: for 0.1, factors are drawn from 0.9 to 1.1."""
    crop: int = number(0, low=0, high=512)
    """The largest shift in each direction, in pixels; the uncovered border is black."""
    flip: bool = False
    """True to mirror each image horizontally with probability 1/2."""
    jitter: float = number(0.0, low=0, below=1)
    """The largest relative change of brightness, contrast and, for colour images, saturation."""
    policy: str = name_of("none", "augment.policy", POLICY_NAMES)
    """A published set of random operations, of which some are drawn for each image.

    They follow the changes above, and none of them mirrors (`trainables.augmentation.policies`).
    """
    mix: str = name_of("none", "augment.mix", MIX_NAMES)
    """The way in which pairs of training images, and their labels, are mixed.

    `mixup` averages two images, `cutmix` replaces a box of one by the same box of the other
    (`trainables.augmentation.augment`).
    """
    mix_alpha: float | None = number(None, above=0, high=100)
    """The shares of the two images have the distribution Beta(mix_alpha, mix_alpha).

    None for the value of `MIX_ALPHAS`. The smaller it is, the less most images are changed.
    """

    def __post_init__(self) -> None:
        check(self, "augment.")
        if self.mix_alpha is not None and self.mix == "none":
            raise ConfigError(
                f"augment.mix_alpha={self.mix_alpha} requires augment.mix={' or '.join(MIX_ALPHAS)}"
                ". Remove augment.mix_alpha, or search it only when augment.mix is one of these."
            )

    @property
    def is_on(self) -> bool:
        """True if any augmentation is on."""
        return self != AugmentConfig()


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule, which is stepped once per epoch."""

    name: str = name_of("adam", "optimizer", OPTIMIZER_NAMES)
    lr: float = number(1e-3, above=0)
    backbone_lr: float | None = number(None, above=0)
    """The learning rate of the pre-trained layers; None for `lr`, the learning rate of the head."""
    weight_decay: float = number(0.0, low=0)
    momentum: float | None = number(None, low=0, below=1)
    """The momentum of SGD (None: 0.9); None for all other optimizers."""
    schedule: str = name_of("constant", "schedule", SCHEDULE_NAMES)
    decay: float = number(0.1, above=0, below=1)
    """The factor by which `step` and `plateau` multiply the learning rate."""
    step_epochs: int = number(10, low=1)
    """For `step`: the number of epochs between two decays."""
    patience: int = number(3, low=0)
    """For `plateau`: the number of consecutive epochs without a lower validation loss to tolerate.

    The next such epoch reduces the learning rate.
    """

    def __post_init__(self) -> None:
        check(self, "optimizer.")
        if self.momentum is not None and self.name != "sgd":
            raise ConfigError(
                f"optimizer.momentum={self.momentum} requires optimizer.name=sgd "
                f"(got {self.name}). Remove optimizer.momentum, or search it only when "
                "optimizer.name is sgd."
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Balance of classes and groups, and regularisation, which affect only the training.

    Validation and test images are not weighted or changed.
    """

    class_weights: str = name_of("none", "train.class_weights", WEIGHTS_NAMES)
    """The weight of each class's images in the training loss.

    For a class of n training images it is proportional to 1 / n for `balanced`, and to 1 / sqrt(n)
    for `sqrt`; the mean over all training images is 1. For `none` all weights are equal.
    """
    sampling: str = name_of("shuffled", "train.sampling", SAMPLING_NAMES)
    """The selection of the training images of an epoch.

    `shuffled` uses each image once, in random order. `balanced` draws the same number of images
    with replacement, each class with the same probability; `groups` does so for each class within
    each group (`DataConfig.groups`).
    """
    group_dro: float = number(0.0, low=0, below=1)
    """The step size of the weights of groups in group DRO; 0 to minimise the mean loss.

    The weighted sum of the losses of groups is minimised. After each step, the weight of a group,
    that is a class within a group of `DataConfig.groups`, is multiplied by exp(step size * loss),
    and the weights are divided by their sum (Sagawa et al. 2020, "Distributionally Robust Neural
    Networks for Group Shifts", algorithm 1, with a step size of 0.01; there, the weights are
    changed before they are used in a step).
    """
    ema: float = number(0.0, low=0, below=1)
    """The decay per step of an exponential moving average of the weights; 0 for no average.

    The averaged weights are validated, and used after the training (`training.averaging`).
    """
    smoothing: float = number(0.0, low=0, below=1)
    """Label smoothing: the share of each label that is spread over all classes; 0 for none.

    It affects the loss to minimise, not the loss that is reported.
    """
    adversarial: float = number(0.0, low=0, high=64)
    """Adversarial training: the largest change of a pixel, in 1/255 of its range; 0 for none.

    Each training image is changed by an attack on the network within this budget
    (`trainables.training.adversarial`).
    """

    def __post_init__(self) -> None:
        check(self, "train.")
        if self.class_weights != "none" and self.group_dro:
            raise ConfigError(
                f"train.class_weights={self.class_weights} and train.group_dro={self.group_dro:g} "
                "both weight the images in the loss. Remove one of these settings."
            )
        if self.class_weights != "none" and self.sampling != SHUFFLED:
            raise ConfigError(
                f"train.class_weights={self.class_weights} and train.sampling={self.sampling} both "
                "compensate for different class sizes. Remove one of these settings, or search "
                "train.class_weights only when train.sampling is shuffled."
            )

    @property
    def group_setting(self) -> str:
        """The setting that requires groups; empty if there is none."""
        if self.sampling == GROUPS:
            return f"train.sampling={GROUPS}"
        return f"train.group_dro={self.group_dro:g}" if self.group_dro else ""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """All settings that determine the result of a training.

    On the same data, equal configs give equal metrics on the CPU of the same machine.

    Raises:
        ConfigError: on construction, if a value is not allowed.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    """For a baseline, only `class_weights` has an effect, if its classifier supports weights."""
    options: Options = field(default_factory=Options)
    """The options of the task, an instance of `TaskEntry.options`; their paths are `task.NAME`."""
    batch_size: int = number(64, low=2)
    precision: str = name_of("auto", "precision", PRECISION_NAMES)
    """The number format in which the network is trained.

    `bf16` and `fp16` compute in bfloat16 or float16 under autocast, with weights and sums in
    float32; `auto` uses one of them if that is faster (`trainables.training.precision`). In float16
    the loss is scaled.
    """
    epochs: int = number(20, low=1)
    """The number of epochs; for a baseline always 1, because it is fitted once."""
    seed: int = number(0, low=0, high=2**31)
    warm_start: str = ""
    """The checkpoint whose weights, including the head's, this training starts with.

    It is a path relative to the data's folder (`data.root`), or empty for none. The optimizer's
    state is not restored.
    """
    metric: str = ""
    """The name of the validation metric that ranks epochs and trials.

    An empty name is replaced by that of the task's primary metric.
    """
    members: "tuple[TrialConfig, ...]" = ()
    """The configs of the trainings whose predictions an ensemble averages; empty for one training.

    The other fields are those of the first member, with which they share the data and the task. An
    ensemble is not trained: its checkpoint has the networks of its members.
    """

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "metric", self.metric or self.task.primary.name)
        if self.options == Options():
            object.__setattr__(self, "options", self.task.options_class())
        self._check_task()
        if self.warm_start and (self.model.is_baseline or self.data.folds is not None):
            raise ConfigError(
                f"warm_start={self.warm_start} cannot be combined with a baseline or data.folds, "
                "because only a single network can continue from a checkpoint. Remove warm_start."
            )
        if self.model.is_baseline:
            object.__setattr__(self, "epochs", 1)
            object.__setattr__(self, "train", self._train_of_baseline())
        if self.augment.flip and not DATASETS[self.data.name].flip:
            raise ConfigError(
                f"augment.flip cannot be used for '{self.data.name}', because mirroring changes "
                "the meaning of its images. Remove augment.flip."
            )
        if self.optimizer.backbone_lr is not None and (
            not self.model.pretrained or self.model.freeze == "backbone"
        ):
            raise ConfigError(
                "optimizer.backbone_lr requires a pretrained backbone that is not frozen. "
                "Set model.pretrained=true, and remove model.freeze=backbone."
            )

    def _train_of_baseline(self) -> TrainConfig:
        """Return `train` without the options that the baseline's classifier does not support."""
        weighs = MODELS[self.model.name].takes_class_weights
        return TrainConfig(class_weights=self.train.class_weights) if weighs else TrainConfig()

    def _check_task(self) -> None:
        task = self.task
        if self.metric not in task.names:
            raise ConfigError(unknown(f"metric of {task.name}", self.metric, task.names))
        if task.name not in (served := MODELS[self.model.name].tasks):
            raise ConfigError(
                f"the model '{self.model.name}' supports {', '.join(served)}, but not {task.name}. "
                f"Choose one of: {', '.join(models_for(task.name))}."
            )
        augment, train = self.augment, self.train
        for capability, setting, is_on in (
            ("policy", "augment.policy", augment.policy != "none"),
            ("soft_labels", "augment.mix", augment.mix != "none"),
            ("augment", "augment", augment.is_on),
            ("balance", "train.class_weights", train.class_weights != "none"),
            ("sampling", "train.sampling", train.sampling != SHUFFLED),
            ("soft_labels", "train.smoothing", train.smoothing > 0),
            ("robustness", "train.adversarial", train.adversarial > 0),
        ):
            if is_on:
                task.require(capability, setting)
        if (setting := train.group_setting) and not self.data.groups:
            raise ConfigError(
                f"{setting} requires groups of images. Pass --groups FILE.csv, which sets "
                f"data.groups, or remove {setting}."
            )
        if self.ranked_by.is_lowest and self.data.folds is not None:
            raise ConfigError(
                f"metric={self.metric} cannot be combined with data.folds, because the lowest "
                "share of a fold is that of a few images. Use another metric, or no folds."
            )
        if train.group_dro and augment.mix != "none":
            raise ConfigError(
                f"train.group_dro={train.group_dro:g} cannot be combined with "
                f"augment.mix={augment.mix}, because a mixed image may belong to two groups. "
                "Remove one of these settings."
            )
        if self.precision in ("bf16", "fp16"):
            task.require("half", f"precision={self.precision}")

    def override(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with the values at these dotted paths.

        For example `override({"optimizer.lr": 0.1, "epochs": 3})`. All values of a section, such as
        `optimizer`, are set at once, so that they are checked together. If `data.task` changes,
        `metric` becomes the primary metric of the new task, unless `values` sets it too.

        Raises:
            ConfigError: a path is unknown (the closest one is suggested), or a value is not
                allowed.
        """
        for path in values:
            if path not in PATHS:
                raise unknown_key(path)
        changes: Params = {path: value for path, value in values.items() if "." not in path}
        if values.get("data.task", self.data.task) != self.data.task:
            changes.setdefault("metric", "")
            changes["options"] = Options()
        parts: dict[str, Params] = {}
        for path, value in values.items():
            if "." in path:
                part, name = path.split(".")
                parts.setdefault(part, {})[name] = value
        options = parts.pop("task", {})
        for part, part_values in parts.items():
            changes[part] = dataclasses.replace(getattr(self, part), **part_values)
        changed = dataclasses.replace(self, **changes)
        return changed._with_options(options) if options else changed

    def _with_options(self, values: Params) -> Self:
        """Return a copy with these options of the task, by name.

        Raises:
            ConfigError: the task has no such option, or a value is not allowed.
        """
        accepted = [field.name for field in dataclasses.fields(self.options)]
        for name in values:
            if name not in accepted:
                remedy = (
                    f"It accepts: task.{', task.'.join(accepted)}." if accepted else "Remove it."
                )
                raise ConfigError(f"the task {self.task.name} has no option task.{name}. {remedy}")
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **values))

    def on(self, data: DataConfig) -> Self:
        """Return a copy for another data set.

        If the model does not support the data set's task, it is replaced by the first model that
        does, with default options. A metric that the task lacks is replaced by the
        task's primary metric.

        Raises:
            ConfigError: there is no model for the task.
        """
        suited = models_for(data.task)
        if not suited:
            raise ConfigError(f"there is no model for {data.task}. Choose another --task.")
        return dataclasses.replace(
            self,
            data=data,
            model=self.model if self.model.name in suited else ModelConfig(name=suited[0]),
            options=self.options if data.task == self.data.task else Options(),
            metric=self.metric if self.metric in TASKS[data.task].names else "",
        )

    def value(self, path: str) -> Any:
        """Return the value at a dotted path; for a model option that is None, its default."""
        part, _, name = path.rpartition(".")
        if part == "model" and name != "name":
            return self.model.options.get(name)
        if part == "task":
            return getattr(self.options, name, None)
        return getattr(getattr(self, part) if part else self, name)

    @property
    def begins_with(self) -> Path | None:
        """The path of the checkpoint that `warm_start` names; None if it is empty."""
        return Path(self.data.root, self.warm_start) if self.warm_start else None

    @property
    def task(self) -> TaskEntry:
        """The catalog's entry of the task."""
        return TASKS[self.data.task]

    def load_task(self) -> Any:
        """Return the task with its options, a `trainables.tasks.base.Task`; imports torch."""
        return self.task.load(self.options)

    @property
    def ranked_by(self) -> Metric:
        """The metric that ranks epochs and trials."""
        return self.task.metric(self.metric)

    def to_dict(self) -> Json:
        """Return the config as a nested dict of JSON-compatible values.

        The default task and its primary metric are left out, and so are the task's options that
        have their defaults, and `train`, `warm_start`, `data.leaks` and `LATER_OPTIONS` if they
        have no effect. Therefore a config that does not use these fields still has the training key
        (`training_key`) that it had before they existed.
        """
        values = dataclasses.asdict(dataclasses.replace(self, members=()) if self.members else self)
        del values[MEMBERS]
        if self.members:
            values[MEMBERS] = [member.to_dict() for member in self.members]
        defaults = dataclasses.asdict(self.task.options_class())
        options = values.pop("options")
        if set_options := {
            name: options[name] for name in options if options[name] != defaults[name]
        }:
            values["task"] = set_options
        for section, names in LATER_OPTIONS.items():
            part = getattr(self, section)
            for name in names:
                if getattr(part, name) == part.__dataclass_fields__[name].default:
                    del values[section][name]
        if self.train == TrainConfig():
            del values["train"]
        if not self.warm_start:
            del values["warm_start"]
        if self.data.leaks == KEEP:
            del values["data"]["leaks"]
        if self.task.is_implied:
            del values["data"]["task"]
            if self.metric == self.task.primary.name:
                del values["metric"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from the output of `to_dict`; if `data.leaks` is missing, it is `keep`.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        flat = {"data.leaks": KEEP} if "data" in values else {}
        flat |= {
            f"{key}.{name}": inner
            for key, value in values.items()
            if isinstance(value, Mapping)
            for name, inner in value.items()
        }
        flat |= {
            key: value
            for key, value in values.items()
            if not isinstance(value, Mapping) and key != MEMBERS
        }
        members = tuple(cls.from_dict(member) for member in values.get(MEMBERS, ()))
        config = cls().override(flat)
        return dataclasses.replace(config, members=members) if members else config


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
    """Return the names of the models that can be trained for a task."""
    return [name for name, entry in MODELS.items() if task in entry.tasks]


def _all_paths() -> dict[str, Any]:
    paths = _paths(TrialConfig)
    del paths[MEMBERS]
    for entry in TASKS.values():
        paths |= _paths(entry.options_class, "task.")
    return paths


PATHS: dict[str, Any] = _all_paths()
"""The dotted paths into a `TrialConfig`, each with the type of its value."""


def unknown_key(path: str) -> ConfigError:
    """Return the error for an unknown path; it lists known keys and suggests a similar one."""
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
    """Parse `key=value` into the key and its value, converted to the key's type.

    Raises:
        ConfigError: there is no `=`, the key is unknown, or the value cannot be converted.
    """
    path, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"a setting must have the form key=value (got '{text}').")
    if path not in PATHS:
        raise unknown_key(path)
    return path, parse(path, value, PATHS[path])


def is_horizon_free(config: TrialConfig) -> bool:
    """True if a longer training of this config starts with the same epochs."""
    return config.optimizer.schedule in HORIZON_FREE


def training_key(config: TrialConfig) -> str:
    """Return 16 hex digits that identify a training, regardless of its number of epochs.

    If two configs have the same key, and the data is the same, the longer training starts with the
    epochs of the shorter one. If the schedule depends on the number of epochs, so does the key.
    """
    values = config.to_dict()
    if is_horizon_free(config):
        del values["epochs"]
    values["model"] = {"name": config.model.name, **config.model.options}
    values["data"] = {
        name: value for name, value in values["data"].items() if name not in ELSEWHERE
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def training_key_of(config: Json) -> str:
    """Return the training key of a config that a journal stores as JSON.

    The key is empty if the config is empty, or not valid for this version of the code.
    """
    try:
        return training_key(TrialConfig.from_dict(config)) if config else ""
    except ConfigError:
        return ""


def is_own_beginning(earlier: TrialConfig, epoch: int, config: TrialConfig) -> bool:
    """True if the epochs of `earlier`, up to `epoch`, are also the first epochs of `config`."""
    return epoch <= config.epochs and training_key(earlier) == training_key(config)
