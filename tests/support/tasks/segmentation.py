"""Segmentation of images of mixed sizes: a target as large as the image, a class for each pixel.

The data are discs on noise. Networks are trained on squares cut out at random, and used on whole
images.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.augmentation.augment import augment, draw, move
from trainables.catalog.entries import UNIT, DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.config import AugmentConfig, DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part, Ragged
from trainables.tasks.base import Batch, FromPixels, Losses, Predictions, Processes, Task
from trainables.tasks.pictures import encode_webp
from trainables.tasks.pixels import Pixels, units

NAME = "discs"
TASK = TaskEntry(
    name="outlines",
    title="outlines",
    implementation=f"{__name__}:Segmentation",
    predictor="tests.support.tasks.segmentation_predictor",
    metrics=(
        Metric(name="iou", title="mean IoU", limits=UNIT, is_primary=True),
        Metric(name="pixel_accuracy", title="pixel accuracy", limits=UNIT),
    ),
    can=frozenset({"augment", "half"}),
)
DATASET = DatasetEntry(module=__name__, tasks=(TASK.name,), flip=True)
MODEL = ModelEntry(builder=f"{__name__}:build", options={"width": 8}, tasks=(TASK.name,))
SMALLEST, LARGEST = 16, 28
SHOWN = 4


def files(config: DataConfig) -> list[Path]:
    """Return no files: the images are drawn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Draw 60 images of bright discs, and the pixels that belong to them."""
    generator = np.random.default_rng(3)
    images, masks = [], []
    for _ in range(60):
        height, width = generator.integers(SMALLEST, LARGEST + 1, 2)
        down, across = np.mgrid[:height, :width]
        radius = generator.uniform(3, 6)
        middle = (
            generator.uniform(radius, height - radius),
            generator.uniform(radius, width - radius),
        )
        mask = (down - middle[0]) ** 2 + (across - middle[1]) ** 2 < radius**2
        noise = generator.normal(80, 25, (height, width, 3))
        images.append(np.clip(noise + 70 * mask[..., None], 0, 255).astype(np.uint8))
        masks.append(mask.astype(np.uint8))
    return Decoded(("ground", "disc"), Part(Ragged.of(images), Ragged.of(masks)))


def build(image: tuple[int, int, int], outputs: int, *, width: int) -> nn.Module:
    """Build three convolutions that keep the size."""
    return nn.Sequential(
        nn.Conv2d(image[0], width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(width, outputs, 3, padding=1),
    )  # fmt: skip


class Segmentation(Task):
    """A class for each pixel; targets are uint8 (height, width) for each image."""

    any_size = True

    def draw(
        self,
        config: AugmentConfig,
        batches: int,
        count: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Tensor:
        """Draw where each square is cut out, from 0 to 1, before what augmentation takes."""
        places = torch.rand(batches, 2, count, generator=generator).to(device)
        return torch.cat([places, draw(config, batches, count, generator, device)], dim=1)

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Return squares of the images in training, and whole images, one by one, to validate."""
        each = [
            (pixels.images[row], pixels.targets[row]) for row in pixels.whole_rows(rows).tolist()
        ]
        if changes is None:
            inputs = [pixels.scale(image[None]) for image, _ in each]
            return Batch(inputs, [mask[None].long() for _, mask in each], len(rows))
        side = pixels.image[1]
        squares = [
            _square(image, mask, side, place)
            for (image, mask), place in zip(each, changes[:2].T.tolist(), strict=True)
        ]
        images = units(torch.stack([image for image, _ in squares]))
        masks = torch.stack([mask for _, mask in squares])[:, None].float()
        images = augment(images, pixels.augment, changes[2:])
        masks = move(masks, pixels.augment, changes[2:])
        return Batch(pixels.normalise(images), masks[:, 0].long(), len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the mean cross-entropy of the pixels."""
        with autocast:
            outputs = network(batch.inputs)
        loss = functional.cross_entropy(outputs.float(), batch.targets)
        return Losses(loss, loss)

    def outputs(self, network: nn.Module, batch: Batch) -> list[Tensor]:
        """Return the logits of each whole image."""
        return [network(image) for image in batch.inputs]

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "PixelMeter":
        """Return a new meter."""
        return PixelMeter(metric)

    def module(self, network: nn.Module, pixels: Pixels) -> nn.Module:
        """Return the way from uint8 images to the classes' probabilities at each pixel."""
        return Probabilities(network, pixels)

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> dict[str, Any]:
        """Measure the probabilities, (classes, height, width) for each image."""
        counts = _counts(predictions, part)
        values = {name: measure(counts) for name, measure in MEASURES.items()}
        error = _error(counts, MEASURES[metric.name])
        each = [_iou(own[None]) for own in counts]
        worst = np.argsort(each, kind="stable")[:SHOWN]
        matrix = counts.sum(axis=0)
        return {
            "images": len(part),
            **values,
            "metric": metric.evaluated(values[metric.name], error, len(part) - 1),
            "tables": [
                {
                    "title": "Each class",
                    "columns": ["class", "pixels", "IoU"],
                    "rows": [
                        [name, int(matrix[number].sum()), float(_ious(matrix)[number])]
                        for number, name in enumerate(dataset.classes)
                    ],
                }
            ],
            "pictures": [
                {"title": f"IoU {each[row]:.2f}", "webp": encode_webp(part.images[row])}
                for row in worst
            ],
        }

    def value(self, predictions: Predictions, part: Part) -> float:
        """Return the mean IoU."""
        return _iou(_counts(predictions, part))


def _square(image: Tensor, mask: Tensor, side: int, place: list[float]) -> tuple[Tensor, Tensor]:
    """Cut a square out of an image and its mask; `place` is from 0 to 1 along each axis."""
    top, left = (
        int(share * (length - side + 1)) for share, length in zip(place, mask.shape, strict=True)
    )
    rows, columns = slice(top, top + side), slice(left, left + side)
    return image[rows, columns], mask[rows, columns]


def _confusion(guess: NDArray[Any], mask: NDArray[Any], classes: int) -> NDArray[np.int64]:
    pairs = np.asarray(mask, np.int64) * classes + guess
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def _counts(predictions: Predictions, part: Part) -> NDArray[np.int64]:
    """Count each image's pixels by true class (rows) and guessed class, (images, n, n)."""
    return np.stack(
        [
            _confusion(chances.argmax(axis=0), mask, len(chances))
            for chances, mask in zip(predictions, part.targets, strict=True)
        ]
    )


def _ious(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    right = matrix.diagonal()
    whole = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    found: NDArray[np.float64] = np.divide(right, whole, out=np.ones(len(right)), where=whole > 0)
    return found


def _iou(counts: NDArray[np.int64]) -> float:
    return float(_ious(counts.sum(axis=0)).mean())


def _pixel_accuracy(counts: NDArray[np.int64]) -> float:
    matrix = counts.sum(axis=0)
    return float(matrix.diagonal().sum() / matrix.sum())


MEASURES = {"iou": _iou, "pixel_accuracy": _pixel_accuracy}


def _error(counts: NDArray[np.int64], measure: Any) -> float:
    """Return the deviation of a measure between draws of as many images, with replacement."""
    generator = np.random.default_rng(0)
    rows = generator.integers(0, len(counts), (100, len(counts)))
    return float(np.std([measure(counts[drawn]) for drawn in rows], ddof=1))


class PixelMeter:
    """Loss and confusion of whole images."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.stored = list[Tensor]()
        self.losses, self.counts = list[float](), list[NDArray[np.int64]]()

    def add(self, outputs: list[Tensor], batch: Batch) -> None:
        """Take the logits of whole images."""
        for logits, mask in zip(outputs, batch.targets, strict=True):
            self.losses.append(float(functional.cross_entropy(logits.float(), mask)))
            guess = logits[0].argmax(dim=0).cpu().numpy()
            self.counts.append(_confusion(guess, mask[0].cpu().numpy(), logits.shape[1]))

    def values(self, world: Processes) -> dict[str, float]:
        """Return the loss, both metrics, and the standard error of the one that is asked for."""
        counts = np.stack(self.counts)
        return {
            "val/loss": float(np.mean(self.losses)),
            **{f"val/{name}": measure(counts) for name, measure in MEASURES.items()},
            self.metric.error_key: _error(counts, MEASURES[self.metric.name]),
        }


class Probabilities(FromPixels):
    """The scaling of pixels, the network, and softmax."""

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 (count, height, width, channels) to (count, classes, height, width)."""
        return super().forward(images).float().softmax(dim=1)
