"""The entry of super-resolution: enlarged images. No torch is imported."""

import math
from dataclasses import dataclass
from typing import Any

from trainables.catalog.entries import DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.fields import Options, name_of

LOSS_NAMES = ("l1", "l2", "charbonnier")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionOptions(Options):
    """The options of training for super-resolution."""

    loss: str = name_of("l1", "task.loss", LOSS_NAMES)
    """The loss to minimise: the mean absolute error, the mean squared error, or a smooth form of
    the absolute error (`training`).
    """
    turns: bool = True
    """True to turn crops by a random multiple of 90 degrees, and to mirror half of them."""


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
"""The baselines (`trainables.tasks.super_resolution.predictor.interpolate`)."""


def enlarging(builder: str, **options: Any) -> ModelEntry:
    """Build the catalog entry of a network that enlarges images.

    Args:
        builder: the name of the builder in `trainables.tasks.super_resolution.networks`.
        options: the network's options, with their defaults.
    """
    return ModelEntry(
        builder=f"trainables.tasks.super_resolution.networks:{builder}",
        options=options,
        min_side=4,
    )


MODELS: dict[str, ModelEntry] = {
    "srcnn": enlarging("srcnn", width=64),
    "fsrcnn": enlarging("fsrcnn", width=48, layers=4),
    "espcn": enlarging("espcn", width=64),
    "edsr": enlarging("edsr", width=32, layers=4),
    "autoencoder": enlarging("autoencoder", width=32, depth=2),
    **{
        name: ModelEntry(
            builder="trainables.tasks.super_resolution.baselines:Interpolation",
            kind="baseline",
            takes_class_weights=False,
            method="that has nothing to learn",
        )
        for name in INTERPOLATIONS
    },
}

DATASETS = {
    "photographs": DatasetEntry(
        description="18 photographs for super-resolution, in colour and grey: already installed",
        module="trainables.tasks.super_resolution.scenes",
        has_files=False,
        flip=True,
    )
}

ENTRY = TaskEntry(
    name="super_resolution",
    title="super-resolution",
    implementation="trainables.tasks.super_resolution.training:SuperResolution",
    predictor="trainables.tasks.super_resolution.predictor",
    targets="trainables.tasks.super_resolution.targets:PhotographTargets",
    model="trainables.tasks.super_resolution.model:Enlarger",
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
            limits=(-math.inf, math.inf),
            is_gain=True,
            unit="dB",
            is_primary=True,
        ),
        Metric(name="psnr", title="PSNR", limits=(0.0, math.inf), unit="dB"),
        Metric(name="ssim", title="SSIM", limits=(-1.0, 1.0)),
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
    reader="trainables.tasks.super_resolution.reading",
    folder="photographs to enlarge",
    bare_images="learn to enlarge these images",
    options_class=SuperResolutionOptions,
    models=MODELS,
    datasets=DATASETS,
)
