"""Super-resolution: a network makes images larger.

Its input is a small image, and its output is what the bicubic enlargement lacks: a network that has
learned nothing is as good as bicubic. Networks are trained on random crops, and enlarge whole
images tile by tile (`predictor`): in validation, evaluation, export and use alike.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.catalog.entries import Metric
from trainables.config import AugmentConfig
from trainables.datasets.arrays import Arrays, Dataset, Images, Part
from trainables.tasks.base import (
    Batch,
    FromPixels,
    Losses,
    Predictions,
    Processes,
    Run,
    Task,
    WholeImages,
    draw_crops,
    gather,
    largest_difference,
)
from trainables.tasks.pixels import Pixels, floats, units
from trainables.tasks.super_resolution.entry import SuperResolutionOptions
from trainables.tasks.super_resolution.networks import enlarge_bicubic
from trainables.tasks.super_resolution.predictor import enlarge_by_tiles
from trainables.tasks.super_resolution.reducing import scale_of
from trainables.tasks.super_resolution.report import (
    Quality,
    bicubic_psnr,
    epoch_values,
    mean_gain,
    report,
)
from trainables.values import Evaluation, Json

CORRECTION = 0.1
"""The correction of pixels from 0 to 1 for an output of 1.

True corrections are mostly below it. Without this factor, the first steps of Adam, which change
each weight by about the learning rate, would make corrections that are much too large.
"""
EPSILON = 1e-3
"""The error, of a pixel from 0 to 1, below which the Charbonnier loss is about quadratic (Lai et
al. 2017, arXiv 1704.03915)."""
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": functional.l1_loss,
    "l2": functional.mse_loss,
    "charbonnier": lambda enlarged, truth: ((enlarged - truth) ** 2 + EPSILON**2).sqrt().mean(),
}
"""The losses, by the names in `task.loss`."""


REFERENCES: WeakKeyDictionary[Pixels, dict[int, float]] = WeakKeyDictionary()
"""The PSNR of the bicubic enlargement of each image of a part, by row.

It is the same each epoch, and takes as long to compute as a small network's enlargement.
"""


class SmallImages(NamedTuple):
    """The small images of a batch."""

    scaled: Tensor
    """The input of the network, float32 (batch, channels, height, width)."""
    enlarged: Tensor
    """Their bicubic enlargements, with pixels from 0 to 1."""


class EnlargedImage(NamedTuple):
    """The prediction of a validation image, and what it is compared with."""

    enlarged: Images
    small: Images


class SuperResolution(Task):
    """The enlargement of images; targets are the large images, in the form of `Part.images`."""

    options: SuperResolutionOptions
    any_size = True
    has_fixed_input = True
    tolerance = 1e-3

    # Training.

    def draw(
        self,
        config: AugmentConfig,
        batches: int,
        count: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Tensor:
        """Draw the place of each crop, two numbers from 0 to 1, its turn, and if it is mirrored."""
        turned = self.options.turns
        crops = draw_crops(batches, count, generator, turns=turned)
        mirrors = torch.randint(2 if turned else 1, (batches, 1, count), generator=generator)
        return torch.cat([crops, mirrors.float()], dim=1).to(device)

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Build a batch of crops for training, or of whole images for validation."""
        whole_rows = pixels.whole_rows(rows).tolist()
        if changes is None:
            truths = [pixels.targets[row] for row in whole_rows]
            return Batch(WholeImages(pixels, whole_rows), truths, len(rows))
        pairs = [
            _crops(pixels.images[row], pixels.targets[row], min(pixels.image[1:]), place)
            for row, place in zip(whole_rows, changes.T.tolist(), strict=True)
        ]
        small, large = (torch.stack(images) for images in zip(*pairs, strict=True))
        scale = large.shape[1] // small.shape[1]
        inputs = SmallImages(pixels.scale(small), enlarge_bicubic(units(small), scale))
        return Batch(inputs, units(large), len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Compute the loss that the options name, and the mean squared error to report."""
        with autocast:
            correction = network(batch.inputs.scaled)
        enlarged = batch.inputs.enlarged + CORRECTION * correction.float()
        trained = LOSSES[self.options.loss](enlarged, batch.targets)
        return Losses(trained, functional.mse_loss(enlarged.detach(), batch.targets))

    # Validation.

    def outputs(self, network: nn.Module, batch: Batch) -> list[EnlargedImage]:
        """Enlarge whole images, tile by tile."""
        pixels, rows = batch.inputs
        side = self.tile_side(pixels.dataset)
        enlarger = TileEnlarger(network, pixels)

        def run(tiles: Images) -> NDArray[np.float32]:
            tensor = torch.from_numpy(tiles).to(pixels.device)
            enlarged: NDArray[np.float32] = enlarger(tensor).cpu().numpy()
            return enlarged

        outputs = []
        for row, truth in zip(rows, batch.targets, strict=True):
            small = pixels.images[row].cpu().numpy()
            scale = truth.shape[0] // small.shape[0]
            outputs.append(EnlargedImage(enlarge_by_tiles(run, small, side, scale), small))
        return outputs

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "QualityMeter":
        """Build a meter of this metric for a part."""
        return QualityMeter(metric, pixels)

    # Use.

    def module(self, network: nn.Module, pixels: Pixels) -> "TileEnlarger":
        """Build the module that maps uint8 tiles to enlarged ones, with pixels from 0 to 255."""
        return TileEnlarger(network, pixels)

    def apply(self, run: Run, images: Arrays, size: int, dataset: Dataset) -> list[Images]:
        """Enlarge each image with a function of tiles (`module`)."""
        side, scale = self.tile_side(dataset), scale_of(dataset.train)
        return [enlarge_by_tiles(run, image, side, scale) for image in images]

    def difference(self, first: Predictions, second: Predictions) -> float:
        """Return the largest mean difference between the pixels of two images, from 0 to 1.

        Single pixels may differ by a grey level, when a tiny difference changes their rounding.
        """

        def distance(image: Images, other_image: Images) -> float:
            if image.shape != other_image.shape:
                return float("inf")
            return float(np.abs(image.astype(np.int16) - other_image).mean() / 255)

        return largest_difference(distance, first, second)

    # Evaluation.

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Compare enlarged images with the true ones (`report`)."""
        return report(predictions, part, metric)

    def value(self, predictions: Predictions, part: Part) -> float:
        """Compute the mean gain over bicubic enlargement, in dB."""
        return mean_gain(predictions, part)

    # Export.

    def describe(self, dataset: Dataset) -> Json:
        """Return the values for `about.json`."""
        return {**super().describe(dataset), "scale": scale_of(dataset.train)}


class QualityMeter:
    """The quality of each enlarged image of a part."""

    def __init__(self, metric: Metric, pixels: Pixels) -> None:
        self.metric, self.pixels = metric, pixels
        self.stored = list[Tensor]()
        self._each = list[Quality]()

    def add(self, outputs: list[EnlargedImage], batch: Batch) -> None:
        """Add enlarged images."""
        references = REFERENCES.setdefault(self.pixels, {})
        rows = batch.inputs.rows
        for row, (enlarged, small), target in zip(rows, outputs, batch.targets, strict=True):
            truth = target.cpu().numpy()
            if row not in references:
                references[row] = bicubic_psnr(small, truth)
            quality = Quality.of(
                enlarged,
                truth,
                small,
                with_ssim=self.metric.name == "ssim",
                reference=references[row],
            )
            self._each.append(quality)

    def values(self, world: Processes) -> dict[str, float]:
        """Return the loss, the metrics, and the standard error of the one that ranks trials."""
        each = torch.tensor(self._each, dtype=torch.float64, device=self.pixels.device)
        each = each.reshape(-1, len(Quality._fields))  # a process may have no image
        return epoch_values(gather(each, len(self.pixels), world).cpu().numpy(), self.metric)


class TileEnlarger(FromPixels):
    """The bicubic enlargement with a network's correction: uint8 tiles to float32, 0 to 255.

    It maps (count, height, width, channels) to (count, scale * height, scale * width, channels).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Enlarge uint8 tiles."""
        correction = super().forward(images).float()
        scale = correction.shape[2] // images.shape[1]
        enlarged = enlarge_bicubic(floats(images), scale) + 255 * CORRECTION * correction
        return enlarged.clamp(0, 255).permute(0, 2, 3, 1)


def _crops(small: Tensor, large: Tensor, side: int, change: list[float]) -> tuple[Tensor, Tensor]:
    """Cut the same square out of a small and a large image, and turn and mirror both.

    A smaller image is continued by its edges.

    Args:
        small: uint8 (height, width, channels).
        large: the same, `scale` times larger.
        side: the side of the square in the small image, in pixels.
        change: the place along each axis, from 0 to 1, the number of quarter turns, and 1 to
            mirror.
    """
    scale = large.shape[0] // small.shape[0]
    *shares, turns, mirrors = change
    starts = [
        round(share * max(0, length - side))
        for share, length in zip(shares, small.shape[:2], strict=True)
    ]
    pair = []
    for image, times in ((small, 1), (large, scale)):
        down, across = (
            torch.arange(times * start, times * (start + side), device=image.device).clamp(
                max=length - 1
            )
            for start, length in zip(starts, image.shape[:2], strict=True)
        )
        crop = torch.rot90(image[down[:, None], across], int(turns))
        pair.append(crop.flip(1) if mirrors else crop)
    return pair[0], pair[1]
