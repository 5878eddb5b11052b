"""A baseline as a trial: fitted once, which counts as one epoch, and measured as networks are.

    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    (epoch,) = Fitting(config, dataset).epochs()

Augmentation, optimizer, batch size, precision and device do not matter to it; it runs on the CPU.
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
from trainables.catalog.tasks import CLASSIFICATION
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part
from trainables.datasets.targets import class_weights
from trainables.messages import EpochMetrics
from trainables.tasks.metrics import SCORES, epoch_metrics
from trainables.values import State

TRAIN_MEASURED = 1000
"""The number of training images, evenly spread, over which `train/loss` is the mean."""
FIRST_SAMPLE, SAMPLE = 60, 1000
"""The numbers of training images in the first and in the largest sample of `fit_seconds`."""
BUSY_SHARE = 0.05
"""The share of the time for which a process must compute, or it sends no heartbeat."""

Probabilities = NDArray[np.float64]


class Fitting:
    """A baseline's fit, used in place of a `Training`.

    It has what the rest of a trial needs of a `Training`: epochs, and a state that is saved and
    restored.
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
        """Yield the one epoch, unless it is done already."""
        if not self.epoch:
            yield self.next_epoch()

    def next_epoch(self) -> EpochMetrics:
        """Fit, and measure on the validation part.

        The learning rate is reported as 0. The time includes the wait for features.
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
            CLASSIFICATION.primary.key: float(
                np.mean(val.targets == val_probabilities.argmax(axis=1))
            ),
        }
        if (metric := self.config.ranked_by).name in SCORES:
            values |= epoch_metrics(metric, SCORES[metric.name](val.targets, val_probabilities))
        self.epoch = 1
        return EpochMetrics(1, {**values, "time/epoch_s": time.perf_counter() - start})

    def state(self) -> State:
        """The state that a checkpoint stores."""
        return {"epoch": self.epoch, "classifier": self.classifier}

    def load_state(self, state: State) -> None:
        """Continue from a state that `state` returned."""
        self.epoch, self.classifier = state["epoch"], state["classifier"]


def fit_classifier(config: TrialConfig, inputs: Values, dataset: Dataset) -> ClassifierMixin:
    """Return the classifier of a config, fitted to the training part's features."""
    labels, kind = dataset.train.targets, config.train.class_weights
    if kind == "none":  # not all classifiers take weights
        return new_classifier(config).fit(inputs, labels)
    weights = class_weights(kind, labels, len(dataset.classes))[labels]
    return new_classifier(config).fit(inputs, labels, sample_weight=weights)


def new_classifier(config: TrialConfig) -> ClassifierMixin:
    """Return the classifier of a config, not fitted yet."""
    options = {name: value for name, value in config.model.options.items() if name != "features"}
    return MODELS[config.model.name].classifier(config.seed, **options)


def class_probabilities(
    classifier: ClassifierMixin, values: Values, dataset: Dataset
) -> Probabilities:
    """Return class probabilities, (images, classes), from features.

    They are 0 for a class without training images.
    """
    by_class = np.zeros((len(values), len(dataset.classes)))
    by_class[:, classifier.classes_] = classifier.predict_proba(values)
    return by_class


def probabilities(
    config: TrialConfig, dataset: Dataset, part: Part, classifier: ClassifierMixin
) -> Probabilities:
    """Return class probabilities, (images, classes), of a part, whose features are shared."""
    return class_probabilities(
        classifier, features_of(part, config.model.options["features"]), dataset
    )


def probabilities_of_images(
    config: TrialConfig, dataset: Dataset, images: Images, *classifiers: ClassifierMixin
) -> Probabilities:
    """Return class probabilities, (images, classes), of any images.

    The features are computed here, without the cache, as for a new image that is to be classified.
    Several classifiers are combined by the mean of their probabilities.

    Args:
        config: the trial's.
        dataset: gives the classes.
        images: uint8 (count, height, width, channels).
        classifiers: fitted ones.
    """
    values = _all_features(config, images)
    mean: Probabilities = np.mean(
        [class_probabilities(classifier, values, dataset) for classifier in classifiers], axis=0
    )
    return mean


def fit_seconds(config: TrialConfig, dataset: Dataset, *, box_s: float = math.inf) -> float:
    """Estimate the seconds that a fit and its validation take, by a fit to a few images.

    The time of a tree grows with the number of images, that of the others with its square. Features
    are not included, because they are computed once for all trials. A second, larger sample is
    measured if it is expected to take at most `box_s` seconds.
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
    """Extrapolate the seconds of features and fit to `times` as many images."""
    return features_s * times + fit_s * times**2


def _sampled_s(config: TrialConfig, dataset: Dataset, count: int) -> float:
    """Measure the seconds of a fit to `count` training images, evenly spread."""
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
    """Return the most bytes that a fitted classifier takes on disk.

    It keeps the features of every training image, or is a tree with a leaf for each.
    """
    width = sum(length(kind, *image[1:]) for kind in kinds_of(config.options["features"]))
    return 8 * images * (width + 2 * classes + 16)


@contextmanager
def keep_alive(beat: Callable[[], None], every_s: float = 1.0) -> Iterator[None]:
    """Call `beat` every `every_s` seconds while this process computes, also during one long step.

    A process that uses no processor time hangs, so that `beat` is then not called.
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
    """Compute a config's features, (images, length), of any images, without the cache."""
    return np.hstack(
        [compute_features(images, kind) for kind in kinds_of(config.model.options["features"])]
    )


def _loss(predicted: Probabilities, labels: NDArray[np.int64]) -> float:
    """Return the cross-entropy.

    It is finite: scikit-learn replaces a probability of 0 by the machine epsilon.
    """
    return float(log_loss(labels, predicted, labels=np.arange(predicted.shape[1])))
