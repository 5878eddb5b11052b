"""Compare the best challenger with the champion, on images that neither was trained on.

The challenger is selected on the old validation set and on new images that were set aside for this.
Then champion and challenger are compared on new images that were held out, and on the old test set.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

from search.feedback.learning.corrected import HELD_OUT, MIN_NEW_IMAGES, USE_SHARES
from search.feedback.learning.paired import (
    ALPHA,
    POWER,
    PairedComparison,
    detectable_difference,
    images_needed,
    margin_needed,
    max_disagreement,
    required_test_images,
)
from search.values.message import Remedy, Start
from trainables.values import Json

CHAMPION, CHALLENGER, UNCHANGED = "champion", "challenger", "unchanged"
MARGIN = 0.01
"""Default for the allowed loss of accuracy on the old test images, as a share."""
INTERVAL_LEVEL = 0.96
"""Nominal level of the intervals that are reported as 95 %. A score interval reaches its nominal
level only on average over the true differences: with 0.95, the coverage of some differences was
93.6 %.
"""
DIFFERENCES = (0.02, 0.05, 0.1)
"""Differences in accuracy for which the required number of images is stated before training."""
NEW_DISAGREEMENT, OLD_DISAGREEMENT = 0.25, 0.05
"""Assumed shares of the new images, and of the old test images, on which two models disagree. They
are used before the models are compared.
"""


@dataclass(frozen=True)
class ScoredChallenger:
    """A challenger with the accuracies that select the best one."""

    trial: str
    validation: float
    """The challenger's accuracy on the old validation set."""
    new: float
    """The challenger's accuracy on the new images that were set aside for selection."""

    @property
    def mean(self) -> float:
        """The mean of both accuracies: a challenger has to be good on old and new images."""
        return (self.validation + self.new) / 2


@dataclass(frozen=True)
class FirstChampion:
    """The first champion of several rounds, compared with the challenger.

    Small losses add up: even if each champion is worse than the previous one by less than the
    margin, the last one may be worse than the first by more.
    """

    name: str
    """The trial and the search of the first champion, in words."""
    old: PairedComparison
    """The comparison of the challenger with the first champion on the old test images."""
    accuracy: float
    """The first champion's accuracy on the old test images."""

    def to_json(self, margin: float) -> Json:
        """Convert the comparison to JSON-compatible values."""
        p = self.old.p_worse_by(margin)
        return {
            "name": self.name,
            **_comparison_facts(self.old, self.accuracy),
            "p": p,
            "margin": margin,
        }


@dataclass(frozen=True)
class GroupComparison:
    """The challenger and the champion on the old test images of one group (`--groups`)."""

    name: str
    """The attribute and its value, such as `camera=old`."""
    old: PairedComparison
    accuracy: float
    """The champion's accuracy on these images."""

    def to_json(self) -> Json:
        """Convert the comparison to JSON-compatible values."""
        return {"name": self.name, **_comparison_facts(self.old, self.accuracy)}


@dataclass(frozen=True)
class Decision:
    """The outcome of an improvement, with the figures on which it is based."""

    trial: str
    """The trial of the best challenger."""
    candidates: tuple[ScoredChallenger, ...]
    """All challengers from which the best one was selected."""
    new: PairedComparison
    old: PairedComparison
    """The comparisons of the challenger with the champion: on the held-out new images, and on the
    old test images.
    """
    champion_new: float
    """The champion's accuracy on the new images that were held out."""
    champion_old: float
    """The champion's accuracy on the old test images."""
    margin: float
    """The allowed loss of accuracy on the old test images, as a share."""
    champion_ms: float
    challenger_ms: float
    """The time that each of the two models takes for a batch of one image, in milliseconds. One
    model is measured after the other.
    """
    alpha: float = ALPHA
    """The error rate of the test on the new images in this round (see `round_alpha`)."""
    fair: int = 0
    """Number of held-out images that were chosen independently of the champion's answers."""
    is_fair: bool = True
    """False if `fair` is too small. Then all held-out images are compared, and the challenger
    cannot become the champion.
    """
    first: "FirstChampion | None" = None
    """The comparison with the first champion of all rounds; None if that is this champion."""
    groups: tuple[GroupComparison, ...] = ()
    """The comparisons in groups of the old test images, which do not affect the outcome."""

    @property
    def is_better(self) -> bool:
        """True if the challenger is significantly better on the new images."""
        return self.is_fair and self.new.p_better <= self.alpha

    @property
    def is_not_worse(self) -> bool:
        """True if non-inferiority on the old images is significant, with this margin.

        The challenger has to be non-inferior to both the champion and the first champion.
        """
        comparisons = [self.old] if self.first is None else [self.old, self.first.old]
        return all(comparison.p_worse_by(self.margin) <= ALPHA for comparison in comparisons)

    @property
    def is_worse(self) -> bool:
        """True if the challenger is significantly worse on the old images by more than `margin`."""
        return _is_worse(self.old, self.margin)

    @property
    def outcome(self) -> str:
        """The outcome for the challenger: `champion`, `challenger` or `unchanged`."""
        if self.new.difference <= 0 or self.is_worse:
            return UNCHANGED
        return CHAMPION if self.is_better and self.is_not_worse else CHALLENGER

    def lines(self) -> list[str]:
        """Describe the decision in lines of text."""
        count = len(self.candidates)
        return [
            f"{self.trial} is the only challenger"
            if count == 1
            else f"{self.trial} is the best of {count} challengers on the validation images and "
            "on the new images that were set aside for this selection",
            f"  new images, held out: {_comparison_text(self.new, self.champion_new)}; "
            f"{self._new_images_text()}",
            f"  old test images: {_comparison_text(self.old, self.champion_old)}; "
            f"{self._old_images_text(self.old)}",
            *self._first_champion_lines(),
            *(
                f"  old test images with {group.name}: "
                f"{_comparison_text(group.old, group.accuracy)}"
                for group in self.groups
            ),
            f"  inference: {self.challenger_ms:.3g} ms per image, the champion "
            f"{self.champion_ms:.3g} ms",
            self._outcome_text(),
        ]

    def _new_images_text(self) -> str:
        p = f"p = {self.new.p_better:.2g}, one-sided McNemar test"
        if self.is_better:
            return f"it is better ({p})"
        if not self.is_fair:
            return f"this is not evidence ({p}): {_unfair_text(self.fair)}"
        needed_text = (
            f"; about {self._images_needed():,} images would show this difference"
            if self._images_needed()
            else ""
        )
        return (
            f"it is not significantly better ({p}; at most {self.alpha:.2g} is required"
            f"{needed_text})"
        )

    def _images_needed(self) -> int:
        differing = (self.new.gained + self.new.lost) / max(1, self.new.images)
        if self.new.difference <= 0 or not self.alpha:
            return 0
        return images_needed(self.new.difference, max(differing, self.new.difference), self.alpha)

    def _first_champion_lines(self) -> Iterator[str]:
        if (first := self.first) is not None:
            compared = _comparison_text(
                first.old, first.accuracy, f"the first champion's ({first.name})"
            )
            yield f"  old test images: {compared}; {self._old_images_text(first.old)}"

    def _old_images_text(self, old: PairedComparison) -> str:
        p, points = old.p_worse_by(self.margin), f"{100 * self.margin:g} point"
        points += "s" * (self.margin != 0.01)
        if p <= ALPHA:
            return f"it is not worse by {points} (p = {p:.2g})"
        if _is_worse(old, self.margin):
            return f"it is worse by more than {points}"
        text = f"there is no evidence that it is not worse by {points} (p = {p:.2g})"
        if can_show_not_worse(old.images, self.margin):
            return text
        return f"{text}, and these are too few images: {_sufficient_text(old.images, self.margin)}"

    def _outcome_text(self) -> str:
        if self.outcome == CHAMPION:
            return (
                "it is better on the new images and not worse on the old ones, so it is the new "
                "champion"
            )
        if self.outcome == CHALLENGER:
            return (
                "it may be better, but this is not significant: it is registered as a challenger, "
                "and the champion stays"
            )
        return "it is not better, so nothing changed"

    def to_json(self) -> Json:
        """Convert the decision to JSON-compatible values."""
        return {
            "outcome": self.outcome,
            "challenger": self.trial,
            "candidates": [
                asdict(candidate) | {"mean": candidate.mean} for candidate in self.candidates
            ],
            "new": _comparison_facts(self.new, self.champion_new) | {"p": self.new.p_better},
            "old": _comparison_facts(self.old, self.champion_old)
            | {"p": self.old.p_worse_by(self.margin), "margin": self.margin},
            "first": None if self.first is None else self.first.to_json(self.margin),
            "groups": [group.to_json() for group in self.groups],
            "alpha": self.alpha,
            "fair": self.fair,
            "is_fair": self.is_fair,
            "champion_ms": self.champion_ms,
            "challenger_ms": self.challenger_ms,
        }


def _is_worse(old: PairedComparison, margin: float) -> bool:
    """Check whether a challenger is significantly worse, by more than the margin."""
    return old.interval(1 - 2 * ALPHA)[1] < -margin


def _comparison_text(
    paired: PairedComparison, champion: float, whose: str = "the champion's"
) -> str:
    """Format a comparison: accuracies, number of images, difference and confidence interval."""
    low, high = paired.interval(INTERVAL_LEVEL)
    return (
        f"accuracy {champion + paired.difference:.4f} against {whose} {champion:.4f} on "
        f"{paired.images:,} images ({100 * paired.difference:+.1f} points, 95 % confidence "
        f"interval {100 * low:+.1f} to {100 * high:+.1f})"
    )


def _comparison_facts(paired: PairedComparison, champion: float) -> Json:
    low, high = paired.interval(INTERVAL_LEVEL)
    return {
        **asdict(paired),
        "champion_accuracy": champion,
        "challenger_accuracy": champion + paired.difference,
        "difference": paired.difference,
        "low": low,
        "high": high,
    }


def luck_of(facts: Json) -> float:
    """Estimate by how much a challenger's accuracy on the new images is likely too high.

    The accuracy is biased because it decided whether the challenger was registered: a new champion
    had to pass a test, and any other challenger had to be better than the champion.

    Args:
        facts: the decision, as `Decision.to_json` returns it.
    """
    comparison = PairedComparison(*(facts["new"][name] for name in ("images", "gained", "lost")))
    is_tested = facts["outcome"] == CHAMPION
    return comparison.luck(NormalDist().inv_cdf(1 - facts["alpha"]) if is_tested else 0.0)


def best_challenger(candidates: Sequence[ScoredChallenger]) -> ScoredChallenger:
    """Select the challenger with the highest mean accuracy; if several are equal, the first."""
    return max(candidates, key=lambda candidate: candidate.mean)


def round_alpha(new: int, held_out: int) -> float:
    """Error rate of a round in which `new` of the `held_out` images are used for the first time.

    The other images were used for the decision of an earlier round, and count towards the error
    rate of that round. The result is 0 if there are no held-out images.
    """
    return ALPHA * new / held_out if held_out else 0.0


def can_show_not_worse(test: int, margin: float) -> bool:
    """Check whether this number of test images can show that a challenger is not worse.

    If it cannot, even a challenger that is right on exactly the same images as the champion fails.
    """
    return PairedComparison(test, 0, 0).p_worse_by(margin) <= ALPHA


def requirement_lines(fair: int, test: int, margin: float, alpha: float = ALPHA) -> Iterator[str]:
    """Yield lines of text that state which differences these numbers of images can show.

    Args:
        fair: the number of held-out new images that were chosen independently of the champion's
            answers.
        test: the number of old test images.
        margin: the allowed loss of accuracy on the old test images, as a share.
        alpha: the error rate of this round.
    """
    if obstacle := _new_obstacle(fair, alpha):
        yield obstacle
    else:
        yield from _requirement_on_new(fair, alpha)
    points = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    if obstacle := _old_obstacle(test, margin):
        yield obstacle
    else:
        yield (
            f"not worse by {points} on the {test:,} old test images: an equally good model passes "
            "if it disagrees on at most "
            f"{100 * min(1.0, max_disagreement(test, margin)):.2g} % of them"
        )


def obstacles(fair: int, test: int, margin: float, alpha: float) -> list[str]:
    """List the reasons why no challenger can become the champion; empty if one can.

    The arguments are those of `requirement_lines`.
    """
    return [text for text in (_new_obstacle(fair, alpha), _old_obstacle(test, margin)) if text]


def _new_obstacle(fair: int, alpha: float) -> str:
    """The reason why the held-out new images cannot show a difference; empty if they can."""
    if fair < MIN_NEW_IMAGES[HELD_OUT]:
        return f"no difference on new images can be detected: {_unfair_text(fair)}"
    if not alpha:
        return (
            "no difference on new images can be detected, because all of them were used for the "
            "decision of an earlier round. Correct new images"
        )
    if PairedComparison(fair, fair, 0).p_better > alpha:
        return (
            f"no difference on new images can be detected, because most of the {fair} held-out "
            "images were used for the decision of an earlier round, so that only an error rate of "
            f"{100 * alpha:.2g} % is left. Correct new images"
        )
    return ""


def _old_obstacle(test: int, margin: float) -> str:
    """The reason why the old test images cannot show non-inferiority; empty if they can."""
    if can_show_not_worse(test, margin):
        return ""
    points = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    return (
        f"no challenger can become the champion, because {test:,} old test images are too few to "
        f"show that it is not worse by {points}: {_sufficient_text(test, margin)}"
    )


def _unfair_text(fair: int) -> str:
    """Explain that there are too few fair held-out images, and how to get more."""
    least = MIN_NEW_IMAGES[HELD_OUT]
    record_all = Remedy("serve", options={"record-share": 1}, start=Start.MODULE)
    return (
        f"{fair} of the held-out images {'was' if fair == 1 else 'were'} chosen independently of "
        f"the champion's answers, and {least} are required. For that, correct or confirm about "
        f"{math.ceil(least / USE_SHARES[HELD_OUT])} images of the server's sample in "
        "search.label, including those with usual answers. If all of them are corrected, record a "
        f"larger sample: {record_all} records all images with usual answers instead of 5 % "
        "(docs/feedback.md, Learn)"
    )


def _sufficient_text(test: int, margin: float) -> str:
    """State the margin, or the number of test images, with which equally good models pass."""
    points = math.ceil(100 * margin_needed(test, OLD_DISAGREEMENT))
    return (
        f"an equally good model that disagrees on {100 * OLD_DISAGREEMENT:g} % of them would pass "
        f"with --margin {points}, or with {required_test_images(margin, OLD_DISAGREEMENT):,} test "
        "images"
    )


def _requirement_on_new(held_out: int, alpha: float) -> Iterator[str]:
    rates = f"error rate {100 * alpha:.2g} %, power {100 * POWER:g} %"
    yield (
        f"held-out images required to detect that a challenger is better on new images ({rates}, "
        f"if it disagrees with the champion on {100 * NEW_DISAGREEMENT:g} % of them):"
    )
    for difference in DIFFERENCES:
        count = images_needed(difference, NEW_DISAGREEMENT, alpha)
        yield f"  better by {100 * difference:g} points: {count:,} held-out images"
    detectable = detectable_difference(held_out, NEW_DISAGREEMENT, alpha)
    detectable_text = (
        "no difference" if math.isinf(detectable) else f"{100 * detectable:.0f} points or more"
    )
    yield f"  with {held_out:,} held-out images, {detectable_text} would be detected"
