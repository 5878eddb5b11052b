"""Record the answers of a served model in a background thread.

Every answer is recorded. Its image is stored if the model is not sure of the class, or if the image
belongs to a random sample of the others. Answers are queued, so that clients do not wait for the
storage. If the queue is full, answers are lost; they are counted, and the loss is reported. If the
storage fails, that is reported, and the recorder retries.
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
from search.feedback.bounded import UNCERTAIN, USUAL, BoundedRecords, RecordsFull
from search.feedback.observer import ServedAnswer
from search.feedback.records import (
    DECIMALS,
    Correction,
    NotRecorded,
    RecordedAnswer,
    Records,
    RecordsInfo,
    image_name,
)
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted, unknown

ANSWERS_PER_OBJECT = 1000
"""Maximum number of answers in a stored object."""
WRITE_INTERVAL_S = 5.0
"""Seconds between two writes and between retries. A full object is written earlier."""
MAX_QUEUED, MAX_QUEUED_BYTES = 10_000, 64_000_000
"""Maximum number of queued answers, and their maximum total size in memory, in bytes."""
MAX_RECENT_BYTES = 64_000_000
"""Maximum total size of the latest images, in bytes. They are held in memory, and stored only if
somebody corrects them.
"""
ANSWER_OVERHEAD_BYTES = 1000
"""Approximate size of an answer in memory without its image."""
RecentImage = bytes | NDArray[np.uint8]
"""The bytes of an image file, or pixels, (height, width, channels)."""
NO_PIXELS = np.empty((0, 0, 1), dtype=np.uint8)


@dataclass(frozen=True)
class RecordingPolicy:
    """The rule that selects the images to store, and the limits of the records."""

    below: float = 0.7
    """An image whose predicted class has a lower probability is uncertain, and is stored."""
    share: float = 0.05
    """Share of the other images that is stored. These images are selected by their hashes, so that
    all processes select the same images.
    """
    limit: int = 1_000_000_000
    """Maximum size of all images and answers, in bytes (`search.feedback.bounded`)."""
    corrections: int | None = None
    """Maximum number of corrections in the records; None for no limit."""

    def reason_to_record(
        self, image: str, probabilities: NDArray[np.float32], *, abstained: bool = False
    ) -> str:
        """The reason to store an image, `USUAL` or `UNCERTAIN`; empty if it is not selected.

        Args:
            image: the image's name, from `image_name`.
            probabilities: the probability of each class, (classes,).
            abstained: True if the model abstained from an answer; such an image is uncertain.
        """
        if abstained or probabilities.max() < self.below:
            return UNCERTAIN
        # 13 hexadecimal digits are 52 bits, which a float represents exactly.
        return USUAL if int(image[:13], 16) < self.share * 16**13 else ""


@dataclass
class RecordingCounts:
    """Numbers of recorded and lost answers so far, and the current problem."""

    written: int = 0
    with_image: int = 0
    """Number of written answers whose image was stored, for this answer or an earlier one."""
    lost: int = 0
    """Number of answers that arrived while the queue was full, and were not recorded."""
    problem: str = ""
    """The reason why nothing can be written at the moment; empty if writing works."""


class Recorder:
    """An `Observer` that writes answers and images to records in a folder or a bucket."""

    def __init__(
        self,
        place: Path | Bucket,
        info: RecordsInfo,
        policy: RecordingPolicy | None = None,
        *,
        print_line: Callable[[str], None] | None = None,
        interval_s: float = WRITE_INTERVAL_S,
        is_restart: bool = False,
    ) -> None:
        """Start to record.

        Args:
            place: a folder, or a prefix in a bucket.
            info: the model whose answers are recorded.
            policy: selects the images to store; by default `RecordingPolicy()`.
            print_line: prints a line for the person who runs the server; by default to stderr.
            interval_s: seconds between two writes.
            is_restart: start even if the place cannot be used, and retry until it can.

        Raises:
            ConfigError: the place contains the records of another model, and `is_restart` is False.
            OSError: the place cannot be written, and `is_restart` is False.
        """
        # The recorder retries failed writes, so the bucket's client should not retry for long.
        quick_place = replace(place, quick=True) if isinstance(place, Bucket) else place
        self.info, self.policy, self.counts = info, policy or RecordingPolicy(), RecordingCounts()
        self.records = Records.at(quick_place)
        self._bounded = BoundedRecords(self.records, self.policy.limit)
        self._print_line = print_line or (lambda text: say(Terminal(stderr=True), text))
        self._interval_s = interval_s
        self._queue = WriteQueue()
        self._recent = RecentAnswers()
        self._is_full = self._is_lossy = self._is_closed = False
        self._lock = threading.Condition()
        self._correction_lock, self._free_corrections = threading.Lock(), 0
        """`_free_corrections` is the number of corrections that may be stored before the existing
        ones are counted again.
        """
        try:
            self.records.begin(info)
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
        """The reason why nothing is recorded at the moment; empty if recording works."""
        return self.counts.problem or (
            "" if self._thread.is_alive() else "the recording thread has ended"
        )

    def remember(self, batch: Sequence[ServedAnswer]) -> None:
        """Hold answers in memory, so that they can be corrected; call this before sending them."""
        for answer in batch:
            self._recent.add(answer)

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        """Queue a batch and return immediately; called by one thread at a time."""
        with self._lock:
            for answer in batch:
                queued = replace(answer, pixels=NO_PIXELS) if answer.content else answer
                self.counts.lost += not self._queue.add(queued)
            if len(self._queue.answers) >= ANSWERS_PER_OBJECT:
                self._lock.notify()
        if not self._thread.is_alive():
            self._start()

    def close(self) -> None:
        """Write the queued answers if the storage works, and stop the recorder.

        `observe` may not be called afterwards.
        """
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        self._thread.join()
        if unwritten := self.counts.lost + len(self._queue.answers):
            self._report(f"{counted(unwritten, 'answer')} could not be recorded")

    def correct(
        self, label: str, by: str, *, answer: str = "", image: str = "", content: bytes = b""
    ) -> Correction:
        """Store the correct class of an image, and the image itself if it is not stored yet.

        The image is identified by `answer`, `content` or `image`. If several are passed, the first
        one in this order that is known is used.

        Args:
            label: the class that the image shows.
            by: the source of the correction: `page` or `api`.
            answer: the id of a recent answer on the image (see `MAX_RECENT_BYTES`).
            image: the name of an image that is stored.
            content: the bytes of the image file.

        Raises:
            ConfigError: the model has no such class.
            NotRecorded: none of these identifies a known image.
            RecordsFull: there is no room for the image, or for another correction.
            OSError: the correction cannot be written.
        """
        if label not in self.info.classes:
            raise ConfigError(unknown("class", label, self.info.classes))
        if (recent_image := self._recent.get(answer)) is not None:
            content = _as_file(recent_image)
        if not content and not image:
            raise NotRecorded(
                "the image of this answer is no longer known. Send the image too, as `content` "
                "in base64."
            )
        name = image_name(content) if content else image
        now_ms = time.time_ns() // 1_000_000
        self._ensure_place()
        if self.policy.corrections is not None:
            self._reserve_correction(self.policy.corrections)
        if content and not self._bounded.keep_image(
            name, content, UNCERTAIN, now_ms, overwrite=True
        ):
            raise RecordsFull(self._full_text)
        return self.records.correct(name, label, by)

    def _reserve_correction(self, limit: int) -> None:
        """Reserve room for a correction, so that at most `limit` corrections are stored.

        Other processes may store corrections too, so the stored ones are counted again after every
        `limit / 50` reservations. Each process can exceed the limit by at most that number.

        Raises:
            RecordsFull: the limit is reached.
        """
        with self._correction_lock:
            if not self._free_corrections:
                count = self.records.count_corrections()
                if (free := limit - count) <= 0:
                    raise RecordsFull(
                        f"'{self.records.place}' has {count:,} corrections, and this server "
                        f"accepts at most {limit:,}. Start the server with a larger "
                        "--record-bytes."
                    )
                self._free_corrections = min(free, math.ceil(limit / 50))
            self._free_corrections -= 1

    @property
    def _full_text(self) -> str:
        return (
            f"'{self.records.place}' has no room for another image, because the corrected images "
            f"fill its {self.policy.limit:,} bytes. Use a larger --record-bytes."
        )

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            with self._lock:
                self._lock.wait_for(self._is_write_due, self._interval_s)
                is_closing = self._is_closed
            try:
                self._write_queued()
            except Exception as error:  # noqa: BLE001 - the next batch may succeed
                self._note_problem(error)

    def _is_write_due(self) -> bool:
        is_much = len(self._queue.answers) >= ANSWERS_PER_OBJECT
        return self._is_closed or (is_much and not self.counts.problem)

    def _write_queued(self) -> None:
        """Write the queued answers, with their images.

        Raises:
            Exception: the storage or anything else failed; the batch stays in the queue.
        """
        # Report the first loss only: `close` reports the total.
        if self.counts.lost and not self._is_lossy:
            self._is_lossy = True
            self._report(
                f"answers arrive faster than '{self.records.place}' can store them, so some are "
                "lost"
            )
        if self.counts.problem or self._queue.answers:
            self._ensure_place()
        while batch := self._queue.oldest(ANSWERS_PER_OBJECT):
            with ThreadPoolExecutor(AT_ONCE) as pool:
                recorded = list(pool.map(self._record, batch))
            self._bounded.write_answers(recorded)
            with self._lock:
                self._queue.remove_oldest(len(batch))
            self.counts.written += len(recorded)
            self.counts.with_image += sum(bool(answer.kept) for answer in recorded)
        if self.counts.problem:
            self._report("answers are recorded again")
            self.counts.problem = ""

    def _ensure_place(self) -> None:
        """Create the place again if somebody has removed it."""
        if self.records.begin(self.info):
            self._bounded.invalidate()

    def _note_problem(self, error: Exception) -> None:
        """Note that nothing can be written, and report it unless it was reported already."""
        reason = (error.strerror if isinstance(error, StorageError) else "") or str(error)
        if not self.counts.problem:
            self._report(f"answers cannot be recorded at the moment: {reason}. Trying again")
        self.counts.problem = reason or type(error).__name__

    def _report(self, text: str) -> None:
        """Print a line; ignore errors, because recording must not depend on the output."""
        with suppress(Exception):
            self._print_line(text)

    def _record(self, answer: ServedAnswer) -> RecordedAnswer:
        """Store the image of an answer if the policy selects it, and build the answer's record."""
        content = answer.content or _as_file(answer.pixels)
        name = image_name(content)
        reason = self.policy.reason_to_record(
            name, answer.probabilities, abstained=bool(answer.abstained)
        )
        if reason and not self._bounded.keep_image(name, content, reason, answer.time_ms):
            reason = ""
            if not self._is_full:
                self._report(f"{self._full_text} Answers are still recorded")
            self._is_full = True
        probabilities = tuple(
            round(float(probability), DECIMALS) for probability in answer.probabilities
        )
        return RecordedAnswer(
            answer.id,
            answer.time_ms,
            name,
            answer.version,
            probabilities,
            reason,
            answer.abstained,
        )


@dataclass
class WriteQueue:
    """Answers that wait to be written."""

    answers: deque[ServedAnswer] = field(default_factory=deque)
    bytes: int = 0

    def add(self, answer: ServedAnswer) -> bool:
        """Add an answer; False if there is no room for it."""
        if len(self.answers) >= MAX_QUEUED or self.bytes + _size(answer) > MAX_QUEUED_BYTES:
            return False
        self.answers.append(answer)
        self.bytes += _size(answer)
        return True

    def oldest(self, count: int) -> list[ServedAnswer]:
        """List the oldest answers, at most `count`."""
        return [self.answers[index] for index in range(min(count, len(self.answers)))]

    def remove_oldest(self, count: int) -> None:
        """Remove the `count` oldest answers, after they were written."""
        for _ in range(count):
            self.bytes -= _size(self.answers.popleft())


@dataclass
class RecentAnswers:
    """Images of the latest answers, by the id of the answer; thread-safe."""

    images: OrderedDict[str, RecentImage] = field(default_factory=OrderedDict)
    bytes: int = 0
    _lock: "threading.Lock" = field(default_factory=threading.Lock)

    def add(self, answer: ServedAnswer) -> None:
        """Add an answer, and remove the oldest ones beyond `MAX_RECENT_BYTES`."""
        image = answer.content or answer.pixels
        with self._lock:
            self.images[answer.id] = image
            self.bytes += ANSWER_OVERHEAD_BYTES + _bytes_of(image)
            while self.bytes > MAX_RECENT_BYTES:
                self.bytes -= ANSWER_OVERHEAD_BYTES + _bytes_of(self.images.popitem(last=False)[1])

    def get(self, answer: str) -> RecentImage | None:
        """Get the image of an answer, by the answer's id; None if it is no longer in memory."""
        with self._lock:
            return self.images.get(answer)


def _size(answer: ServedAnswer) -> int:
    return len(answer.content) + answer.pixels.nbytes + ANSWER_OVERHEAD_BYTES


def _bytes_of(image: RecentImage) -> int:
    return len(image) if isinstance(image, bytes) else image.nbytes


def _as_file(image: RecentImage) -> bytes:
    """Encode pixels as PNG; return the bytes of a file unchanged."""
    if isinstance(image, bytes):
        return image
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
