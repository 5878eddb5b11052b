"""Run observers of answers in their own threads, and compare a second model with the first."""

import logging
import random
import threading
from collections import deque
from collections.abc import Sequence

from search.feedback.observer import Observer, ServedAnswer
from search.serving.metrics import Metrics
from search.serving.versions import ServedVersion

LOG = logging.getLogger(__name__)
MAX_IMAGES, MAX_BYTES = 4096, 64 * 2**20
"""Maximum number of answers in a queue, and their maximum total size in bytes; further answers are
dropped and counted.
"""
BATCH = 256
"""Maximum number of answers that an observer receives in one call."""


class ObserverQueue:
    """An observer, its thread, and the answers that wait for it."""

    def __init__(self, observer: Observer, metrics: Metrics) -> None:
        """Start the observer's thread."""
        self._observer, self._metrics = observer, metrics
        self._waiting: deque[ServedAnswer] = deque()
        self._pending_bytes, self._is_closed, self._has_failed = 0, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def put(self, answers: Sequence[ServedAnswer]) -> None:
        """Queue answers for the observer, or drop and count them if the queue is full."""
        size_bytes = sum(_size_bytes(answer) for answer in answers)
        with self._changed:
            if len(self._waiting) >= MAX_IMAGES or self._pending_bytes + size_bytes > MAX_BYTES:
                self._metrics.unobserved.inc(len(answers))
                return
            self._pending_bytes += size_bytes
            self._waiting.extend(answers)
            self._changed.notify()

    def close(self) -> None:
        """Pass the queued answers to the observer, close it, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._observer.observe(batch)
            except Exception as error:  # noqa: BLE001 - an observer must not stop the server
                if not self._has_failed:
                    LOG.error("%s failed: %r", type(self._observer).__name__, error)
                self._has_failed = True
        self._observer.close()

    def _next_batch(self) -> list[ServedAnswer]:
        """Wait for answers, and take up to `BATCH` of them from the queue.

        The result is empty only if the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._pending_bytes -= sum(_size_bytes(answer) for answer in batch)
            return batch


def _size_bytes(answer: ServedAnswer) -> int:
    return len(answer.content) + answer.pixels.nbytes


class Shadow:
    """An observer that runs a second model on a share of the images, and counts disagreements."""

    def __init__(self, share: float, metrics: Metrics) -> None:
        """Start without a second model; set `served` as soon as one is loaded.

        Args:
            share: the probability with which an image is compared.
            metrics: the metrics to update.
        """
        self.served: ServedVersion | None = None
        self._share, self._metrics = share, metrics

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        """Run the second model on a sample of these images, and count the disagreements.

        The models disagree on an image if their most probable classes differ.
        """
        served = self.served
        sample = [answer for answer in batch if random.random() < self._share]
        if served is None or not sample:
            return
        predictions = served.predictions([answer.pixels for answer in sample])
        differing = sum(
            int(probabilities.argmax()) != int(answer.probabilities.argmax())
            for probabilities, answer in zip(predictions, sample, strict=True)
        )
        self._metrics.shadow_images.inc(len(sample))
        self._metrics.shadow_differences.inc(differing)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
