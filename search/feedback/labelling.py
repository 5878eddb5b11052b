"""The order in which images that were kept are to be corrected: the most useful first.

Three queues hold only images that were kept because the model was not sure of them:

- *disagrees*: versions of the model gave the image different classes, or nearly the same image got
  another one;
- *uncertain*: the smallest margin between the two highest probabilities first;
- *new*: the least like any other that is usual or was corrected, by the correlation of thumbnails
  of 16 x 16 pixels.

The fourth, *sample*, is a random sample of everything that was met: all images, usual and
uncertain, whose names are not above the largest name of a usual one, in the order of their names.
A name is a SHA-256, so this order knows nothing of what the model said; an order by the model's
confidence would make the corrected usual images harder than the usual ones are. `search.monitor`
measures the accuracy on this sample, and `search.improve` compares models on it.

The queues take turns. Then come all others; then those that show nearly the same as one that was
corrected, unless they are in the sample; and last those that were skipped.
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from math import isfinite

from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.likeness import NEAR, Likeness
from search.feedback.pictures import thumbnail
from search.feedback.records import About, Records, Seen
from search.views.terminal import Terminal, say
from trainables.errors import DataError, printable

REFRESH_S = 30.0
"""Seconds after which it is looked what else was kept meanwhile."""
NEW = 0.9
"""An image is new if none that is usual or corrected correlates with it by more."""
MOST = 5000
"""The number of images that are compared with each other."""
DISAGREES, NEW_ONE, SAMPLE, REST = "disagrees", "new", "sample", "rest"


@dataclass(frozen=True)
class Item:
    """An image that is to be corrected, and what was said of it."""

    image: str
    why: str
    """`disagrees`, `uncertain`, `new`, `sample`; `rest` if it is none of these."""
    probabilities: tuple[float, ...]
    """Those of the last answer; none if no answer is kept."""
    versions: dict[str, str]
    """The class that each version of the model gave."""


@dataclass(frozen=True)
class Progress:
    """The numbers of images that are corrected and that are left."""

    corrected: int
    here: int
    """Those that were corrected since this was begun, here."""
    left: int


class Labelling:
    """The images of some records in the order in which they are to be corrected."""

    def __init__(self, records: Records, about: About) -> None:
        """Read what there is, which takes a while where there is much."""
        self.records, self.about = records, about
        self._lock = threading.RLock()
        self._answers: dict[str, dict[str, Seen]] = {}
        self._read: set[str] = set()
        self._has_reported = False
        self._likeness, self._unreadable = Likeness(), set[str]()
        self._here, self._skipped = set[str](), dict[str, None]()
        self._refresh()

    def next(self, count: int, without: Collection[str] = ()) -> list[Item]:
        """Return the images that are to be corrected next, the most useful first.

        Args:
            count: at most so many.
            without: leave these out.
        """
        with self._lock:
            if time.monotonic() - self._refreshed > REFRESH_S:
                self._refresh()
            left = [
                name
                for name in self._by_margin
                if not (name in self._corrected or name in without or name in self._unreadable)
            ]
            return [self._item(name, why) for name, why in islice(self._ordered(left), count)]

    def correct(self, image: str, label: str) -> None:
        """Keep what an image shows.

        Raises:
            ConfigError: the model has no such class, or the image is not kept.
            OSError: the storage refuses.
        """
        said = self.records.correct(image, label, "label")
        with self._lock:
            self._corrected[image] = said.label
            self._here.add(image)
            self._skipped.pop(image, None)
            if image in self._likeness:
                self._likeness.note(image, corrected=True)

    def take_back(self, image: str) -> None:
        """Remove what was said last of an image here.

        Raises:
            NotKept: nothing was.
            OSError: the storage refuses.
        """
        self.records.take_back(image)
        with self._lock:
            self._corrected = self._labels()
            self._here.discard(image)
            self._skipped.pop(image, None)

    def skip(self, image: str) -> None:
        """Put an image behind all others."""
        with self._lock:
            self._skipped.pop(image, None)
            self._skipped[image] = None

    @property
    def progress(self) -> Progress:
        """The numbers of images that are corrected, and that are left, by now."""
        with self._lock:
            corrected = sum(name in self._corrected for name in self._images)
            left = len(self._images) - corrected - len(self._unreadable - self._corrected.keys())
            return Progress(corrected, len(self._here), left)

    def compare(self, stop: threading.Event) -> None:
        """Look at images, also at those that come, until `stop` is set; for a thread."""
        while not stop.is_set():
            with self._lock:
                name = self._unseen.popleft() if self._unseen else None
            if name is None:
                stop.wait(1)
            elif not (name in self._likeness or name in self._unreadable):
                try:
                    self._look_at(name)
                except Exception as error:  # noqa: BLE001
                    # Without its thread the page would offer no new images from then on.
                    self._report(name, error)

    def _report(self, name: str, error: Exception) -> None:
        """Report an unexpected error of the comparison, the first one only."""
        if not self._has_reported:
            self._has_reported = True
            say(
                Terminal(stderr=True),
                f"note: image {name[:12]} could not be compared with others "
                f"({type(error).__name__}: {printable(str(error))}). Labelling continues; further "
                "errors of this kind are not reported.",
            )

    def _look_at(self, name: str) -> None:
        try:
            if (content := self.records.image(name)) is None:
                return
            found = thumbnail(content)
        except OSError:  # it is tried again
            return
        except DataError:
            with self._lock:
                self._unreadable.add(name)
            return
        with self._lock:
            self._likeness.add(name, found)
            if name in self._corrected or self._is_usual(name):
                self._likeness.note(name, corrected=name in self._corrected)

    def _refresh(self) -> None:
        """Read what was written since the last time."""
        objects = self.records.seen_objects()
        self._images = self.records.images()
        for name in sorted(objects.keys() - self._read):
            for one in self.records.seen_in(name):
                # A model that is broken says NaN, which is nothing to go by.
                if one.image in self._images and all(map(isfinite, one.probabilities)):
                    self._answers.setdefault(one.image, {})[one.version] = one
            self._read.add(name)
        self._corrected = self._labels()
        self._by_margin = sorted(self._images, key=self._margin)
        mixed = chain.from_iterable(zip_longest(self._by_margin, reversed(self._by_margin)))
        self._unseen = deque(islice(dict.fromkeys(filter(None, mixed)), MOST))
        self._refreshed = time.monotonic()

    def _labels(self) -> dict[str, str]:
        return {name: one.label for name, one in self.records.corrections().items()}

    def _ordered(self, left: list[str]) -> Iterator[tuple[str, str]]:
        """Yield images, given by their margin, in the order of use, each with the reason."""
        unsure = [name for name in left if self._is_uncertain(name)]
        new = [name for name in unsure if name in self._likeness]
        new = [name for name in new if self._likeness.to_known(name) < NEW]
        last = max(filter(self._is_usual, self._images), default="")
        sample = sorted(name for name in left if name <= last)
        why = {
            DISAGREES: [name for name in unsure if self._disagrees(name)],
            UNCERTAIN: unsure,
            NEW_ONE: sorted(new, key=self._likeness.to_known),
            SAMPLE: sample,
        }
        in_turn = zip_longest(*([(name, key) for name in names] for key, names in why.items()))
        first = (pair for pair in chain.from_iterable(in_turn) if pair is not None)
        reasons: dict[str, str] = {}
        for name, key in chain(first, ((name, REST) for name in sorted(left))):
            reasons.setdefault(name, key)
        is_late = {name for name in left if self._likeness.to_corrected(name) >= NEAR}
        is_late -= set(sample)
        skipped = [name for name in self._skipped if name in reasons]
        late = [name for name in reasons if name in is_late and name not in self._skipped]
        now = [name for name in reasons if name not in is_late and name not in self._skipped]
        yield from ((name, reasons[name]) for name in chain(now, late, skipped))

    def _item(self, name: str, why: str) -> Item:
        answers = self._answers.get(name, {})
        last = max(answers.values(), key=lambda one: one.time_ms, default=None)
        versions = {version: self._class(one) for version, one in answers.items()}
        return Item(name, why, last.probabilities if last is not None else (), versions)

    def _class(self, one: Seen) -> str:
        return self.about.classes[
            max(range(len(one.probabilities)), key=one.probabilities.__getitem__)
        ]

    def _classes(self, name: str) -> set[str]:
        return {self._class(one) for one in self._answers.get(name, {}).values()}

    def _disagrees(self, name: str) -> bool:
        same = [name, *self._likeness.near.get(name, ())]
        if len(same) == 1 and len(self._answers.get(name, ())) < 2:
            return False
        return len(set[str]().union(*map(self._classes, same))) > 1

    def _is_uncertain(self, name: str) -> bool:
        return any(one.kept == UNCERTAIN for one in self._answers.get(name, {}).values())

    def _is_usual(self, name: str) -> bool:
        return any(one.kept == USUAL for one in self._answers.get(name, {}).values())

    def _margin(self, name: str) -> float:
        """Return the least margin between the two highest probabilities of an answer."""
        answers = self._answers.get(name, {}).values()
        return min((_margin(one.probabilities) for one in answers), default=1.0)


def _margin(probabilities: Sequence[float]) -> float:
    first, *others = sorted(probabilities, reverse=True)[:2]
    return first - (others[0] if others else 0)
