"""The wrong labels that are expected in a data set, as plain values for a report."""

import numpy as np

from trainables.catalog.models import MODELS
from trainables.inspection.labels import (
    LIKELY,
    MAX_LISTED,
    MAX_PAIRS,
    MIN_EXPECTED,
    LabelErrors,
    PairErrors,
    SuspiciousLabel,
)
from trainables.inspection.matches import Places
from trainables.label_errors.ranking import RankedLabels
from trainables.tasks.pictures import encode_webp


def describe_ranking(ranked: RankedLabels, places: Places) -> LabelErrors:
    """Describe ranked labels as plain values, with pictures of the most suspicious images."""
    unchecked = ~ranked.is_decided
    chances, suggestions = ranked.doubts.chances, ranked.suggestions
    source = MODELS[ranked.model].source
    return LabelErrors(
        judged=int(unchecked.sum()),
        checked=int(ranked.is_decided.sum()),
        expected=float(chances[unchecked].sum()),
        likely=int((chances[unchecked] >= LIKELY).sum()),
        features=f"features of {source}" if source else "hand-made features",
        pairs=_pairs(ranked),
        suspicious=tuple(
            SuspiciousLabel(
                places.image(int(ranked.numbers[row])),
                ranked.classes[suggestions[row]],
                float(chances[row]),
                _thumbnail(places, int(ranked.numbers[row])),
            )
            for row in ranked.order[:MAX_LISTED]
        ),
    )


def _pairs(ranked: RankedLabels) -> tuple[PairErrors, ...]:
    """List the pairs of classes with the most expected errors."""
    counts = ranked.pairs
    largest = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = zip(*np.unravel_index(largest, counts.shape), strict=True)
    return tuple(
        PairErrors(ranked.classes[label], ranked.classes[other_class], float(count))
        for label, other_class in pairs
        if (count := counts[label, other_class]) >= MIN_EXPECTED
    )


def _thumbnail(places: Places, number: int) -> str:
    part = list(places.parts.values())[places.part[number]]
    single = part.take(np.array([places.row[number]]))
    return encode_webp(next(single.each()))
