"""The interface of a baseline: a model that is fitted once, instead of trained in epochs.

A baseline is a class in this package; its entry in `trainables.catalog.models.MODELS` names it.
Checkpoints, evaluation, export and estimates use only this interface. `Fitting` is a baseline as a
trial: a single fit, which counts and is reported as one epoch.

    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    (epoch,) = Fitting(config, dataset).epochs()

The config's augmentation, optimizer, batch size and precision are ignored. Baselines always run on
the CPU.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Arrays, Dataset, Part
from trainables.messages import EpochMetrics
from trainables.values import Evaluation, Json, State

if TYPE_CHECKING:
    from torch import nn

TRAIN_MEASURED = 20
"""The maximum number of training images, evenly spread, on which a `PartBaseline` is measured."""
SAMPLE = 3
"""The number of images by which `PartBaseline.fit_seconds` measures the time."""
LEAST_CHANCE = 1e-7
"""A probability of 0 counts as this one, so that losses are finite."""

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

    def predict_part(self, fitted: Fitted, part: Part, dataset: Dataset) -> Predictions:
        """Predict a part of the data set, by default image by image."""
        return [self.predict([fitted], [image], dataset)[0] for image in part.each()]

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


class PartBaseline(Baseline):
    """A baseline that is fitted to drawn parts of the training images, such as pixels."""

    most_images = math.inf
    """The maximum number of images from which parts are drawn."""

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> Fitted:
        """Fit to the training set."""
        return self.fit_to(dataset, 1.0, beat)

    @abstractmethod
    def fit_to(self, dataset: Dataset, share: float, beat: Beat = no_beat) -> Fitted:
        """Fit to this share of the parts that a fit to a whole training set uses."""

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds the epoch takes, from a fit to a few images."""
        sample = replace(
            dataset, train=spread(dataset.train, SAMPLE), val=spread(dataset.val, SAMPLE)
        )
        share = len(sample.train) / min(len(dataset.train), self.most_images)
        start = time.perf_counter()
        fitted = self.fit_to(sample, share)
        fit_s = time.perf_counter() - start
        self.predict_part(fitted, sample.val, dataset)
        image_s = (time.perf_counter() - start - fit_s) / len(sample.val)
        measured = len(dataset.val) + min(TRAIN_MEASURED, len(dataset.train))
        return fit_s / share + image_s * measured


def write_classifiers(fitted: Sequence[Fitted], folder: Path) -> list[str]:
    """Write classifiers of scikit-learn for a predictor; return the names of their files."""
    import skops.io  # imported here because it takes two seconds, and only an export needs it

    files = [f"classifier-{number}.skops" for number in range(1, len(fitted) + 1)]
    for classifier, file in zip(fitted, files, strict=True):
        skops.io.dump(classifier, folder / file)
    return files


def spread(part: Part, most: int) -> Part:
    """Return at most `most` images of a part, evenly spread."""
    if len(part) <= most:
        return part
    return part.take(np.linspace(0, len(part) - 1, most).round().astype(int))


def load_baseline(config: TrialConfig) -> Baseline:
    """Build the baseline that the config names, not fitted yet."""
    baseline: Baseline = MODELS[config.model.name].baseline(config)
    return baseline


BUSY_SHARE = 0.05
"""The minimum processor time of a process that works, as a share of the elapsed time.

A process that uses less counts as idle, and sends no heartbeat.
"""


class Fitting:
    """The fit of a baseline, used in place of a `Training`.

    It has the part of `Training`'s interface that a trial needs: epochs, and a state to save and
    restore.
    """

    precision = ""
    device = "cpu"

    def __init__(
        self, config: TrialConfig, dataset: Dataset, *, on_step: Beat | None = None
    ) -> None:
        self.config, self.dataset, self.on_step = config, dataset, on_step or no_beat
        self.baseline = load_baseline(config)
        self.fitted: Fitted = None
        self.epoch = 0

    @property
    def epochs_done(self) -> float:
        """The number of epochs that are done: 1 after the fit."""
        return self.epoch

    def epochs(self) -> Iterator[EpochMetrics]:
        """Yield the metrics of the only epoch; nothing if that epoch has already finished."""
        if not self.epoch:
            yield self.next_epoch()

    def next_epoch(self) -> EpochMetrics:
        """Fit the baseline, and measure it on the validation set.

        The learning rate is reported as 0. The reported time includes the wait for features.
        """
        start = time.perf_counter()
        with keep_alive(self.on_step):
            self.fitted = self.baseline.fit(self.dataset, self.on_step)
            values = self.baseline.measure(self.fitted, self.dataset, self.on_step)
        self.epoch = 1
        return EpochMetrics(1, {"lr": 0.0, **values, "time/epoch_s": time.perf_counter() - start})

    def state(self) -> State:
        """Return the state for a checkpoint; it has no classifier before the fit."""
        return {"epoch": self.epoch, **self.baseline.state(self.fitted)}

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned."""
        self.epoch = state["epoch"]
        self.fitted = self.baseline.restore(state, self.dataset)


@contextmanager
def keep_alive(beat: Beat, every_s: float = 1.0) -> Iterator[None]:
    """Send heartbeats while this process computes, even during a single long step.

    `beat` is called about every `every_s` seconds by a thread, but only if the process has used
    processor time since the last check (`BUSY_SHARE`): a process that uses none is considered hung.
    """
    over = threading.Event()

    def watch() -> None:
        before = time.process_time()
        while not over.wait(every_s):
            spent, before = time.process_time() - before, time.process_time()
            if spent > BUSY_SHARE * every_s:
                beat()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
