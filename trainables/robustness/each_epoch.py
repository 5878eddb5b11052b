"""Measurements after each epoch for further objectives of a search.

The accuracy on corrupted images is a cheap estimate of that of `--evaluate corruptions`: each of at
most `MAX_IMAGES` validation images has a single corruption and severity, instead of all 75. All
combinations occur about equally often, so that the expected values agree. All trials of a search
are measured on equal images, so that differences between trials are less random than values.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from trainables.baselines.base import Fitting
from trainables.datasets.arrays import Dataset
from trainables.robustness.budgets import CORRUPTION_ACCURACY
from trainables.robustness.corruptions import corrupt
from trainables.robustness.measure import right_answers, stress_rows
from trainables.robustness.published import PUBLISHED, SEVERITIES
from trainables.tasks.base import Predict
from trainables.training.loop import Training, autocast, eval_batch

if TYPE_CHECKING:
    from trainables.config import TrialConfig

KINDS = [(name, severity) for name in PUBLISHED for severity in SEVERITIES]
"""The combinations of a corruption and a severity."""


class Measurement(Protocol):
    """Measures a model after each epoch, on data that was prepared once."""

    def __call__(self, predict: Predict, size: int) -> float:
        """Return the measured value.

        Args:
            predict: predicts a batch of images, uint8 (count, height, width, channels).
            size: the most images of a batch.
        """


class CorruptedImages:
    """Validation images with a corruption each, and the accuracy of models on them."""

    def __init__(self, config: "TrialConfig", dataset: Dataset) -> None:
        """Corrupt the images; the seed of the split determines which, and how."""
        seed = config.data.split_seed
        rows = stress_rows(dataset, seed)
        # The rows may be sorted by class: without the permutation, classes had unlike corruptions.
        kinds = np.random.default_rng([seed, 1]).permutation(len(rows)) % len(KINDS)
        clean = np.asarray(dataset.val.images[rows])
        self.images = np.stack(
            [
                corrupt(image, name, severity, int(row))
                for image, row, (name, severity) in zip(
                    clean, rows, (KINDS[kind] for kind in kinds), strict=True
                )
            ]
        )
        self.classes = dataset.val.targets[rows]

    def __call__(self, predict: Predict, size: int) -> float:
        """Return the accuracy, from 0 to 1."""
        return float(right_answers(predict, self.images, self.classes, size).mean())


MEASUREMENTS: Mapping[str, Callable[["TrialConfig", Dataset], Measurement]] = {
    CORRUPTION_ACCURACY: CorruptedImages
}
"""The measurements by the key under which an epoch reports them."""


PREPARED: dict[str, tuple[Hashable, Measurement]] = {}
"""The last measurement of each kind with the identity of its data.

Trials of a search that this process trains share it: 100 images of 512 x 512 pixels take 4 s.
"""
PREPARING = threading.Lock()
"""The lock on `PREPARED`: threads that train fused trials prepare the data once."""


def prepared(key: str, config: "TrialConfig", dataset: Dataset) -> Measurement:
    """Return a measurement, which is prepared unless the last one is for the same data."""
    identity = dataset.fingerprint, len(dataset.val), config.data.split_seed
    with PREPARING:
        if key not in PREPARED or PREPARED[key][0] != identity:
            PREPARED[key] = identity, MEASUREMENTS[key](config, dataset)
        return PREPARED[key][1]


class EpochMeasurements:
    """The measurements of one trial."""

    def __init__(self, keys: Sequence[str], config: "TrialConfig", dataset: Dataset) -> None:
        self.dataset = dataset
        self.measurements = {key: prepared(key, config, dataset) for key in keys}

    def measure(self, training: Training | Fitting) -> dict[str, float]:
        """Measure the network or baseline in its current state."""
        device = torch.device(training.device)
        size = eval_batch(training.config, self.dataset, device)
        with torch.no_grad(), autocast(training.precision, device):
            predict = self._predictor(training)
            return {
                key: measurement(predict, size) for key, measurement in self.measurements.items()
            }

    def _predictor(self, training: Training | Fitting) -> Predict:
        if isinstance(training, Fitting):
            baseline, fitted = training.baseline, training.fitted
            return lambda images: baseline.predict([fitted], images, self.dataset)
        module = training.task.module(training.used_network, training.val).eval()
        task, device = training.task, str(training.device)
        return lambda images: task.predict(module, images, len(images), device, self.dataset)
