"""A sample of what was met before an improvement, as what its model is expected to meet.

It goes into the model's reference, by which `search.monitor` tells what the model was improved for
from a new change. Images that it was trained on are no sample as it sees them: it is surer of them
than of others, and people correct no random ones. So what it says counts of those images alone that
their content keeps from training, whoever has corrected them (`drawn`): they are as fair a sample
as the whole.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from search.feedback.learning.corrected import CONTRADICTS, HELD, SAME, TRAINED, drawn
from search.feedback.learning.joining import About
from search.feedback.monitoring.held_to import LEAST
from search.feedback.monitoring.window import (
    ANSWERS,
    confidence,
    kept_of,
    latest,
    sampled,
    unsure_up_to,
)
from search.feedback.records import Records, Seen
from trainables.datasets.arrays import Images, Part
from trainables.export.reference import IMAGES, Met, Probabilities, Reference, short

Predict = Callable[[Images], Probabilities]
CHUNK = 200
"""The images that are read at once."""
MAY_BE_GONE = 0.05
"""The share of the images that were kept that may be gone from a sample."""


def expected(
    predict: Predict,
    reference: Reference,
    records: Records,
    told: About,
    held: Part,
    trained: Sequence[str],
    until_ms: int,
    luck: float = 0.0,
) -> Met:
    """Return what a model is expected to meet, as it sees that.

    Args:
        predict: its probabilities of images.
        reference: its own, of the validation images.
        records: what the champion has met.
        told: the improvement that it comes from.
        held: the images that were held out.
        trained: the names of the images that it was trained on (`trained_on`), the oldest first.
        until_ms: when the improvement began.
        luck: by how much its accuracy on the images held out is likely too high (`Paired.luck`).
    """
    answers = answers_of(records, told, reference.classes, until_ms)
    probabilities = sample_of(predict, reference, records, answers, frozenset(trained))
    known, named = labelled(told, held, answers)
    targets = np.asarray(known.targets).astype(np.int64)
    said = predict(known.images) if len(known) else np.empty((0, len(reference.classes)))
    right, was_right = said.argmax(axis=1) == targets, named == targets
    return Met(
        probabilities,
        said,
        targets,
        shared_luck(luck, right, right & ~was_right),
        short(list(trained)),
    )


def shared_luck(
    luck: float, right: NDArray[np.bool_], gained: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return how much of being right is likely luck, of each image; its mean is `luck`.

    It is that of the images on which the champion was wrong; of all right ones if there are none.
    """
    lucky = (gained if gained.any() else right).astype(np.float32)
    each: NDArray[np.float32] = lucky * luck * len(lucky) / max(1, lucky.sum())
    return np.minimum(each, 1)


def answers_of(
    records: Records, told: About, classes: tuple[str, ...], until_ms: int
) -> list[Seen]:
    """Return the champion's latest answer on each image that was met before an improvement began.

    If it is another version in the records, or has hardly answered, the one there that has answered
    most counts: an image that was met is one, whoever answered.
    """
    about = records.about
    if about is None or about.classes != classes:
        return []
    seen = [
        one
        for one in records.seen(told.since_ms)
        if one.time_ms <= until_ms and len(one.probabilities) == len(classes)
    ]
    if not seen:
        return []
    counts, version = Counter(one.version for one in seen), told.champion.version
    if counts[version] < LEAST:
        version = counts.most_common(1)[0][0]
    return latest(one for one in seen if one.version == version)


def whole(answers: Sequence[Seen], there: Container[str]) -> Sequence[Seen]:
    """Return the last answers whose images, as far as they were kept, are nearly all there still.

    Where images have gone for want of room, those that nobody had corrected went first: what is
    left of that time is no sample of it.
    """
    first, kept, gone = len(answers), 0, 0
    for number in range(len(answers) - 1, -1, -1):
        if answers[number].kept:
            kept += 1
            gone += answers[number].image not in there
        if gone <= MAY_BE_GONE * kept:
            first = number
    return answers[first:]


def sample_of(
    predict: Predict,
    reference: Reference,
    records: Records,
    answers: Sequence[Seen],
    trained: frozenset[str],
) -> Probabilities:
    """Predict a random sample of the images that could not join the training, (images, classes).

    There are none if these are fewer than `LEAST` images.
    """
    there = records.images()
    names = sampled(whole(answers[-ANSWERS:], there), there, IMAGES)
    probabilities = [np.empty((0, len(reference.classes)))]
    for chunk in (names[first : first + CHUNK] for first in range(0, len(names), CHUNK)):
        if not (kept := kept_of(records, reference, chunk)):
            continue
        own = [
            one.pixels for one in kept if drawn(one.pixels) != TRAINED and one.name not in trained
        ]
        if own:
            probabilities.append(predict(np.stack(own)))
    said = np.concatenate(probabilities)
    return said if len(said) >= LEAST else said[:0]


def labelled(told: About, held: Part, answers: Sequence[Seen]) -> tuple[Part, NDArray[np.int64]]:
    """Return the images held out that are a sample of all, and the classes that were named.

    Those are fair that were chosen without regard to what the champion said of them. If it was sure
    of all of them, but not of all images, they do not stand for all: then there are none. Those by
    which the best of several challengers was chosen flatter it too much to be among them.
    """
    met = {one.image: one for one in answers}
    names = [one["image"] for one in told.images if one["use"] == HELD]
    rows = [row for row in told.fair() if names[row] in met]
    below = unsure_up_to(answers)
    unsure = sum(confidence(one) <= below for one in answers)
    stands = any(confidence(met[names[row]]) <= below for row in rows)
    if not stands and unsure * len(rows) >= len(answers):
        rows = []
    named = [np.argmax(met[names[row]].probabilities) for row in rows]
    return held.take(np.array(rows, dtype=np.intp)), np.array(named, dtype=np.int64)


def trained_on(rounds: Sequence[About]) -> list[str]:
    """Return the names of the images that the model of the last of these rounds was trained on.

    What shows again what was trained on counts too, whatever it was said to be.

    Args:
        rounds: the improvements that led to the model, the first one first.
    """

    def each() -> Iterator[str]:
        for told in rounds:
            yield from (one.image for one in told.left_out if one.why in (SAME, CONTRADICTS))
            yield from (one["image"] for one in told.images if one["use"] == TRAINED)

    return list(dict.fromkeys(each()))
