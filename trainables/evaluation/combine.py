"""One model made of several trainings: the mean of their weights, or an ensemble of their networks.

With few validation images the best training of a search is best partly by luck, and none can be
told from the others; a model made of several depends less on luck.

- If trainings begin with the same pretrained weights, their weights stay so near each other that a
  network with the mean of them often predicts better than each, and takes as long as one (Wortsman
  et al. 2022, "Model soups", whose uniform soup this is; `tests.bench.weight_average` has figures).
  The mean of the running statistics of batch normalisation does not describe the features of this
  network, so they are computed again from the training images (Izmailov et al. 2018, "Averaging
  weights leads to wider optima and better generalization", section 3.2).
- An ensemble predicts the mean probabilities of networks that may differ. Its errors are fewer,
  since the members make different ones (Caruana et al. 2004, "Ensemble selection from libraries of
  models"; `tests.bench.ensembles` has figures).
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.evaluate import predictions
from trainables.tasks.base import Task
from trainables.tasks.metrics import log_loss
from trainables.tasks.pixels import Pixels
from trainables.training.loop import autocast, on_device, put_weights

Weights = dict[str, Tensor]
Chances = NDArray[np.float64]
Classes = NDArray[np.int64]
STATISTICS_BATCH = 128
"""The maximum number of images in a batch from which statistics are computed."""


class ComparedModel(NamedTuple):
    """A model that was made of several trainings, compared with them on the validation images."""

    metrics: dict[str, float]
    """Its loss and accuracy, and the seconds of the work, under the names of an epoch's metrics."""
    precision: str
    """The precision of its predictions: `fp32`, `bf16` or `fp16`."""
    gain: float
    """Its accuracy minus the mean accuracy of the trainings."""
    error: float
    """The standard error of the gain, over the images."""


def average_trainings(
    config: TrialConfig,
    dataset: Dataset,
    members: Sequence[Path],
    folder: Path,
    epoch: int,
    *,
    device: str = "cpu",
) -> ComparedModel:
    """Save a network with the mean weights of several classifiers, and compare it with them.

    Args:
        config: the config of the trainings, which differ only in their seeds.
        dataset: the data, without folds.
        members: the checkpoints of the trainings.
        folder: the folder in which the network is saved.
        epoch: the number in the name of its checkpoint, `epoch-NNNN`.
        device: `cpu` or `cuda`.

    Raises:
        CheckpointError: the checkpoint of a member is damaged.
        OSError: the network cannot be saved.
    """
    start = time.perf_counter()
    first = checkpoint.load(members[0])
    later_weights = (checkpoint.load(path)["model"] for path in members[1:])
    task: Task = config.load_task()
    network = task.network(config.model, dataset)
    put_weights(network, config, {**first, "model": mean_weights(first["model"], *later_weights)})
    network, precision = on_device(network, torch.device(device)), first["precision"]
    pixels = Pixels(dataset.train, dataset, config, torch.device(device))
    with autocast(precision, pixels.device):
        renew_statistics(network, pixels)
    state = checkpoint.for_predictions({**first, "model": network.state_dict()})
    saved = checkpoint.save(folder, {"epoch": epoch, **state}, {})

    classes = dataset.val.targets
    each = [predictions(config, dataset, dataset.val, path, device=device) for path in members]
    of_mean = predictions(config, dataset, dataset.val, saved, device=device)
    return compare_predictions(of_mean, each, classes, precision, start)


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


def compare_predictions(
    chances: Chances, each: Sequence[Chances], classes: Classes, precision: str, start: float
) -> ComparedModel:
    """Compare the predictions of a model with those of trainings.

    Args:
        chances: the class probabilities of the model, (images, classes).
        each: those of the trainings.
        classes: the class of each image, (images,).
        precision: the precision of the model's predictions.
        start: the start of the work, in seconds of `time.perf_counter`.
    """
    right = chances.argmax(axis=1) == classes
    gain, error = compare_with_mean(right, [some.argmax(axis=1) == classes for some in each])
    metrics = {
        "val/loss": log_loss(classes, chances).value,
        "val/accuracy": float(right.mean()),
        "time/epoch_s": time.perf_counter() - start,
    }
    return ComparedModel(metrics, precision, gain, error)


def mean_weights(*states: Weights) -> Weights:
    """Return the mean of each tensor; whole numbers are those of the first state."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


@torch.no_grad()
def renew_statistics(network: nn.Module, images: Pixels) -> None:
    """Compute the statistics of batch normalisation again, as means over the training images.

    Frozen layers keep theirs: the trained layers were trained on features that these statistics
    scale. (`torch.optim.swa_utils.update_bn` would renew them, and would switch dropout on.)
    """
    network.train()  # the frozen modules stay in evaluation mode
    layers = [
        (layer, layer.momentum)
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.training
    ]
    network.eval()
    for layer, _ in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean of the batches, which have nearly equal sizes
    count = -(-len(images) // STATISTICS_BATCH)
    for rows in torch.arange(len(images)).tensor_split(count) if layers else ():
        network(images.batch(rows)[0])
    network.eval()
    for layer, momentum in layers:
        layer.momentum = momentum


def compare_with_mean(
    right: NDArray[np.bool_], right_of_members: Sequence[NDArray[np.bool_]]
) -> tuple[float, float]:
    """Compare a classifier with the mean of several others on the same images.

    Args:
        right: True for each image that it classifies correctly, (images,).
        right_of_members: the same for each of the others.

    Returns:
        Its accuracy minus the mean of theirs, and the standard error of this over the images.
    """
    gains = right - np.mean(right_of_members, axis=0)
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return round(float(gains.mean()), 9), error
