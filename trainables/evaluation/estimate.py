"""Estimates of what a training, or a baseline's fit, will cost.

They are seconds per epoch, from a few measured steps, and bytes per checkpoint.
"""

import time

import torch

from trainables.catalog.models import MODELS
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training, generator_for
from trainables.training.process import prepare

STEPS = 3
VALIDATION_SHARE = 1 / 3
"""A forward pass takes about a third of a training step's time."""


def epoch_seconds(
    config: TrialConfig, dataset: Dataset, *, device: str = "cpu", threads: int = 1
) -> float:
    """Estimate the seconds of one epoch of `config`, from three steps after a first one.

    An epoch is training and validation, of all folds if there are any.
    """
    prepare(threads)
    return (dataset.folds or 1) * _of_one_network(config, dataset.of_one_network(), device)


def _of_one_network(config: TrialConfig, dataset: Dataset, device: str) -> float:
    if config.model.is_baseline:
        from trainables.baselines.fitting import fit_seconds

        return fit_seconds(config, dataset)
    training = Training(config, dataset, device=device)
    means = MetricAverage("loss", device=training.device)
    rows = torch.arange(min(config.batch_size, len(dataset.train)))
    generator = generator_for(config.seed, "estimate", 0)

    def step() -> None:
        (changes,) = training.task.draw(config.augment, 1, len(rows), generator, training.device)
        training.step(rows, changes, means)

    training.wrapped.train()
    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    means.means("train")
    per_image = (time.perf_counter() - start) / STEPS / len(rows)
    return per_image * (len(dataset.train) + VALIDATION_SHARE * len(dataset.val))


def checkpoint_bytes(
    config: ModelConfig, image: tuple[int, int, int], outputs: int, *, images: int = 0
) -> int:
    """Return the bytes of a checkpoint of this model.

    They are weights, buffers and Adam's two moments of each weight, as float32; the network is
    built without memory for them. For a baseline they are the most that it keeps of so many
    training images.
    """
    if config.is_baseline:
        from trainables.baselines.fitting import most_bytes

        return most_bytes(config, image, outputs, images)
    with torch.device("meta"):
        network = MODELS[config.name].build(image, outputs, **config.options)
    weights, buffers = (
        sum(tensor.numel() for tensor in tensors)
        for tensors in (network.parameters(), network.buffers())
    )
    return 4 * (3 * weights + buffers)
