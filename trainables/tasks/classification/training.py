"""Classification: every image has one class, and a network predicts each class's probability."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augmentation.augment import MIX_VALUES, mix
from trainables.catalog.entries import Metric
from trainables.datasets.arrays import Arrays, Dataset, Part
from trainables.fairness.groups import GROUPS, group_tables, report_groups
from trainables.predictors.base import at_temperature
from trainables.tasks.base import (
    Batch,
    FromPixels,
    Losses,
    Predictions,
    Processes,
    Run,
    Task,
    gather,
)
from trainables.tasks.calibration import CalibratedModel, Probabilities, fit_temperature
from trainables.tasks.classification.report import accuracy, confidently_wrong, report
from trainables.tasks.metrics import (
    SCORES,
    Labels,
    MetricAverage,
    compute,
    loss_of_each,
    losses,
    measure,
)
from trainables.tasks.pixels import Pixels
from trainables.values import Evaluation, Json

MATRIX_CLASSES = 100
"""A confusion matrix of more classes than this is too large for the journal."""


class Classification(Task):
    """The prediction of class probabilities.

    Targets are class numbers, int64 (images,).
    """

    calibrates = True

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Build the batch of these rows; images for training may be mixed (`mixing`)."""
        batch = super().batch(pixels, rows, changes)
        if changes is None:
            return batch
        batch = batch._replace(smoothing=pixels.smoothing)
        if pixels.augment.mix == "none":
            return batch
        inputs, pairs = mix(batch.inputs, pixels.augment, changes[-MIX_VALUES:])
        return batch._replace(inputs=inputs, pairs=pairs)

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the cross-entropies of a batch to minimise and to report (`losses`)."""
        with autocast:
            outputs = network(batch.inputs)
        each = None if batch.weights is None else loss_of_each(outputs, batch.targets)
        return Losses(
            *losses(
                outputs,
                batch.targets,
                batch.weights,
                smoothing=batch.smoothing,
                pairs=batch.pairs,
            ),
            each,
        )

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> "ClassMeter":
        """Build a meter of this metric for a part, which stores the logits if `keeps`."""
        return ClassMeter(metric, pixels, keeps=keeps)

    def output_bytes(self, dataset: Dataset) -> int:
        """Return the size of the logits of the validation set, in bytes."""
        return 4 * len(dataset.val) * len(dataset.classes)

    def from_outputs(self, outputs: list[Tensor]) -> Probabilities:
        """Convert the logits of all batches to class probabilities, float64 (images, classes)."""
        probabilities: Probabilities = torch.cat(
            [logits.double().softmax(dim=1) for logits in outputs]
        ).numpy()
        return probabilities

    def module(self, network: nn.Module, pixels: Pixels) -> "ProbabilityModel":
        """Build the module that maps uint8 images to class probabilities."""
        return ProbabilityModel(network, pixels)

    def calibrate(self, predictions: Predictions, dataset: Dataset) -> Json:
        """Fit the temperature to class probabilities of the validation images."""
        return {"temperature": fit_temperature(predictions, dataset.val.targets)}

    def calibrated(self, module: nn.Module, calibration: Json) -> nn.Module:
        """Return a module that computes the probabilities at the temperature."""
        return CalibratedModel(module, calibration["temperature"])

    def recalibrated(self, predictions: Predictions, calibration: Json) -> Probabilities:
        """Convert class probabilities to those at the temperature."""
        return at_temperature(calibration["temperature"], predictions)

    def apply(self, run: Run, images: Arrays, size: int, dataset: Dataset) -> Probabilities:
        """Predict class probabilities; the module may return further columns, which are dropped."""
        outputs: Probabilities = super().apply(run, images, size, dataset)
        return outputs[:, : len(dataset.classes)]

    def combine(self, each: list[Predictions]) -> Probabilities:
        """Average the probabilities of several networks."""
        mean: Probabilities = np.mean(each, axis=0)
        return mean

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Measure class probabilities, (images, classes), against the true classes.

        Returns:
            The result of `report`; the most confident mistakes as `wrong` (`confidently_wrong`);
            unless trials are ranked by accuracy, the `metric` that ranks them; and, if the images
            belong to groups, the result of `report_groups`.
        """
        groups = dataset.group_numbers(part)
        return {
            **report(part.targets, predictions, dataset.classes),
            "wrong": confidently_wrong(part, predictions),
            **_by_metric(metric, part, predictions, groups),
            **self._by_group(part, predictions, dataset),
        }

    def _by_group(self, part: Part, chances: Probabilities, dataset: Dataset) -> Evaluation:
        """Evaluate each group of images; empty without groups."""
        groups = dataset.group_numbers(part)
        if groups is None or dataset.attributes is None:
            return {}
        results = report_groups(
            part.targets, chances, groups, dataset.attributes, dataset.classes, SCORES
        )
        titles = {metric.name: metric.title for metric in self.entry.metrics if not metric.is_share}
        return {GROUPS: results, "tables": group_tables(results, titles)}

    def value(self, predictions: Predictions, part: Part) -> float:
        """Compute the accuracy of class probabilities, (images, classes)."""
        return accuracy(part.targets, predictions.argmax(axis=1))

    def brief(self, evaluation: Evaluation) -> Evaluation:
        """Shorten an evaluation on the validation set for the journal.

        Of the ROC curves only their areas remain, and a confusion matrix of more than
        `MATRIX_CLASSES` classes is removed.
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
        """Remove images of mistakes and bins of the reliability diagram from an evaluation."""
        return {name: value for name, value in evaluation.items() if name not in ("wrong", "bins")}


def _by_metric(
    metric: Metric, part: Part, chances: Probabilities, groups: Labels | None
) -> Evaluation:
    """Evaluate the metric that ranks trials, with its interval; empty for accuracy."""
    if metric.is_share:
        return {}
    return {"metric": metric.evaluated(*compute(metric, part.targets, chances, groups))}


class ClassMeter:
    """Measures the loss, accuracy, and the metric that ranks trials on the validation set."""

    def __init__(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> None:
        self.metric, self.pixels = metric, pixels
        self.means = MetricAverage("loss", "accuracy", device=pixels.device)
        self.stored = list[Tensor]()
        self._keeps = keeps or not metric.is_share

    def add(self, outputs: Any, batch: Batch) -> None:
        """Add the logits of a batch, (batch, classes)."""
        self.means.add(outputs, batch.targets)
        if self._keeps:
            self.stored.append(outputs)

    def values(self, world: Processes) -> dict[str, float]:
        """Return the loss, accuracy and metric over the images of all processes."""
        self.means.sums = world.sum(self.means.sums)
        values = self.means.means("val")
        if self.metric.is_share:
            return values
        logits = gather(torch.cat(self.stored).float(), len(self.pixels), world)
        return values | measure(self.metric, logits, self.pixels.all_targets, self.pixels.groups)


class ProbabilityModel(FromPixels):
    """A network followed by softmax, which maps uint8 images to class probabilities.

    Its output is float64 (count, classes).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images to class probabilities, (count, classes)."""
        return super().forward(images).double().softmax(dim=1)
