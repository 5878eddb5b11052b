"""One training, fully described: which network, on what data, trained how. No torch here.

A search names its hyperparameters by dotted paths into `TrialConfig`: "optimizer.lr",
"model.filter_size", "epochs".
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.errors import ConfigError, unknown
from trainables.fields import check, name_of, number, parse

OPTIMIZER_NAMES = ("adam", "adamw", "sgd")
SCHEDULE_NAMES = ("constant", "step", "plateau", "cosine")
SCALING_NAMES = ("unit", "symmetric", "standard")
PRECISION_NAMES = ("auto", "fp32", "bf16", "fp16")
FREEZE_NAMES = ("nothing", "all_but_last_stage", "backbone")
FEATURE_NAMES = ("hog", "lbp", "edges", "all")
"""Those of `trainables.baselines.features.FEATURES`, which takes scikit-image to import, and `all`."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. An option left at None takes the model's own default (`MODELS[name].options`)."""

    name: str = name_of("deep_cnn", "model", MODELS)
    width: int | None = number(None, low=1, high=4096)
    layers: int | None = number(None, low=3, high=200)
    filter_size: int | None = number(None, low=1, high=31)
    dropout: float | None = number(None, low=0, below=1)
    patch: int | None = number(None, low=1, high=64)
    """Pixels of the side of a transformer's patches."""
    pretrained: bool | None = None
    """Begin with weights that were trained on other images; pixels are then scaled as those weights
    want it, whatever `data.scaling` says.
    """
    weights: str | None = None
    """Where such weights lie (see `models/weights.py`), if not in torch's cache."""
    freeze: str | None = name_of(None, "model.freeze", FREEZE_NAMES)
    """What of a network stays as it begins: `nothing`, `all_but_last_stage` (and the head), or
    `backbone`, all but the head.
    """
    input_size: int | None = number(None, low=1, high=4096)
    """Resize images to this inside the network. None: to what pre-trained weights want; else not at
    all.
    """
    features: str | None = name_of(None, "kind of features", FEATURE_NAMES)
    """Of a baseline: what is made of an image (`trainables/baselines/features.py`); `all` joins
    them.
    """
    c: float | None = number(None, above=0)
    """`svm`: what an image on the wrong side costs."""
    gamma: float | None = number(None, above=0)
    """`svm`: how fast likeness fades with distance, in multiples of scikit-learn's `scale`, which
    allows for the features' number and spread.
    """
    neighbours: int | None = number(None, low=1)
    """`knn`: how many of the nearest images vote."""
    tree_depth: int | None = number(None, low=1)
    """`tree`: the most questions asked of an image."""

    def __post_init__(self) -> None:
        check(self, "model.")
        allowed = MODELS[self.name].options
        given = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name != "name" and value is not None
        }
        for option in [option for option in given if option not in allowed]:
            raise ConfigError(
                f"model '{self.name}' has no option '{option}'. It takes: {', '.join(allowed)}."
            )
        if self.filter_size is not None and self.filter_size % 2 == 0:
            raise ConfigError(
                f"model.filter_size must be odd, so that the filter has a centre (got {self.filter_size})."
            )
        if self.freeze not in (None, "nothing") and not self.pretrained:
            raise ConfigError(
                f"model.freeze={self.freeze} freezes weights that have learnt nothing. Set model.pretrained=true, or leave it out."
            )

    @property
    def is_baseline(self) -> bool:
        """Whether this is no network, but features made by hand and a classifier that is fitted
        once.
        """
        return MODELS[self.name].kind == "baseline"

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the model's builder: what was given, else the model's defaults."""
        return {
            option: default if getattr(self, option) is None else getattr(self, option)
            for option, default in MODELS[self.name].options.items()
        }


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images and how they are split and scaled. Fractions are of the images that are not a
    given test part.
    """

    name: str = name_of("digits", "data set", DATASETS)
    root: str = ""
    image_size: int | None = number(None, low=1, high=4096)
    skip_bad: bool = False
    """Leave unreadable images of a folder out, rather than refuse the folder."""
    scaling: str = name_of("standard", "scaling", SCALING_NAMES)
    train_limit: int | None = number(None, low=1)
    val_limit: int = number(5000, low=1)
    val_fraction: float = number(0.2, above=0, below=1)
    test_fraction: float = number(0.2, above=0, below=1)
    split_seed: int = number(0, low=0)
    folds: int | None = number(None, low=2, high=20)
    """Cross-validate: each trial trains so many networks, each on all but one fold of the images
    that are not the test part, and is measured on the fold left out. There is no validation part of
    its own then.
    """

    def __post_init__(self) -> None:
        check(self, "data.")
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"data.val_fraction and data.test_fraction add to {self.val_fraction + self.test_fraction:g}; below 1, so that images to train on are left."
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of each training image. Zero and False leave it as it is."""

    rotation: float = number(0.0, low=0, high=180)
    """Largest turn to either side, in degrees."""
    scale: float = number(0.0, low=0, below=1)
    """Largest relative change of size: 0.1 draws from 0.9 to 1.1."""
    crop: int = number(0, low=0, high=512)
    """Largest shift in pixels, each way; what comes in from outside is black."""
    flip: bool = False
    """Mirror left and right with probability one half."""
    jitter: float = number(0.0, low=0, below=1)
    """Largest relative change of brightness, contrast and (colour images) saturation."""

    def __post_init__(self) -> None:
        check(self, "augment.")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return any(dataclasses.astuple(self))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule (stepped once an epoch)."""

    name: str = name_of("adam", "optimizer", OPTIMIZER_NAMES)
    lr: float = number(1e-3, above=0)
    backbone_lr: float | None = number(None, above=0)
    """Of what a pre-trained network brings with it; `lr` is then the head's. None: `lr` for all."""
    weight_decay: float = number(0.0, low=0)
    momentum: float | None = number(None, low=0, below=1)
    """Of SGD alone; None is 0.9 there."""
    schedule: str = name_of("constant", "schedule", SCHEDULE_NAMES)
    decay: float = number(0.1, above=0, below=1)
    """What `step` and `plateau` multiply the learning rate by."""
    step_epochs: int = number(10, low=1)
    """`step`: epochs between two decays."""
    patience: int = number(3, low=0)
    """`plateau`: epochs without a lower validation loss before a decay."""

    def __post_init__(self) -> None:
        check(self, "optimizer.")
        if self.momentum is not None and self.name != "sgd":
            raise ConfigError(
                f"optimizer.momentum belongs to sgd (got {self.momentum} with {self.name}). Leave it out, or search it only when optimizer.name is sgd."
            )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a training's result. Two equal configs train to equal metrics on one
    machine's CPU.

    Raises:
        ConfigError: at birth, when a value is nonsense.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = number(64, low=2)
    precision: str = name_of("auto", "precision", PRECISION_NAMES)
    """`bf16` and `fp16` compute in bfloat16 or float16 under autocast, with weights and sums in
    float32; `auto` does where that is faster (`trainables/training/precision.py`). In float16 the
    loss is scaled.
    """
    epochs: int = number(20, low=1)
    """Of a baseline always 1: it is fitted once."""
    seed: int = number(0, low=0, high=2**31)

    def __post_init__(self) -> None:
        check(self)
        if self.model.is_baseline:
            object.__setattr__(self, "epochs", 1)
        if self.augment.flip and not DATASETS[self.data.name].flip:
            raise ConfigError(
                f"augment.flip: a mirrored image of '{self.data.name}' means something else. Leave it off."
            )
        if self.optimizer.backbone_lr is not None and (
            not self.model.pretrained or self.model.freeze == "backbone"
        ):
            raise ConfigError(
                "optimizer.backbone_lr is for a backbone that is pre-trained and learns: set model.pretrained=true and no model.freeze=backbone."
            )

    def override(self, values: Mapping[str, Any]) -> Self:
        """A copy with the values at these dotted paths: `override({"optimizer.lr": 0.1, "epochs":
        3})`.

        All values of a part are set together, so that they are checked as one.

        Raises:
            ConfigError: an unknown path (the nearest known one is suggested) or a value that does
                not fit.
        """
        for path in values:
            if path not in PATHS:
                raise unknown_key(path)
        changes: dict[str, Any] = {path: value for path, value in values.items() if "." not in path}
        parts: dict[str, dict[str, Any]] = {}
        for path, value in values.items():
            if "." in path:
                part, name = path.split(".")
                parts.setdefault(part, {})[name] = value
        for part, given in parts.items():
            changes[part] = dataclasses.replace(getattr(self, part), **given)
        return dataclasses.replace(self, **changes)

    def value(self, path: str) -> Any:
        """The value at a dotted path; for a model's option left open, the model's default."""
        part, _, name = path.rpartition(".")
        if part == "model" and name != "name":
            return self.model.options.get(name)
        return getattr(getattr(self, part) if part else self, name)

    def to_dict(self) -> dict[str, Any]:
        """A nested dict of plain values, as JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        flat = {
            f"{key}.{name}": inner
            for key, value in values.items()
            if isinstance(value, Mapping)
            for name, inner in value.items()
        }
        flat |= {key: value for key, value in values.items() if not isinstance(value, Mapping)}
        return cls().override(flat)


def _paths(cls: type, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(cls).items():
        found |= (
            _paths(kind, f"{name}.")
            if isinstance(kind, type) and dataclasses.is_dataclass(kind)
            else {prefix + name: kind}
        )
    return found


PATHS: dict[str, Any] = _paths(TrialConfig)
"""Every dotted path into a TrialConfig, with the type of its value."""


def unknown_key(path: str) -> ConfigError:
    """The error for a path that leads nowhere; it lists the keys of the same part."""
    part, _, last = path.rpartition(".")
    listed = [known for known in PATHS if known.rpartition(".")[0] == part]
    same = [known for known in PATHS if known.rpartition(".")[2] == last]
    if same:
        return ConfigError(
            f"unknown key '{path}'. Known: {', '.join(sorted(listed) or sorted(PATHS))}. Did you mean '{same[0]}'?"
        )
    return ConfigError(unknown("key", path, PATHS, listed=listed))


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `key=value` as a person types it, with the value in the key's own type.

    Raises:
        ConfigError: no `=`, an unknown key, or a value of another type.
    """
    path, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"a setting has the form key=value (got '{text}').")
    if path not in PATHS:
        raise unknown_key(path)
    return path, parse(path, value, PATHS[path])
