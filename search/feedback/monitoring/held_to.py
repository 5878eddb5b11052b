"""The images that new ones are held to: of the validation part, or met before an improvement.

A model is improved because it meets other images than those of its validation part. What it is
expected to meet since is what was met before: a random sample of that, without labels, and, for
accuracy and calibration, those of known class that it was not trained on. An image that is in that
sample and is met again counts on both sides: that makes the sides more alike than two samples that
share none. Left out of one side alone, images that are met often would be missing there, and from
both sides what is new would be tested alone. Where nearly all of many thousands are met again, what
is left out as trained on is missing on one side, so that answers may alarm more often.

The model became what it is because it was better on the images of known class. So its accuracy on
these is likely too high, by as much as is taken off (`Paired.luck`): else one in ten would be said
to have fallen at once. As the calibration may be off by too much or too little then, it has changed
only if it has with that luck and without.
"""

from dataclasses import dataclass

from search.feedback.monitoring.correctness import Judged
from trainables.export.image_features import Features
from trainables.export.reference import Probabilities, Reference

LEAST = 20
"""The images without which nothing is tested."""
LEAST_LUCK = 0.0005
"""The least that is told, of an accuracy."""
VALIDATION = "the validation images"


@dataclass(frozen=True)
class HeldTo:
    """The images that new ones are held to."""

    title: str
    """Their name in texts, for images, outputs and class mix."""
    features: Features
    probabilities: Probabilities
    judged: Judged | None
    """Those to which accuracy and calibration are held; None of too few."""
    judged_title: str
    labelled: int
    """The number of those, however few."""
    lucky: Judged | None = None
    """The same with the luck of being chosen by them, if there is any."""
    is_met: bool = False
    """True if images, outputs and class mix are held to images that were met before."""

    @classmethod
    def of(cls, reference: Reference) -> "HeldTo":
        """Return what new images are held to by a model's reference."""
        met, own = reference.met, validation(reference)
        plain = reference.features, reference.probabilities
        if met is None:
            return cls(VALIDATION, *plain, own, VALIDATION, len(reference.probabilities))
        count = len(met.targets)
        plain_judged = Judged.of(met.labelled, met.targets) if count >= LEAST else None
        judged = plain_judged.less(met.luck) if plain_judged is not None else None
        lucky = plain_judged if met.luck.any() else None
        known = f"the {count:,} images of known class that were met before it was improved"
        if count and (luck := float(met.luck.mean())) >= LEAST_LUCK:
            known += f" (less {100 * luck:.1f} points, the likely luck of being chosen by them)"
        if min(len(met.features), len(met.probabilities)) < LEAST:
            return cls(VALIDATION, *plain, judged, known, count, lucky)
        title = f"the {len(met.features):,} images that were met before it was improved"
        both = met.features, met.probabilities
        return cls(title, *both, judged, known, count, lucky, is_met=True)


def validation(reference: Reference) -> Judged | None:
    """Return the validation images, whose classes are known; None of too few."""
    if len(reference.probabilities) < LEAST:
        return None
    return Judged.of(reference.probabilities, reference.targets)
