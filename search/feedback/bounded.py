"""Records that take no more than so many bytes.

Three quarters of them are for images, a quarter for answers; corrections are small and not counted.
When a part is full, the oldest go: of images the usual ones first, then the uncertain ones, never
those that somebody has corrected; of answers the oldest, but for the last of each image that is
kept. The place is looked at as a whole, whoever wrote there: each process does so at its start,
when it has written a fiftieth of the bytes, and before it removes anything. So several processes
together go over the limit by at most a fiftieth of it each, for a moment.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.feedback.records import Records, Seen, lines_of
from trainables.errors import ConfigError

IMAGES_SHARE = 0.75
LEAVE = 0.9
"""The share of a part that is left when it was full, so that not each image removes another."""
LOOK_SHARE = 1 / 50
USUAL, UNCERTAIN = "usual", "uncertain"
"""The reasons for which an image is kept, the first to go first."""
LATEST = 2**63
FULL_S = 60.0
"""Seconds after which it is tried again whether there is room."""


class NoRoom(ConfigError):
    """Corrected images fill a place."""


@dataclass
class BoundedRecords:
    """Records in a place, of which the oldest are removed; several threads may use it."""

    records: Records
    limit: int
    """Bytes of all that is kept."""
    _images: dict[str, int] = field(default_factory=dict)
    _answers: dict[str, int] = field(default_factory=dict)
    """The bytes of each object, as far as they are known here."""
    _why: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """Of images: whether they are more than usual, and when they were kept; the least go first."""
    _read: set[str] = field(default_factory=set)
    """The objects of answers that went into `_why`."""
    _image_bytes: int = 0
    _answer_bytes: int = 0
    """Their sums."""
    _unlooked: float = float("inf")
    """The bytes written since the place was looked at."""
    _full_until: float = 0.0
    _lock: "threading.Lock" = field(default_factory=threading.Lock)

    def keep(
        self, name: str, content: bytes, kept: str, time_ms: int, *, again: bool = False
    ) -> bool:
        """Keep an image under its name; return False if there is no room for it.

        Args:
            name: as `image_name` gives it.
            content: the image.
            kept: why, `usual` or `uncertain`.
            time_ms: when it was met.
            again: write it even if it was kept: another process, or the owner, may have removed it.
        """
        with self._lock:
            if self._unlooked > self.limit * LOOK_SHARE:
                self._look()
            if is_new := name not in self._images:
                if not self._make_room(len(content)):
                    return False
                self._count(name, len(content))
            # Where a clock was set back, a new image is no older than those that were there.
            self._note(name, kept, max(time_ms, self.records.last_seen_place))
        if is_new or again:
            try:
                self.records.keep_image(content)
            except OSError:
                with self._lock:
                    self._image_bytes -= self._images.pop(name, 0)
                raise
        return True

    def forget(self) -> None:
        """Look at the place again before the next image, since it was removed meanwhile."""
        with self._lock:
            self._unlooked = float("inf")

    def _count(self, name: str, size: int) -> None:
        self._images[name] = size
        self._image_bytes += size
        self._unlooked += size

    def write(self, answers: Sequence[Seen]) -> None:
        """Add answers, in one object, after the oldest were removed if need be.

        Raises:
            OSError: the storage refuses; none was added.
        """
        lines = lines_of(answers)
        with self._lock:
            if self._unlooked == float("inf"):
                self._look()
            if self._answer_bytes + len(lines) > self._answers_limit:
                self._look()
            if self._answer_bytes + len(lines) > self._answers_limit:
                self._drop_answers()
            name = self.records.write_lines(lines)
            self._answers[name] = len(lines)
            self._read.add(name)
            self._answer_bytes += len(lines)
            self._unlooked += len(lines)

    @property
    def _answers_limit(self) -> float:
        return self.limit * (1 - IMAGES_SHARE)

    def _note(self, image: str, kept: str, time_ms: int) -> None:
        """Note why and when an image was kept."""
        is_uncertain, before_ms = self._why.get(image, (False, 0))
        self._why[image] = (is_uncertain or kept != USUAL, max(before_ms, time_ms))

    def _look(self) -> None:
        """Read what there is, whoever wrote it."""
        self._images, self._answers = self.records.images(), self.records.seen_objects()
        self._image_bytes = sum(self._images.values())
        self._answer_bytes = sum(self._answers.values())
        self._unlooked = 0

    def _make_room(self, size: int) -> bool:
        """Return whether there is room for an image, after the oldest were removed if need be."""
        limit = self.limit * IMAGES_SHARE
        if size > limit * LEAVE or time.monotonic() < self._full_until:
            return False
        if self._image_bytes + size > limit:
            self._look()
        if self._image_bytes + size > limit:
            gone, used = [], self._image_bytes
            for name in self._oldest_first():
                if used + size <= limit * LEAVE:
                    break
                used -= self._images[name]
                gone.append(name)
            # It may have taken a while to read why images were kept.
            corrected = self.records.corrections()
            gone = [name for name in gone if name not in corrected]
            self.records.remove_images(gone)
            for name in gone:
                self._image_bytes -= self._images.pop(name)
        if is_full := self._image_bytes + size > limit:
            self._full_until = time.monotonic() + FULL_S
        return not is_full

    def _oldest_first(self) -> list[str]:
        """Return the images that may go, the first to go first."""
        for name in sorted(self._answers.keys() - self._read):
            for one in self.records.seen_in(name):
                if one.kept:
                    self._note(one.image, one.kept, one.time_ms)
            self._read.add(name)
        self._read &= self._answers.keys()
        self._why = {name: why for name, why in self._why.items() if name in self._images}
        corrected = self.records.corrections()
        # Another process has kept those of which no answer is known, and is about to say why.
        unknown = (False, LATEST)
        return sorted(
            (name for name in self._images if name not in corrected),
            key=lambda name: self._why.get(name, unknown),
        )

    def _drop_answers(self) -> None:
        """Remove the oldest half of the answers, but for the last of each image that is kept.

        What stays takes at most half of what was removed, and the place of the latest of it: so it
        is there once if the storage then refuses to remove the others, however often that is tried.
        Processes that do so at the same time may leave an answer twice.
        """
        taken, size = list[str](), 0
        for name in sorted(self._answers):
            if size >= self._answers_limit / 2:
                break
            taken.append(name)
            size += self._answers[name]
        answers = [one for name in taken for one in self.records.seen_in(name)]
        last: dict[str, Seen] = {}
        for answer in answers:
            last.pop(answer.image, None)
            if answer.image in self._images:
                last[answer.image] = answer
        staying = list(last.values())[-(len(answers) // 2) :]
        if staying and len(answers) > 1:
            lines = lines_of(staying)
            name = self.records.write_lines(lines, taken.pop())
            self._answers[name] = len(lines)
        self.records.remove_seen(taken)
        for name in taken:
            del self._answers[name]
        self._answer_bytes = sum(self._answers.values())
