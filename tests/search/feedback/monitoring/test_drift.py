"""The tests of a change: rarely wrong where nothing has changed, and seeing what has."""

import numpy as np
import pytest

from search.feedback.monitoring import drift
from search.feedback.monitoring.drift import (
    features_differ,
    mix_differs,
    outputs_differ,
    unlike,
    whitened,
)
from tests.search.feedback.monitoring.made_up import answers, images
from trainables.export.image_features import features_of

RUNS = 60


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "PERMUTATIONS", 99)


def features(count: int, generator: np.random.Generator, noise: float = 20) -> np.ndarray:
    return features_of(images(count, generator, noise))


def test_answers_raise_false_alarms_at_their_rate() -> None:
    generator = np.random.default_rng(0)
    found = np.array(
        [
            [
                test(answers(200, generator)[1], answers(60, generator)[1])
                for test in (
                    outputs_differ,
                    lambda before, now: mix_differs(before, now, generator),
                )
            ]
            for _ in range(RUNS)
        ]
    )
    # Of 60 runs at a rate of 5 % more than 8 raise an alarm once in two hundred times.
    assert np.all((found <= 0.05).mean(axis=0) <= 0.14)
    assert (found[:, 1] <= 0.05).mean() >= 0.01
    assert 0.4 < found[:, 1].mean() < 0.6


def test_images_raise_false_alarms_at_their_rate() -> None:
    generator = np.random.default_rng(0)
    pool = features(4000, generator)
    found = []
    for _ in range(RUNS):
        rows = generator.permutation(len(pool))
        found.append(features_differ(pool[rows[:100]], pool[rows[100:150]], generator))
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.14


def test_a_share_of_noisier_images_is_seen_and_they_are_named() -> None:
    generator = np.random.default_rng(0)
    then = features(400, generator)
    now = np.concatenate([features(30, generator, noise=28), features(70, generator)])
    assert features_differ(then, now, generator) <= 0.01
    most = np.argsort(-unlike(then, now))[:20]
    assert np.mean(most < 30) > 0.8


def test_a_small_change_shows_beside_large_differences_that_go_together() -> None:
    """Two features are nearly one, and a difference between them is rare."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 10, (600, 1)) + generator.normal(0, 0.3, (600, 2))
    assert features_differ(values[:400], values[400:], generator) > 0.05
    values[400:, 1] += 4
    assert features_differ(values[:400], values[400:], generator) <= 0.01


def test_a_feature_that_never_varies_is_no_trouble() -> None:
    assert np.isfinite(whitened(np.zeros((50, 3)))).all()


def test_other_answers_are_seen() -> None:
    generator = np.random.default_rng(0)
    _, then = answers(400, generator)
    _, now = answers(200, generator)
    flat = 0.5 * now + 0.5 / now.shape[1]
    assert outputs_differ(then, flat) < 1e-6
    _, rare = answers(200, generator, mix=(0.1, 0.45, 0.45))
    assert mix_differs(then, rare, generator) <= 0.01


def test_images_that_are_all_the_same_have_not_changed() -> None:
    same = np.zeros((50, 3), np.float32)
    assert features_differ(same[:30], same[30:], np.random.default_rng(0)) > 0.5
