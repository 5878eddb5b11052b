"""A space whose best lies beyond its edge."""

import math

from search.space import Float, SearchSpace
from tests.support.played import report
from trainables.config import TrialConfig
from trainables.messages import Report

BEST = 1e-2

PLANTED = SearchSpace(
    {"optimizer.lr": Float(1e-5, 1e-3, log=True), "model.dropout": Float(0.0, 0.7)},
    base={"model.name": "mnist_cnn", "epochs": 2},
    trials=9,
)
"""The best learning rate is a decade above the highest."""


def peak(config: TrialConfig, epoch: int) -> Report:
    """Report accuracies that are best at one learning rate, and a tenth less a decade away."""
    accuracy = (
        0.95 - 0.1 * abs(math.log10(config.optimizer.lr / BEST)) - 0.01 * (config.epochs - epoch)
    )
    return report(epoch, accuracy, "completed" if epoch == config.epochs else None)
