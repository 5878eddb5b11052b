"""Sample images from before an improvement, to represent those that the new model will receive.

The sample is stored in the model's reference. With this sample, `search.monitor` distinguishes a
new change from the change for which the model was improved. Images that the model was trained on
would bias the sample: the model is surer of them than of others, and people do not correct a random
choice of images. So the sample contains only images that a hash of their content excludes from
training (`draw_use`), whether they were corrected or not. Such images represent all images.
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
"""Number of images that are read and predicted at once."""
MAX_MISSING_SHARE = 0.05
"""Maximum share of the stored images of the sampled period that may have been removed since."""


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
    """Sample the images that a model is expected to receive, and apply the model to them.

    Args:
        predict: computes the model's probabilities, (images, classes).
        reference: the model's reference, which was computed from the validation images.
        records: the records of the champion.
        info: the description of the improvement that trained the model.
        held_out: the images that were held out.
        trained_names: the images that the model was trained on (`trained_image_names`), the oldest
            first.
        until_ms: the Unix time at which the improvement started, in milliseconds.
        luck: by how much the model's accuracy on the held-out images is likely too high
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
    """Distribute luck, which is the likely excess of the accuracy, over the images.

    All images that only the model classifies right, and not the champion, get equal shares. If
    there are none, all images that the model classifies right get equal shares. No share is above
    1.

    Args:
        luck: by how much the accuracy is likely too high.
        right: True for each image that the model classifies right, (images,).
        gained: True for each image that the model classifies right and the champion wrong,
            (images,).

    Returns:
        The luck of each image, (images,); its mean is `luck`, unless a value was limited to 1.
    """
    lucky = (gained if gained.any() else right).astype(np.float32)
    luck_per_image: NDArray[np.float32] = lucky * luck * len(lucky) / max(1, lucky.sum())
    return np.minimum(luck_per_image, 1)


def champion_answers(
    records: Records, info: ImprovementInfo, classes: tuple[str, ...], until_ms: int
) -> list[RecordedAnswer]:
    """The champion's latest answer on each image, from `info.since_ms` until `until_ms`.

    If it has given fewer than `MIN_TESTED` answers in this time, the answers of the version with
    the most answers are returned instead. The result is empty if there are no records, or if they
    have other classes.
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
    """Select the longest series of latest answers whose images are nearly all still stored.

    Images that were never stored do not count. At the size limit of the records, only images
    without a correction are removed, so the older images that remain are a biased sample.
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
    """Predict the classes of a random sample of the images that were excluded from training.

    Returns:
        The probabilities, (images, classes); (0, classes) if there are fewer than `MIN_TESTED` such
        images.
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
    """Select the held-out images that represent all images, with the champion's predicted classes.

    These are the fair ones, which were chosen independently of the champion's answers. If the
    champion was sure of all of them, although at least one unsure image would be expected, then no
    image is selected. Images that were used to select the best challenger are not included, because
    the challenger's accuracy on those images is much too high.

    Returns:
        The images with their labels, and the champion's predicted class of each, (images,).
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
    """List the names of the recorded images that the model of the last round was trained on.

    Copies of training images are included, even if they have another label.

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
