"""A baseline as a trial: a single fit, which counts and is reported as one epoch.

    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    (epoch,) = Fitting(config, dataset).epochs()

The config's augmentation, optimizer, batch size and precision are ignored. Baselines always run on
the CPU.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import log_loss

from trainables.baselines.features import Values, compute_features, kinds_of, length
from trainables.baselines.shared import features_of
from trainables.catalog.models import MODELS
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part
from trainables.datasets.class_numbers import class_weights
from trainables.messages import EpochMetrics
from trainables.tasks.metrics import SCORES, epoch_metrics
from trainables.values import State

TRAIN_MEASURED = 1000
"""The maximum number of training images, evenly spread, on which `train/loss` is measured."""
FIRST_SAMPLE, SAMPLE = 60, 1000
"""The numbers of training images in the first and in the largest sample of `fit_seconds`."""
BUSY_SHARE = 0.05
"""The minimum processor time of a process that works, as a share of the elapsed time.

A process that uses less counts as idle, and sends no heartbeat.
"""

Probabilities = NDArray[np.float64]


class Fitting:
    """The fit of a baseline, used in place of a `Training`.

    It has the part of `Training`'s interface that a trial needs: epochs, and a state to save and
    restore.
    """

    precision = ""
    device = "cpu"

    def __init__(
        self, config: TrialConfig, dataset: Dataset, *, on_step: Callable[[], None] | None = None
    ) -> None:
        self.config, self.dataset, self.on_step = config, dataset, on_step or (lambda: None)
        self.classifier: ClassifierMixin | None = None
        self.epoch = 0

    def epochs(self) -> Iterator[EpochMetrics]:
        """Yield the metrics of the only epoch; nothing if that epoch has already finished."""
        if not self.epoch:
            yield self.next_epoch()

    def next_epoch(self) -> EpochMetrics:
        """Fit the classifier, and measure it on the validation set.

        The learning rate is reported as 0. The reported time includes the wait for features.
        """
        start = time.perf_counter()
        config, (train, val) = self.config.model, (self.dataset.train, self.dataset.val)
        train_features, val_features = (
            features_of(part, config.options["features"], self.on_step) for part in (train, val)
        )
        measured = np.unique(np.linspace(0, len(train) - 1, TRAIN_MEASURED).round().astype(int))
        with keep_alive(self.on_step):
            self.classifier = fit_classifier(self.config, train_features, self.dataset)
            train_loss = _loss(
                class_probabilities(self.classifier, train_features[measured], self.dataset),
                train.targets[measured],
            )
            val_probabilities = class_probabilities(self.classifier, val_features, self.dataset)
        values = {
            "lr": 0.0,
            "train/loss": train_loss,
            "val/loss": _loss(val_probabilities, val.targets),
            self.config.task.primary.key: float(
                np.mean(val.targets == val_probabilities.argmax(axis=1))
            ),
        }
        if (metric := self.config.ranked_by).name in SCORES:
            values |= epoch_metrics(metric, SCORES[metric.name](val.targets, val_probabilities))
        self.epoch = 1
        return EpochMetrics(1, {**values, "time/epoch_s": time.perf_counter() - start})

    def state(self) -> State:
        """Return the state for a checkpoint; its classifier is None before the fit."""
        return {"epoch": self.epoch, "classifier": self.classifier}

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned."""
        self.epoch, self.classifier = state["epoch"], state["classifier"]


def fit_classifier(config: TrialConfig, inputs: Values, dataset: Dataset) -> ClassifierMixin:
    """Fit the config's classifier to `inputs`, the features of the training set.

    Images are weighted by their class if the config says so.
    """
    labels, kind = dataset.train.targets, config.train.class_weights
    if kind == "none":  # some classifiers do not accept weights
        return new_classifier(config).fit(inputs, labels)
    weights = class_weights(kind, labels, len(dataset.classes))[labels]
    return new_classifier(config).fit(inputs, labels, sample_weight=weights)


def new_classifier(config: TrialConfig) -> ClassifierMixin:
    """Build the config's classifier, not fitted yet."""
    options = {name: value for name, value in config.model.options.items() if name != "features"}
    return MODELS[config.model.name].classifier(config.seed, **options)


def class_probabilities(
    classifier: ClassifierMixin, values: Values, dataset: Dataset
) -> Probabilities:
    """Predict class probabilities, (images, classes), from features.

    A class without training images has probability 0.
    """
    by_class = np.zeros((len(values), len(dataset.classes)))
    by_class[:, classifier.classes_] = classifier.predict_proba(values)
    return by_class


def probabilities(
    config: TrialConfig, dataset: Dataset, part: Part, classifier: ClassifierMixin
) -> Probabilities:
    """Predict class probabilities, (images, classes), for a part of the data set.

    The features of its images are read from the cache, or computed and cached.
    """
    return class_probabilities(
        classifier, features_of(part, config.model.options["features"]), dataset
    )


def probabilities_of_images(
    config: TrialConfig, dataset: Dataset, images: Images, *classifiers: ClassifierMixin
) -> Probabilities:
    """Predict class probabilities, (images, classes), for images in memory.

    Their features are computed without the cache, because new images are not in it. The
    probabilities of several classifiers are averaged.

    Args:
        config: the trial's config.
        dataset: provides the classes.
        images: uint8 (count, height, width, channels).
        classifiers: fitted classifiers, at least one.
    """
    values = _all_features(config, images)
    mean: Probabilities = np.mean(
        [class_probabilities(classifier, values, dataset) for classifier in classifiers], axis=0
    )
    return mean


def fit_seconds(config: TrialConfig, dataset: Dataset, *, box_s: float = math.inf) -> float:
    """Estimate how many seconds a fit and its validation take, by fitting small samples.

    The time is assumed to grow linearly with the number of images for a tree, and quadratically for
    the other classifiers. The extraction of features is not included, because it happens once for
    all trials. A second, larger sample is measured if this is expected to take at most `box_s`
    seconds.
    """
    most = min(SAMPLE, len(dataset.train))
    first = min(FIRST_SAMPLE, most)
    start = time.perf_counter()
    fit_s = _sampled_s(config, dataset, first)
    features_s = time.perf_counter() - start - fit_s
    count = first
    while count < most and _extrapolate_s(features_s, fit_s, min(2 * count, most) / first) <= box_s:
        count = min(2 * count, most)
    if count > first:
        fit_s = _sampled_s(config, dataset, count)
    return fit_s * (len(dataset.train) / count) ** (1 if config.model.name == "tree" else 2)


def _extrapolate_s(features_s: float, fit_s: float, times: float) -> float:
    """Estimate the seconds for a sample `times` times as large as the first one.

    The time of the features grows linearly, and that of the fit quadratically.
    """
    return features_s * times + fit_s * times**2


def _sampled_s(config: TrialConfig, dataset: Dataset, count: int) -> float:
    """Measure the seconds of a fit to a sample, and of a prediction of images of the sample.

    The sample consists of `count` training images, evenly spread.
    """
    rows = np.unique(np.linspace(0, len(dataset.train) - 1, count).round().astype(int))
    part = dataset.train.take(rows)
    inputs = _all_features(config, part.images)
    if "neighbours" in config.model.options:
        config = config.override(
            {"model.neighbours": min(config.model.options["neighbours"], len(rows))}
        )
    start = time.perf_counter()
    classifier = new_classifier(config).fit(inputs, part.targets)
    classifier.predict_proba(inputs[: len(dataset.val)])
    return time.perf_counter() - start


def most_bytes(config: ModelConfig, image: tuple[int, int, int], classes: int, images: int) -> int:
    """Return a generous upper bound on the size of a fitted classifier on disk, in bytes.

    An SVM or nearest-neighbours classifier may store the features of every training image; a tree
    may have a leaf for every image.
    """
    width = sum(length(kind, *image[1:]) for kind in kinds_of(config.options["features"]))
    return 8 * images * (width + 2 * classes + 16)


@contextmanager
def keep_alive(beat: Callable[[], None], every_s: float = 1.0) -> Iterator[None]:
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


def _all_features(config: TrialConfig, images: Images) -> Values:
    """Compute the config's features of images, (images, length), without the cache."""
    return np.hstack(
        [compute_features(images, kind) for kind in kinds_of(config.model.options["features"])]
    )


def _loss(predicted: Probabilities, labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy.

    It is always finite: scikit-learn replaces a probability of 0 by the machine epsilon.
    """
    return float(log_loss(labels, predicted, labels=np.arange(predicted.shape[1])))
