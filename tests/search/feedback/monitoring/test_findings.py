"""All tests together, of what a recorder wrote."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.feedback.monitoring import correctness, drift, findings
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
