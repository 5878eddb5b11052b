"""Classification: every image is of one class; a network gives each class a probability."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.catalog.tasks import Metric
from trainables.datasets.arrays import Dataset, Part
from trainables.tasks.base import Batch, FromPixels, Losses, Predictions, Processes, Task
from trainables.tasks.losses import losses
from trainables.tasks.metrics import SCORES, MetricAverage, measure
from trainables.tasks.mistakes import confidently_wrong
from trainables.tasks.pixels import Pixels
from trainables.tasks.report import Probabilities, accuracy, report
from trainables.values import Evaluation

MATRIX_CLASSES = 100
"""With more classes than this, a confusion matrix is too large for the journal."""


class Classification(Task):
    """Images with class numbers, int64 (images,), from which probabilities are learned."""

    output = "probabilities"

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the cross-entropy of a batch (`losses`)."""
        with autocast:
            outputs = network(batch.inputs)
        return Losses(*losses(outputs, batch.targets, batch.weights))

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "ClassMeter":
        """Return a new meter of this metric for a part."""
        return ClassMeter(metric, pixels, keeps=keeps)

    def output_bytes(self, dataset: Dataset) -> int:
        """Return the bytes of the logits of the validation part."""
        return 4 * len(dataset.val) * len(dataset.classes)

    def from_outputs(self, outputs: list[Tensor]) -> Probabilities:
        """Return class probabilities, (images, classes), from the logits of all batches."""
        probabilities: Probabilities = torch.cat(
            [logits.double().softmax(dim=1) for logits in outputs]
        ).numpy()
        return probabilities

    def module(self, network: nn.Module, pixels: Pixels) -> "ProbabilityModel":
        """Return the function from uint8 images to class probabilities."""
        return ProbabilityModel(network, pixels)

    def ensemble(self, members: list[nn.Module]) -> "Ensemble":
        """Combine several networks by the mean of their probabilities."""
        return Ensemble(members)

    def combine(self, each: list[Predictions]) -> Probabilities:
        """Return the mean of several networks' probabilities."""
        mean: Probabilities = np.mean(each, axis=0)
        return mean

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Measure class probabilities, (images, classes), against the true classes.

        Returns:
            The result of `report`; and `wrong`, the most confident mistakes (see `mistakes`).
        """
        return {
            **report(part.targets, predictions, dataset.classes),
            "wrong": confidently_wrong(part, predictions),
            **_by_metric(metric, part, predictions),
        }

    def value(self, predictions: Predictions, part: Part) -> float:
        """Return the accuracy of class probabilities."""
        return accuracy(part.targets, predictions.argmax(axis=1))

    def brief(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation in the short form of the journal.

        It has only the area under each curve, and no confusion matrix of very many classes.
        """
        large = {"confusion_matrix"} if len(evaluation["classes"]) > MATRIX_CLASSES else set()
        short_form = {
            name: value
            for name, value in self.plain(evaluation).items()
            if name not in {"roc", *large}
        }
        return {
            **short_form,
            "auc": {name: curve["auc"] for name, curve in evaluation["roc"].items()},
        }

    def plain(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation without images and bins of the reliability diagram."""
        return {name: value for name, value in evaluation.items() if name not in ("wrong", "bins")}


def _by_metric(metric: Metric, part: Part, chances: Probabilities) -> Evaluation:
    """Return the metric that ranks trials, with its interval; empty for accuracy."""
    if metric.name not in SCORES:
        return {}
    return {"metric": metric.evaluated(*SCORES[metric.name](part.targets, chances))}


class ClassMeter:
    """Loss, accuracy, and the metric that ranks trials, on the validation set."""

    def __init__(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> None:
        self.metric, self.pixels = metric, pixels
        self.means = MetricAverage("loss", "accuracy", device=pixels.device)
        self.kept = list[Tensor]()
        self._keeps = keeps or metric.name in SCORES

    def add(self, outputs: Any, batch: Batch) -> None:
        """Add the logits of a batch, (batch, classes)."""
        self.means.add(outputs, batch.targets)
        if self._keeps:
            self.kept.append(outputs)

    def values(self, world: Processes) -> dict[str, float]:
        """Return loss, accuracy and the metric over the images of all processes."""
        self.means.sums = world.sum(self.means.sums)
        values = self.means.means("val")
        if self.metric.name not in SCORES:
            return values
        logits = torch.cat(self.kept).float()
        if world.size > 1:
            rows = world.slice(torch.arange(len(self.pixels), device=logits.device))
            whole = torch.zeros(len(self.pixels), logits.shape[1], device=logits.device)
            whole[rows] = logits
            logits = world.sum(whole)
        return values | measure(self.metric, logits, self.pixels.all_targets)


class ProbabilityModel(FromPixels):
    """A network followed by softmax, from uint8 images to class probabilities.

    These are float64 (count, classes).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities, (count, classes), of uint8 images."""
        return super().forward(images).double().softmax(dim=1)


class Ensemble(nn.Module):
    """The mean of several networks' probabilities, each of which has its own scaling of pixels.

    Input and output are those of `ProbabilityModel`.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities, (count, classes), of uint8 images."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)
