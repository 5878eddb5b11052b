"""The accuracy of a model on corrupted or attacked images: of a checkpoint, and after each epoch.

A checkpoint is measured in one of the tests of `--evaluate`. After each epoch of a search with such
an objective, the accuracy on corrupted images is estimated cheaply: each of at most `MAX_IMAGES`
validation images has a single corruption and severity, instead of all 75. All combinations occur
about equally often, so that the expected values agree. All trials of a search are measured on equal
images, so that differences between trials are less random than values.
"""

import threading
import time
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.baselines.base import Fitting
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model
from trainables.robustness.attacks import Classify, attack, classifier_of
from trainables.robustness.corruptions import corrupt, corrupt_all
from trainables.robustness.stress_tests import (
    ATTACKS,
    CLEAN,
    CORRUPTION_ACCURACY,
    MAX_IMAGES,
    MAX_LARGE_IMAGES,
    PUBLISHED,
    SEVERITIES,
    SMALL_PIXELS,
    AttackBudget,
)
from trainables.tasks.base import Predict, in_batches
from trainables.training.loop import Training, autocast, eval_batch
from trainables.values import Evaluation

MIDDLE_SEVERITY = 3
ATTACK_BATCH, GRADIENT_SHARE = 100, 8
"""The most images that are attacked together, and the factor by which they are fewer than those
predicted together, because gradients need all layers' outputs.
"""


def stress_rows(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """Choose the rows of the validation images that are tested, in ascending order.

    All trials of a search are tested on the same images, if `seed` is that of the split.
    """
    _, height, width = dataset.image
    limit = MAX_IMAGES if height * width <= SMALL_PIXELS else MAX_LARGE_IMAGES
    count = len(dataset.val)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def corruption_seconds(dataset: Dataset) -> float:
    """Measure the seconds in which an image is corrupted once, as a mean over the corruptions."""
    image = np.asarray(dataset.val.images[:1])[0]
    for _ in range(2):  # the first calls import modules
        start = time.process_time()  # which hardly depends on other processes
        for name in PUBLISHED:
            corrupt(image, name, MIDDLE_SEVERITY, seed=0)
    return (time.process_time() - start) / len(PUBLISHED)


def measure_robustness(
    config: TrialConfig, dataset: Dataset, path: Path, test: str, *, device: str = "cpu"
) -> Evaluation:
    """Measure the predictions of the checkpoint at `path` in a test of `STRESS_TESTS`.

    Returns:
        `rows` has a list of 0 and 1 for each severity (a corruption), or a single one: 1 for each
        image that is classified correctly. If the model cannot be attacked, it has the `reason`
        instead.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    rows = stress_rows(dataset, config.data.split_seed)
    images, classes = np.asarray(dataset.val.images[rows]), dataset.val.targets[rows]
    with load_model(config, dataset, path, device=device) as saved:
        size = eval_batch(config, dataset, torch.device(device))
        if test in ATTACKS:
            if saved.module is None:
                return {"reason": f"{config.model.name} has no network, and thus no gradients"}
            size = max(1, min(ATTACK_BATCH, size // GRADIENT_SHARE))
            classify = classifier_of(saved.module)
            is_right = _attacked(classify, images, classes, ATTACKS[test], rows, size, device)
            return {"rows": [is_right.astype(int).tolist()]}
        variants = (
            [images]
            if test == CLEAN
            else [corrupt_all(images, test, severity, rows.tolist()) for severity in SEVERITIES]
        )
        return {
            "rows": [
                right_answers(saved.predict, some, classes, size).tolist() for some in variants
            ]
        }


def right_answers(
    predict: Predict, images: Images, classes: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Return 1 for each image that is classified correctly, else 0."""
    predicted = in_batches(predict, images, size).argmax(axis=1)
    right: NDArray[np.int64] = (predicted == classes).astype(np.int64)
    return right


def _attacked(
    classify: Classify,
    images: Images,
    classes: NDArray[np.int64],
    budget: AttackBudget,
    rows: NDArray[np.int64],
    size: int,
    device: str,
) -> NDArray[np.bool_]:
    """Attack images in batches of `size`; return True for each that is still classified right."""
    results = []
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        pixels = torch.from_numpy(images[part]).to(device).float() / 255
        labels = torch.from_numpy(classes[part]).to(device)
        changed = attack(classify, pixels, labels, budget, rows[part].tolist())
        results.append((classify(changed).argmax(dim=1) == labels).cpu().numpy())
    return np.concatenate(results)


KINDS = [(name, severity) for name in PUBLISHED for severity in SEVERITIES]
"""The combinations of a corruption and a severity."""


class CorruptedImages:
    """Validation images with a corruption each, and the accuracy of models on them."""

    def __init__(self, config: TrialConfig, dataset: Dataset) -> None:
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
        """Return the accuracy, from 0 to 1.

        Args:
            predict: predicts a batch of images, uint8 (count, height, width, channels).
            size: the most images of a batch.
        """
        return float(right_answers(predict, self.images, self.classes, size).mean())


MEASUREMENTS = {CORRUPTION_ACCURACY: CorruptedImages}
"""The measurements by the key under which an epoch reports them."""


PREPARED: dict[str, tuple[Hashable, CorruptedImages]] = {}
"""The last measurement of each kind with the identity of its data.

Trials of a search that this process trains share it: 100 images of 512 x 512 pixels take 4 s.
"""
PREPARING = threading.Lock()
"""The lock on `PREPARED`: threads that train fused trials prepare the data once."""


def prepared(key: str, config: TrialConfig, dataset: Dataset) -> CorruptedImages:
    """Return a measurement, which is prepared unless the last one is for the same data."""
    identity = dataset.fingerprint, len(dataset.val), config.data.split_seed
    with PREPARING:
        if key not in PREPARED or PREPARED[key][0] != identity:
            PREPARED[key] = identity, MEASUREMENTS[key](config, dataset)
        return PREPARED[key][1]


class EpochMeasurements:
    """The measurements of one trial."""

    def __init__(self, keys: Sequence[str], config: TrialConfig, dataset: Dataset) -> None:
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
