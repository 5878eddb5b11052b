"""Detection: a network finds the objects in an image, each with a box, a class and a score.

Images are resized so that they fit into an input of one size, and padded with black
(`trainables.tasks.detection.predictor`): in training, validation, export and use alike. The network
returns candidates, from which the surest are selected (`trainables.tasks.detection.selection`),
also within the exported program.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from trainables.augmentation.augment import augment
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
    largest_difference,
)
from trainables.tasks.detection.entry import DetectionOptions
from trainables.tasks.detection.metrics import (
    Precision,
    best_working_point,
    epoch_values,
    matches_of,
    overlaps,
)
from trainables.tasks.detection.predictor import (
    CLASS_FOUND,
    SCORE,
    Detections,
    InputSize,
    detect,
    in_pixels,
    one_class_each,
    pad,
)
from trainables.tasks.detection.report import report
from trainables.tasks.detection.selection import best_boxes, fuse_boxes
from trainables.tasks.detection.values import CLASS, COLUMNS, Boxes
from trainables.tasks.pixels import Pixels, units
from trainables.values import Evaluation, Json

LEAST_SHARE = 0.3
"""A box of which less than this share of the area remains in a moved image is left out."""
SAME_BOX = 0.9
"""The intersection over union from which on two boxes are the same, for `Task.difference`."""


class PaddedImages(NamedTuple):
    """The images of a validation batch."""

    scaled: Tensor
    """The input of the network, float32 (batch, channels, height, width)."""
    rows: Tensor
    """The rows in the part."""


class Detection(Task):
    """The search for objects; targets are boxes (`trainables.tasks.detection.values`)."""

    options: DetectionOptions
    any_size = True
    has_fixed_input = True
    calibrates = True
    tolerance = 0.05
    """A single box with a score of 0.2 may be hidden in one form, in an image without objects.

    On some processors, boxes of lower scores are hidden by others of nearly equal scores in torch,
    but not in ONNX Runtime.
    """

    # Training.

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Build a batch of padded images, which are augmented with their boxes for training."""
        size = self.targets.image(pixels.dataset)[1:]
        whole_rows = pixels.whole_rows(rows).tolist()
        images = [torch.as_tensor(pixels.images[row], device=pixels.device) for row in whole_rows]
        padded = _padded(images, size)
        truths = [pixels.targets[row] for row in whole_rows]
        if changes is None:
            return Batch(PaddedImages(pixels.scale(padded), rows), truths, len(rows))
        boxes = _as_rows(truths)
        if not pixels.augment.is_on:
            return Batch(pixels.scale(padded), boxes, len(rows))
        augmented = augment(units(padded), pixels.augment, changes)
        boxes = move_boxes(boxes, pixels.augment, changes, size)
        return Batch(pixels.normalise(augmented), boxes, len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Compute the sum of the network's own losses, which is also reported."""
        with autocast:
            loss = network(batch.inputs, batch.targets).sum()
        return Losses(loss, loss.detach())

    # Validation.

    def outputs(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the boxes of each image, (batch, boxes, 6), in pixels of the padded image."""
        height, width = batch.inputs.scaled.shape[-2:]
        return best_boxes(
            network(batch.inputs.scaled).float(),
            (height, width),
            self.options.most_boxes,
            self.options.overlap,
            copies=_copies(network),
        )

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "BoxMeter":
        """Build a meter of this metric for a part."""
        return BoxMeter(metric, pixels, self.options.most_boxes)

    # Use.

    def module(self, network: nn.Module, pixels: Pixels) -> "BoxFinder":
        """Build the module that maps padded uint8 images to boxes."""
        return BoxFinder(network, pixels, self.options)

    def ensemble(self, members: list[nn.Module]) -> nn.Module:
        """Combine networks, whose boxes around the same object are averaged."""
        return FusedFinders(members)

    def apply(self, run: Run, images: Arrays, size: int, dataset: Dataset) -> list[Detections]:
        """Find the objects in each image with a function of padded images (`module`)."""
        return detect(run, images, self._input_size(dataset), size)

    def module_inputs(self, dataset: Dataset, count: int) -> Images:
        """Return `count` padded validation images."""
        size, images = self._input_size(dataset), dataset.val.images
        return np.stack([pad(images[number % len(images)], size) for number in range(count)])

    def difference(self, first: Predictions, second: Predictions) -> float:
        """Return the largest difference between two predictions of an image.

        It is the sum of the squared differences of scores, as a share of all squared scores, or of
        1 if their sum is less, as in images without objects. A box that the other prediction lacks
        counts with its whole score. There are many boxes of low scores on background, of which tiny
        differences hide one or another.
        """
        return largest_difference(_difference, first, second)

    # Evaluation.

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Compare boxes with the true ones (`report`)."""
        return report(predictions, part, dataset.classes, metric)

    def value(self, predictions: Predictions, part: Part) -> float:
        """Compute the mean average precision."""
        truths = list(part.targets)
        return Precision.of(matches_of(predictions, truths, _classes_in(truths))).map

    # Export.

    def calibrate(self, predictions: Predictions, dataset: Dataset) -> Json:
        """Return the score from which on boxes are taken for objects: that of the highest F1."""
        distinct = [one_class_each(own) for own in predictions]
        classes = matches_of(distinct, list(dataset.val.targets), len(dataset.classes))
        return {"threshold": best_working_point(classes).threshold}

    def describe(self, dataset: Dataset) -> Json:
        """Return the values for `about.json`."""
        channels, height, width = self.targets.image(dataset)
        return {
            "classes": list(dataset.classes),
            "image": [height, width, channels],
            "any_size": True,
            "input": [height, width],
            "side": dataset.side,
        }

    def _input_size(self, dataset: Dataset) -> InputSize:
        _, height, width = self.targets.image(dataset)
        return InputSize(height, width, dataset.side)


class BoxMeter:
    """The boxes in all images of a part: their average precision is no mean over batches."""

    def __init__(self, metric: Metric, pixels: Pixels, most: int) -> None:
        self.metric, self.pixels = metric, pixels
        self.stored = list[Tensor]()
        self._boxes = torch.zeros(len(pixels), most, COLUMNS, device=pixels.device)

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the boxes of a batch."""
        self._boxes[batch.inputs.rows, : outputs.shape[1]] = outputs

    def values(self, world: Processes) -> dict[str, float]:
        """Return the mean average precisions, and the standard error of the one that ranks."""
        boxes = world.sum(self._boxes).cpu().numpy()
        whole_rows = self.pixels.whole_rows(torch.arange(len(self.pixels))).tolist()
        sizes = [self.pixels.images[row].shape[:2] for row in whole_rows]
        truths: list[Boxes] = [self.pixels.targets[row].cpu().numpy() for row in whole_rows]
        predictions = [in_pixels(own, size, size) for own, size in zip(boxes, sizes, strict=True)]
        return epoch_values(predictions, truths, len(self.pixels.dataset.classes), self.metric)


class BoxFinder(FromPixels):
    """A network with the scaling of its pixels before it, and the selection of boxes after it.

    It maps uint8 (count, height, width, channels) to (count, boxes, 6): left, top, right, bottom,
    score, class number.
    """

    def __init__(self, network: nn.Module, pixels: Pixels, options: DetectionOptions) -> None:
        super().__init__(network, pixels)
        self.most, self.overlap = options.most_boxes, options.overlap
        self.copies = _copies(network)

    def forward(self, images: Tensor) -> Tensor:
        """Find the objects in padded uint8 images."""
        size = images.shape[1], images.shape[2]
        candidates = super().forward(images).float()
        return best_boxes(candidates, size, self.most, self.overlap, copies=self.copies)


class FusedFinders(nn.Module):
    """Several `BoxFinder`, whose boxes are fused; its input and output are those of each."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Find the objects in padded uint8 images."""
        return fuse_boxes([member(images) for member in self.members])


def _copies(network: nn.Module) -> int:
    """Return about how many candidates a network returns for each object (`best_boxes`)."""
    copies: int = getattr(network, "copies", 1)
    return copies


def _padded(images: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Stack images (height, width, channels) of several sizes, padded with 0 to one size."""
    if all(image.shape[:2] == size for image in images):
        return torch.stack(list(images))
    stacked = images[0].new_zeros(len(images), *size, images[0].shape[2])
    for row, image in enumerate(images):
        stacked[row, : image.shape[0], : image.shape[1]] = image
    return stacked


def _as_rows(truths: Sequence[Tensor]) -> Tensor:
    """Return the boxes of several images, (batch, boxes, 6), with -1 in rows that are no box."""
    rows = pad_sequence(list(truths), batch_first=True, padding_value=-1.0)
    return rows if rows.shape[1] else rows.new_full((len(truths), 1, COLUMNS), -1.0)


def move_boxes(
    boxes: Tensor, config: AugmentConfig, drawn: Tensor, size: tuple[int, int]
) -> Tensor:
    """Move boxes by the affine transforms of their images (`trainables.augmentation.augment`).

    A turned box is the one around the ellipse within the original box: that around its corners
    would be too large for round objects (Kalra et al. 2021, "Towards Rotation Invariance in Object
    Detection").

    Args:
        boxes: (batch, boxes, 6), in pixels; the class number is -1 for a row that is no box.
        config: the enabled changes and their limits.
        drawn: the numbers of `trainables.augmentation.augment.draw`, (values per image, batch).
        size: (height, width) of the images.

    Returns:
        Boxes in the same form, cut to the image.
    """
    values = list(drawn.to(boxes))
    angle, factor = torch.zeros_like(boxes[:, 0, 0]), torch.ones_like(boxes[:, 0, 0])
    is_turned = bool(config.rotation or config.scale)
    if is_turned:
        angle, factor = values.pop(0), 1 + values.pop(0)
    mirror = torch.ones_like(angle)
    across, down = torch.zeros_like(angle), torch.zeros_like(angle)
    if is_turned or config.crop or config.flip:
        across, down = values.pop(0), values.pop(0)
        if not is_turned:
            limit = min(config.crop, max(size))
            across, down = across.clamp(-limit, limit), down.clamp(-limit, limit)
        if config.flip:
            mirror = torch.where(values.pop(0) > 0, -mirror, mirror)
    height, width = size
    x1, y1, x2, y2 = boxes[..., :4].unbind(dim=-1)
    x = (x1 + x2 - width) / 2 - across[:, None]
    y = (y1 + y2 - height) / 2 - down[:, None]
    cos, sin = (own[:, None] for own in (angle.cos(), angle.sin()))
    # The image at p comes from R p / factor + shift, with p mirrored before; this is the inverse.
    new_x = factor[:, None] * mirror[:, None] * (cos * x + sin * y) + width / 2
    new_y = factor[:, None] * (cos * y - sin * x) + height / 2
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    new_half_width = factor[:, None] * ((cos * half_width) ** 2 + (sin * half_height) ** 2).sqrt()
    new_half_height = factor[:, None] * ((sin * half_width) ** 2 + (cos * half_height) ** 2).sqrt()
    edges = torch.stack(
        [
            (new_x - new_half_width).clamp(0, width),
            (new_y - new_half_height).clamp(0, height),
            (new_x + new_half_width).clamp(0, width),
            (new_y + new_half_height).clamp(0, height),
        ],
        dim=-1,
    )
    whole = 4 * new_half_width * new_half_height
    inside = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    is_lost = inside < LEAST_SHARE * whole.clamp(min=1e-6)
    number = torch.where(is_lost, -1.0, boxes[..., 4])
    return torch.cat([edges, number[..., None], boxes[..., 5:]], dim=-1)


def _classes_in(truths: Sequence[Boxes]) -> int:
    """Return one more than the largest class number; classes without objects do not count."""
    return 1 + max((int(boxes[:, CLASS].max()) for boxes in truths if len(boxes)), default=0)


def _difference(first: Detections, second: Detections) -> float:
    """Return the difference between two predictions of an image (`Detection.difference`)."""
    if np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    shares = overlaps(first, second, np.zeros(len(second), bool))
    shares *= first[:, None, CLASS_FOUND] == second[None, :, CLASS_FOUND]
    total = lost = 0.0
    free = np.ones(len(second), bool)
    for row, box in enumerate(first):
        best = int(np.argmax(shares[row] * free)) if free.any() else -1
        is_same = best >= 0 and free[best] and shares[row, best] >= SAME_BOX
        lost += (box[SCORE] - (second[best, SCORE] if is_same else 0)) ** 2
        total += box[SCORE] ** 2
        if is_same:
            free[best] = False
    lost += float((second[free, SCORE] ** 2).sum())
    return float(lost / max(total, (second[:, SCORE] ** 2).sum(), 1.0))
