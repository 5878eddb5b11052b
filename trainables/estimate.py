"""How long an epoch will take, from a few measured steps."""

import time

import torch

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.loop import Training, generator_for
from trainables.metrics import Means
from trainables.threads import limit_threads

STEPS = 3
VALIDATION_SHARE = 1 / 3
"""A forward pass costs about a third of a training step."""


def epoch_seconds(config: TrialConfig, dataset: Dataset, *, device: str = "cpu", threads: int = 1) -> float:
    """Seconds for one epoch of `config`, training and validation, extrapolated from three steps after a first one."""
    limit_threads(threads)
    training = Training(config, dataset, device=device)
    means = Means("loss", device=training.device)
    rows = torch.arange(min(config.batch_size, len(dataset.train)))
    changes = generator_for(config.seed, "estimate", 0)
    training.wrapped.train()
    training.step(rows, changes, means)
    start = time.perf_counter()
    for _ in range(STEPS):
        training.step(rows, changes, means)
    means.means("train")
    per_image = (time.perf_counter() - start) / STEPS / len(rows)
    return per_image * (len(dataset.train) + VALIDATION_SHARE * len(dataset.val))
