"""An ensemble: one model that predicts the mean probabilities of several trainings.

The trainings may have different networks. With few validation images the best training of a search
is best partly by luck, and none can be told from the others; the mean of several depends less on
luck, and its errors are fewer, since the members make different ones (Caruana et al. 2004,
"Ensemble selection from libraries of models"; `tests.bench.ensembles` has figures).
"""

import time
from collections.abc import Sequence
from pathlib import Path

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.evaluate import predictions
from trainables.evaluation.mean_weights import ComparedModel, compare_predictions


def combine_trainings(
    config: TrialConfig,
    dataset: Dataset,
    members: Sequence[Path],
    folder: Path,
    epoch: int,
    *,
    device: str = "cpu",
) -> ComparedModel:
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
    chances = config.load_task().combine(each)
    precision = states[0].get("precision", "fp32")
    return compare_predictions(chances, each[:1], dataset.val.targets, precision, start)
