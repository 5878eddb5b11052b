"""Records whose total size is limited.

Images may use three quarters of the limit, and answers a quarter. Corrections are small and are not
counted. When images or answers reach their share, the oldest ones are removed. Usual images, of
which the model is sure, are removed before uncertain ones. Corrected images are never removed. The
latest answer on each stored image is removed only if the other answers are too few to make room.

Several processes may write to the same place. Therefore each process lists all objects in the place
before its first write, whenever it has written another fiftieth of the limit, and before it removes
anything. Between two scans, each process can exceed the limit by at most a fiftieth.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.feedback.records import RecordedAnswer, Records, json_lines
from trainables.errors import ConfigError

IMAGES_SHARE = 0.75
EVICTION_TARGET = 0.9
"""Images are evicted down to this share of their limit, so that evictions are rare."""
RESCAN_SHARE = 1 / 50
"""Share of the limit that this process may write before it lists the objects in the place again."""
USUAL, UNCERTAIN = "usual", "uncertain"
"""The reasons to store an image. USUAL: it is in the random sample of images that the model is sure
of. UNCERTAIN: the model is not sure of it. Usual images are evicted first.
"""
NEWEST = 2**63
"""A Unix time in milliseconds that is later than any real one."""
FULL_RETRY_S = 60.0
"""Seconds until a full place is checked again, because other processes may have freed space."""


class RecordsFull(ConfigError):
    """There is no room for another image or correction."""


@dataclass
class BoundedRecords:
    """Records that remove their oldest objects at a size limit; thread-safe."""

    records: Records
    limit: int
    """Maximum size of all images and answers together, in bytes."""
    _image_sizes: dict[str, int] = field(default_factory=dict)
    _answer_sizes: dict[str, int] = field(default_factory=dict)
    """Size of each image and of each answer object in bytes, by name. These are the sizes at the
    last scan, updated with this process's own changes since then.
    """
    _eviction_keys: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """Eviction key of each image: (is_uncertain, saved_ms); the smallest is evicted first."""
    _read_objects: set[str] = field(default_factory=set)
    """Names of the answer objects that `_eviction_keys` already includes."""
    _image_bytes: int = 0
    _answer_bytes: int = 0
    """The sums of `_image_sizes` and `_answer_sizes`."""
    _unscanned_bytes: float = float("inf")
    """Bytes written since the last scan; infinite before the first."""
    _full_until: float = 0.0
    _lock: "threading.Lock" = field(default_factory=threading.Lock)

    def keep_image(
        self, name: str, content: bytes, reason: str, time_ms: int, *, overwrite: bool = False
    ) -> bool:
        """Store an image, after evicting old ones if necessary; False if there is no room.

        Args:
            name: the image's name, from `image_name`.
            content: the bytes of the file.
            reason: `USUAL` or `UNCERTAIN`.
            time_ms: the Unix time of the answer, in milliseconds.
            overwrite: store the image even if it seems to be stored already: another process, or
                the owner, may have removed it.

        Raises:
            OSError: the image cannot be written.
        """
        with self._lock:
            if self._unscanned_bytes > self.limit * RESCAN_SHARE:
                self._rescan()
            if is_new := name not in self._image_sizes:
                if not self._make_room(len(content)):
                    return False
                self._add_size(name, len(content))
            # If a clock was set back, a new image must not look older than the existing ones.
            self._note_reason(name, reason, max(time_ms, self.records.last_answer_place))
        if is_new or overwrite:
            try:
                self.records.keep_image(content)
            except OSError:
                with self._lock:
                    self._image_bytes -= self._image_sizes.pop(name, 0)
                raise
        return True

    def invalidate(self) -> None:
        """Request a new scan before the next write. Call this if the place was removed."""
        with self._lock:
            self._unscanned_bytes = float("inf")

    def _add_size(self, name: str, size: int) -> None:
        self._image_sizes[name] = size
        self._image_bytes += size
        self._unscanned_bytes += size

    def write_answers(self, answers: Sequence[RecordedAnswer]) -> None:
        """Write answers as one object, after removing old ones if necessary.

        Raises:
            OSError: the storage failed; none of the answers was written.
        """
        lines = json_lines(answers)
        with self._lock:
            if self._unscanned_bytes == float("inf"):
                self._rescan()
            if self._answer_bytes + len(lines) > self._answers_limit:
                self._rescan()
            if self._answer_bytes + len(lines) > self._answers_limit:
                self._drop_answers()
            name = self.records.write_lines(lines)
            self._answer_sizes[name] = len(lines)
            self._read_objects.add(name)
            self._answer_bytes += len(lines)
            self._unscanned_bytes += len(lines)

    @property
    def _answers_limit(self) -> float:
        return self.limit * (1 - IMAGES_SHARE)

    def _note_reason(self, image: str, reason: str, time_ms: int) -> None:
        is_uncertain, before_ms = self._eviction_keys.get(image, (False, 0))
        self._eviction_keys[image] = (is_uncertain or reason != USUAL, max(before_ms, time_ms))

    def _rescan(self) -> None:
        self._image_sizes, self._answer_sizes = (
            self.records.image_sizes(),
            self.records.answer_objects(),
        )
        self._image_bytes = sum(self._image_sizes.values())
        self._answer_bytes = sum(self._answer_sizes.values())
        self._unscanned_bytes = 0

    def _make_room(self, size: int) -> bool:
        """Evict old images if necessary; False if there is still no room for `size` bytes."""
        limit = self.limit * IMAGES_SHARE
        if size > limit * EVICTION_TARGET or time.monotonic() < self._full_until:
            return False
        if self._image_bytes + size > limit:
            self._rescan()
        if self._image_bytes + size > limit:
            evicted, used_bytes = [], self._image_bytes
            for name in self._eviction_order():
                if used_bytes + size <= limit * EVICTION_TARGET:
                    break
                used_bytes -= self._image_sizes[name]
                evicted.append(name)
            # `_eviction_order` reads answers, which takes a while. Somebody may have corrected an
            # image in the meantime.
            corrected = self.records.corrections()
            evicted = [name for name in evicted if name not in corrected]
            self.records.remove_images(evicted)
            for name in evicted:
                self._image_bytes -= self._image_sizes.pop(name)
        if is_full := self._image_bytes + size > limit:
            self._full_until = time.monotonic() + FULL_RETRY_S
        return not is_full

    def _eviction_order(self) -> list[str]:
        """List the names of the images that may be evicted, in the order of eviction."""
        for name in sorted(self._answer_sizes.keys() - self._read_objects):
            for answer in self.records.read_answers_in(name):
                if answer.kept:
                    self._note_reason(answer.image, answer.kept, answer.time_ms)
            self._read_objects.add(name)
        self._read_objects &= self._answer_sizes.keys()
        self._eviction_keys = {
            name: key for name, key in self._eviction_keys.items() if name in self._image_sizes
        }
        corrected = self.records.corrections()
        # If an image has no answer, another process has just stored it and will write the answer
        # soon, so it is evicted last.
        unknown_key = (False, NEWEST)
        return sorted(
            (name for name in self._image_sizes if name not in corrected),
            key=lambda name: self._eviction_keys.get(name, unknown_key),
        )

    def _drop_answers(self) -> None:
        """Remove the older half of the answers, except the latest one on each stored image.

        The remaining answers are at most half of those in the old objects. They overwrite the
        newest old object; then the other old objects are deleted. If the storage fails to delete
        them, a retry reads them again without duplicating any answer. Answers can be duplicated
        only if two processes do this at the same time.
        """
        old_objects, size = list[str](), 0
        for name in sorted(self._answer_sizes):
            if size >= self._answers_limit / 2:
                break
            old_objects.append(name)
            size += self._answer_sizes[name]
        answers = [answer for name in old_objects for answer in self.records.read_answers_in(name)]
        last_answers: dict[str, RecordedAnswer] = {}
        for answer in answers:
            last_answers.pop(answer.image, None)
            if answer.image in self._image_sizes:
                last_answers[answer.image] = answer
        remaining = list(last_answers.values())[-(len(answers) // 2) :]
        if remaining and len(answers) > 1:
            lines = json_lines(remaining)
            name = self.records.write_lines(lines, old_objects.pop())
            self._answer_sizes[name] = len(lines)
        self.records.remove_answer_objects(old_objects)
        for name in old_objects:
            del self._answer_sizes[name]
        self._answer_bytes = sum(self._answer_sizes.values())
