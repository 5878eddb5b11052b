"""Boxes: a variable number an image, a metric that is no mean over batches, and a network that
computes its own loss, in training alone.

The data are bright rectangles on noise.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tests.support.tasks.boxes_predictor import CELLS, boxes_of, overlaps
from trainables.catalog.entries import UNIT, DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part, Ragged
from trainables.tasks.base import Batch, FromPixels, Losses, Predictions, Processes, Task
from trainables.tasks.pictures import encode_webp
from trainables.tasks.pixels import Pixels

NAME = "rectangles"
TASK = TaskEntry(
    name="boxes",
    title="detection",
    implementation=f"{__name__}:Boxes",
    predictor="tests.support.tasks.boxes_predictor",
    metrics=(
        # A detector gives no loss to validate with.
        Metric(
            name="average_precision",
            title="average precision",
            limits=UNIT,
            is_primary=True,
            loss="train/loss",
        ),
    ),
)
DATASET = DatasetEntry(module=__name__, tasks=(TASK.name,))
MODEL = ModelEntry(builder=f"{__name__}:build", options={"width": 16}, tasks=(TASK.name,))
SIDE, SAME = 16, 0.5


def files(config: DataConfig) -> list[Path]:
    """Return no files: the images are drawn."""
    return []


def load(config: DataConfig, *, download: bool) -> Decoded:
    """Draw 80 images with none, one or two rectangles, one in a half of the image each."""
    generator = np.random.default_rng(5)
    images, boxes = [], []
    for number in range(80):
        image, own = generator.normal(60, 15, (SIDE, SIDE, 1)), []
        for half in range(number % 3):
            width, height = generator.integers(3, 7, 2)
            left = half * SIDE // 2 + generator.integers(0, SIDE // 2 - width + 1)
            top = generator.integers(0, SIDE - height + 1)
            image[top : top + height, left : left + width] += 120
            own.append((left, top, left + width, top + height))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        boxes.append(np.array(own, dtype=np.float32).reshape(-1, 4))
    return Decoded(("rectangle",), Part(np.stack(images), Ragged.of(boxes)))


def build(image: tuple[int, int, int], outputs: int, *, width: int) -> nn.Module:
    """Build a detector that looks at a grid of cells."""
    return Detector(image, width)


class Detector(nn.Module):
    """A network that gives each cell a score and a box, and knows its own loss."""

    def __init__(self, image: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(image[0], width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 5, 1),
        )  # fmt: skip

    def forward(self, images: Tensor, targets: list[Tensor] | None = None) -> Any:
        """Map images to (batch, cells, 5): score, then the box as shares of the image.

        In training, with the boxes of each image, it is the losses by name.
        """
        cells = self.body(images).flatten(2).transpose(1, 2)
        if not self.training or targets is None:
            return torch.cat([cells[..., :1], cells[..., 1:].sigmoid()], dim=-1)
        wanted, boxes = _as_cells(targets, cells)
        score = functional.binary_cross_entropy_with_logits(cells[..., 0], wanted)
        off = (cells[..., 1:].sigmoid() - boxes).abs().sum(dim=-1)
        return {"score": score, "box": (off * wanted).sum() / wanted.sum().clamp(min=1)}


def _as_cells(targets: list[Tensor], cells: Tensor) -> tuple[Tensor, Tensor]:
    """Give each box to the cell in which its middle lies."""
    wanted, boxes = torch.zeros_like(cells[..., 0]), torch.zeros_like(cells[..., 1:])
    for row, own in enumerate(targets):
        for box in own / SIDE:
            across, down = ((box[:2] + box[2:]) / 2 * CELLS).long().clamp(max=CELLS - 1).tolist()
            wanted[row, down * CELLS + across] = 1
            boxes[row, down * CELLS + across] = box
    return wanted, boxes


class Boxes(Task):
    """Boxes in pixels, float32 (boxes, 4), left, top, right, bottom, for each image."""

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Return scaled images, and a list of their boxes."""
        whole = pixels.whole_rows(rows)
        targets = [pixels.targets[row] for row in whole.tolist()]
        return Batch(pixels.scale(pixels.images[whole]), targets, len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the sum of the network's own losses."""
        with autocast:
            losses = network(batch.inputs, batch.targets)
        loss = torch.stack(list(losses.values())).sum()
        return Losses(loss, loss)

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "BoxMeter":
        """Return a new meter."""
        return BoxMeter(metric)

    def module(self, network: nn.Module, pixels: Pixels) -> nn.Module:
        """Return the way from uint8 images to cells."""
        return FromPixels(network, pixels)

    def decode(self, raw: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the boxes of each image, (boxes, 5), the surest first."""
        return [boxes_of(cells, SIDE) for cells in raw]

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> dict[str, Any]:
        """Measure boxes against the true ones."""
        truth = list(part.targets)
        value, error = average_precision(predictions, truth), _error(predictions, truth)
        return {
            "images": len(part),
            metric.name: value,
            "metric": metric.evaluated(value, error, len(part) - 1),
            "tables": [
                {
                    "title": "Boxes",
                    "columns": ["", "boxes"],
                    "rows": [
                        ["true", sum(map(len, truth))],
                        ["found", sum(int((own[:, 0] > SAME).sum()) for own in predictions)],
                    ],
                }
            ],
            "pictures": [
                {"title": f"{len(own)} boxes", "webp": encode_webp(image)}
                for own, image in zip(truth[:3], part.images[:3], strict=True)
            ],
        }

    def value(self, predictions: Predictions, part: Part) -> float:
        """Return the average precision."""
        return average_precision(predictions, list(part.targets))


def average_precision(found: list[NDArray[Any]], truth: list[NDArray[Any]]) -> float:
    """Return the area under precision over recall of all images' boxes, at an overlap of half."""
    rows: list[tuple[float, bool]] = []
    for boxes, own in zip(found, truth, strict=True):
        free = set(range(len(own)))
        for box in boxes:
            near = {number: overlaps(box[1:], own[number]) for number in free}
            best = max(near, key=near.__getitem__, default=None)
            hit = best is not None and near[best] >= SAME
            free -= {best} if hit else set()
            rows.append((float(box[0]), hit))
    rows.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in rows])
    count = sum(map(len, truth))
    if not rows or not count:
        return 0.0
    precision = hits / np.arange(1, len(rows) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[[hit for _, hit in rows]].sum() / count)


def _error(found: list[NDArray[Any]], truth: list[NDArray[Any]]) -> float:
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(truth), (20, len(truth)))
    values = [
        average_precision([found[row] for row in rows], [truth[row] for row in rows])
        for rows in draws
    ]
    return float(np.std(values, ddof=1))


class BoxMeter:
    """All boxes of the part: their average precision is no mean over batches."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.stored = list[Tensor]()
        self.found, self.truth = list[NDArray[Any]](), list[NDArray[Any]]()

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Take the cells of a batch."""
        self.found += [boxes_of(cells, SIDE) for cells in outputs.float().cpu().numpy()]
        self.truth += [own.cpu().numpy() for own in batch.targets]

    def values(self, world: Processes) -> dict[str, float]:
        """Return the average precision and its standard error; there is no loss."""
        return {
            self.metric.key: average_precision(self.found, self.truth),
            self.metric.error_key: _error(self.found, self.truth),
        }
