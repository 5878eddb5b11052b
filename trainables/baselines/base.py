"""The interface of a baseline: a model that is fitted once, instead of trained in epochs.

A baseline is a class in this package; its entry in `trainables.catalog.models.MODELS` names it.
Checkpoints, evaluation, export and estimates use only this interface.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Arrays, Dataset, Part
from trainables.values import Evaluation, Json, State

if TYPE_CHECKING:
    from torch import nn

Beat = Callable[[], None]
"""Called from time to time by a process that works."""
Fitted = Any
"""A fitted estimator, of one of the types that `trainables.baselines.store` writes and reads."""
Predictions = Any
"""The predictions of the baseline's task (`trainables.tasks.base.Predictions`)."""


def no_beat() -> None:
    """Do nothing: the `Beat` of a process that nobody watches."""


class Baseline(ABC):
    """A model that is fitted once, on the CPU.

    An instance has the settings; the result of a fit is a separate value, which is stored in a
    checkpoint.
    """

    def __init__(self, config: TrialConfig) -> None:
        self.config = config

    @abstractmethod
    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> Fitted:
        """Fit to the training set; all randomness comes from the config's seed."""

    @abstractmethod
    def measure(self, fitted: Fitted, dataset: Dataset, beat: Beat = no_beat) -> dict[str, float]:
        """Return the values that the only epoch reports, apart from its time and learning rate.

        They are `train/loss`, `val/loss` unless the networks of the task have none, and the values
        that the task's meter reports (`trainables.tasks.base.Meter.values`).
        """

    @abstractmethod
    def predict_part(self, fitted: Fitted, part: Part, dataset: Dataset) -> Predictions:
        """Predict a part of the data set, which may be cached."""

    @abstractmethod
    def predict(self, fitted: Sequence[Fitted], images: Arrays, dataset: Dataset) -> Predictions:
        """Predict images in memory, uint8 (count, height, width, channels).

        Args:
            fitted: the results of one fit or, with folds, of one for each fold, which are combined.
            images: the images.
            dataset: the data of the training.
        """

    def export(self, fitted: Sequence[Fitted], folder: Path) -> Json:
        """Write the files from which the stand-alone predictor of the task loads the model.

        The files contain no types of this project. A baseline with `networks` is exported as they
        are instead.

        Returns:
            Further values for `about.json`.
        """
        raise NotImplementedError

    def state(self, fitted: Fitted) -> State:
        """Return the result of a fit in the form of a checkpoint."""
        return {"classifier": fitted}

    def restore(self, state: State, dataset: Dataset) -> Fitted:
        """Return the result of a fit from a state that `state` returned."""
        return state["classifier"]

    def further_evaluation(self, fitted: Fitted, dataset: Dataset) -> Evaluation:
        """Return an addition to the evaluation on the validation set; empty by default.

        It depends on the data and the kind of the model, not on a fit.
        """
        return {}

    def networks(self, fitted: Sequence[Fitted]) -> "list[nn.Module]":
        """Return the network of each fit, as `Task.network` builds it; empty if there are none.

        A baseline with networks is used, stored and exported as a network is.
        """
        return []

    @abstractmethod
    def fit_seconds(self, dataset: Dataset, *, box_s: float) -> float:
        """Estimate how many seconds the epoch takes, by fitting samples.

        Args:
            dataset: the data.
            box_s: the time, in seconds, that a second and larger sample may take.
        """

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return a generous upper bound on the size of the fitted model on disk, in bytes.

        A baseline with `networks` does not have it: its size is that of the weights.

        Args:
            options: the model's options (`ModelConfig.options`).
            image: the (channels, height, width) of an image.
            outputs: the number of classes.
            images: the number of training images.
        """
        raise NotImplementedError


def spread(part: Part, most: int) -> Part:
    """Return at most `most` images of a part, evenly spread."""
    if len(part) <= most:
        return part
    return part.take(np.linspace(0, len(part) - 1, most).round().astype(int))


def load_baseline(config: TrialConfig) -> Baseline:
    """Build the baseline that the config names, not fitted yet."""
    baseline: Baseline = MODELS[config.model.name].baseline(config)
    return baseline
