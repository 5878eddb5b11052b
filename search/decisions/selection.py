"""The choice among the best few trials of a search: a race of candidates over fresh seeds.

Each candidate is trained again with fresh seeds. Those that are clearly worse are dropped early,
and the rest are compared in pairs. The best of many trials owes part of its rank, and of its value,
to luck. So everything here is based only on fresh seeds. All candidates get the same seeds, so that
differences within a pair are due to the candidates.

- The race: after each seed that all candidates have (from the second on), the leader is compared
  with every other candidate. A candidate that is significantly behind in a paired t-test is
  dropped. The test uses the variance of the pair's differences or, if it is larger, the variance
  pooled over all candidates (a two-way layout of candidates and seeds), since two or three
  differences do not determine a variance. The error rate is shared among all possible comparisons
  (Bonferroni). In these, each candidate may be the leader, because the leader is found from the
  same seeds. So the error rate holds for the whole race. On races, see Maron and Moore 1994,
  "Hoeffding races", and Birattari et al. 2002.
- The pooled variance: candidates whose values change in the same way from seed to seed count as one
  sample. Examples are two trainings, one of which is the beginning of the other, and baselines,
  which no seed changes. If each candidate counted, the variance would seem smaller and better known
  than it is.
- The pair's own variance: luck may differ between candidates. So the pair's own differences,
  without pooling, must be significant as well, at the whole error rate for all comparisons of this
  pair. Thus two equal candidates are separated no more often than this error rate allows,
  regardless of the other candidates.
- Rounding: accuracies are multiples of one image. Identical differences do not prove that there is
  no luck, so the variance of rounding, 1/12 of a squared image for each value, is part of each
  variance.
- Ties: a remaining candidate that is behind the leader by less than half a standard error of the
  difference counts as equal. Among equals, the one with the lowest time per image is chosen, if it
  is faster by a tenth. (With one standard error, as in Breiman et al. 1984, section 3.4.3, and five
  candidates, the choice is too often behind the truly best candidate by more than the deviation
  between seeds: `tests/bench/selection.py`.)
- The expected value: the mean over the seeds. Its confidence interval (Student's t) accounts for
  the choice: the candidate that was chosen among several was probably lucky. So the lower bound is
  the one of a simultaneous interval for all candidates.
- The average: the mean of the weights of the chosen candidate's trainings is one more network
  (`search.sessions.averaging`). It takes the place of the best training, unless it is behind the
  trainings' mean accuracy, on the same images, by more than a tie. It owes nothing to the luck of a
  single seed, and was better in most measurements (`tests.bench.weight_average`). The expected
  value remains the one of a single training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.journal.events import Averaged, Finalist, Selected
from search.values.statistics import LEVEL, Comparison, Expected, compare, expect
from trainables.catalog.entries import Metric

ALPHA = 0.05
"""The error rate that all comparisons share."""
TIE = 0.5
"""The maximum difference that counts as a tie, in standard errors of the difference."""
FASTER = 0.9
"""A candidate is faster if its time per image is at most this share of the leader's."""
MIN_SEEDS = 2
"""The number of seeds after which candidates are first compared."""


class Race:
    """The candidates of a race, and their scores by seed."""

    def __init__(
        self, candidates: Sequence[str], seeds: int, alpha: float = ALPHA, *, images: float
    ) -> None:
        self.candidates, self.seeds, self.alpha = list(candidates), seeds, alpha
        self.images = images
        """The resolution of the metric (`SearchResult.steps`).

        If the metric is a share of the images, such as accuracy, this is the number of images.
        """
        self.scores: dict[str, dict[int, float]] = {candidate: {} for candidate in candidates}
        """The scores of each candidate, by the number of the seed (from 1)."""
        self.out: dict[str, str] = {}
        """Maps the candidates that were dropped to the reasons."""
        self.worse: dict[str, Comparison] = {}
        """Maps candidates to the comparison with the leader by which they were dropped."""

    @property
    def alive(self) -> list[str]:
        """The candidates that are still in the race."""
        return [candidate for candidate in self.candidates if candidate not in self.out]

    @cached_property
    def comparisons(self) -> int:
        """The number of possible comparisons of all pairs, at least 1."""
        return max(1, len(self.candidates) * (len(self.candidates) - 1) // 2 * self.looks)

    @property
    def looks(self) -> int:
        """The number of possible comparisons of one pair.

        Each of the two may be the leader, after each seed from the second on.
        """
        return 2 * (self.seeds - MIN_SEEDS + 1)

    def compare(self, candidates: Sequence[str], rounds: int) -> tuple[int, list[Comparison]]:
        """Compare candidates by their first `rounds` seeds (see `statistics.compare`).

        Returns:
            The index of the leader in `candidates`, and each candidate's comparison with it.
        """
        return compare(
            self.table(candidates, rounds), self.comparisons, self.looks, images=self.images
        )

    @property
    def rounds(self) -> int:
        """The number of seeds, counted from the first, that all candidates in the race have."""
        return min((self._run(candidate) for candidate in self.alive), default=0)

    def _run(self, candidate: str) -> int:
        """Return the number of seeds, counted from the first, that a candidate has."""
        missing = (
            number for number in range(1, self.seeds + 1) if number not in self.scores[candidate]
        )
        return next(missing, self.seeds + 1) - 1

    def behind(self) -> dict[str, tuple[str, Comparison]]:
        """Return (leader, comparison) of each candidate that is clearly worse now, by candidate."""
        alive, rounds = self.alive, self.rounds
        if rounds < MIN_SEEDS or len(alive) < 2:
            return {}
        leader, compared = self.compare(alive, rounds)
        return {
            name: (alive[leader], pair)
            for name, pair in zip(alive, compared, strict=True)
            if pair.p < self.alpha
        }

    def table(self, candidates: Sequence[str], rounds: int) -> NDArray[np.float64]:
        """Return the scores for the first seeds, of shape (candidates, rounds)."""
        return np.array(
            [
                [self.scores[candidate][number] for number in range(1, rounds + 1)]
                for candidate in candidates
            ]
        )


@dataclass(frozen=True)
class Candidate:
    """The facts about a candidate that are not results of the race."""

    model: str
    search_value: float
    ms_per_image: float | None
    """The inference time of a single image in milliseconds; None if it was not measured."""
    best: str
    """The name of the candidate's best training; empty if no training has completed."""


def decide(race: Race, facts: Mapping[str, Candidate], metric: Metric) -> Selected:
    """Compute the verdict of a race that has finished.

    At least one candidate must remain, and all that remain must have completed all seeds. The race
    compares scores; in the verdict, they are converted to values of the metric.

    Args:
        race: the race.
        facts: the facts of each candidate, by name.
        metric: the metric of the scores.
    """
    alive, compared = race.alive, [Comparison(0.0, 0.0, 1.0)]
    if len(alive) > 1:
        leader, compared = race.compare(alive, race.seeds)
    pairs = dict(zip(alive, compared, strict=True))
    first = alive[leader] if len(alive) > 1 else alive[0]
    tied = [
        name for name in alive if name == first or pairs[name].difference <= TIE * pairs[name].error
    ]
    chosen = fastest(first, tied, {name: facts[name].ms_per_image for name in tied})
    states = {**dict.fromkeys(alive, "behind"), **dict.fromkeys(tied, "tied"), chosen: "chosen"}
    rows = [
        _row(race, name, facts[name], states.get(name, ""), pairs.get(name) or race.worse.get(name))
        for name in race.candidates
    ]
    rows.sort(
        key=lambda row: (
            row.candidate != chosen,
            row.candidate not in alive,
            -(-math.inf if row.mean is None else row.mean),
        )
    )
    expected = expect(
        list(race.table([chosen], race.seeds)[0]),
        len(race.candidates),
        images=race.images,
        bounds=metric.score_limits,
    )
    return Selected(
        chosen,
        facts[chosen].best,
        first,
        _in_values(expected, metric),
        facts[chosen].search_value,
        [_row_in_values(row, metric) for row in rows],
        race.alpha,
        LEVEL,
    )


def _in_values(expected: Expected, metric: Metric) -> Expected:
    """Convert an expected score to a value; its bounds swap if lower values are better."""
    low, high = sorted((metric.score(expected.low), metric.score(expected.high)))
    return replace(expected, mean=metric.score(expected.mean), low=low, high=high)


def _row_in_values(row: Finalist, metric: Metric) -> Finalist:
    """Convert the scores of a row to values."""
    mean = None if row.mean is None else metric.score(row.mean)
    return replace(row, mean=mean, accuracies=list(map(metric.score, row.accuracies)))


def _row(
    race: Race, name: str, candidate: Candidate, state: str, pair: Comparison | None
) -> Finalist:
    """Create the row of one candidate in the table of the verdict.

    `state` is empty for a candidate that was dropped, and `pair` is None for one that failed.
    """
    accuracies = [race.scores[name][number] for number in sorted(race.scores[name])]
    return Finalist(
        candidate=name,
        model=candidate.model,
        search_value=candidate.search_value,
        mean=float(np.mean(accuracies)) if accuracies else None,
        std=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        seeds=len(accuracies),
        accuracies=accuracies,
        difference=pair.difference if pair else None,
        p=pair.p if pair else None,
        state=state or ("dropped" if pair else "failed"),
        reason=race.out.get(name, ""),
        ms_per_image=candidate.ms_per_image,
    )


def is_average_as_good(averaged: Averaged) -> bool:
    """True if the average of several trainings is better than these on average, or tied."""
    return averaged.gain >= -TIE * averaged.error


def fastest(leader: str, tied: Sequence[str], ms: Mapping[str, float | None]) -> str:
    """Return the tied candidate with the lowest time per image.

    Return the leader if its own time is not known, or if no candidate is faster (`FASTER`).
    """
    timed = {name: time for name in tied if (time := ms[name]) is not None}
    own = timed.get(leader)
    if own is None:
        return leader
    best = min(timed, key=timed.__getitem__)
    return best if timed[best] <= FASTER * own else leader
