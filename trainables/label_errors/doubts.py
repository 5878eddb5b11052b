"""An estimate of the share of wrong labels, and of each label's probability of being wrong.

A ridge regression on features of the images predicts the class of each image by cross-validation.
The model assumes that labels are drawn from the softmax of its scores, except for a share of labels
that are drawn uniformly from all classes. This share is estimated by maximum likelihood, together
with the penalty of the regression and the scale of the scores, so that a merely poor classifier
does not look like wrong labels. Labels of classes with too few images (`MIN_OTHERS`) are not
judged.

Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068, section 3) counts a label as
wrong if another class is more probable than it is on average for the images with its label. It is
not used, because it also counts images that are only hard to tell (`tests.bench.label_errors`).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from trainables.progress import step

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

MIN_IMAGES = 50
"""The minimum number of images whose labels are judged; with fewer, no label is doubted."""
FOLDS = 10
PENALTIES = (0.03, 0.3, 1.0, 3.0, 10.0, 30.0)
"""The penalties that are tried, for each image and standardised features.

The likelihood chooses 0.3 to 3 for the features of MobileNet v2 of 5,000 images of CIFAR-10. The
others are for few images.
"""
SCALES = np.concatenate([np.geomspace(0.003, 0.3, 20)[:-1], np.geomspace(0.3, 60, 36)])
"""The factors (inverse temperatures) of the scores, whose standard deviation is 1.

The smallest describe a classifier that knows nearly nothing. Without them, a share of uniformly
drawn labels would describe it better: of 300 correct labels of images whose features do not tell
the classes, wrong ones were reported in every sample.
"""
SHARES = np.linspace(0, 0.8, 81)[:, None]
"""The shares of uniformly drawn labels that are tried."""
GAIN = 2.0
"""The minimum gain in log-likelihood for wrong labels to be listed, so that a person checks them.

It is the 2.3 % critical value of the likelihood-ratio test for a share above 0.
"""
SURE_GAIN = 4.0
"""The minimum gain if labels are refused without a person's decision.

The classifier's probabilities are estimates, and its penalty is chosen by the likelihood. With
`GAIN`, wrong labels were reported in up to 13 % of the simulations of `tests.bench.rates` in which
all labels were correct (60 images of two similar classes).
"""
MIN_OTHERS = 2
"""The number of other images that an image's class must have for its label to be judged.

With fewer, the classifier prefers any other class, even if the label is correct: with 1, labels
were doubted in 17 to 50 % of the samples of 60 or 120 correctly labelled images of 30 classes.
"""
LEAST_DEVIATION = 1e-6
"""A feature with a smaller standard deviation is constant, and is not scaled."""


@dataclass(frozen=True)
class Doubts:
    """The estimated share of wrong labels, and each label's probability of being wrong."""

    share: float
    """The most likely share of wrong labels; 0 without significant evidence of any."""
    chances: Floats
    """Each label's probability of being wrong, (images,)."""
    probabilities: Floats
    """The class probabilities of each image by the classifier, (images, classes).

    An image that is not judged has the probability 1 for its label.
    """


def doubts(
    features: NDArray[np.floating],
    labels: Labels,
    classes: int,
    groups: Labels | None = None,
    *,
    least_gain: float = GAIN,
) -> Doubts:
    """Estimate each label's probability of being wrong, from features of the images.

    The probability is 0 for a label that is not judged. If fewer than `MIN_IMAGES` labels, or only
    those of a single class, can be judged, it is 0 for all labels.

    Args:
        features: (images, features).
        labels: class numbers, (images,).
        classes: the number of classes.
        groups: the group of each image, (images,), such as copies of one picture: an image is not
            judged by others of its group. None if there are no groups.
        least_gain: the minimum gain in log-likelihood for any label to be doubted.
    """
    chances, probabilities = np.zeros(len(labels)), np.eye(classes)[labels]
    is_judged = np.bincount(labels, minlength=classes)[labels] > MIN_OTHERS
    fold_of = _folds(labels, groups)
    is_judged &= _is_class_outside(labels, fold_of, classes)
    if is_judged.sum() < MIN_IMAGES or len(np.unique(labels[is_judged])) < 2:
        return Doubts(0.0, chances, probabilities)
    scores = _out_of_fold(features, np.eye(classes)[labels], fold_of)[:, is_judged]
    share, chances[is_judged], probabilities[is_judged] = _fit_share(
        scores, labels[is_judged], least_gain
    )
    return Doubts(share, chances, probabilities)


def _folds(labels: Labels, groups: Labels | None) -> Labels:
    """Return the fold of each image, (images,).

    Each fold gets its share of every class. A group has the fold of its first image.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % FOLDS
    if groups is not None:
        _, firsts, numbers = np.unique(groups, return_index=True, return_inverse=True)
        fold_of = fold_of[firsts[numbers]]
    return fold_of


def _is_class_outside(labels: Labels, fold_of: Labels, classes: int) -> NDArray[np.bool_]:
    """True for each image whose class other folds have, too, (images,)."""
    counts = np.zeros((FOLDS, classes), np.int64)
    np.add.at(counts, (fold_of, labels), 1)
    is_outside: NDArray[np.bool_] = (counts.sum(axis=0) - counts)[fold_of, labels] > 0
    return is_outside


def _out_of_fold(features: NDArray[np.floating], targets: Floats, fold_of: Labels) -> Floats:
    """Predict the scores of each class by cross-validation, (penalties, images, classes).

    The products of all images are computed once, so that a fold only costs the solution of its
    equations.
    """
    values = _standardised(features)
    folds = [values[fold_of == fold] for fold in range(FOLDS)]
    products = [fold.T @ fold for fold in folds]
    total, scores = sum(products), np.zeros((len(PENALTIES), *targets.shape))
    with step("looking for wrong labels", FOLDS) as advance:
        for fold, inside in enumerate(folds):
            advance()
            is_outside = fold_of != fold
            count = max(1, int(is_outside.sum()))
            mean, base = values[is_outside].mean(axis=0), targets[is_outside].mean(axis=0)
            covariance = (total - products[fold]) / count - np.outer(mean, mean)
            joint = values[is_outside].T @ targets[is_outside] / count - np.outer(mean, base)
            diagonal = np.diag(covariance).copy()
            for row, penalty in enumerate(PENALTIES):
                np.fill_diagonal(covariance, diagonal + penalty)
                weights = solve(covariance, joint, assume_a="pos")
                scores[row, ~is_outside] = (inside - mean) @ weights + base
    return scores


def _standardised(features: NDArray[np.floating]) -> Floats:
    """Return features with mean 0 and standard deviation 1, (images, at most images).

    If there are more features than images, they are rotated into the space that the images span,
    which changes no score of a ridge regression.
    """
    values = np.asarray(features, np.float64)
    deviation = values.std(axis=0)
    deviation[deviation < LEAST_DEVIATION] = 1
    standardised: Floats = (values - values.mean(axis=0)) / deviation
    if values.shape[1] <= len(values):
        return standardised
    squares, directions = np.linalg.eigh(standardised @ standardised.T)
    rotated: Floats = directions * np.sqrt(np.maximum(squares, 0))
    return rotated


def _fit_share(scores: Floats, labels: Labels, least_gain: float) -> tuple[float, Floats, Floats]:
    """Fit penalty, scale and share; return the share, and the `Doubts` of judged images."""
    classes, own = scores.shape[2], np.arange(len(labels))
    best, without, choice = -np.inf, -np.inf, (0.0, 0, 0.0)
    deviations = np.maximum(scores.std(axis=(1, 2)), LEAST_DEVIATION)
    for row, scale in product(range(len(scores)), SCALES):
        right = _softmax(scores[row] * (scale / deviations[row]))[own, labels]
        mixed = (1 - SHARES) * right + SHARES / classes
        likelihoods = np.log(np.maximum(mixed, 1e-300)).sum(axis=1)
        without = max(without, float(likelihoods[0]))
        if (highest := float(likelihoods.max())) > best:
            best = highest
            choice = float(SHARES[likelihoods.argmax(), 0]), row, scale / deviations[row]
    share, row, factor = choice
    probabilities = _softmax(scores[row] * factor)
    if best - without < least_gain:
        return 0.0, np.zeros(len(labels)), probabilities
    right = probabilities[own, labels]
    # A label that is drawn uniformly may still be correct, with the probability of its class.
    wrong = share * (1 - right) / classes
    chances = wrong / ((1 - share) * right + share / classes)
    return share * (1 - 1 / classes), chances, probabilities


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares
