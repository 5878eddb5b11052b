"""The answers of a model in a time, and which corrected images are a random sample."""

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
from search.feedback.monitoring.detector import MOST_IMAGES, MOST_REFERENCE
from search.feedback.records import Records, Seen
from trainables.datasets.arrays import Images
from trainables.errors import ConfigError, DataError
from trainables.export.reference import Reference

ANSWERS = MOST_IMAGES
"""The most answers that are tested: the latest, each of another image."""
SEED = 20


@dataclass(frozen=True)
class Kept:
    """An image that was kept, as the model saw it."""

    name: str
    pixels: Images
    """(height, width, channels)."""


@dataclass
class Window:
    """The answers in a time, by one version of a model."""

    version: str
    answers: list[Seen]
    """The latest of each image, at most `ANSWERS`, in the order in which they were written."""
    answered: int
    """The number of all answers by this version in this time."""
    others: dict[str, int]
    """The number of answers by each other version."""
    corrected: list[tuple[Seen, int]]
    """The corrected images that are a random sample (`fair_sample`): the answer, and the number of
    the class that a person has named.
    """
    unsampled: int = 0
    """The number of other corrected images. People, visitors of a page and `search.label` correct
    mistakes and unsure answers first, so that these say nothing of all images.
    """
    trained: frozenset[str] = frozenset()
    """The images that this version was trained on, and has met again. It is surer of them, and
    more often right, than of others.
    """
    learned: int = 0
    """The number of corrected images that are left out for that."""

    @property
    def fresh(self) -> list[Seen]:
        """The answers on images that this version was not trained on."""
        return [one for one in self.answers if one.image not in self.trained]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The model's probabilities for each fresh image, (images, classes)."""
        return np.array([one.probabilities for one in self.fresh], dtype=np.float64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """True for each corrected image of the sample that was answered right, (images,)."""
        return np.array(
            [int(np.argmax(one.probabilities)) == label for one, label in self.corrected], np.bool_
        )


def window_of(
    records: Records, reference: Reference, since_ms: int = 0, version: str = ""
) -> Window:
    """Read what was met since then, by this version, or else by the one of the latest answer.

    Raises:
        ConfigError: there are no records, they are of other classes, or nothing was met.
    """
    about = records.about
    if about is None:
        raise ConfigError(
            f"no records in '{records.place}'. A server keeps them: "
            "python -m search.serve MODEL --record PLACE"
        )
    if about.classes != reference.classes:
        raise ConfigError(
            f"'{records.place}' has the records of '{about.model}', whose classes are others: "
            f"{len(about.classes)}, not the {len(reference.classes)} of this model in their order."
        )
    seen = [
        one for one in records.seen(since_ms) if len(one.probabilities) == len(reference.classes)
    ]
    if not seen:
        raise ConfigError(f"'{records.place}' has no answers in that time. Use a longer --since.")
    counts = Counter(one.version for one in seen)
    version = version or seen[-1].version
    if version not in counts:
        known = ", ".join(f"{name or '(none)'} ({count:,})" for name, count in counts.items())
        raise ConfigError(
            f"'{records.place}' has no answers by version '{version}' in that time. "
            f"There are of: {known}."
        )
    others = {name: count for name, count in counts.items() if name != version}
    return _window(records, reference, [one for one in seen if one.version == version], others)


def _window(
    records: Records, reference: Reference, seen: list[Seen], others: dict[str, int]
) -> Window:
    """Return the window of all answers by one version."""
    met = reference.met
    last = {one.image: one for one in seen}
    trained = {image for image in last if met is not None and met.was_trained_on(image)}
    told = {
        image: one
        for image, one in records.corrections().items()
        if image in last and one.label in reference.classes
    }
    answers = latest(seen)[-ANSWERS:]
    fresh = {one.image for one in answers} - trained
    fair = fair_sample((one for one in seen if one.image in fresh), told)
    learned = len(trained & told.keys())
    return Window(
        *(seen[-1].version, answers, len(seen), others),
        [
            (one, reference.classes.index(told[one.image].label))
            for one in answers
            if one.image in fair
        ],
        unsampled=len(told) - len(fair) - learned,
        trained=frozenset(trained & {one.image for one in answers}),
        learned=learned,
    )


def latest(seen: Iterable[Seen]) -> list[Seen]:
    """Return the latest answer on each image, in the order in which these were written.

    No clock decides which that is: it may have been set back.
    """
    last: dict[str, Seen] = {}
    for answer in seen:
        last.pop(answer.image, None)
        last[answer.image] = answer
    return list(last.values())


def unsure_up_to(answers: Iterable[Seen]) -> float:
    """Return the largest confidence at which all images were kept; 0 if none were for that."""
    return max((confidence(one) for one in answers if one.kept == UNCERTAIN), default=0.0)


def sampled(
    answers: Sequence[Seen], there: Container[str], most: int = MOST_REFERENCE
) -> list[str]:
    """Return the names of images that are a random sample of all these, in random order.

    Of images of whose class the model was not sure more are kept than of others: so many of either
    side are drawn that each has its share of all.

    Args:
        answers: all, one for each image.
        there: the images that are kept still.
        most: the most that are drawn.
    """
    generator = np.random.default_rng(SEED)
    kept = [one for one in answers if one.kept and one.image in there]
    below = unsure_up_to(kept)
    sides = [
        [
            [one for one in some if (confidence(one) <= below) is is_unsure]
            for some in (answers, kept)
        ]
        for is_unsure in (False, True)
    ]
    share = min((len(own) / len(all_) for all_, own in sides if all_), default=0.0)
    drawn = [
        own[number].image
        for all_, own in sides
        for number in generator.permutation(len(own))[: round(share * len(all_))]
    ]
    return [drawn[number] for number in generator.permutation(len(drawn))[:most]]


def confidence(one: Seen) -> float:
    """Return the probability of the class that was named."""
    return max(one.probabilities)


def kept_of(records: Records, reference: Reference, names: Sequence[str]) -> list[Kept]:
    """Return these images as the model saw them; without those that are gone or cannot be read."""
    with (
        tempfile.TemporaryDirectory(prefix="monitor-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def one(name: str) -> Kept | None:
            if (content := records.image(name)) is None:
                return None
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                return Kept(name, reference.pixels(path))
            except DataError:
                return None
            finally:
                path.unlink()

        return [found for found in pool.map(one, names) if found is not None]
