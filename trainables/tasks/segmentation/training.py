"""Segmentation: a network predicts the class of each pixel of an image.

Networks are trained on random crops, and predict whole images tile by tile
(`trainables.tasks.segmentation.predictor`): in validation, evaluation, export and use alike.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.augmentation.augment import augment, draw, move
from trainables.catalog.entries import Metric
from trainables.config import AugmentConfig
from trainables.datasets.arrays import Arrays, Dataset, Part
from trainables.predictors.base import Span, tiles
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
from trainables.tasks.pixels import Pixels, units
from trainables.tasks.segmentation.entry import SegmentationOptions
from trainables.tasks.segmentation.metrics import (
    boundary_f1,
    count_pixels,
    epoch_values,
    mean_iou,
)
from trainables.tasks.segmentation.predictor import TILE_PIXELS, Mask, predict_mask
from trainables.tasks.segmentation.report import report
from trainables.tasks.segmentation.values import IGNORED
from trainables.values import Evaluation


class PredictedImage(NamedTuple):
    """The prediction of a validation image."""

    mask: Tensor
    """The predicted class of each pixel, uint8 (height, width)."""
    loss: Tensor
    """The sum of the cross-entropies of the pixels that count."""


class TilePlace(NamedTuple):
    """A tile of an image of a batch."""

    image: int
    rows: Span
    columns: Span


class Segmentation(Task):
    """The prediction of class numbers; targets are masks, uint8 (height, width) for each image."""

    options: SegmentationOptions
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
        """Draw the place of each crop, two numbers from 0 to 1, its turn, and its augmentation."""
        crops = draw_crops(batches, count, generator, turns=self.options.turns).to(device)
        return torch.cat([crops, draw(config, batches, count, generator, device)], dim=1)

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Build a batch of crops for training, or of whole images for validation."""
        whole_rows = pixels.whole_rows(rows).tolist()
        if changes is None:
            truths = [pixels.targets[row] for row in whole_rows]
            return Batch(WholeImages(pixels, whole_rows), truths, len(rows))
        crops = [
            _crop(pixels.images[row], pixels.targets[row], pixels.image[1], place)
            for row, place in zip(whole_rows, changes[:3].T.tolist(), strict=True)
        ]
        images = units(torch.stack([image for image, _ in crops]))
        masks = torch.stack([mask for _, mask in crops])[:, None]
        images = augment(images, pixels.augment, changes[3:])
        # Pixels that come from outside are 0 after a move, and so ignored.
        masks = move(masks.float() - IGNORED, pixels.augment, changes[3:]) + IGNORED
        return Batch(pixels.normalise(images), masks[:, 0].long(), len(rows))

    def weigh(self, batch: Batch, class_weights: Tensor) -> Batch:
        """Return the batch with the weight of each class, (classes,)."""
        return batch._replace(weights=class_weights)

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Compute the loss that the options name, and the cross-entropy to report."""
        with autocast:
            logits = network(batch.inputs)
        logits, options = logits.float(), self.options
        trained = loss(
            options.loss, logits, batch.targets, gamma=options.focal_gamma, weights=batch.weights
        )
        return Losses(trained, cross_entropy(logits.detach(), batch.targets))

    # Validation.

    def outputs(self, network: nn.Module, batch: Batch) -> list[PredictedImage]:
        """Predict whole images, tile by tile."""
        pixels, rows = batch.inputs
        images = [pixels.images[row] for row in rows]
        predicted = [
            PredictedImage(torch.empty_like(mask), torch.zeros((), device=mask.device))
            for mask in batch.targets
        ]
        side = self.tile_side(pixels.dataset)
        for places in _chunks(images, side):
            inputs = torch.stack([_tile(images[place.image], place, side) for place in places])
            for place, logits in zip(places, network(pixels.scale(inputs)).float(), strict=True):
                _, rows_span, columns = place
                own = logits[:, rows_span.within, columns.within]
                taken = rows_span.taken, columns.taken
                predicted[place.image].mask[taken] = own.argmax(dim=0).to(torch.uint8)
                predicted[place.image].loss.add_(
                    functional.cross_entropy(
                        own[None],
                        batch.targets[place.image][taken][None].long(),
                        ignore_index=IGNORED,
                        reduction="sum",
                    )
                )
        return predicted

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "PixelMeter":
        """Build a meter of this metric for a part."""
        return PixelMeter(metric, pixels)

    # Use.

    def module(self, network: nn.Module, pixels: Pixels) -> "TileModel":
        """Build the module that maps uint8 tiles to class probabilities."""
        return TileModel(network, pixels)

    def apply(self, run: Run, images: Arrays, size: int, dataset: Dataset) -> list[Mask]:
        """Predict the mask of each image with a function of tiles (`module`)."""
        side = self.tile_side(dataset)
        return [predict_mask(run, image, side) for image in images]

    def difference(self, first: Predictions, second: Predictions) -> float:
        """Return the largest share of an image's pixels whose classes differ."""

        def share(mask: Mask, other_mask: Mask) -> float:
            is_same_size = mask.shape == other_mask.shape
            return float((mask != other_mask).mean()) if is_same_size else float("inf")

        return largest_difference(share, first, second)

    # Evaluation.

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Measure masks, uint8 (height, width) for each image (`report`)."""
        return report(predictions, part, dataset.classes, metric)

    def value(self, predictions: Predictions, part: Part) -> float:
        """Compute the mean IoU over the pixels of all images."""
        pairs = list(zip(predictions, part.targets, strict=True))
        classes = 1 + max(
            max(int(mask.max(initial=0)), int(truth[truth != IGNORED].max(initial=0)))
            for mask, truth in pairs
        )
        return float(mean_iou(np.sum([count_pixels(*pair, classes) for pair in pairs], axis=0)))


class PixelMeter:
    """Counts pixels of whole images by class, and adds up their loss."""

    def __init__(self, metric: Metric, pixels: Pixels) -> None:
        self.metric, self.pixels = metric, pixels
        self.stored = list[Tensor]()
        self._counts = list[NDArray[np.int64]]()
        self._boundaries = list[float]()
        self._losses = list[Tensor]()

    def add(self, outputs: list[PredictedImage], batch: Batch) -> None:
        """Add the predictions of whole images."""
        for predicted, truth in zip(outputs, batch.targets, strict=True):
            masks = predicted.mask.cpu().numpy(), truth.cpu().numpy()
            self._counts.append(count_pixels(*masks, len(self.pixels.dataset.classes)))
            self._losses.append(predicted.loss)
            if self.metric.name == "boundary_f1":
                self._boundaries.append(boundary_f1(*masks))

    def values(self, world: Processes) -> dict[str, float]:
        """Return the loss, the metrics, and the standard error of the one that ranks trials."""
        each: list[NDArray[Any]] = [
            gather(values.to(self.pixels.device), len(self.pixels), world).cpu().numpy()
            if len(values)
            else np.zeros(0)
            for values in (
                torch.from_numpy(np.array(self._counts)),
                torch.stack(self._losses),
                torch.tensor(self._boundaries, dtype=torch.float64),
            )
        ]
        counts, losses, boundaries = each
        loss = float(losses.sum() / max(1, counts.sum()))
        return {"val/loss": loss, **epoch_values(counts, boundaries, self.metric)}


class TileModel(FromPixels):
    """A network followed by softmax: uint8 tiles to float32 (count, classes, height, width)."""

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 tiles, (count, height, width, channels), to class probabilities."""
        return super().forward(images).float().softmax(dim=1)


def _crop(image: Tensor, mask: Tensor, side: int, place: list[float]) -> tuple[Tensor, Tensor]:
    """Cut a square out of an image and its mask, and turn both.

    A smaller image is continued by its edges, and its mask by `IGNORED`.

    Args:
        image: uint8 (height, width, channels).
        mask: uint8 (height, width).
        side: the side of the square, in pixels.
        place: the place along each axis, from 0 to 1, and the number of quarter turns.
    """
    *shares, turns = place
    axes = [
        torch.arange(side, device=mask.device) + round(share * max(0, length - side))
        for share, length in zip(shares, mask.shape, strict=True)
    ]
    down, across = (
        axis.clamp(max=length - 1) for axis, length in zip(axes, mask.shape, strict=True)
    )
    outside = (axes[0] >= mask.shape[0])[:, None] | (axes[1] >= mask.shape[1])
    crop = image[down[:, None], across]
    own = mask[down[:, None], across].masked_fill(outside, IGNORED)
    return torch.rot90(crop, int(turns)), torch.rot90(own, int(turns))


def _chunks(images: list[Tensor], side: int) -> Iterator[list[TilePlace]]:
    """Yield the tiles of these images, as many at once as the limit on pixels allows."""
    places = [
        TilePlace(number, *spans)
        for number, image in enumerate(images)
        for spans in tiles(image.shape[0], image.shape[1], side)
    ]
    at_once = max(1, TILE_PIXELS // side**2)
    for first in range(0, len(places), at_once):
        yield places[first : first + at_once]


def _tile(image: Tensor, place: TilePlace, side: int) -> Tensor:
    """Cut a tile out of an image, continued by its edges."""
    down, across = (
        torch.arange(span.start, span.start + side, device=image.device).clamp(max=length - 1)
        for span, length in zip((place.rows, place.columns), image.shape[:2], strict=True)
    )
    return image[down[:, None], across]


def cross_entropy(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean cross-entropy over pixels.

    Args:
        logits: float32 (batch, classes, height, width).
        masks: the class of each pixel, int64 (batch, height, width); `IGNORED` does not count.
        weights: the weight of each class, (classes,); None for equal weights.
    """
    total = functional.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="sum")
    counted = masks != IGNORED
    count = counted.sum() if weights is None else weights[masks[counted]].sum()
    return total / count.clamp(min=1e-6)


def focal(logits: Tensor, masks: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Compute the focal loss (Lin et al. 2017, arXiv 1708.02002), a mean over pixels.

    Each pixel's cross-entropy is multiplied by (1 - p) ** gamma, where p is the probability of its
    true class. The arguments are those of `cross_entropy`.
    """
    entropies = functional.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")
    counted = masks != IGNORED
    pixel_weights = counted.to(logits.dtype)
    if weights is not None:
        pixel_weights = pixel_weights * weights[masks.masked_fill(~counted, 0)]
    easy = (1 - torch.exp(-entropies)) ** gamma
    return (easy * entropies * pixel_weights).sum() / pixel_weights.sum().clamp(min=1e-6)


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute 1 minus the mean soft Dice coefficient of the classes in the batch.

    The coefficient of a class is 2 * sum(p * y) / (sum(p) + sum(y)), over all pixels of the batch
    (Milletari et al. 2016, arXiv 1606.04797, without squares). Classes that no pixel of the batch
    has are left out, because their coefficient would only say how small p is.

    The arguments are those of `cross_entropy`.
    """
    counted = (masks != IGNORED)[:, None]
    truth = functional.one_hot(masks.masked_fill(~counted[:, 0], 0), logits.shape[1])
    truth = truth.permute(0, 3, 1, 2).to(logits.dtype) * counted
    chances = logits.softmax(dim=1) * counted
    overlaps = (chances * truth).sum(dim=(0, 2, 3))
    sizes = truth.sum(dim=(0, 2, 3))
    coefficients = 2 * overlaps / (chances.sum(dim=(0, 2, 3)) + sizes).clamp(min=1e-6)
    present = (sizes > 0).to(logits.dtype)
    return 1 - (coefficients * present).sum() / present.sum().clamp(min=1)


def loss(
    name: str, logits: Tensor, masks: Tensor, *, gamma: float, weights: Tensor | None
) -> Tensor:
    """Compute the loss of this name (`SegmentationOptions.loss`); of two, the sum."""
    total = torch.zeros((), device=logits.device)
    if name.startswith("cross_entropy"):
        total = total + cross_entropy(logits, masks, weights)
    if name.startswith("focal"):
        total = total + focal(logits, masks, gamma, weights)
    if name.endswith("dice"):
        total = total + dice(logits, masks)
    return total
