"""Baselines for images in classes: a classifier on cached features of whole images.

The features of a part of a data set are computed once and shared by the trials of a search, its
processes, and later searches (`features_of`). Each kind and part has its own file in the cache
(`trainables.disk.cache_folder`), named after a fingerprint of the images, so that a change of the
split, the image size or the files changes the name, as does the `FeatureKind` of the features.
"""

import fcntl
import math
import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import log_loss

from trainables.baselines import features
from trainables.baselines.base import Baseline, Beat, Fitted, no_beat, write_classifiers
from trainables.baselines.classifiers import knn, svm, tree
from trainables.baselines.features import (
    VERSION,
    Values,
    compute_features,
    kinds_of,
    length,
)
from trainables.datasets.arrays import Dataset, Images, Part, PartSubset
from trainables.datasets.targets import class_weights
from trainables.disk import cache_folder, make_private, sync
from trainables.tasks.metrics import compute, epoch_metrics
from trainables.values import Json

TRAIN_MEASURED = 1000
"""The maximum number of training images, evenly spread, on which `train/loss` is measured."""
FIRST_SAMPLE, SAMPLE = 60, 1000
"""The numbers of training images in the first and in the largest sample of `fit_seconds`."""

LOOK_S = 0.1
"""Seconds between two attempts to acquire the lock."""

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureKind:
    """Features that are computed in the same way."""

    name: str
    """The name in the cache."""
    version: str
    """The versions of all that determines the features apart from the images."""
    compute: Callable[[Images, Beat], Values]
    """Computes the features of images, float32 (images, length)."""


def hand_made(name: str) -> FeatureKind:
    """Return the hand-made features of this name in `FEATURES`."""
    return FeatureKind(
        name,
        f"{VERSION}-{version('scikit-image')}",
        lambda images, beat: compute_features(images, name, beat),
    )


def features_of(part: Part, kind: FeatureKind, beat: Beat = no_beat) -> Values:
    """Load the features of a part's images from the cache, or compute and cache them.

    Args:
        part: the images.
        kind: the features.
        beat: called from time to time while the features are computed or awaited.

    Returns:
        float32 (images, length). Do not write to it: it may be memory-mapped.
    """
    if isinstance(part, PartSubset):  # all folds of a part share its features
        return features_of(part.whole, kind, beat)[part.rows]
    path = _path(part, kind)
    if (values := _read(path, part)) is not None:
        return values
    with _turn(path.with_name(f"{kind.name}.lock"), beat):
        if (values := _read(path, part)) is None:  # another process may have been faster
            values = kind.compute(part.images, beat)
            _write(path, values)
    return values


def are_cached(part: Part, kind: FeatureKind) -> bool:
    """True if the cache has the features of a part's images."""
    whole = part.whole if isinstance(part, PartSubset) else part
    return _read(_path(whole, kind), whole) is not None


def _path(part: Part, kind: FeatureKind) -> Path:
    return cache_folder("features") / f"{kind.name}-{part.fingerprint}-{kind.version}.npy"


def _read(path: Path, part: Part) -> Values | None:
    """Return the stored features, memory-mapped; None if the file is missing or incomplete."""
    try:
        values = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError):
        return None
    return (
        values
        if values.dtype == np.float32 and values.ndim == 2 and len(values) == len(part)
        else None
    )


def _write(path: Path, values: Values) -> None:
    """Write the file atomically: under a temporary name in the same folder, then renamed.

    Errors are ignored: without the file, the features are computed again when they are needed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        try:
            partial.touch(0o600)
            with partial.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            sync(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _turn(path: Path, beat: Beat) -> Iterator[None]:
    """Let one process at a time compute the features of a kind; the others wait for the lock.

    If files cannot be locked here, every process computes the features itself.
    """
    try:
        make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, beat)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, beat: Beat) -> None:
    """Wait for the lock on an open file, and call `beat` while waiting.

    The system releases the lock if its holder dies. If files cannot be locked here, return without
    the lock.
    """
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            beat()
            time.sleep(LOOK_S)
        except OSError:
            return


class FeatureClassifier(Baseline):
    """A classifier that is fitted to the features of images; its predictions are probabilities."""

    new: ClassVar[Callable[..., ClassifierMixin]]
    """Builds the classifier from the seed and the model's options for it."""
    growth = 2
    """The time of a fit grows with the number of images to this power."""

    @abstractmethod
    def features(
        self, part: Part, dataset: Dataset, beat: Beat = no_beat, fitted: Fitted = None
    ) -> Values:
        """Return the features of a part's images, (images, length), from the cache if possible.

        Args:
            part: the images.
            dataset: the data of the training.
            beat: called from time to time.
            fitted: the fit that needs the features; None before a fit.
        """

    @abstractmethod
    def compute(self, images: Images, dataset: Dataset) -> Values:
        """Compute the features of images, (images, length), without the cache."""

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> ClassifierMixin:
        """Fit the classifier to the features of the training set."""
        return self.fit_to(self.features(dataset.train, dataset, beat), dataset)

    def fit_to(self, inputs: Values, dataset: Dataset) -> ClassifierMixin:
        """Fit the classifier to `inputs`, the features of the training set.

        Images are weighted by their class if the config says so.
        """
        labels, weights = dataset.train.targets, self.class_weights(dataset)
        if weights is None:  # some classifiers do not accept weights
            return self.new_classifier().fit(inputs, labels)
        return self.new_classifier().fit(inputs, labels, sample_weight=weights[labels])

    def class_weights(self, dataset: Dataset) -> NDArray[np.float64] | None:
        """Return the weight of the images of each class, (classes,); None if all are equal."""
        kind = self.config.train.class_weights
        counts = np.bincount(dataset.train.targets, minlength=len(dataset.classes))
        return None if kind == "none" else class_weights(kind, counts)

    def fitted_images(self, dataset: Dataset) -> int:
        """Return the number of images to which the classifier is fitted."""
        return len(dataset.train)

    @abstractmethod
    def new_classifier(self) -> ClassifierMixin:
        """Build the classifier, not fitted yet."""

    def probabilities(self, fitted: Fitted, values: Values, dataset: Dataset) -> Probabilities:
        """Predict class probabilities, (images, classes), from features."""
        return class_probabilities(fitted, values, dataset)

    def measure(self, fitted: Fitted, dataset: Dataset, beat: Beat = no_beat) -> dict[str, float]:
        """Return the losses, the accuracy, and the metric that ranks trials.

        The features are read from the cache, where `fit` stored those of the training set.
        """
        train, val = dataset.train, dataset.val
        measured = np.unique(np.linspace(0, len(train) - 1, TRAIN_MEASURED).round().astype(int))
        train_features = self.features(train, dataset, beat, fitted)[measured]
        train_loss = _loss(
            self.probabilities(fitted, train_features, dataset), train.targets[measured]
        )
        val_features = self.features(val, dataset, beat, fitted)
        chances = self.probabilities(fitted, val_features, dataset)
        values = {
            "train/loss": train_loss,
            "val/loss": _loss(chances, val.targets),
            self.config.task.primary.key: float(np.mean(val.targets == chances.argmax(axis=1))),
        }
        if not (metric := self.config.ranked_by).is_share:
            groups = dataset.group_numbers(val)
            values |= epoch_metrics(metric, compute(metric, val.targets, chances, groups))
        return values

    def predict_part(self, fitted: Fitted, part: Part, dataset: Dataset) -> Probabilities:
        """Predict class probabilities, (images, classes), for a part of the data set.

        The features of its images are read from the cache, or computed and cached.
        """
        values = self.features(part, dataset, fitted=fitted)
        return self.probabilities(fitted, values, dataset)

    def predict(self, fitted: Sequence[Fitted], images: Images, dataset: Dataset) -> Probabilities:
        """Predict the mean class probabilities of the classifiers, (images, classes).

        Features are computed without the cache, because new images are not in it.
        """
        values = self.compute(images, dataset)
        mean: Probabilities = np.mean(
            [self.probabilities(classifier, values, dataset) for classifier in fitted], axis=0
        )
        return mean

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds a fit and its validation take, by fitting small samples.

        The extraction of features is not included, because it happens once for all trials. A
        second, larger sample is measured if this is expected to take at most `box_s` seconds.
        """
        most = min(SAMPLE, len(dataset.train))
        first = min(FIRST_SAMPLE, most)
        start = time.perf_counter()
        fit_s = self._sampled_s(dataset, first)
        features_s = time.perf_counter() - start - fit_s
        count = first
        while (
            count < most
            and _extrapolate_s(features_s, fit_s, min(2 * count, most) / first) <= box_s
        ):
            count = min(2 * count, most)
        if count > first:
            fit_s = self._sampled_s(dataset, count)
        return float(fit_s * (self.fitted_images(dataset) / count) ** self.growth)

    def _sampled_s(self, dataset: Dataset, count: int) -> float:
        """Measure the seconds of a fit to a sample, and of a prediction of images of the sample.

        The sample consists of `count` training images, evenly spread, and one of each class.
        """
        spread = np.linspace(0, len(dataset.train) - 1, count).round().astype(int)
        rows = np.union1d(spread, np.unique(dataset.train.targets, return_index=True)[1])
        part = dataset.train.take(rows)
        inputs = self.compute(part.images, dataset)
        start = time.perf_counter()
        classifier = self._sample_classifier(len(rows)).fit(inputs, part.targets)
        classifier.predict_proba(inputs[: len(dataset.val)])
        return time.perf_counter() - start

    def _sample_classifier(self, images: int) -> ClassifierMixin:
        """Build a classifier that can be fitted to a sample of so few images."""
        return self.new_classifier()


class HandMadeClassifier(FeatureClassifier):
    """A classifier on hand-made features (`trainables.baselines.features`)."""

    @property
    def kind(self) -> str:
        """The kind of features: a name in `FEATURES`, or `all` to concatenate all kinds."""
        kind: str = self.config.model.options["features"]
        return kind

    def features(
        self, part: Part, dataset: Dataset, beat: Beat = no_beat, fitted: Fitted = None
    ) -> Values:
        """Return the features of a part's images, (images, length), from the cache if possible."""
        each = [features_of(part, hand_made(kind), beat) for kind in kinds_of(self.kind)]
        return np.hstack(each) if len(each) > 1 else each[0]

    def compute(self, images: Images, dataset: Dataset) -> Values:
        """Compute the features of images, (images, length), without the cache."""
        return np.hstack([compute_features(images, kind) for kind in kinds_of(self.kind)])

    def new_classifier(self, **changes: Any) -> ClassifierMixin:
        """Build the classifier, not fitted yet, with these changes of its options."""
        options = {**self.config.model.options, **changes}
        del options["features"]
        return type(self).new(self.config.seed, **options)

    def export(self, fitted: Sequence[Fitted], folder: Path) -> Json:
        """Write the classifiers for the task's predictor, and their features."""
        files = write_classifiers([getattr(own, "svc_", own) for own in fitted], folder)
        temperatures = [getattr(own, "temperature_", None) for own in fitted]
        members = [
            {"file": file, "temperature": None if temperature is None else float(temperature)}
            for file, temperature in zip(files, temperatures, strict=True)
        ]
        shutil.copy(features.__file__, folder)
        return {"features": self.kind, "members": members}

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of a classifier on disk, in bytes.

        An SVM or nearest-neighbours classifier may store the features of every training image; a
        tree may have a leaf for every image.
        """
        width = sum(length(kind, *image[1:]) for kind in kinds_of(options["features"]))
        return 8 * images * (width + 2 * outputs + 16)


class SupportVectorMachine(HandMadeClassifier):
    """A support vector machine."""

    new = staticmethod(svm)


class NearestNeighbours(HandMadeClassifier):
    """The votes of the nearest training images."""

    new = staticmethod(knn)

    def _sample_classifier(self, images: int) -> ClassifierMixin:
        neighbours = min(self.config.model.options["neighbours"], images)
        return self.new_classifier(neighbours=neighbours)


class DecisionTree(HandMadeClassifier):
    """A decision tree."""

    new = staticmethod(tree)
    growth = 1


def class_probabilities(
    classifier: ClassifierMixin, values: Values, dataset: Dataset
) -> Probabilities:
    """Predict class probabilities, (images, classes), from features.

    A class without training images has probability 0.
    """
    by_class = np.zeros((len(values), len(dataset.classes)))
    by_class[:, classifier.classes_] = classifier.predict_proba(values)
    return by_class


def _extrapolate_s(features_s: float, fit_s: float, times: float) -> float:
    """Estimate the seconds for a sample `times` times as large as the first one.

    The time of the features grows linearly, and that of the fit quadratically.
    """
    return features_s * times + fit_s * times**2


def _loss(predicted: Probabilities, labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy.

    It is always finite: scikit-learn replaces a probability of 0 by the machine epsilon.
    """
    return float(log_loss(labels, predicted, labels=np.arange(predicted.shape[1])))
