"""The labels of a data set that are probably wrong, as plain values and in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainables.errors import counted, printable
from trainables.inspection.matches import Image

MAX_LISTED, MAX_PAIRS = 100, 10
"""The maximum numbers of suspicious labels, and of pairs of classes, that a report lists."""
LIKELY = 0.5
"""A label is announced as probably wrong from this probability on."""
MIN_EXPECTED = 0.5
"""A pair of classes is listed from this expected number of wrong labels on."""


@dataclass(frozen=True)
class SuspiciousLabel:
    """An image whose label may be wrong."""

    image: Image
    suggested: str
    """The most probable other class."""
    chance: float
    """The probability that the label is wrong; 0 if there is no evidence of wrong labels at all."""
    webp: str = ""
    """A thumbnail, a WebP in base64."""


@dataclass(frozen=True)
class PairErrors:
    """The expected number of images with one label that belong to another class."""

    label: str
    suggested: str
    expected: float


@dataclass(frozen=True)
class LabelErrors:
    """The wrong labels that are expected in a data set, and the most suspicious ones."""

    judged: int
    """The number of images whose label was judged; those that a person has checked are not."""
    checked: int
    """The number of images whose label a person has checked."""
    expected: float
    """The expected number of wrong labels."""
    likely: int
    """The number of labels whose probability of being wrong is at least `LIKELY`."""
    features: str
    """The features by which images were compared, in words."""
    pairs: tuple[PairErrors, ...]
    """The pairs of classes with the most expected errors; at most `MAX_PAIRS`."""
    suspicious: tuple[SuspiciousLabel, ...]
    """The most suspicious labels first; at most `MAX_LISTED`."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build it from JSON-compatible values, the fields.

        Raises:
            KeyError, TypeError: the values are not those of this class.
        """
        pairs = tuple(PairErrors(**each) for each in values["pairs"])
        suspicious = tuple(
            SuspiciousLabel(**{**each, "image": Image(**each["image"])})
            for each in values["suspicious"]
        )
        return cls(**{**values, "pairs": pairs, "suspicious": suspicious})


def label_headline(labels: LabelErrors) -> str:
    """Summarise the expected number of wrong labels in a sentence."""
    judged = f"{counted(labels.judged, 'label')} {'was' if labels.judged == 1 else 'were'} judged"
    checked = f"; {labels.checked:,} others were checked by a person" if labels.checked else ""
    scope = f"({judged} by {labels.features}{checked})"
    if not labels.expected:
        listed = "; those listed are the least typical of their class" if labels.suspicious else ""
        return f"There is no evidence of wrong labels {scope}{listed}."
    share = 100 * labels.expected / max(1, labels.judged)
    return (
        f"About {counted(max(1, round(labels.expected)), 'label')} ({share:.2g} %) "
        f"{'is' if round(labels.expected) <= 1 else 'are'} expected to be wrong {scope}; "
        f"{labels.likely:,} {'is' if labels.likely == 1 else 'are'} probably wrong."
    )


def chance_text(suspect: SuspiciousLabel) -> str:
    """Format the probability that a label is wrong; empty without evidence of wrong labels."""
    return f"{100 * suspect.chance:.0f} %" if suspect.chance else ""


def pair_lines(labels: LabelErrors) -> Iterator[str]:
    """Yield a line for each pair of classes with expected errors."""
    for pair in labels.pairs:
        yield (
            f"{pair.expected:,.0f} with the label '{printable(pair.label)}' that show "
            f"'{printable(pair.suggested)}'"
        )
