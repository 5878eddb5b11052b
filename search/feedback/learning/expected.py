"""A sample of the images before an improvement: those that the new model is expected to meet.

It is stored in the model's reference, with which `search.monitor` distinguishes what the model was
improved for from a new change. Images that the model was trained on are no fair sample: it is surer
of them than of others, and people do not correct random ones. So only the model's answers on those
images count that their content excludes from training, whoever has corrected them (`draw_use`):
they are as fair a sample as all images.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from search.feedback.learning.corrected import (
    ALREADY_KNOWN,
    CONTRADICTORY,
    HELD_OUT,
    TRAINING,
    draw_use,
)
from search.feedback.learning.joining import ImprovementInfo
from search.feedback.monitoring.held_to import MIN_TESTED
from search.feedback.monitoring.window import (
    MAX_ANSWERS,
    confidence,
    latest_answers,
    load_images,
    sample_names,
    unsure_threshold,
)
from search.feedback.records import RecordedAnswer, Records
from trainables.datasets.arrays import Images, Part
from trainables.export.reference import IMAGES, EarlierImages, Probabilities, Reference, short

Predict = Callable[[Images], Probabilities]
CHUNK = 200
"""The images that are read at once."""
MAX_MISSING_SHARE = 0.05
"""The share of the recorded images that may be missing from a sample."""


def expected_images(
    predict: Predict,
    reference: Reference,
    records: Records,
    info: ImprovementInfo,
    held_out: Part,
    trained_names: Sequence[str],
    until_ms: int,
    luck: float = 0.0,
) -> EarlierImages:
    """Predict the images that a model is expected to meet.

    Args:
        predict: computes the model's probabilities, (images, classes).
        reference: the model's reference, of the validation images.
        records: the images that the champion has answered.
        info: the improvement that the model comes from.
        held_out: the images that were held out.
        trained_names: the images that it was trained on (`trained_image_names`), oldest first.
        until_ms: when the improvement started.
        luck: by how much its accuracy on the held-out images is likely too high
            (`PairedComparison.luck`).
    """
    answers = champion_answers(records, info, reference.classes, until_ms)
    probabilities = sample_probabilities(
        predict, reference, records, answers, frozenset(trained_names)
    )
    labelled_part, champion_classes = fair_held_out(info, held_out, answers)
    targets = np.asarray(labelled_part.targets).astype(np.int64)
    labelled_probabilities = (
        predict(labelled_part.images)
        if len(labelled_part)
        else np.empty((0, len(reference.classes)))
    )
    right, was_right = labelled_probabilities.argmax(axis=1) == targets, champion_classes == targets
    return EarlierImages(
        probabilities,
        labelled_probabilities,
        targets,
        shared_luck(luck, right, right & ~was_right),
        short(list(trained_names)),
    )


def shared_luck(
    luck: float, right: NDArray[np.bool_], gained: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Share out luck over the images: how much of each right answer is luck; the mean is `luck`.

    It is shared by the images on which the champion was wrong; by all right ones if there are none.
    """
    lucky = (gained if gained.any() else right).astype(np.float32)
    luck_per_image: NDArray[np.float32] = lucky * luck * len(lucky) / max(1, lucky.sum())
    return np.minimum(luck_per_image, 1)


def champion_answers(
    records: Records, info: ImprovementInfo, classes: tuple[str, ...], until_ms: int
) -> list[RecordedAnswer]:
    """The champion's latest answer on each image that was answered before an improvement started.

    If the champion has answered fewer than `MIN_TESTED` times in the records, the version with the
    most answers stands in for it: the images are the same, whichever version answered.
    """
    records_info = records.info
    if records_info is None or records_info.classes != classes:
        return []
    answers = [
        answer
        for answer in records.read_answers(info.since_ms)
        if answer.time_ms <= until_ms and len(answer.probabilities) == len(classes)
    ]
    if not answers:
        return []
    counts, version = Counter(answer.version for answer in answers), info.champion.version
    if counts[version] < MIN_TESTED:
        version = counts.most_common(1)[0][0]
    return latest_answers(answer for answer in answers if answer.version == version)


def complete_answers(
    answers: Sequence[RecordedAnswer], stored: Container[str]
) -> Sequence[RecordedAnswer]:
    """The last answers whose images, as far as they were recorded, are nearly all still stored.

    Where images were removed for lack of room, those that nobody had corrected were removed first:
    the images that remain from that time are no fair sample.
    """
    first, kept_count, missing_count = len(answers), 0, 0
    for row in range(len(answers) - 1, -1, -1):
        if answers[row].kept:
            kept_count += 1
            missing_count += answers[row].image not in stored
        if missing_count <= MAX_MISSING_SHARE * kept_count:
            first = row
    return answers[first:]


def sample_probabilities(
    predict: Predict,
    reference: Reference,
    records: Records,
    answers: Sequence[RecordedAnswer],
    trained_names: frozenset[str],
) -> Probabilities:
    """Predict a random sample of the images that could not join the training, (images, classes).

    The result is empty if these are fewer than `MIN_TESTED` images.
    """
    stored = records.image_sizes()
    names = sample_names(complete_answers(answers[-MAX_ANSWERS:], stored), stored, IMAGES)
    probabilities = [np.empty((0, len(reference.classes)))]
    for chunk in (names[first : first + CHUNK] for first in range(0, len(names), CHUNK)):
        if not (recorded := load_images(records, reference, chunk)):
            continue
        own = [
            image.pixels
            for image in recorded
            if draw_use(image.pixels) != TRAINING and image.name not in trained_names
        ]
        if own:
            probabilities.append(predict(np.stack(own)))
    predicted = np.concatenate(probabilities)
    return predicted if len(predicted) >= MIN_TESTED else predicted[:0]


def fair_held_out(
    info: ImprovementInfo, held_out: Part, answers: Sequence[RecordedAnswer]
) -> tuple[Part, NDArray[np.int64]]:
    """Select the held-out images that represent all images; also return the champion's classes.

    Fair images were chosen without regard to the champion's answers. If it was sure of all of them,
    but not of all images, they do not represent all images, and none are selected. The images that
    selected the best challenger flatter it too much to be among them.
    """
    by_image = {answer.image: answer for answer in answers}
    names = [image["image"] for image in info.images if image["use"] == HELD_OUT]
    rows = [row for row in info.fair_rows() if names[row] in by_image]
    below = unsure_threshold(answers)
    unsure = sum(confidence(answer) <= below for answer in answers)
    is_representative = any(confidence(by_image[names[row]]) <= below for row in rows)
    if not is_representative and unsure * len(rows) >= len(answers):
        rows = []
    champion_classes = [np.argmax(by_image[names[row]].probabilities) for row in rows]
    return held_out.take(np.array(rows, dtype=np.intp)), np.array(champion_classes, dtype=np.int64)


def trained_image_names(rounds: Sequence[ImprovementInfo]) -> list[str]:
    """List the images that the model of the last of these rounds was trained on.

    Copies of training images count too, whatever their label.

    Args:
        rounds: the improvements that led to the model, the first one first.
    """

    def iterate_names() -> Iterator[str]:
        for info in rounds:
            yield from (
                excluded.image
                for excluded in info.left_out
                if excluded.why in (ALREADY_KNOWN, CONTRADICTORY)
            )
            yield from (image["image"] for image in info.images if image["use"] == TRAINING)

    return list(dict.fromkeys(iterate_names()))
