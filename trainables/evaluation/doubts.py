"""Labels that may be wrong: how many of them there are, and which.

A classifier is fitted to features of the images, and says of each image, not having seen it, how
probable every class is. Labels follow these probabilities; but some, it is supposed, were drawn at
random from all classes. Their share is the likeliest one, fitted together with how sure the
classifier is of itself: one that is only poor does not look like wrong labels. Of a class that
hardly any other image shows the classifier knows nothing, and nothing is said of such an image.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model

Floats = NDArray[np.float64]

MIN_IMAGES = 50
"""Of fewer images that can be judged nothing is told."""
FOLDS = 10
STRENGTH, LIKE = 0.05, 64
"""The inverse of the ridge penalty of the logistic regression, for so many features."""
GAIN = 2.0
"""The gain in log-likelihood that random labels must bring: the 2.3 % point of a likelihood-ratio
test of whether there are any. By the 5 % point, 1.35, right labels were refused in up to 6 % of the
plays of `tests.bench.rates`, since the classifier's probabilities are estimates themselves.
"""
BATCH = 256
OTHERS = 2
"""The fewest other images of its class by which an image is judged.

By fewer the classifier finds every class but this one likelier, however right the label is: with
1, labels were doubted in 17 to 50 % of draws of 60 and 120 right ones of 30 classes.
"""
UNSEEN = -20.0
"""The log-probability of a class that no image outside the fold has."""


@dataclass(frozen=True)
class Doubts:
    """The labels that may be wrong."""

    share: float
    """The likeliest share of wrong labels; 0 unless there are some beyond chance."""
    chances: Floats
    """The probability that each label is wrong, (images,)."""


def doubts(features: Floats, labels: NDArray[np.int64], classes: int) -> Doubts:
    """Return the labels that may be wrong, given features of their images, (images, features)."""
    none = Doubts(0.0, np.zeros(len(labels)))
    judged = np.bincount(labels, minlength=classes)[labels] > OTHERS
    if judged.sum() < MIN_IMAGES or len(np.unique(labels[judged])) < 2:
        return none
    found = _of_judged(_out_of_fold(features, labels, classes)[judged], labels[judged])
    chances = np.zeros(len(labels))
    chances[judged] = found.chances
    return Doubts(found.share, chances)


def _of_judged(logs: Floats, labels: NDArray[np.int64]) -> Doubts:
    """Return the labels that may be wrong, given the log-probability of each class."""
    none, classes = Doubts(0.0, np.zeros(len(labels))), logs.shape[1]
    shares, own = np.linspace(0, 0.8, 81)[:, None], np.arange(len(labels))
    fits = []
    for temperature in np.exp(np.linspace(-2, 1.5, 36)):
        scaled = logs / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        chances = (np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True))[own, labels]
        mixed = (1 - shares) * chances + shares / classes
        fits.append((np.log(np.maximum(mixed, 1e-300)).sum(axis=1), chances))
    likelihoods = np.stack([likelihood for likelihood, _ in fits])
    row, column = np.unravel_index(likelihoods.argmax(), likelihoods.shape)
    if likelihoods[row, column] - likelihoods[:, 0].max() < GAIN:
        return none
    share, right = float(shares[column, 0]), fits[row][1]
    # A label drawn at random may be the right one: such a draw is no mistake.
    wrong = share * (1 - right) / classes
    return Doubts(share * (1 - 1 / classes), wrong / ((1 - share) * right + share / classes))


def _out_of_fold(features: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    """Return the log-probability of each class of each image, by images of other folds alone."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = np.full((len(labels), classes), UNSEEN)
    # Each fold has its share of every class, so that two images of one are not in one.
    order = np.random.default_rng(0).permutation(len(labels))
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % FOLDS
    for fold in range(FOLDS):
        others, own = fold_of != fold, fold_of == fold
        if len(np.unique(labels[others])) < 2:
            continue
        mean, deviation = features[others].mean(axis=0), features[others].std(axis=0)
        scaled = (features - mean) / np.maximum(deviation, 1e-6) * (LIKE / features.shape[1]) ** 0.5
        with warnings.catch_warnings():  # a fit that is nearly there is good enough here
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=STRENGTH, max_iter=500).fit(scaled[others], labels[others])
        found[np.ix_(own, model.classes_)] = model.predict_log_proba(scaled[own])
    return found


def features_of(config: TrialConfig, dataset: Dataset, path: Path, images: Images) -> Floats:
    """Return what the model saved at `path` makes of images before its last layer.

    Of a baseline these are its hand-made features.

    Args:
        config: its trial's.
        dataset: the data that it was trained on, which give the scaling of pixels.
        path: its checkpoint.
        images: in the form of the data set's, (images, height, width, channels).

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    if config.model.is_baseline:
        from trainables.baselines.features import compute_features, kinds_of

        kinds = kinds_of(config.model.options["features"])
        return np.hstack([compute_features(images, kind) for kind in kinds]).astype(np.float64)
    heard: list[torch.Tensor] = []
    said = []
    with load_model(config, dataset, path) as saved:
        dense = [part for part in saved.networks[0].modules() if isinstance(part, nn.Linear)]
        for last in dense[-1:]:
            last.register_forward_pre_hook(lambda _, given: heard.append(given[0].flatten(1).cpu()))
        for first in range(0, len(images), BATCH):
            said.append(saved.predict(images[first : first + BATCH]))
    if heard:
        found: Floats = torch.cat(heard).double().numpy()
    else:  # its last layer is no dense one
        found = np.log(np.maximum(np.concatenate(said), 1e-6))
    return found
