"""An estimate of the share of wrong labels, and of each label's probability of being wrong.

A classifier is fitted to features of the images, and predicts the class probabilities of each image
by cross-validation. The model assumes that labels are drawn from these probabilities, except for a
share of labels that are drawn uniformly from all classes. This share is estimated by maximum
likelihood, together with the temperature of the classifier, so that a merely poor classifier does
not look like wrong labels. Labels of classes with too few images (`MIN_OTHERS`) are not judged.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model

Floats = NDArray[np.float64]

MIN_IMAGES = 50
"""The minimum number of images whose labels are judged; with fewer, no label is doubted."""
FOLDS = 10
STRENGTH, LIKE = 0.05, 64
"""`STRENGTH` is the parameter `C` of the logistic regression, the inverse of the ridge penalty.

It was chosen for `LIKE` features. For another number, they are scaled so that the value still fits.
"""
GAIN = 2.0
"""The minimum gain in log-likelihood for wrong labels to be reported.

It is the 2.3 % critical value of the likelihood-ratio test for a share above 0. With the 5 % value,
1.35, wrong labels were reported in up to 6 % of the simulations of `tests.bench.rates` in which all
labels were correct, because the classifier's probabilities are estimates themselves.
"""
BATCH = 256
MIN_OTHERS = 2
"""The number of other images that an image's class must have for its label to be judged.

With fewer, the classifier prefers any other class, even if the label is correct: with 1, labels
were doubted in 17 to 50 % of the samples of 60 or 120 correctly labelled images of 30 classes.
"""
UNSEEN = -20.0
"""The log-probability of a class that has no images outside the fold."""


@dataclass(frozen=True)
class Doubts:
    """The estimated share of wrong labels, and each label's probability of being wrong."""

    share: float
    """The most likely share of wrong labels; 0 without significant evidence of any."""
    chances: Floats
    """Each label's probability of being wrong, (images,)."""


def doubts(features: Floats, labels: NDArray[np.int64], classes: int) -> Doubts:
    """Estimate each label's probability of being wrong, from features of the images.

    The probability is 0 for a label that is not judged. If fewer than `MIN_IMAGES` labels, or only
    those of a single class, can be judged, it is 0 for all labels.

    Args:
        features: (images, features).
        labels: class numbers, (images,).
        classes: the number of classes.
    """
    none = Doubts(0.0, np.zeros(len(labels)))
    judged = np.bincount(labels, minlength=classes)[labels] > MIN_OTHERS
    if judged.sum() < MIN_IMAGES or len(np.unique(labels[judged])) < 2:
        return none
    judged_doubts = _of_judged(_out_of_fold(features, labels, classes)[judged], labels[judged])
    chances = np.zeros(len(labels))
    chances[judged] = judged_doubts.chances
    return Doubts(judged_doubts.share, chances)


def _of_judged(logs: Floats, labels: NDArray[np.int64]) -> Doubts:
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
    # A label that is drawn uniformly may still be correct, with the probability of its class.
    wrong = share * (1 - right) / classes
    return Doubts(share * (1 - 1 / classes), wrong / ((1 - share) * right + share / classes))


def _out_of_fold(features: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    """Predict the log-probability of each class, (images, classes), by cross-validation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    logs = np.full((len(labels), classes), UNSEEN)
    # Stratified: each fold gets its share of every class.
    order = np.random.default_rng(0).permutation(len(labels))
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % FOLDS
    for fold in range(FOLDS):
        outside, inside = fold_of != fold, fold_of == fold
        if len(np.unique(labels[outside])) < 2:
            continue
        mean, deviation = features[outside].mean(axis=0), features[outside].std(axis=0)
        scaled = (features - mean) / np.maximum(deviation, 1e-6) * (LIKE / features.shape[1]) ** 0.5
        with warnings.catch_warnings():  # an approximate fit is good enough here
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=STRENGTH, max_iter=500).fit(
                scaled[outside], labels[outside]
            )
        logs[np.ix_(inside, model.classes_)] = model.predict_log_proba(scaled[inside])
    return logs


def features_of(config: TrialConfig, dataset: Dataset, path: Path, images: Images) -> Floats:
    """Compute the inputs of the last dense layer of the model saved at `path`, (images, features).

    With folds, they are those of the first network. For a network without dense layers, the result
    has its log-probabilities instead; for a baseline without a network, its hand-made features.

    Args:
        config: the config of the model's trial.
        dataset: the data set of the training, which determines the scaling of pixels.
        path: the checkpoint.
        images: uint8 (images, height, width, channels), in the size of the data set's images.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    if not MODELS[config.model.name].has_network:
        from trainables.baselines.features import compute_features, kinds_of

        kinds = kinds_of(config.model.options["features"])
        return np.hstack([compute_features(images, kind) for kind in kinds]).astype(np.float64)
    last_inputs: list[torch.Tensor] = []
    answers = []
    with load_model(config, dataset, path) as saved:
        dense = [part for part in saved.networks[0].modules() if isinstance(part, nn.Linear)]
        for last in dense[-1:]:
            last.register_forward_pre_hook(
                lambda _, inputs: last_inputs.append(inputs[0].flatten(1).cpu())
            )
        for first in range(0, len(images), BATCH):
            answers.append(saved.predict(images[first : first + BATCH]))
    if last_inputs:
        features: Floats = torch.cat(last_inputs).double().numpy()
    else:  # no dense layer: use the log-probabilities
        features = np.log(np.maximum(np.concatenate(answers), 1e-6))
    return features
