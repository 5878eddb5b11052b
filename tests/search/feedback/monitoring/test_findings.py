"""All tests together, of what a recorder wrote."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.feedback.monitoring import correctness, drift, findings, words
from search.feedback.monitoring.window import Window
from search.feedback.records import DECIMALS, Seen
from search.statistics import shared
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.export.reference import Reference

CLASSES = tuple("abcdefghij")
RUNS, IMAGES = 20, 300


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "PERMUTATIONS", 199)
    monkeypatch.setattr(correctness, "SHUFFLES", 199)


def confident(generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return classes, and the probabilities of a model that is nearly certain of most images."""
    targets = generator.integers(len(CLASSES), size=IMAGES)
    scores = generator.normal(0, 1, (IMAGES, len(CLASSES)))
    scores[np.arange(IMAGES), targets] += 5
    chances = np.exp(4 * scores)
    return targets, (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


def recorded(generator: np.random.Generator) -> Window:
    """Return what a recorder writes of its answers, all of them corrected."""
    targets, chances = confident(generator)
    answers = [
        Seen(str(row), row, str(row), "1", tuple(round(float(one), DECIMALS) for one in said))
        for row, said in enumerate(chances)
    ]
    corrected = list(zip(answers, targets.tolist(), strict=True))
    return Window("1", answers, len(answers), {}, corrected, 0)


def test_a_confident_model_raises_no_alarm_since_records_have_fewer_digits() -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(RUNS):
        targets, chances = confident(generator)
        held = Reference(
            CLASSES,
            (12, 12, 1),
            SIXTEEN_BITS,
            targets,
            chances.astype(np.float64),
            np.empty((0, 0), np.float32),
        )
        tests = findings.tests_of(held, recorded(generator), generator)
        assert len(tests) == 4
        alarms += any(test.run() <= shared(0.05, len(tests)) for test in tests)
    assert alarms <= 4


def test_too_few_validation_images_of_such_confidence_show_no_unchanged_calibration() -> None:
    """All 36 are right and nearly all sure; what is met is often unsure, and wrong."""
    generator = np.random.default_rng(0)
    sure = np.array([0.9, 0.97, 0.99, 0.999, *[0.99999] * 32])
    met = np.concatenate([generator.uniform(0.55, 0.99, 72), np.full(48, 0.99999)])
    right = np.concatenate([np.arange(72) % 2 > 0, np.ones(48, np.bool_)])

    def said(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([confidence, 1 - confidence], axis=1)

    held = Reference(
        ("a", "b"),
        (12, 12, 1),
        SIXTEEN_BITS,
        np.zeros(36, np.int64),
        said(sure),
        np.empty((0, 0), np.float32),
    )
    answers = [Seen(str(row), row, str(row), "1", tuple(one)) for row, one in enumerate(said(met))]
    corrected = list(zip(answers, np.where(right, 0, 1).tolist(), strict=True))
    found = findings.find("m", held, Window("1", answers, 120, {}, corrected, 0))
    check = found.check(findings.CALIBRATION)
    assert check is not None
    assert check.needed is None
    assert not check.is_enough
    assert found.calibration is not None
    assert found.calibration.low > 0
    text = dict(words.facts(found))["calibration"]
    assert "no change seen" in text
    assert "cannot be seen by so few validation images of such confidence" in text
