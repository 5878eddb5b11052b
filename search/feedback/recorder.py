"""Keeps what a served model is asked and what it says, from a thread of its own.

Kept are all answers, and of the images those of whose class the model is not sure, and a sample of
the others. An answer waits for none of that: it goes into a queue. Where the storage is slower than
the answers come, some are not kept, which is counted and told; where it refuses, that is told, and
tried again.
"""

import io
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.storage.bucket import AT_ONCE, Bucket, StorageError
from search.feedback.bounded import UNCERTAIN, USUAL, BoundedRecords, NoRoom
from search.feedback.observer import Answered
from search.feedback.records import (
    DECIMALS,
    About,
    Correction,
    NotKept,
    Records,
    Seen,
    image_name,
)
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted, unknown

PIECE = 1000
"""Answers are written in objects of at most so many."""
EVERY_S = 5.0
"""Seconds between two such objects, unless there are enough answers sooner, and between tries."""
WAITING, WAITING_BYTES = 10_000, 64_000_000
"""The answers that may wait to be written."""
HELD_BYTES = 64_000_000
"""The size of the latest images, which are held so that they can be kept when one is corrected."""
OVERHEAD = 1000
"""The bytes that an answer takes beside its image, about."""
HeldImage = bytes | NDArray[np.uint8]
"""A file as it came, or pixels."""
NO_PIXELS = np.empty((0, 0, 1), dtype=np.uint8)


@dataclass(frozen=True)
class Keeping:
    """The choice of the images that are kept, and the limit of all that is."""

    below: float = 0.7
    """An image is uncertain, and kept, if the probability of its class is below this."""
    share: float = 0.05
    """The share of the other images that is kept: by an image's hash, so that every process keeps
    the same ones.
    """
    limit: int = 1_000_000_000
    """Bytes of all that is kept; see `search.feedback.bounded`."""
    corrections: int | None = None
    """The number of corrections up to which more are taken; None for no limit."""

    def why(self, image: str, probabilities: NDArray[np.float32]) -> str:
        """Return why an image is kept, `usual` or `uncertain`; empty if it is not.

        Args:
            image: its name, as `image_name` gives it.
            probabilities: those of each class.
        """
        if probabilities.max() < self.below:
            return UNCERTAIN
        return USUAL if int(image[:13], 16) < self.share * 16**13 else ""


@dataclass
class Counts:
    """The numbers of answers so far, by what became of them."""

    written: int = 0
    kept: int = 0
    """Those whose images were kept, or had been."""
    lost: int = 0
    """Those that found the queue full."""
    problem: str = ""
    """The reason why nothing can be written now; empty if it can."""


class Recorder:
    """An `Observer` that writes to the records in a place."""

    def __init__(
        self,
        place: Path | Bucket,
        about: About,
        keeping: Keeping | None = None,
        *,
        tell: Callable[[str], None] | None = None,
        every_s: float = EVERY_S,
        is_restart: bool = False,
    ) -> None:
        """Begin to write there.

        Args:
            place: a folder, or in a bucket.
            about: whose records these are.
            keeping: which images are kept.
            tell: takes a line for whoever runs the server; without it, it goes to stderr.
            every_s: seconds between two objects.
            is_restart: if the storage refuses, wait for it, as after a start that succeeded.

        Raises:
            ConfigError: there are the records of another model.
            OSError: the place cannot be written.
        """
        # What fails is tried again here.
        quick = replace(place, quick=True) if isinstance(place, Bucket) else place
        self.about, self.keeping, self.counts = about, keeping or Keeping(), Counts()
        self.records = Records.at(quick)
        self._bounded = BoundedRecords(self.records, self.keeping.limit)
        self._tell = tell or (lambda text: say(Terminal(stderr=True), text))
        self._every_s = every_s
        self._waiting = Waiting()
        self._held = Held()
        self._is_full = self._is_lossy = self._is_closed = False
        self._lock = threading.Condition()
        self._counting, self._uncounted = threading.Lock(), 0
        """The corrections that may be kept until those in the place are counted again."""
        try:
            self.records.begin(about)
        except Exception as error:
            if not is_restart:
                raise
            self._note_problem(error)
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """The reason why nothing is recorded now; empty if all is well."""
        return self.counts.problem or ("" if self._thread.is_alive() else "its thread has ended")

    def hold(self, batch: Sequence[Answered]) -> None:
        """Keep answers in memory, so that they can be corrected as soon as they are sent."""
        for one in batch:
            self._held.add(one)

    def answered(self, batch: Sequence[Answered]) -> None:
        """Take note of a batch and return at once; called by one thread at a time."""
        with self._lock:
            for one in batch:
                answer = replace(one, pixels=NO_PIXELS) if one.content else one
                self.counts.lost += not self._waiting.add(answer)
            if len(self._waiting.answers) >= PIECE:
                self._lock.notify()
        if not self._thread.is_alive():
            self._start()

    def close(self) -> None:
        """Write what waits, if the storage takes it; no batch follows."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        self._thread.join()
        if unwritten := self.counts.lost + len(self._waiting.answers):
            self._report(f"{counted(unwritten, 'answer')} could not be recorded")

    def correct(
        self, label: str, by: str, *, answer: str = "", image: str = "", content: bytes = b""
    ) -> Correction:
        """Keep what an image really shows, and the image, whatever the sample says.

        Args:
            label: its class.
            by: where it was said: `page`, `api`.
            answer: the name of an answer about it.
            image: or the name of the image, which was kept.
            content: or the image as it came, which is used if neither is known.

        Raises:
            ConfigError: there is no such class.
            NotKept: neither the answer nor the image is known, and there is no content.
            NoRoom: there is no room for the image, or for another correction.
            OSError: the storage refuses.
        """
        if label not in self.about.classes:
            raise ConfigError(unknown("class", label, self.about.classes))
        if (held := self._held.get(answer)) is not None:
            content = _as_file(held)
        if not content and not image:
            raise NotKept("that answer is not known any more: send its image with it, as content.")
        name = image_name(content) if content else image
        now_ms = time.time_ns() // 1_000_000
        self._begin()
        if self.keeping.corrections is not None:
            self._count_correction(self.keeping.corrections)
        if content and not self._bounded.keep(name, content, UNCERTAIN, now_ms, again=True):
            raise NoRoom(self._no_room)
        return self.records.correct(name, label, by)

    def _count_correction(self, limit: int) -> None:
        """Count a correction that is about to be kept, of this many in the place at most.

        Several processes may keep some, so those in the place are counted again after each fiftieth
        of the limit. Together they exceed it by at most that share each.

        Raises:
            NoRoom: there are too many.
        """
        with self._counting:
            if not self._uncounted:
                count = self.records.count_corrections()
                if (free := limit - count) <= 0:
                    raise NoRoom(
                        f"'{self.records.place}' has {count:,} corrections, and this server takes "
                        f"no more than {limit:,}. Start it with a higher --record-bytes."
                    )
                self._uncounted = min(free, math.ceil(limit / 50))
            self._uncounted -= 1

    @property
    def _no_room(self) -> str:
        return (
            f"'{self.records.place}' has no room for another image beside the corrected ones "
            f"({self.keeping.limit:,} bytes for all): use a larger --record-bytes."
        )

    def _run(self) -> None:
        """Write what waits, now and then."""
        is_closing = False
        while not is_closing:
            with self._lock:
                self._lock.wait_for(self._is_due, self._every_s)
                is_closing = self._is_closed
            try:
                self._write_waiting()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next are recorded
                self._note_problem(error)

    def _is_due(self) -> bool:
        is_much = len(self._waiting.answers) >= PIECE
        return self._is_closed or (is_much and not self.counts.problem)

    def _write_waiting(self) -> None:
        """Write the answers that wait, with their images.

        Raises:
            Exception: the storage refuses, or whatever else went wrong.
        """
        # Once: how many they are in all is said at the end.
        if self.counts.lost and not self._is_lossy:
            self._is_lossy = True
            self._report(
                f"answers come faster than '{self.records.place}' takes them: some are lost"
            )
        if self.counts.problem or self._waiting.answers:
            self._begin()
        while batch := self._waiting.first(PIECE):
            with ThreadPoolExecutor(AT_ONCE) as pool:
                seen = list(pool.map(self._seen, batch))
            self._bounded.write(seen)
            with self._lock:
                self._waiting.drop(len(batch))
            self.counts.written += len(seen)
            self.counts.kept += sum(bool(one.kept) for one in seen)
        if self.counts.problem:
            self._report("answers are recorded again")
            self.counts.problem = ""

    def _begin(self) -> None:
        """Make the place again if somebody has removed it."""
        if self.records.begin(self.about):
            self._bounded.forget()

    def _note_problem(self, error: Exception) -> None:
        """Report, once, that nothing can be written."""
        why = (error.strerror if isinstance(error, StorageError) else "") or str(error)
        if not self.counts.problem:
            self._report(f"answers cannot be recorded for now: {why}. It is tried again")
        self.counts.problem = why or type(error).__name__

    def _report(self, text: str) -> None:
        """Print a line; recording does not depend on whether that is possible."""
        with suppress(Exception):
            self._tell(text)

    def _seen(self, one: Answered) -> Seen:
        """Return what is kept of an answer, after its image if that is to be kept."""
        content = one.content or _as_file(one.pixels)
        name = image_name(content)
        kept = self.keeping.why(name, one.probabilities)
        if kept and not self._bounded.keep(name, content, kept, one.time_ms):
            kept = ""
            if not self._is_full:
                self._report(f"{self._no_room} Answers are recorded still")
            self._is_full = True
        chances = tuple(round(float(chance), DECIMALS) for chance in one.probabilities)
        return Seen(one.id, one.time_ms, name, one.version, chances, kept)


@dataclass
class Waiting:
    """The answers that are still to be written."""

    answers: deque[Answered] = field(default_factory=deque)
    bytes: int = 0

    def add(self, one: Answered) -> bool:
        """Add one; return False if there is no room for it."""
        if len(self.answers) >= WAITING or self.bytes + _size(one) > WAITING_BYTES:
            return False
        self.answers.append(one)
        self.bytes += _size(one)
        return True

    def first(self, count: int) -> list[Answered]:
        """Return the oldest, at most so many."""
        return [self.answers[place] for place in range(min(count, len(self.answers)))]

    def drop(self, count: int) -> None:
        """Remove so many of the oldest."""
        for _ in range(count):
            self.bytes -= _size(self.answers.popleft())


@dataclass
class Held:
    """The images of the latest answers, by the answers' names; several threads may use it."""

    images: OrderedDict[str, HeldImage] = field(default_factory=OrderedDict)
    bytes: int = 0
    _lock: "threading.Lock" = field(default_factory=threading.Lock)

    def add(self, one: Answered) -> None:
        """Add one, for which the oldest go."""
        image = one.content or one.pixels
        with self._lock:
            self.images[one.id] = image
            self.bytes += OVERHEAD + _bytes_of(image)
            while self.bytes > HELD_BYTES:
                self.bytes -= OVERHEAD + _bytes_of(self.images.popitem(last=False)[1])

    def get(self, answer: str) -> HeldImage | None:
        """Return the image of an answer; None if it is not known any more."""
        with self._lock:
            return self.images.get(answer)


def _size(one: Answered) -> int:
    return len(one.content) + one.pixels.nbytes + OVERHEAD


def _bytes_of(image: HeldImage) -> int:
    return len(image) if isinstance(image, bytes) else image.nbytes


def _as_file(image: HeldImage) -> bytes:
    """Return an image as it came; as PNG if it came as an array."""
    if isinstance(image, bytes):
        return image
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
