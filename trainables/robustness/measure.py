"""The accuracy of a checkpoint in one of the tests of `--evaluate`."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model
from trainables.robustness.attacks import Classify, attack, classifier_of
from trainables.robustness.budgets import (
    ATTACKS,
    CLEAN,
    MAX_IMAGES,
    MAX_LARGE_IMAGES,
    SMALL_PIXELS,
    AttackBudget,
)
from trainables.robustness.corruptions import corrupt, corrupt_all
from trainables.robustness.published import PUBLISHED, SEVERITIES
from trainables.tasks.base import Predict, in_batches
from trainables.training.loop import eval_batch
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
    corrupt_in_turn(image)  # warm-up: the first calls import modules
    start = time.process_time()  # which hardly depends on other processes
    corrupt_in_turn(image)
    return (time.process_time() - start) / len(PUBLISHED)


def corrupt_in_turn(image: Images) -> None:
    """Apply each corruption once to an image, at the middle severity."""
    for name in PUBLISHED:
        corrupt(image, name, MIDDLE_SEVERITY, seed=0)


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
