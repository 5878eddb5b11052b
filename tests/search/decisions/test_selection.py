"""The race and the verdict as arithmetic.

They are compared with scipy's own tests where it has them, and tried on candidates whose true value
is known.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search.decisions.selection import Candidate, Race, decide, fastest
from search.values.statistics import compare, expect, share_interval
from trainables.catalog.entries import INTERVAL_LEVEL
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

EXACT = 10**9
"""So many images that the rounding of accuracies to whole images does not show."""


def raced(scores: dict[str, list[float]], *, images: int = 1000) -> Race:
    """A race in which each candidate has these accuracies, and nobody has left."""
    race = Race(list(scores), max(map(len, scores.values())), images=images)
    for name, values in scores.items():
        race.scores[name] = dict(enumerate(values, 1))
    return race


def candidates(scores: dict[str, list[float]], ms: dict[str, float | None]) -> dict[str, Candidate]:
    return {name: Candidate("deep_cnn", 0.99, ms[name], f"{name}-s1") for name in scores}


def test_two_candidates_are_compared_as_scipy_compares_pairs() -> None:
    ours, theirs = [0.91, 0.93, 0.92, 0.95], [0.90, 0.90, 0.91, 0.93]
    leader, (itself, other) = compare(np.array([ours, theirs]), 1, 1, images=EXACT)
    expected = stats.ttest_rel(ours, theirs, alternative="greater")
    assert leader == 0
    assert itself.p == 1.0
    assert other.p == pytest.approx(expected.pvalue)
    assert other.difference == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_the_error_rate_is_shared_among_all_comparisons() -> None:
    scores = np.array([[0.91, 0.93, 0.92, 0.95], [0.90, 0.90, 0.91, 0.93]])
    (_, (_, alone)), (_, (_, shared)) = (
        compare(scores, 1, 1, images=EXACT),
        compare(scores, 8, 8, images=EXACT),
    )
    assert shared.p == pytest.approx(8 * alone.p)


def test_one_pairs_small_deviation_is_held_against_the_variance_of_all_pairs() -> None:
    """0.02 and 0.0201: of these two alone nothing could be clearer."""
    scores = np.array([[0.90, 0.94], [0.88, 0.9199], [0.95, 0.80], [0.83, 0.91]])
    _, compared = compare(scores, 1, 1, images=EXACT)
    assert compared[1].p > 0.3


def test_two_equal_differences_are_no_certainty() -> None:
    """Accuracies are whole numbers of images.

    Of 359, one more each time is nothing, and 36 more each time is something.
    """
    leader, (_, one) = compare(
        np.array([[0.9, 0.9], [0.9 - 1 / 359, 0.9 - 1 / 359]]), 1, 1, images=359
    )
    assert leader == 0
    assert one.p == pytest.approx(stats.t.sf(math.sqrt(12), 1))
    _, (_, many) = compare(
        np.array([[0.9, 0.9], [0.9 - 36 / 359, 0.9 - 36 / 359]]), 1, 1, images=359
    )
    assert 0 < many.p < 0.01


def test_candidates_that_never_differ_are_compared_without_a_warning() -> None:
    _, (itself, other, same) = compare(
        np.array([[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]), 1, 1, images=359
    )
    assert (itself.p, same.p) == (1.0, 1.0)
    assert 0 < other.p < 0.01


def test_candidates_with_one_course_over_the_seeds_count_once() -> None:
    """Copies tell nothing more of luck than one of them.

    The same holds for candidates that always differ from one another by the same.
    """
    pair = np.array([[0.91, 0.93, 0.92, 0.95], [0.90, 0.90, 0.91, 0.93]])
    alone = compare(pair, 1, 1, images=359)[1][1]
    copied = compare(np.vstack([pair, pair[1], pair[1] - 0.01, pair[0] - 0.02]), 1, 1, images=359)[
        1
    ]
    assert copied[1] == copied[2] == alone
    assert copied[3].error == alone.error


def test_two_of_larger_deviation_than_the_pooled_are_compared_by_their_own() -> None:
    """The others owe hardly anything to luck, and these two do: their own differences decide."""
    steady = [
        [0.9 + 0.001 * row + 0.0001 * seed * (-1) ** row * row for seed in range(3)]
        for row in range(1, 9)
    ]
    scores = np.array([[0.97, 0.93, 0.98], [0.92, 0.91, 0.93], *steady])
    leader, found = compare(scores, 90, 4, images=EXACT)
    own = stats.ttest_rel(scores[0], scores[1], alternative="greater").pvalue
    assert leader == 0
    assert found[1].p == pytest.approx(4 * own)


def test_the_interval_is_students_with_a_lower_end_for_all_candidates_at_once() -> None:
    values = [0.95, 0.96, 0.94, 0.97, 0.95]
    alone, among_five = expect(values, 1, images=10**9), expect(values, 5, images=10**9)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (alone.low, alone.high) == pytest.approx((low, high))
    assert among_five.low < alone.low
    assert among_five.high == alone.high
    assert among_five.low == pytest.approx(
        stats.t.interval(0.99, 4, loc=np.mean(values), scale=stats.sem(values))[0]
    )


def test_an_interval_stays_within_what_an_accuracy_can_be() -> None:
    assert expect([0.99, 0.999], 3, images=10**9).high == 1.0
    assert expect([0.0, 0.1], 3, images=10**9).low == 0.0


@pytest.mark.parametrize(("right", "images"), [(50, 100), (99, 100), (50, 50), (0, 20)])
def test_the_interval_of_images_is_exact(right: int, images: int) -> None:
    expected = stats.binomtest(right, images).proportion_ci(INTERVAL_LEVEL)
    assert share_interval(right / images, images) == pytest.approx((expected.low, expected.high))


def test_who_is_clearly_worse_is_behind_once_all_have_two_seeds() -> None:
    race = raced({"a": [0.97, 0.96], "b": [0.80, 0.78], "c": [0.96, 0.97]})
    del race.scores["c"][2]
    assert race.behind() == {}
    race.scores["c"][2] = 0.97
    ((name, (leader, pair)),) = race.behind().items()
    assert (name, leader) == ("b", "a")
    assert pair.difference == pytest.approx(0.175)


def test_that_two_trainings_are_equal_is_no_certainty() -> None:
    """They are whole numbers of images."""
    of_few, of_many = expect([0.9, 0.9], 2, images=40), expect([0.9] * 10, 2, images=40_000)
    assert of_few.low < 0.8
    assert of_few.high == pytest.approx(0.9 + 12.7 / (40 * math.sqrt(24)), abs=0.001)
    assert of_many.high - of_many.low < 0.0001


def test_who_has_left_is_waited_for_no_more() -> None:
    race = raced({"a": [0.97, 0.96, 0.97], "b": [0.8], "c": [0.96, 0.97, 0.96]})
    assert race.rounds == 1
    race.out["b"] = "diverged"
    assert (race.alive, race.rounds) == (["a", "c"], 3)


def test_equals_are_told_apart_by_their_time_and_others_are_not() -> None:
    scores = {"a": [0.960, 0.950, 0.955], "b": [0.955, 0.958, 0.951], "c": [0.90, 0.93, 0.91]}
    verdict = decide(
        raced(scores), candidates(scores, {"a": 2.0, "b": 1.0, "c": 0.1}), CLASSIFICATION.primary
    )
    assert (verdict.leader, verdict.candidate, verdict.trial) == ("a", "b", "b-s1")
    assert {row.candidate: row.state for row in verdict.rows} == {
        "b": "chosen",
        "a": "tied",
        "c": "behind",
    }
    assert [row.candidate for row in verdict.rows] == ["b", "a", "c"]
    assert verdict.expected.mean == pytest.approx(np.mean(scores["b"]))


def test_of_those_that_left_the_verdict_says_how() -> None:
    scores = {"a": [0.96, 0.95, 0.96], "b": [0.5, 0.5], "c": [0.97]}
    race = raced(scores)
    _, pairs = compare(np.array([[0.96, 0.95], [0.5, 0.5]]), 1, 1, images=1000)
    race.out, race.worse = {"b": "far behind", "c": "c-s2 diverged"}, {"b": pairs[1]}
    verdict = decide(
        race, candidates(scores, {"a": 1.0, "b": 1.0, "c": None}), CLASSIFICATION.primary
    )
    rows = {row.candidate: row for row in verdict.rows}
    assert (verdict.candidate, rows["b"].state, rows["c"].state) == ("a", "dropped", "failed")
    assert (rows["b"].reason, rows["c"].reason, rows["c"].p, rows["c"].std) == (
        "far behind",
        "c-s2 diverged",
        None,
        None,
    )


def test_one_candidate_alone_is_measured_without_a_comparison() -> None:
    scores = {"a": [0.96, 0.95]}
    verdict = decide(raced(scores), candidates(scores, {"a": None}), CLASSIFICATION.primary)
    assert (verdict.candidate, verdict.expected.seeds, verdict.rows[0].state) == ("a", 2, "chosen")


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        ({"a": 1.0, "b": 0.95}, "a"),
        ({"a": 1.0, "b": 0.85}, "b"),
        ({"a": None, "b": 0.1}, "a"),
        ({"a": 1.0, "b": None}, "a"),
    ],
)
def test_a_tenth_faster_or_the_leader(ms: dict[str, float | None], expected: str) -> None:
    assert fastest("a", ["a", "b"], ms) == expected


Draw = Callable[[np.random.Generator], NDArray[np.float64]]


def equals(
    candidates: int,
    seeds: int,
    *,
    points: float = 1.0,
    trainings: int = 0,
    baselines: int = 0,
    images: int = EXACT,
) -> Draw:
    """Return a function that draws accuracies of candidates that are worth the same.

    They have a deviation of so many points between seeds. They are copies of so few trainings, and
    so many of these are baselines, which no seed changes.
    """

    def draw(generator: np.random.Generator) -> NDArray[np.float64]:
        luck = generator.normal(size=(trainings or candidates, seeds))
        luck[:baselines] = 0
        luck = luck[np.arange(candidates) % len(luck)]
        return np.round((0.9 + 0.01 * points * luck) * images) / images

    return draw


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(equals(2, 2), id="two"),
        pytest.param(equals(10, 3), id="ten"),
        pytest.param(equals(2, 5, points=0.3, images=359), id="two, whole images"),
        pytest.param(equals(5, 5, points=0.3, images=359), id="five, whole images"),
        pytest.param(equals(5, 5, trainings=2), id="five of two trainings"),
        pytest.param(
            equals(5, 5, trainings=2, points=0.5, images=359),
            id="five of two trainings, whole images",
        ),
        pytest.param(equals(5, 5, baselines=4, images=359), id="four baselines and a network"),
        pytest.param(equals(5, 5, baselines=3, images=359), id="three baselines and two networks"),
    ],
)
def test_equals_are_seldom_told_to_be_clearly_worse(draw: Draw) -> None:
    """A leader by luck is compared with all others: the error rate counts for any of them."""
    generator, wrong, races = np.random.default_rng(7), 0, 500
    for _ in range(races):
        accuracies = draw(generator)
        race = Race(
            [f"t{number}" for number in range(len(accuracies))], accuracies.shape[1], images=359
        )
        for number in range(race.seeds):
            for name in race.alive:
                race.scores[name][number + 1] = float(
                    accuracies[race.candidates.index(name), number]
                )
            race.out |= dict.fromkeys(race.behind(), "clearly worse")
        wrong += bool(race.out)
    assert wrong / races <= 0.05
