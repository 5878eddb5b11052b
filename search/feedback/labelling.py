"""Queue recorded images for correction by people, the most useful images first.

Four queues contain only images that were recorded because the model was not sure of them:

- *unlike*: a model with promises found them unlike the images of the training, the latest first;

- *disagrees*: versions of the model predicted different classes for the image, or for nearly
  identical images;
- *uncertain*: all of these images, sorted by the margin between the two highest probabilities, the
  smallest first;
- *new*: images unlike all usual and corrected ones, the least similar first. Similarity is the
  correlation of thumbnails of 16 x 16 pixels.

The fifth queue, *sample*, is a random sample of all images that the model has answered. It has all
recorded images, usual and uncertain, up to the last name of a usual image, sorted by name. A name
is a SHA-256, so this order is independent of the model's answers. If the images were sorted by the
model's confidence, the corrected usual images would be harder than usual images are on average.
`search.monitor` measures the accuracy on this sample, and `search.improve` compares models on it.

Images are taken from the five queues in turn. All other images follow, then near-duplicates of
corrected images unless they are in the sample, and finally the images that were skipped.
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice, zip_longest
from math import isfinite

from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.likeness import NEAR_CORRELATION, Likeness
from search.feedback.pictures import thumbnail
from search.feedback.queue import LabellingItem, LabellingProgress, LabellingPurpose
from search.feedback.records import NotRecorded, RecordedAnswer, Records, RecordsInfo
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, DataError, printable
from trainables.predictors.base import UNLIKE

REFRESH_S = 30.0
"""Seconds after which the records are read again, to find new images."""
MAX_NOVEL_CORRELATION = 0.9
"""An image is in the queue *new* if its correlation with each usual or corrected image is below
this value.
"""
MAX_COMPARED = 5000
"""Maximum number of images that are queued for comparison at each refresh."""
DISAGREES, NOVEL, SAMPLE, REST = "disagrees", "new", "sample", "rest"
"""The queues, beside `UNCERTAIN` and `UNLIKE`; `REST` for images that are in none."""
PURPOSE = LabellingPurpose(
    "Correct",
    "corrected",
    "New images appear here when they are recorded. To train on the corrections, use "
    "python -m search.improve.",
)


class LabellingQueue:
    """Recorded images in the order in which people should correct them; thread-safe."""

    def __init__(self, records: Records, info: RecordsInfo) -> None:
        """Read the records; this takes a while if there are many."""
        self.records, self.info = records, info
        self._lock = threading.RLock()
        self._answers: dict[str, dict[str, RecordedAnswer]] = {}
        self._read_objects: set[str] = set()
        self._has_reported = False
        self._likeness, self._unreadable = Likeness(), set[str]()
        self._corrected_here, self._skipped = set[str](), dict[str, None]()
        self._refresh()

    @property
    def purpose(self) -> LabellingPurpose:
        """The words for what people do."""
        return PURPOSE

    @property
    def subject(self) -> str:
        """The model that has received the images."""
        return self.info.model

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the model."""
        return self.info.classes

    def add_class(self, name: str) -> None:
        """Refuse the class.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("the classes are those of the model, and none can be added.")

    def content(self, image: str) -> bytes:
        """Return an image file.

        Raises:
            NotRecorded: there is no such image.
        """
        if (content := self.records.image(image)) is None:
            raise NotRecorded(
                f"there is no recorded image '{printable(image[:80])}'. It may have been removed "
                "to make room."
            )
        return content

    def next_items(self, count: int, excluded: Collection[str] = ()) -> list[LabellingItem]:
        """List the images to correct next, the most useful first.

        Args:
            count: the maximum number of images.
            excluded: names of images to leave out.
        """
        with self._lock:
            if time.monotonic() - self._refreshed_at > REFRESH_S:
                self._refresh()
            remaining = [
                name
                for name in self._by_margin
                if not (
                    name in self._corrected_labels or name in excluded or name in self._unreadable
                )
            ]
            return [
                self._build_item(name, why)
                for name, why in islice(self._usefulness_order(remaining), count)
            ]

    def correct(self, image: str, label: str) -> None:
        """Store the correct class of an image.

        Raises:
            ConfigError: the model has no such class, or the image is not recorded.
            OSError: the correction cannot be written.
        """
        correction = self.records.correct(image, label, "label")
        with self._lock:
            self._corrected_labels[image] = correction.label
            self._corrected_here.add(image)
            self._skipped.pop(image, None)
            if image in self._likeness:
                self._likeness.mark_familiar(image, is_corrected=True)

    def take_back(self, image: str) -> None:
        """Remove the last correction of an image that this process has stored.

        Raises:
            NotRecorded: this process has stored no correction of the image.
            OSError: the correction cannot be removed.
        """
        self.records.take_back(image)
        with self._lock:
            self._corrected_labels = self._current_labels()
            self._corrected_here.discard(image)
            self._skipped.pop(image, None)

    def skip(self, image: str) -> None:
        """Move an image to the end of the queue."""
        with self._lock:
            self._skipped.pop(image, None)
            self._skipped[image] = None

    @property
    def progress(self) -> LabellingProgress:
        """The current numbers of corrected and of remaining images."""
        with self._lock:
            corrected = sum(name in self._corrected_labels for name in self._images)
            remaining = (
                len(self._images)
                - corrected
                - len(self._unreadable - self._corrected_labels.keys())
            )
            return LabellingProgress(corrected, len(self._corrected_here), remaining)

    def compare_images(self, stop: threading.Event) -> None:
        """Compare images with each other, including new ones, until `stop` is set.

        This blocks, so call it in a thread of its own.
        """
        while not stop.is_set():
            with self._lock:
                name = self._uncompared.popleft() if self._uncompared else None
            if name is None:
                stop.wait(1)
            elif not (name in self._likeness or name in self._unreadable):
                try:
                    self._compare_image(name)
                except Exception as error:  # noqa: BLE001
                    # Otherwise, the exception would end the thread, and no further image would be
                    # compared.
                    self._report(name, error)

    def _report(self, name: str, error: Exception) -> None:
        """Print an unexpected error of a comparison, unless one was printed before."""
        if not self._has_reported:
            self._has_reported = True
            say(
                Terminal(stderr=True),
                f"note: image {name[:12]} could not be compared with the other images "
                f"({type(error).__name__}: {printable(str(error))}). Labelling continues. "
                "Further errors of this kind are not printed.",
            )

    def _compare_image(self, name: str) -> None:
        try:
            if (content := self.records.image(name)) is None:
                return
            vector = thumbnail(content)
        except OSError:  # the image is queued again at the next refresh
            return
        except DataError:
            with self._lock:
                self._unreadable.add(name)
            return
        with self._lock:
            self._likeness.add(name, vector)
            if name in self._corrected_labels or self._is_usual(name):
                self._likeness.mark_familiar(name, is_corrected=name in self._corrected_labels)

    def _refresh(self) -> None:
        """Read new answers, and list the images and corrections again."""
        objects = self.records.answer_objects()
        self._images = self.records.image_sizes()
        for name in sorted(objects.keys() - self._read_objects):
            for answer in self.records.read_answers_in(name):
                # A broken model may return NaN, which cannot be sorted.
                if answer.image in self._images and all(map(isfinite, answer.probabilities)):
                    self._answers.setdefault(answer.image, {})[answer.version] = answer
            self._read_objects.add(name)
        self._corrected_labels = self._current_labels()
        self._by_margin = sorted(self._images, key=self._smallest_margin)
        # Take images alternately from both ends: usual images, which have large margins, have to be
        # compared too, because an image counts as new if it is unlike them.
        mixed = chain.from_iterable(zip_longest(self._by_margin, reversed(self._by_margin)))
        self._uncompared = deque(islice(dict.fromkeys(filter(None, mixed)), MAX_COMPARED))
        self._refreshed_at = time.monotonic()

    def _current_labels(self) -> dict[str, str]:
        return {name: correction.label for name, correction in self.records.corrections().items()}

    def _usefulness_order(self, remaining: list[str]) -> Iterator[tuple[str, str]]:
        """Yield (name, queue) for each remaining image, the most useful image first.

        `remaining` contains the names of the readable images without a correction. They are sorted
        by the margin between the two highest probabilities, the smallest first.
        """
        unsure = [name for name in remaining if self._is_uncertain(name)]
        novel = [name for name in unsure if name in self._likeness]
        novel = [name for name in novel if self._likeness.to_familiar(name) < MAX_NOVEL_CORRELATION]
        last_usual = max(filter(self._is_usual, self._images), default="")
        sample = sorted(name for name in remaining if name <= last_usual)
        queues = {
            DISAGREES: [name for name in unsure if self._has_disagreement(name)],
            UNLIKE: sorted(filter(self._is_unlike, unsure), key=self._last_ms, reverse=True),
            UNCERTAIN: unsure,
            NOVEL: sorted(novel, key=self._likeness.to_familiar),
            SAMPLE: sample,
        }
        in_turn = zip_longest(
            *([(name, reason) for name in names] for reason, names in queues.items())
        )
        queued = (pair for pair in chain.from_iterable(in_turn) if pair is not None)
        reasons: dict[str, str] = {}
        for name, reason in chain(queued, ((name, REST) for name in sorted(remaining))):
            reasons.setdefault(name, reason)
        late_names = {
            name for name in remaining if self._likeness.to_corrected(name) >= NEAR_CORRELATION
        }
        late_names -= set(sample)
        skipped = [name for name in self._skipped if name in reasons]
        late = [name for name in reasons if name in late_names and name not in self._skipped]
        first = [name for name in reasons if name not in late_names and name not in self._skipped]
        yield from ((name, reasons[name]) for name in chain(first, late, skipped))

    def _build_item(self, name: str, why: str) -> LabellingItem:
        answers = self._answers.get(name, {})
        last_answer = max(answers.values(), key=lambda answer: answer.time_ms, default=None)
        versions = {version: self._predicted_class(answer) for version, answer in answers.items()}
        return LabellingItem(
            name, why, last_answer.probabilities if last_answer is not None else (), versions
        )

    def _predicted_class(self, answer: RecordedAnswer) -> str:
        return self.info.classes[
            max(range(len(answer.probabilities)), key=answer.probabilities.__getitem__)
        ]

    def _predicted_classes(self, name: str) -> set[str]:
        return {self._predicted_class(answer) for answer in self._answers.get(name, {}).values()}

    def _has_disagreement(self, name: str) -> bool:
        same = [name, *self._likeness.near.get(name, ())]
        if len(same) == 1 and len(self._answers.get(name, ())) < 2:
            return False
        return len(set[str]().union(*map(self._predicted_classes, same))) > 1

    def _is_uncertain(self, name: str) -> bool:
        return any(answer.kept == UNCERTAIN for answer in self._answers.get(name, {}).values())

    def _is_unlike(self, name: str) -> bool:
        return any(answer.abstained == UNLIKE for answer in self._answers.get(name, {}).values())

    def _last_ms(self, name: str) -> int:
        return max(answer.time_ms for answer in self._answers[name].values())

    def _is_usual(self, name: str) -> bool:
        return any(answer.kept == USUAL for answer in self._answers.get(name, {}).values())

    def _smallest_margin(self, name: str) -> float:
        answers = self._answers.get(name, {}).values()
        return min((_top_two_margin(answer.probabilities) for answer in answers), default=1.0)


def _top_two_margin(probabilities: Sequence[float]) -> float:
    first, *runner_up = sorted(probabilities, reverse=True)[:2]
    return first - (runner_up[0] if runner_up else 0)
