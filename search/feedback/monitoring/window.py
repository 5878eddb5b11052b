"""Load a model's answers in a period, and the corrected images that are a random sample."""

import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.storage.bucket import AT_ONCE
from search.feedback.bounded import UNCERTAIN
from search.feedback.fair_sample import fair_sample
from search.feedback.monitoring.detector import MAX_NEW_IMAGES, MAX_REFERENCE_IMAGES
from search.feedback.records import RecordedAnswer, Records, RecordsInfo, serve_and_record
from search.values.message import Blank, Message
from trainables.datasets.arrays import Images
from trainables.errors import ConfigError, DataError, counted
from trainables.export.reference import Reference

MAX_ANSWERS = MAX_NEW_IMAGES
"""Maximum number of answers that are tested. Only the latest answer on each image counts."""
SEED = 20


@dataclass(frozen=True)
class RecordedImage:
    """A recorded image in the form in which the model receives it."""

    name: str
    pixels: Images
    """The pixels, (height, width, channels)."""


@dataclass
class Window:
    """The answers of one version of a model in a period."""

    version: str
    answers: list[RecordedAnswer]
    """The latest answer on each image, at most `MAX_ANSWERS`, in the order in which they were
    written.
    """
    answer_count: int
    """Number of all answers by this version in this period."""
    other_versions: dict[str, int]
    """The number of answers by each other version of the model."""
    corrected: list[tuple[RecordedAnswer, int]]
    """The corrected images that are a random sample (`fair_sample`): the answer, and the index of
    the correct class.
    """
    unsampled: int = 0
    """Number of corrected images outside the random sample. Visitors of a page, and users of
    `search.label`, correct mistakes and unsure answers first, so these images do not represent all
    images.
    """
    trained: frozenset[str] = frozenset()
    """The images that this version was trained on and has answered again. The version is more often
    right on these images than on others, and surer of its answers.
    """
    learned_count: int = 0
    """Number of corrected images that are left out because this version was trained on them."""

    @property
    def fresh(self) -> list[RecordedAnswer]:
        """The answers on images that this version was not trained on, which are called fresh."""
        return [answer for answer in self.answers if answer.image not in self.trained]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The model's probabilities for each fresh image, (images, classes)."""
        return np.array([answer.probabilities for answer in self.fresh], dtype=np.float64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """True for each corrected image of the random sample that was answered right, (images,)."""
        return np.array(
            [int(np.argmax(answer.probabilities)) == label for answer, label in self.corrected],
            np.bool_,
        )


def _versions_text(counts: Counter[str]) -> str:
    """List versions, each with its number of answers."""
    return ", ".join(
        f"{name or '(none)'} ({counted(count, 'answer')})" for name, count in counts.items()
    )


def require_records(records: Records) -> RecordsInfo:
    """Return the model whose records these are.

    Raises:
        ConfigError: there are no records.
    """
    if (info := records.info) is None:
        raise ConfigError(
            Message(
                f"there are no records in '{records.place}'. Start a server that writes them: ",
                serve_and_record(Blank("PLACE")),
            )
        )
    return info


def load_window(
    records: Records, reference: Reference, since_ms: int = 0, version: str = ""
) -> Window:
    """Read the answers by one version of a model in a period.

    Args:
        records: the records of the model.
        reference: the model's reference.
        since_ms: the start of the period, as a Unix time in milliseconds.
        version: the version; by default, that of the latest answer.

    Raises:
        ConfigError: there are no records, the records have other classes, or they contain no such
            answers.
    """
    info = require_records(records)
    if info.classes != reference.classes:
        raise ConfigError(
            f"'{records.place}' contains the records of '{info.model}', whose "
            f"{len(info.classes)} classes differ from the {len(reference.classes)} classes of "
            "the monitored model. Pass records with the same classes in the same order."
        )
    answers = [
        answer
        for answer in records.read_answers(since_ms)
        if len(answer.probabilities) == len(reference.classes)
    ]
    if not answers:
        raise ConfigError(
            f"'{records.place}' has no answers in this period. Use an earlier --since."
            if since_ms
            else f"'{records.place}' has no answers yet. Send images to the server that writes "
            "these records."
        )
    counts = Counter(answer.version for answer in answers)
    version = version or answers[-1].version
    if version not in counts:
        period, earlier = (
            (" in this period", ", or use an earlier --since") if since_ms else ("", "")
        )
        raise ConfigError(
            f"'{records.place}' has no answers by version '{version}'{period}. Versions with "
            f"answers: {_versions_text(counts)}. Choose one of them with --version{earlier}."
        )
    other_versions = {name: count for name, count in counts.items() if name != version}
    return _window(
        records,
        reference,
        [answer for answer in answers if answer.version == version],
        other_versions,
    )


def _window(
    records: Records,
    reference: Reference,
    answers: list[RecordedAnswer],
    other_versions: dict[str, int],
) -> Window:
    earlier = reference.earlier
    last = {answer.image: answer for answer in answers}
    trained = {image for image in last if earlier is not None and earlier.was_trained_on(image)}
    corrections = {
        image: correction
        for image, correction in records.corrections().items()
        if image in last and correction.label in reference.classes
    }
    tested = latest_answers(answers)[-MAX_ANSWERS:]
    fresh = {answer.image for answer in tested} - trained
    fair = fair_sample((answer for answer in answers if answer.image in fresh), corrections)
    learned = len(trained & corrections.keys())
    return Window(
        *(answers[-1].version, tested, len(answers), other_versions),
        [
            (answer, reference.classes.index(corrections[answer.image].label))
            for answer in tested
            if answer.image in fair
        ],
        unsampled=len(corrections) - len(fair) - learned,
        trained=frozenset(trained & {answer.image for answer in tested}),
        learned_count=learned,
    )


def latest_answers(answers: Iterable[RecordedAnswer]) -> list[RecordedAnswer]:
    """Select the latest answer on each image.

    `answers` has to be in the order of writing, which the result preserves. The times of the
    answers are not used, because a clock may have been set back.
    """
    last: dict[str, RecordedAnswer] = {}
    for answer in answers:
        last.pop(answer.image, None)
        last[answer.image] = answer
    return list(last.values())


def unsure_threshold(answers: Iterable[RecordedAnswer]) -> float:
    """The largest confidence of an image that was stored as uncertain; 0 if there is none."""
    return max((confidence(answer) for answer in answers if answer.kept == UNCERTAIN), default=0.0)


def sample_names(
    answers: Sequence[RecordedAnswer], stored: Container[str], most: int = MAX_REFERENCE_IMAGES
) -> list[str]:
    """Draw a random sample of the images of these answers; return their names in random order.

    Images that the model was not sure of are stored more often than others. The sample compensates
    for this: the proportion of sure and unsure images in it is the same as among all answers.

    Args:
        answers: all answers, one for each image.
        stored: the names of the images that are still stored.
        most: the maximum size of the sample.
    """
    generator = np.random.default_rng(SEED)
    recorded = [answer for answer in answers if answer.kept and answer.image in stored]
    below = unsure_threshold(recorded)
    sides = [
        [
            [answer for answer in group if (confidence(answer) <= below) is is_unsure]
            for group in (answers, recorded)
        ]
        for is_unsure in (False, True)
    ]
    # Draw the same share of the sure and of the unsure answers. The group with the smaller share of
    # stored images limits it.
    share = min(
        (len(recorded_side) / len(all_side) for all_side, recorded_side in sides if all_side),
        default=0.0,
    )
    names = [
        recorded_side[number].image
        for all_side, recorded_side in sides
        for number in generator.permutation(len(recorded_side))[: round(share * len(all_side))]
    ]
    return [names[number] for number in generator.permutation(len(names))[:most]]


def confidence(answer: RecordedAnswer) -> float:
    """The probability of the class that an answer predicts."""
    return max(answer.probabilities)


def load_images(
    records: Records, reference: Reference, names: Sequence[str]
) -> list[RecordedImage]:
    """Load images as the model receives them; skip those that are missing or unreadable."""
    with (
        tempfile.TemporaryDirectory(prefix="monitor-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def load(name: str) -> RecordedImage | None:
            if (content := records.image(name)) is None:
                return None
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                return RecordedImage(name, reference.pixels(path))
            except DataError:
                return None
            finally:
                path.unlink()

        return [image for image in pool.map(load, names) if image is not None]
