"""The decision: the best challenger beside the champion, on what neither has seen.

The challenger is chosen by the old validation part and by new images that were set aside for it.
Then both are held against each other on new images that were set aside for that, and on the old
test part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

from search.feedback.learning.corrected import FEWEST, HELD, SHARES
from search.feedback.learning.paired import (
    ALPHA,
    POWER,
    Paired,
    difference_found,
    differing_allowed,
    images_needed,
    margin_needed,
    tests_needed,
)
from trainables.values import Json

CHAMPION, CHALLENGER, UNCHANGED = "champion", "challenger", "unchanged"
MARGIN = 0.01
LEVEL = 0.96
"""The level of the intervals that are stated as 95 %. A score interval covers its level on average
over the true differences; at 0.95 some were covered in 93.6 % of the cases.
"""
DIFFERENCES = (0.02, 0.05, 0.1)
DIFFERING, DIFFERING_OLD = 0.25, 0.05
"""The share of new images, and of old test images, on which two models are supposed to differ,
before that is known.
"""


@dataclass(frozen=True)
class Candidate:
    """A challenger, as the choice among them sees it."""

    trial: str
    validation: float
    """Its accuracy on the old validation part."""
    new: float
    """Its accuracy on the new images that were set aside to choose by."""

    @property
    def mean(self) -> float:
        """Both count alike: a challenger is to be good at what was and at what is."""
        return (self.validation + self.new) / 2


@dataclass(frozen=True)
class First:
    """The first champion of several rounds, beside the challenger.

    One that is worse than the champion by less than the margin in each round is worse than the
    first by more in the end.
    """

    name: str
    """Its trial and search, in words."""
    old: Paired
    """The challenger beside it on the old test images."""
    accuracy: float
    """Its own accuracy on these."""

    def to_json(self, margin: float) -> Json:
        """Return the comparison as plain values."""
        p = self.old.p_worse_by(margin)
        return {"name": self.name, **_facts(self.old, self.accuracy), "p": p, "margin": margin}


@dataclass(frozen=True)
class Decision:
    """The outcome of an improvement, with the figures that it rests on."""

    trial: str
    """The challenger."""
    candidates: tuple[Candidate, ...]
    new: Paired
    old: Paired
    champion_new: float
    """The champion's accuracy on the new images that were held out."""
    champion_old: float
    margin: float
    champion_ms: float
    """Milliseconds for one image alone, both measured after each other."""
    challenger_ms: float
    alpha: float = ALPHA
    """The error rate of the test on the new images, in this round (see `alpha_of`)."""
    fair: int = 0
    """The images held out that were chosen without regard to what the champion says of them."""
    is_fair: bool = True
    """False if these are too few: all that were held out are compared then."""
    first: "First | None" = None
    """The first champion; None if this champion is that."""

    @property
    def is_better(self) -> bool:
        """True if it is better on the new images, beyond chance."""
        return self.is_fair and self.new.p_better <= self.alpha

    @property
    def is_not_worse(self) -> bool:
        """True if it is shown not to be worse on the old images by the margin.

        Neither than the champion nor than the first champion.
        """
        held_to = [self.old] if self.first is None else [self.old, self.first.old]
        return all(one.p_worse_by(self.margin) <= ALPHA for one in held_to)

    @property
    def is_worse(self) -> bool:
        """True if it is shown to be worse on the old images by more than the margin."""
        return _is_worse(self.old, self.margin)

    @property
    def outcome(self) -> str:
        """The outcome for the challenger: `champion`, `challenger` or `unchanged`."""
        if self.new.difference <= 0 or self.is_worse:
            return UNCHANGED
        return CHAMPION if self.is_better and self.is_not_worse else CHALLENGER

    def lines(self) -> list[str]:
        """Return the decision in words."""
        count = len(self.candidates)
        return [
            f"{self.trial} is the only challenger"
            if count == 1
            else f"{self.trial} is the best of {count} challengers, by validation images and new "
            "images that were set aside to choose by",
            f"  new images, held out: {_compared(self.new, self.champion_new)}; {self._on_new()}",
            f"  old test images: {_compared(self.old, self.champion_old)}; "
            f"{self._on_old(self.old)}",
            *self._beside_the_first(),
            f"  to use: {self.challenger_ms:.3g} ms an image, the champion "
            f"{self.champion_ms:.3g} ms",
            self._outcome_text(),
        ]

    def _on_new(self) -> str:
        p = f"p = {self.new.p_better:.2g}, one-sided McNemar test"
        if self.is_better:
            return f"it is better ({p})"
        if not self.is_fair:
            return f"that shows nothing ({p}): {_unfair(self.fair)}"
        needed = f", which about {self._needed():,} images would tell" if self._needed() else ""
        return f"not shown to be better ({p}; {self.alpha:.2g} is asked for{needed})"

    def _needed(self) -> int:
        differing = (self.new.gained + self.new.lost) / max(1, self.new.images)
        if self.new.difference <= 0 or not self.alpha:
            return 0
        return images_needed(self.new.difference, max(differing, self.new.difference), self.alpha)

    def _beside_the_first(self) -> Iterator[str]:
        if (first := self.first) is not None:
            compared = _compared(first.old, first.accuracy, f"{first.name}'s, the first champion,")
            yield f"  old test images: {compared}; {self._on_old(first.old)}"

    def _on_old(self, old: Paired) -> str:
        p, points = old.p_worse_by(self.margin), f"{100 * self.margin:g} point"
        points += "s" * (self.margin != 0.01)
        if p <= ALPHA:
            return f"it is not worse by {points} (p = {p:.2g})"
        if _is_worse(old, self.margin):
            return f"it is worse by more than {points}"
        text = f"that it is not worse by {points} is not shown (p = {p:.2g})"
        if is_possible(old.images, self.margin):
            return text
        return f"{text}, nor could it be by so few: {_enough(old.images, self.margin)}"

    def _outcome_text(self) -> str:
        if self.outcome == CHAMPION:
            return "better on the new and not worse on the old: it is the new champion"
        if self.outcome == CHALLENGER:
            return "it may be better, but that is not shown: it is a challenger, the champion stays"
        return "not better: nothing changed"

    def to_json(self) -> Json:
        """Return the decision as plain values."""
        return {
            "outcome": self.outcome,
            "challenger": self.trial,
            "candidates": [asdict(one) | {"mean": one.mean} for one in self.candidates],
            "new": _facts(self.new, self.champion_new) | {"p": self.new.p_better},
            "old": _facts(self.old, self.champion_old)
            | {"p": self.old.p_worse_by(self.margin), "margin": self.margin},
            "first": None if self.first is None else self.first.to_json(self.margin),
            "alpha": self.alpha,
            "fair": self.fair,
            "is_fair": self.is_fair,
            "champion_ms": self.champion_ms,
            "challenger_ms": self.challenger_ms,
        }


def _is_worse(old: Paired, margin: float) -> bool:
    """Return whether a challenger is shown to be worse by more than the margin."""
    return old.interval(1 - 2 * ALPHA)[1] < -margin


def _compared(paired: Paired, champion: float, whose: str = "the champion's") -> str:
    """Return a text such as `0.6111 against 0.5000 of 90 (+11.1 points, +2.0 to +20.1)`."""
    low, high = paired.interval(LEVEL)
    return (
        f"{champion + paired.difference:.4f} against {whose} {champion:.4f} of "
        f"{paired.images:,} ({100 * paired.difference:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f})"
    )


def _facts(paired: Paired, champion: float) -> Json:
    low, high = paired.interval(LEVEL)
    return {
        **asdict(paired),
        "champion_accuracy": champion,
        "challenger_accuracy": champion + paired.difference,
        "difference": paired.difference,
        "low": low,
        "high": high,
    }


def luck_of(facts: Json) -> float:
    """Return by how much a challenger's accuracy on the new images is likely too high.

    It was taken for that: as champion it had to pass a test, as challenger to be better at all.

    Args:
        facts: the decision, as `Decision.to_json` gives it.
    """
    found = Paired(*(facts["new"][name] for name in ("images", "gained", "lost")))
    is_tested = facts["outcome"] == CHAMPION
    return found.luck(NormalDist().inv_cdf(1 - facts["alpha"]) if is_tested else 0.0)


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return the best challenger; of equals the first."""
    return max(candidates, key=lambda one: one.mean)


def alpha_of(new: int, held: int) -> float:
    """Return the error rate of a round: of so many images held out so many decide the first time.

    The others have been looked at in an earlier round, whose error rate counts for them.
    """
    return ALPHA * new / held if held else 0.0


def is_possible(test: int, margin: float) -> bool:
    """Return whether so many test images can show that one is not worse by this margin.

    If not, they do not even where both models are right on the same images.
    """
    return Paired(test, 0, 0).p_worse_by(margin) <= ALPHA


def needed(fair: int, test: int, margin: float, alpha: float = ALPHA) -> Iterator[str]:
    """Yield lines on what so many images can tell, before anything is trained.

    Args:
        fair: the new images held out that were chosen whatever the champion says of them.
        test: the old test images.
        margin: by how much the challenger may not be worse on these.
        alpha: the error rate of this round.
    """
    if obstacle := _new_obstacle(fair, alpha):
        yield obstacle
    else:
        yield from _needed_to_be_better(fair, alpha)
    points = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    if obstacle := _old_obstacle(test, margin):
        yield obstacle
    else:
        yield (
            f"to tell that it is not worse on the {test:,} old test images by {points}: equals "
            f"pass if they differ on at most "
            f"{100 * min(1.0, differing_allowed(test, margin)):.2g} % of them"
        )


def obstacles(fair: int, test: int, margin: float, alpha: float) -> list[str]:
    """Return why no challenger can become the champion; nothing if one can.

    The arguments are those of `needed`.
    """
    return [text for text in (_new_obstacle(fair, alpha), _old_obstacle(test, margin)) if text]


def _new_obstacle(fair: int, alpha: float) -> str:
    """Return why so many new images held out show nothing; empty if they can."""
    if fair < FEWEST[HELD]:
        return f"no difference on new images can be told: {_unfair(fair)}"
    if not alpha:
        return (
            "no difference on new images can be told: all have decided in an earlier round. "
            "Correct new ones"
        )
    if Paired(fair, fair, 0).p_better > alpha:
        return (
            f"no difference on new images can be told: most of the {fair} held out have decided "
            f"in an earlier round, so that an error rate of {100 * alpha:.2g} % is left. Correct "
            "new ones"
        )
    return ""


def _old_obstacle(test: int, margin: float) -> str:
    """Return why so many old test images show nothing; empty if they can."""
    if is_possible(test, margin):
        return ""
    points = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    return (
        f"that it is not worse by {points} cannot be shown by so few old test images "
        f"({test:,}), so that no challenger becomes the champion: {_enough(test, margin)}"
    )


def _unfair(fair: int) -> str:
    """Return why so few images held out decide nothing, and what helps."""
    least = FEWEST[HELD]
    return (
        f"{fair} of the images held out {'was' if fair == 1 else 'were'} chosen without regard to "
        f"what the champion says of them, {least} are needed, for which about "
        f"{math.ceil(least / SHARES[HELD])} images of the server's sample are to be corrected or "
        "confirmed: the usual ones too, in search.label. Where all are, a larger sample helps: "
        "search.serve --record-share 1 keeps all usual images that it meets, not 5 % "
        "(docs/feedback.md, Learn)"
    )


def _enough(test: int, margin: float) -> str:
    """Return the margin, and the test images, with which equals pass that differ a little."""
    points = math.ceil(100 * margin_needed(test, DIFFERING_OLD))
    return (
        f"equals that differ on {100 * DIFFERING_OLD:g} % of them would pass with "
        f"--margin {points}, or with {tests_needed(margin, DIFFERING_OLD):,} test images"
    )


def _needed_to_be_better(held: int, alpha: float) -> Iterator[str]:
    rates = f"error rate {100 * alpha:.2g} %, found {100 * POWER:g} % of the time"
    yield (
        f"to tell that a challenger is better on new images ({rates}, if they differ on "
        f"{100 * DIFFERING:g} % of them):"
    )
    for difference in DIFFERENCES:
        count = images_needed(difference, DIFFERING, alpha)
        yield f"  by {100 * difference:g} points: {count:,} images held out"
    found = difference_found(held, DIFFERING, alpha)
    found_text = "no difference" if math.isinf(found) else f"{100 * found:.0f} points or more"
    yield f"  {held:,} are held out: {found_text} would be found"
