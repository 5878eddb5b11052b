"""The choice among a search's best few candidates: a race over fresh seeds.

Each is trained again with fresh seeds, the clearly worse leave the race early, and the rest are
compared in pairs. The best of many trials owes part of its place to luck, and so does the value
that it was found with. So everything here rests on fresh seeds alone, the same ones for all
candidates, so that two of them differ by what they are.

- The race: after each seed that all candidates have (from the second on) the leader is compared
  with every other one. A candidate that is behind in a paired t-test leaves. The test's variance is
  that of the pair's differences or, if larger, the one pooled over all candidates (a two-way
  layout, candidates and seeds): of two or three differences alone it would be a matter of chance.
  The error rate is shared among all comparisons that there may be (Bonferroni), each candidate with
  each as the leader, because the leader is found from the same seeds: so it holds for the whole
  race. Racing: Maron and Moore 1994, "Hoeffding races"; Birattari et al. 2002.
- The pooled variance: candidates that rise and fall alike from seed to seed tell of luck once.
  Trainings of which one is the beginning of the other do, and baselines, which no seed changes;
  were each counted, the variance would seem smaller and better known than it is.
- The pair's own variance: candidates need not owe the same to luck. So the pair's own differences,
  with none pooled, must tell them apart as well, at the whole error rate for all looks at this
  pair: whatever the other candidates are, two equal ones are told apart no more often than that.
- Rounding: accuracies are whole numbers of images. If differences are equal, that does not tell
  that there is no luck: rounding to an image is part of each variance, a twelfth of an image
  squared for each share of images.
- Ties: a candidate that is left, and behind the leader by less than half a standard error of the
  difference, counts as its equal; among equals the one that takes the least time for an image is
  chosen, if it is faster by a tenth. (One standard error, Breiman et al. 1984, section 3.4.3, gives
  away more than one seed's deviation too often when there are five candidates:
  `tests/bench/selection.py`.)
- The expected value: the mean over the seeds. Its interval (Student's t) allows for the choice: the
  one chosen among several was lucky rather than unlucky, so its lower end is that of a simultaneous
  interval for all candidates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.journal.events import Finalist, Selected
from search.values.statistics import LEVEL, Comparison, Expected, compare, expect
from trainables.catalog.tasks import CLASSIFICATION, Metric

ALPHA = 0.05
"""The error rate of all comparisons together."""
TIE = 0.5
"""The largest difference of a tie, in standard errors of the difference."""
FASTER = 0.9
"""The share of an equal's time for an image below which a candidate counts as faster."""
MIN_SEEDS = 2
"""The number of seeds from which on candidates are compared."""


class Race:
    """Candidates, and their accuracies by the seed's number (from 1)."""

    def __init__(
        self, candidates: Sequence[str], seeds: int, alpha: float = ALPHA, *, images: float
    ) -> None:
        self.candidates, self.seeds, self.alpha = list(candidates), seeds, alpha
        self.images = images
        """The number of images on which each value is measured, as `compare` takes it."""
        self.scores: dict[str, dict[int, float]] = {candidate: {} for candidate in candidates}
        """For each candidate its accuracies, by the seed's number."""
        self.out: dict[str, str] = {}
        """The candidates that have left the race, each with the reason."""
        self.worse: dict[str, Comparison] = {}
        """The comparison with the leader of that time, for each that left as clearly worse."""

    @property
    def alive(self) -> list[str]:
        """The candidates that are still in the race."""
        return [candidate for candidate in self.candidates if candidate not in self.out]

    @cached_property
    def comparisons(self) -> int:
        """The number of comparisons that there may be.

        They are of every candidate with every other as the leader, after each seed from the second
        on.
        """
        return max(1, len(self.candidates) * (len(self.candidates) - 1) // 2 * self.looks)

    @property
    def looks(self) -> int:
        """The number of these comparisons that are of one pair.

        Either may lead, after each seed from the second on.
        """
        return 2 * (self.seeds - MIN_SEEDS + 1)

    def compare(self, candidates: Sequence[str], rounds: int) -> tuple[int, list[Comparison]]:
        """Compare these candidates by their first seeds, as `statistics.compare` does."""
        return compare(
            self.table(candidates, rounds), self.comparisons, self.looks, images=self.images
        )

    @property
    def rounds(self) -> int:
        """The number of seeds, from the first on, that all candidates alive have."""
        return min((self._run(candidate) for candidate in self.alive), default=0)

    def _run(self, candidate: str) -> int:
        """Return the number of seeds, from the first on, that a candidate has."""
        missing = (
            number for number in range(1, self.seeds + 1) if number not in self.scores[candidate]
        )
        return next(missing, self.seeds + 1) - 1

    def behind(self) -> dict[str, tuple[str, Comparison]]:
        """Return the candidates that are clearly worse now.

        Each comes with the leader and the comparison that shows it.
        """
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
        """Return the accuracies with the first seeds, (candidates, rounds)."""
        return np.array(
            [
                [self.scores[candidate][number] for number in range(1, rounds + 1)]
                for candidate in candidates
            ]
        )


@dataclass(frozen=True)
class Candidate:
    """The facts of a candidate that are not of the race."""

    model: str
    search_value: float
    ms_per_image: float | None
    """The time of one image alone, in milliseconds; None where it was not measured."""
    best: str
    """The name of its best training."""


def decide(
    race: Race, known: Mapping[str, Candidate], metric: Metric = CLASSIFICATION.primary
) -> Selected:
    """Return the verdict of a race that is over.

    All candidates that are alive have all seeds, and there is at least one. `known` has every
    candidate. The race compares scores; the verdict tells the metric's values.
    """
    alive, compared = race.alive, [Comparison(0.0, 0.0, 1.0)]
    if len(alive) > 1:
        leader, compared = race.compare(alive, race.seeds)
    pairs = dict(zip(alive, compared, strict=True))
    first = alive[leader] if len(alive) > 1 else alive[0]
    tied = [
        name for name in alive if name == first or pairs[name].difference <= TIE * pairs[name].error
    ]
    chosen = fastest(first, tied, {name: known[name].ms_per_image for name in tied})
    states = {**dict.fromkeys(alive, "behind"), **dict.fromkeys(tied, "tied"), chosen: "chosen"}
    rows = [
        _row(race, name, known[name], states.get(name, ""), pairs.get(name) or race.worse.get(name))
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
        known[chosen].best,
        first,
        _in_values(expected, metric),
        known[chosen].search_value,
        [_row_in_values(row, metric) for row in rows],
        race.alpha,
        LEVEL,
    )


def _in_values(expected: Expected, metric: Metric) -> Expected:
    """Turn an expected score into the metric's value, whose ends change places if low is good."""
    low, high = sorted((metric.score(expected.low), metric.score(expected.high)))
    return replace(expected, mean=metric.score(expected.mean), low=low, high=high)


def _row_in_values(row: Finalist, metric: Metric) -> Finalist:
    """Turn a row's scores into the metric's values."""
    mean = None if row.mean is None else metric.score(row.mean)
    return replace(row, mean=mean, accuracies=list(map(metric.score, row.accuracies)))


def _row(race: Race, name: str, known: Candidate, state: str, pair: Comparison | None) -> Finalist:
    """Return the row of one candidate.

    `state` is empty for one that left, and `pair` is None for one that failed.
    """
    accuracies = [race.scores[name][number] for number in sorted(race.scores[name])]
    return Finalist(
        candidate=name,
        model=known.model,
        search_value=known.search_value,
        mean=float(np.mean(accuracies)) if accuracies else None,
        std=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        seeds=len(accuracies),
        accuracies=accuracies,
        difference=pair.difference if pair else None,
        p=pair.p if pair else None,
        state=state or ("dropped" if pair else "failed"),
        reason=race.out.get(name, ""),
        ms_per_image=known.ms_per_image,
    )


def fastest(leader: str, tied: Sequence[str], ms: Mapping[str, float | None]) -> str:
    """Return the one of several equals that takes the least time for an image.

    It is the leader, if none is faster by a tenth.
    """
    timed = {name: time for name in tied if (time := ms[name]) is not None}
    own = timed.get(leader)
    if own is None:
        return leader
    best = min(timed, key=timed.__getitem__)
    return best if timed[best] <= FASTER * own else leader
