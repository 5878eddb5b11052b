"""Observers, each in a thread of its own, so that no answer waits for one; and a second model."""

import logging
import random
import threading
from collections import deque
from collections.abc import Sequence

from search.feedback.observer import Observer, ServedAnswer
from search.serving.metrics import Metrics
from search.serving.versions import Served

LOG = logging.getLogger(__name__)
MOST_IMAGES, MOST_BYTES = 4096, 64 * 2**20
"""The most that may wait for an observer; what comes beyond is counted, and not told to it."""
BATCH = 256


class Observing:
    """An observer and what waits for it."""

    def __init__(self, observer: Observer, metrics: Metrics) -> None:
        """Begin its thread."""
        self._observer, self._metrics = observer, metrics
        self._waiting: deque[ServedAnswer] = deque()
        self._size, self._is_closed, self._has_failed = 0, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._tell_all, name="observer", daemon=True)
        self._thread.start()

    def tell(self, answered: Sequence[ServedAnswer]) -> None:
        """Have it told of answers, soon."""
        size = sum(_size(one) for one in answered)
        with self._changed:
            if len(self._waiting) >= MOST_IMAGES or self._size + size > MOST_BYTES:
                self._metrics.unobserved.inc(len(answered))
                return
            self._size += size
            self._waiting.extend(answered)
            self._changed.notify()

    def close(self) -> None:
        """Tell it what waits, and close it."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _tell_all(self) -> None:
        while batch := self._next():
            try:
                self._observer.observe(batch)
            except Exception as error:  # noqa: BLE001 - answers go on whatever an observer does
                if not self._has_failed:
                    LOG.error("%s failed: %r", type(self._observer).__name__, error)
                self._has_failed = True
        self._observer.close()

    def _next(self) -> list[ServedAnswer]:
        """Wait for answers; none are returned at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._size -= sum(_size(one) for one in batch)
            return batch


def _size(answered: ServedAnswer) -> int:
    return len(answered.content) + answered.pixels.nbytes


class Shadow:
    """An observer that asks a second model about a share of the images, and counts differences."""

    def __init__(self, share: float, metrics: Metrics) -> None:
        """Ask it for this share of the images, once there is one."""
        self.served: Served | None = None
        self._share, self._metrics = share, metrics

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        """Ask the second model about a sample of these images, and count differences."""
        served = self.served
        asked = [one for one in batch if random.random() < self._share]
        if served is None or not asked:
            return
        found = served.predictions([one.pixels for one in asked])
        differing = sum(
            int(chances.argmax()) != int(one.probabilities.argmax())
            for chances, one in zip(found, asked, strict=True)
        )
        self._metrics.shadow_images.inc(len(asked))
        self._metrics.shadow_differences.inc(differing)

    def close(self) -> None:
        """Nothing is left to do."""
