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

from trainables.baselines.features import Values, kinds_of, length, of_images
from trainables.baselines.shared import features_of
from trainables.catalog.models import MODELS
from trainables.catalog.tasks import CLASSIFICATION
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part
from trainables.datasets.targets import class_weights
from trainables.messages import EpochMetrics
from trainables.tasks.metrics import SCORES, told
from trainables.values import State

TRAIN_MEASURED = 1000
"""The number of training images, evenly spread, over which `train/loss` is the mean."""
FIRST_SAMPLE, SAMPLE = 60, 1000
"""The numbers of training images that a classifier is fitted to in order to estimate its time: at
first, and at most.
"""
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

        The learning rate is 0, since there is none; the time includes the wait for features.
        """
        start = time.perf_counter()
        config, (train, val) = self.config.model, (self.dataset.train, self.dataset.val)
        inputs, others = (
            features_of(part, config.options["features"], self.on_step) for part in (train, val)
        )
        measured = np.unique(np.linspace(0, len(train) - 1, TRAIN_MEASURED).round().astype(int))
        with kept_alive(self.on_step):
            self.classifier = fitted(self.config, inputs, self.dataset)
            train_loss = _loss(
                chances(self.classifier, inputs[measured], self.dataset), train.targets[measured]
            )
            found = chances(self.classifier, others, self.dataset)
        values = {
            "lr": 0.0,
            "train/loss": train_loss,
            "val/loss": _loss(found, val.targets),
            CLASSIFICATION.primary.key: float(np.mean(val.targets == found.argmax(axis=1))),
        }
        if (metric := self.config.ranked_by).name in SCORES:
            values |= told(metric, SCORES[metric.name](val.targets, found))
        self.epoch = 1
        return EpochMetrics(1, {**values, "time/epoch_s": time.perf_counter() - start})

    def state(self) -> State:
        """Return what a checkpoint holds."""
        return {"epoch": self.epoch, "classifier": self.classifier}

    def load_state(self, state: State) -> None:
        """Continue from what `state` gave."""
        self.epoch, self.classifier = state["epoch"], state["classifier"]


def fitted(config: TrialConfig, inputs: Values, dataset: Dataset) -> ClassifierMixin:
    """Return the classifier of a config, fitted to the training part's features."""
    labels, kind = dataset.train.targets, config.train.class_weights
    if kind == "none":  # not all classifiers take weights
        return unfitted(config).fit(inputs, labels)
    weights = class_weights(kind, labels, len(dataset.classes))[labels]
    return unfitted(config).fit(inputs, labels, sample_weight=weights)


def unfitted(config: TrialConfig) -> ClassifierMixin:
    """Return the classifier of a config, not fitted yet."""
    options = {name: value for name, value in config.model.options.items() if name != "features"}
    return MODELS[config.model.name].classifier(config.seed, **options)


def chances(classifier: ClassifierMixin, values: Values, dataset: Dataset) -> Probabilities:
    """Return class probabilities, (images, classes), from features.

    They are 0 for a class of which there is no training image.
    """
    found = np.zeros((len(values), len(dataset.classes)))
    found[:, classifier.classes_] = classifier.predict_proba(values)
    return found


def probabilities(
    config: TrialConfig, dataset: Dataset, part: Part, classifier: ClassifierMixin
) -> Probabilities:
    """Return class probabilities, (images, classes), of a part, whose features are shared."""
    return chances(classifier, features_of(part, config.model.options["features"]), dataset)


def from_images(
    config: TrialConfig, dataset: Dataset, images: Images, *classifiers: ClassifierMixin
) -> Probabilities:
    """Return class probabilities, (images, classes), of any images.

    Their features are computed too, as for a new image that is to be classified. With several
    classifiers they are the mean.

    Args:
        config: the trial's.
        dataset: gives the classes.
        images: uint8 (count, height, width, channels).
        classifiers: fitted ones.
    """
    values = _joined(config, images)
    mean: Probabilities = np.mean(
        [chances(classifier, values, dataset) for classifier in classifiers], axis=0
    )
    return mean


def fit_seconds(config: TrialConfig, dataset: Dataset, *, box_s: float = math.inf) -> float:
    """Estimate the seconds that a fit and its validation take, by a fit to a few images.

    The time grows with the square of the number of images, a tree's with the number. Features,
    which are computed once for all trials, do not count. No more neighbours vote than there are
    images in the sample. The second, larger sample is as large as `box_s` seconds are expected to
    allow.
    """
    most = min(SAMPLE, len(dataset.train))
    first = min(FIRST_SAMPLE, most)
    start = time.perf_counter()
    fit_s = _sampled_s(config, dataset, first)
    features_s = time.perf_counter() - start - fit_s
    count = first
    while count < most and _grown(features_s, fit_s, min(2 * count, most) / first) <= box_s:
        count = min(2 * count, most)
    if count > first:
        fit_s = _sampled_s(config, dataset, count)
    return fit_s * (len(dataset.train) / count) ** (1 if config.model.name == "tree" else 2)


def _grown(features_s: float, fit_s: float, times: float) -> float:
    """Return the seconds that features and fit of so many times the images are expected to take."""
    return features_s * times + fit_s * times**2


def _sampled_s(config: TrialConfig, dataset: Dataset, count: int) -> float:
    """Return the seconds of a fit to so many of the training images, evenly spread."""
    rows = np.unique(np.linspace(0, len(dataset.train) - 1, count).round().astype(int))
    part = dataset.train.take(rows)
    inputs = _joined(config, part.images)
    if "neighbours" in config.model.options:
        config = config.override(
            {"model.neighbours": min(config.model.options["neighbours"], len(rows))}
        )
    start = time.perf_counter()
    fitted = unfitted(config).fit(inputs, part.targets)
    fitted.predict_proba(inputs[: len(dataset.val)])
    return time.perf_counter() - start


def most_bytes(config: ModelConfig, image: tuple[int, int, int], classes: int, images: int) -> int:
    """Return the most bytes that a fitted classifier takes on disk.

    It keeps the features of every training image, or is a tree with a leaf for each.
    """
    width = sum(length(kind, *image[1:]) for kind in kinds_of(config.options["features"]))
    return 8 * images * (width + 2 * classes + 16)


@contextmanager
def kept_alive(beat: Callable[[], None], every_s: float = 1.0) -> Iterator[None]:
    """Call `beat` every `every_s` seconds while this process computes, also during one long step.

    A process that stands still is not alive, and `beat` is not called.
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


def _joined(config: TrialConfig, images: Images) -> Values:
    """Return a config's features, (images, length), of any images, computed anew."""
    return np.hstack(
        [of_images(images, kind) for kind in kinds_of(config.model.options["features"])]
    )


def _loss(found: Probabilities, labels: NDArray[np.int64]) -> float:
    """Return the cross-entropy.

    scikit-learn takes a probability of 0 as the machine epsilon of its floating-point type.
    """
    return float(log_loss(labels, found, labels=np.arange(found.shape[1])))
