"""The promises with which a classifier may be promoted, and the thresholds that keep them.

The lowest probability at which a classifier answers, so that few of its answers are wrong, holds
with a stated confidence for new images that are drawn like the held-out ones (selection with
guaranteed risk: Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks",
algorithm 2).

A class belongs to an image's set of possible classes if its probability is at least a limit, which
is a quantile of the probabilities of the true classes of held-out images (split conformal
prediction; these sets are the smallest on average: Sadinle, Lei and Wasserman 2019, "Least
Ambiguous Set-Valued Classifiers with Bounded Error Levels"). A set may be empty: then no class is
as probable as the classes of images usually are. Adaptive sets (APS and RAPS) were larger, on
CIFAR-10 and on MNIST (docs/benchmarks.md).

This module does not import torch.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.statistics import share_bounds
from trainables.values import Json

OPTIONS = {
    "max_error": "--max-error",
    "coverage": "--coverage",
    "by_class": "--by-class",
    "false_alarms": "--unlike",
}
"""The option of `search.promote` for each of the `Promises`."""
CONFIDENCE = 0.95
"""The probability with which a guarantee holds, over the choice of the held-out images."""

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The promises about a model's answers; None or False for those that are not made."""

    max_error: float | None = None
    """The largest share of wrong answers among those that the model does not abstain from."""
    coverage: float | None = None
    """The share of images whose set of possible classes contains the true class."""
    by_class: bool = False
    """True if `coverage` should hold for the images of each class."""
    false_alarms: float | None = None
    """The share of images like those of the training that are reported as unlike them."""

    @property
    def options(self) -> list[str]:
        """The options of `search.promote` by which these promises are made."""
        return [OPTIONS[name] for name in self.to_json()]

    @property
    def set_on_test_images(self) -> list[str]:
        """The promises whose thresholds are chosen on test images, as words of a command line."""
        words = []
        if self.max_error is not None:
            words.append(f"--max-error {100 * self.max_error:g}%")
        if self.coverage is not None:
            words.append(f"--coverage {100 * self.coverage:g}%{' --by-class' * self.by_class}")
        return words

    def to_json(self) -> Json:
        """Return the promises that are made, as JSON-compatible values by their names."""
        return {name: value for name, value in asdict(self).items() if value}


NO_PROMISES = Promises()


def fraction(text: str) -> float:
    """Parse a share between 0 and 1, such as `1%` or `0.01`.

    Raises:
        ConfigError: the text is not a number, or not in this range.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1 or rest:
        raise ConfigError(
            f"expected a share above 0 and below 1, such as 5% or 0.05 (got '{text[:80]}')"
        )
    return value


def check_promises(
    promises: Promises, config: TrialConfig, validation_images: int, test_images: int
) -> None:
    """Check that a model can be promoted with promises, before any work starts.

    Args:
        promises: the promises.
        config: the config of the model's trial.
        validation_images: the number of images in the validation set.
        test_images: the number of images in the test set; 0 if there is none.

    Raises:
        ConfigError: the task, the model or the data do not allow one of them.
    """
    if not promises.options:
        return
    config.task.require("promises", promises.options[0])
    if promises.by_class and promises.coverage is None:
        raise ConfigError("--by-class needs --coverage, such as --coverage 95%. Add it.")
    if promises.set_on_test_images and not test_images:
        raise ConfigError(
            f"{promises.options[0]} needs test images, by which no model was chosen, but the data "
            "have none. Search with a test set (data.test_fraction), or remove this option."
        )
    if promises.false_alarms is None:
        return
    if not MODELS[config.model.name].has_network:
        raise ConfigError(
            f"--unlike cannot be used for '{config.model.name}', because it has no network whose "
            "features could be compared. Remove --unlike, or promote a network with --trial."
        )
    if config.members:
        raise ConfigError(
            "--unlike cannot be used for an ensemble, because the features of a single network are "
            "compared. Remove --unlike, or promote one of its trials with --trial."
        )
    if config.data.folds:
        raise ConfigError(
            "--unlike cannot be used for a search with folds: its networks together were trained "
            "on all images that are not test images. Remove --unlike."
        )
    # With fewer, the limit would have to be above the scores of all validation images.
    fewest = math.ceil(1 / promises.false_alarms - 1 - 1e-9)
    if validation_images < fewest:
        raise ConfigError(
            f"--unlike {100 * promises.false_alarms:g}% needs at least {fewest} validation images "
            f"(the data have {validation_images}). Allow more false alarms, such as --unlike "
            f"{math.ceil(100 / (validation_images + 1))}%."
        )


@dataclass(frozen=True)
class AnswerThreshold:
    """A threshold for the probability of the most probable class, and its guarantee."""

    threshold: float
    """The classifier answers if the probability is at least this."""
    images: int
    """The number of held-out images."""
    answers: int
    """The number of held-out images that are answered."""
    wrong: int
    """The number of wrong answers among these."""
    bound: float
    """The upper confidence bound for the share of wrong answers."""


def select_threshold(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], max_error: float
) -> AnswerThreshold | None:
    """Find a low threshold at which at most `max_error` of the answers are wrong.

    With a probability of at least `CONFIDENCE`, the bound holds for new images too. The search is a
    bisection of ceil(log2(images)) steps, each of which tests one threshold at an equal share of
    the error probability (Bonferroni).

    Args:
        confidence: the probability of the most probable class of each held-out image, (images,).
        is_right: True for each image whose most probable class is the true one, (images,).
        max_error: the largest allowed share of wrong answers, above 0 and below 1.

    Returns:
        None if no tested threshold is good enough, because there are too few images or too many
        mistakes.
    """
    images, ascending, best = len(confidence), np.sort(confidence), None
    risk = (1 - CONFIDENCE) / max(1, math.ceil(math.log2(max(2, images + 1))))
    low, high = 0, images - 1
    while low <= high:
        middle = (low + high) // 2
        is_answered = confidence >= ascending[middle]
        answers, wrong = int(is_answered.sum()), int((is_answered & ~is_right).sum())
        bound = share_bounds(wrong / answers, answers, risk)[1]
        if bound <= max_error:
            best = AnswerThreshold(float(ascending[middle]), images, answers, wrong, bound)
            high = middle - 1
        else:
            low = middle + 1
    return best


def smallest_error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float | None:
    """Return the smallest `max_error` for which `select_threshold` finds a threshold.

    It is a multiple of 0.1 %; None if there is none below 50 %.
    """
    return next(
        (
            per_mille / 1000
            for per_mille in range(1, 500)
            if select_threshold(confidence, is_right, per_mille / 1000) is not None
        ),
        None,
    )


def set_limits(
    chances: Probabilities, labels: Labels, coverage: float, *, by_class: bool
) -> list[float | None]:
    """Compute the least probability at which each class belongs to a set.

    Args:
        chances: class probabilities of held-out images, (images, classes).
        labels: true class numbers, (images,).
        coverage: the share of images whose sets should contain their class, between 0 and 1.
        by_class: True if the coverage should hold for the images of each class (Vovk 2012,
            "Conditional validity of inductive conformal predictors").

    Returns:
        The limit of each class; None for a class with too few images, which is in every set.
    """
    classes, own = chances.shape[1], chances[np.arange(len(labels)), labels]
    groups = [own[labels == number] for number in range(classes)] if by_class else [own]
    quantiles = [conformal_quantile(-group, coverage) for group in groups]
    limits = [None if quantile is None else -quantile for quantile in quantiles]
    return limits if by_class else limits * classes


def conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float | None:
    """Return the smallest limit that a new score meets with the probability `coverage`.

    It is the score of rank ceil((n + 1) * coverage) among n (Vovk, Gammerman and Shafer 2005,
    "Algorithmic Learning in a Random World"); None if there are fewer scores.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        return None
    return float(np.sort(scores)[max(0, rank - 1)])
