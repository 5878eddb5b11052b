"""Labels that may be wrong: their share, and which they are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.label_errors.doubts import MIN_IMAGES, doubts

CLASSES = 5


def drawn(
    wrong: float, *, count: int = 300, apart: float = 1.2, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return features that overlap between classes, labels, and which of these are wrong."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, CLASSES, count)
    features = generator.normal(size=(count, 12))
    features[:, :CLASSES] += apart * np.eye(CLASSES)[truth] * 2
    is_wrong = generator.random(count) < wrong
    labels = np.where(is_wrong, (truth + generator.integers(1, CLASSES, count)) % CLASSES, truth)
    return features, labels, is_wrong


@pytest.mark.parametrize("wrong", [0.1, 0.3])
def test_the_share_of_wrong_labels_is_told(wrong: float) -> None:
    found = [doubts(*drawn(wrong, seed=seed)[:2], CLASSES).share for seed in range(2)]
    assert np.mean(found) == pytest.approx(wrong, abs=0.07)


@pytest.mark.parametrize("apart", [0.5, 1.2, 3.0], ids=["hard", "usual", "easy"])
def test_labels_that_are_only_hard_to_tell_are_not_doubted(apart: float) -> None:
    found = [doubts(*drawn(0, apart=apart, seed=seed)[:2], CLASSES).share for seed in range(2)]
    assert np.mean(found) <= 0.05


@pytest.mark.parametrize(
    ("classes", "count", "dimensions", "apart"),
    [
        (2, 300, 64, 0.0),
        (2, 300, 64, 0.3),
        (2, 200, 200, 0.5),
        (10, 300, 64, 0.0),
        (2, 300, 5, 0.3),
    ],
)
def test_features_that_tell_little_are_no_evidence_of_wrong_labels(
    classes: int, count: int, dimensions: int, apart: float
) -> None:
    """In one of 20 samples of correct labels, at most, wrong ones are reported (`GAIN`: 2.3 %)."""
    reported = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, classes, count)
        means = generator.normal(size=(classes, dimensions)) * apart / (2 * dimensions) ** 0.5
        features = means[truth] + generator.normal(size=(count, dimensions))
        reported += doubts(features, truth, classes).share > 0
    assert reported <= 2


@pytest.mark.parametrize(("count", "even"), [(60, True), (120, True), (200, False)])
def test_a_class_that_few_images_show_is_not_doubted_for_that(count: int, even: bool) -> None:
    generator, classes = np.random.default_rng(1), 30
    mix = generator.dirichlet(np.ones(classes) if not even else np.full(classes, 100.0))
    truth = generator.choice(classes, count, p=mix)
    features = generator.normal(size=(count, 40))
    features[:, :classes] += 4 * np.eye(classes)[truth]
    found = doubts(features, truth, classes)
    assert found.share <= 0.02
    assert (found.chances[np.bincount(truth)[truth] == 1] == 0).all()


def test_wrong_labels_are_the_likeliest_to_be_wrong() -> None:
    features, labels, is_wrong = drawn(0.2)
    chances = doubts(features, labels, CLASSES).chances
    likely = chances >= 0.5
    assert is_wrong[likely].mean() > 0.7
    assert is_wrong[likely].sum() > 0.5 * is_wrong.sum()


def test_of_few_images_and_of_one_class_nothing_is_told() -> None:
    features, labels, _ = drawn(0.4, count=MIN_IMAGES - 1)
    assert doubts(features, labels, CLASSES).share == 0
    features, labels, _ = drawn(0.4)
    assert doubts(features, np.zeros_like(labels), CLASSES).share == 0
