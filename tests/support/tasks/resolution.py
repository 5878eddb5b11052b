"""Super-resolution: no classes, the input made from the target, and a metric above 1.

The data are smooth patterns. A network doubles height and width.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.augmentation.augment import augment
from trainables.catalog.entries import DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Images, Part
from trainables.datasets.targets import Targets
from trainables.tasks.base import Batch, FromPixels, Losses, Predictions, Processes, Task
from trainables.tasks.pictures import encode_webp
from trainables.tasks.pixels import Pixels, units

NAME = "patterns"
TASK = TaskEntry(
    name="resolution",
    title="super-resolution",
    implementation=f"{__name__}:Resolution",
    targets=f"{__name__}:Large",
    predictor="tests.support.tasks.resolution_predictor",
    metrics=(
        Metric(
            name="psnr",
            title="PSNR",
            is_primary=True,
            limits=(0.0, float("inf")),
            unit="dB",
        ),
    ),
    can=frozenset({"augment", "half"}),
)
DATASET = DatasetEntry(module=__name__, tasks=(TASK.name,), flip=True)
MODEL = ModelEntry(builder=f"{__name__}:build", options={"width": 8}, tasks=(TASK.name,))
SIDE, LEAST = 16, 1e-10
"""The height and width of a pattern; the least squared error, so that PSNR is finite."""


def files(config: DataConfig) -> list[Path]:
    """Return no files: the images are drawn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Draw 60 grey patterns of waves; each image is its own target."""
    generator = np.random.default_rng(7)
    down, across = np.mgrid[:SIDE, :SIDE]
    waves = [
        np.sin(first * down + second * across + third)
        for first, second, third in generator.uniform(0.2, 1.2, (60, 3))
    ]
    images = np.round(127 + 100 * np.stack(waves)).astype(np.uint8)[..., None]
    return Decoded((), Part(images, images))


def build(image: tuple[int, int, int], outputs: int, *, width: int) -> nn.Module:
    """Build a network that enlarges by `outputs` and learns what is missing then."""
    return nn.Sequential(
        nn.Conv2d(image[0], width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, image[0] * outputs**2, 3, padding=1), nn.PixelShuffle(outputs),
    )  # fmt: skip


class Large(Targets):
    """Images that networks get at half their height and width."""

    def image(self, dataset: Dataset) -> tuple[int, int, int]:
        """Return the size of what networks get."""
        channels, height, width = dataset.image
        return channels, height // 2, width // 2

    def width(self, dataset: Dataset) -> int:
        """Return how many times larger images become."""
        return 2


class Resolution(Task):
    """Images twice as large; targets are the images, and what networks get is made from them."""

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Return small images, scaled, and large ones with pixels from 0 to 1."""
        large = units(pixels.images[pixels.whole_rows(rows)])
        if changes is not None and pixels.augment.is_on:
            large = augment(large, pixels.augment, changes)
        small = functional.avg_pool2d(large.mul(255).round(), 2).round().div(255)
        return Batch(pixels.normalise(small), large, len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the mean squared error."""
        with autocast:
            outputs = network(batch.inputs)
        loss = functional.mse_loss(outputs.float(), batch.targets)
        return Losses(loss, loss)

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "SquareMeter":
        """Return a new meter."""
        return SquareMeter(metric)

    def module(self, network: nn.Module, pixels: Pixels) -> nn.Module:
        """Return the way from small uint8 images to large ones."""
        return Enlarged(network, pixels)

    def given(self, part: Part) -> Images:
        """Return the images at half their height and width."""
        count, height, width, channels = part.images.shape
        blocks = part.images.reshape(count, height // 2, 2, width // 2, 2, channels)
        small: Images = np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)
        return small

    def examples(self, dataset: Dataset, count: int) -> Images:
        """Return small images of the validation part, over and over."""
        return self.given(dataset.val.take(np.arange(count) % len(dataset.val)))

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> dict[str, Any]:
        """Measure enlarged images, with pixels from 0 to 1, against the true ones."""
        each = _psnr(predictions, part)
        value, error = float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)
        worst = int(each.argmin())
        return {
            "images": len(part),
            metric.name: value,
            "metric": metric.evaluated(value, error, len(part) - 1),
            "pictures": [
                {"title": f"true, {each[worst]:.1f} dB", "webp": encode_webp(part.images[worst])},
                {
                    "title": "enlarged",
                    "webp": encode_webp(
                        np.round(255 * predictions[worst].clip(0, 1)).astype(np.uint8)
                    ),
                },
            ],
        }

    def value(self, predictions: Predictions, part: Part) -> float:
        """Return the mean PSNR."""
        return float(_psnr(predictions, part).mean())


def _psnr(predictions: NDArray[Any], part: Part) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each image, in dB."""
    errors = ((predictions - part.images / 255.0) ** 2).mean(axis=(1, 2, 3))
    found: NDArray[np.float64] = -10 * np.log10(np.maximum(errors, LEAST))
    return found


class SquareMeter:
    """Squared errors of each image."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.stored = list[Tensor]()
        self.errors = list[Tensor]()

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Take enlarged images."""
        self.errors.append(((outputs.float() - batch.targets) ** 2).mean(dim=(1, 2, 3)))

    def values(self, world: Processes) -> dict[str, float]:
        """Return the mean squared error, and the mean PSNR with its standard error."""
        errors = torch.cat(self.errors).double()
        each = -10 * torch.log10(errors.clamp(min=LEAST))
        return {
            "val/loss": float(errors.mean()),
            self.metric.key: float(each.mean()),
            self.metric.error_key: float(each.std()) / len(each) ** 0.5,
        }


class Enlarged(FromPixels):
    """The scaling of pixels and the network."""

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 (count, height, width, channels) to float32, twice as large, from 0 to 1."""
        return super().forward(images).float().permute(0, 2, 3, 1)
