"""An ensemble: one model that predicts the mean probabilities of several trainings.

The trainings may have different networks. With few validation images the best training of a search
is best partly by luck, and none can be told from the others; the mean of several depends less on
luck, and its errors are fewer, since the members make different ones (Caruana et al. 2004,
"Ensemble selection from libraries of models"; `tests.bench.ensembles` has figures).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.evaluate import predictions
from trainables.evaluation.mean_weights import compare_with_mean
from trainables.tasks.metrics import log_loss


class ComparedEnsemble(NamedTuple):
    """An ensemble, compared with its first member on the validation images."""

    metrics: dict[str, float]
    """Its loss and accuracy, and the seconds of the work, under the names of an epoch's metrics."""
    precision: str
    """The precision of its predictions: `fp32`, `bf16` or `fp16`."""
    gain: float
    """Its accuracy minus that of its first member."""
    error: float
    """The standard error of the gain, over the images."""


def combine_trainings(
    config: TrialConfig,
    dataset: Dataset,
    members: Sequence[Path],
    folder: Path,
    epoch: int,
    *,
    device: str = "cpu",
) -> ComparedEnsemble:
    """Save the networks of several classifiers as one model, and compare it with the first of them.

    Args:
        config: the config of the ensemble, whose `members` are those of the trainings.
        dataset: the data, without folds.
        members: the checkpoints of the trainings, which are networks, the best first.
        folder: the folder in which the ensemble is saved.
        epoch: the number in the name of its checkpoint, `epoch-NNNN`.
        device: `cpu` or `cuda`.

    Raises:
        CheckpointError: the checkpoint of a member is damaged.
        OSError: the ensemble cannot be saved.
    """
    start = time.perf_counter()
    states = [checkpoint.for_predictions(checkpoint.load(path)) for path in members]
    checkpoint.save(folder, {"epoch": epoch, "folds": states}, {})
    # Those of the members may be known from their trainings; the ensemble's would be computed.
    each = [
        predictions(member, dataset, dataset.val, path, device=device)
        for member, path in zip(config.members, members, strict=True)
    ]
    classes, chances = dataset.val.targets, config.load_task().combine(each)
    right = chances.argmax(axis=1) == classes
    gain, error = compare_with_mean(right, [each[0].argmax(axis=1) == classes])
    metrics = {
        "val/loss": log_loss(classes, chances).value,
        "val/accuracy": float(right.mean()),
        "time/epoch_s": time.perf_counter() - start,
    }
    return ComparedEnsemble(metrics, states[0].get("precision", "fp32"), gain, error)
