"""Images of several requests computed together, without any that waits for others to come.

A thread computes, or the event loop's own where that takes less time than to ask another. What
arrives meanwhile is the next batch; an image that comes while nothing is computed is begun at once,
so that batches are as large as the load is.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.serving.versions import Served

LOG = logging.getLogger(__name__)
SMOOTHING = 0.2
"""The weight of the last batch in the mean time of an image."""


@dataclass(slots=True)
class Job:
    """The images of a request, and what is said of them as it becomes known."""

    images: Sequence[NDArray[np.uint8]]
    done: "asyncio.Future[None]"
    answers: list[tuple[Any, Served]] = field(default_factory=list)
    """The model's answer on each image, with the version that gave it."""


Batch = list[tuple[Job, int]]
"""Images, each by its job and its number there."""


@dataclass(slots=True)
class Finished:
    """A batch that was computed, or that could not be."""

    batch: Batch
    served: Served
    found: Any
    """The model's answers on the images, in their order."""
    error: Exception | None
    seconds: float


class Batcher:
    """Computes what is waiting, as soon as the batch before is ready."""

    def __init__(self, current: Callable[[], Served], computed: Callable[[Finished], None]) -> None:
        """Begin the thread that computes.

        Args:
            current: returns the version that is to answer now.
            computed: hears of each batch, before its answers are sent.
        """
        self._current, self._computed = current, computed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Job, int]] = deque()
        self._is_busy = False
        self._work: SimpleQueue[Batch | None] = SimpleQueue()
        self.seconds_per_image = 0.0
        """A moving mean; 0 before the first batch."""
        self._thread = threading.Thread(target=self._compute_all, name="inference", daemon=True)
        self._thread.start()

    async def answers(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Any, Served]]:
        """Return what the model says of each image, and the version that said it.

        Raises:
            Exception: whatever the model raised.
        """
        job = Job(images, self._loop.create_future())
        self._waiting.extend((job, number) for number in range(len(images)))
        if not self._is_busy:
            self._is_busy = True
            # After all that has arrived at the same moment.
            self._loop.call_soon(self._begin)
        await job.done
        return job.answers

    def close(self) -> None:
        """End the thread; nothing may be waiting."""
        self._work.put(None)
        self._thread.join()

    def _begin(self) -> None:
        """Compute what waits, if that is quick; else hand it to the thread."""
        served = self._current()
        batch: Batch = []
        while self._waiting and len(batch) < served.largest:
            one = self._waiting.popleft()
            if not one[0].done.done():  # else nobody waits for it any more
                batch.append(one)
        self._is_busy = bool(batch)
        if len(batch) > served.quick:
            self._work.put(batch)
        elif batch:
            self._tell(self._compute(batch))
            self._loop.call_soon(self._begin)

    def _compute_all(self) -> None:
        while (batch := self._work.get()) is not None:
            self._loop.call_soon_threadsafe(self._answer, self._compute(batch))

    def _compute(self, batch: Batch) -> Finished:
        served, began = self._current(), time.perf_counter()
        found, error = None, None
        try:
            images = [job.images[number] for job, number in batch]
            found = served.predictions(images)
            if len(found) != len(images):
                raise ValueError(f"it gave {len(found)} answers to {len(images)} images")
        except Exception as raised:  # noqa: BLE001 - a request is answered whatever a model does
            LOG.error("version %s could not answer: %r", served.version, raised)
            error = raised
        return Finished(batch, served, found, error, time.perf_counter() - began)

    def _answer(self, finished: Finished) -> None:
        """Begin the next batch, then tell the requests of this one."""
        self._begin()
        self._tell(finished)

    def _tell(self, finished: Finished) -> None:
        each = finished.seconds / len(finished.batch)
        before = self.seconds_per_image or each
        self.seconds_per_image = before + SMOOTHING * (each - before)
        error = finished.error
        try:
            self._computed(finished)
        except Exception as raised:  # noqa: BLE001 - what is wrong with a batch may not end the loop
            LOG.error("what version %s said is not understood: %r", finished.served.version, raised)
            error = error or raised
        if error is not None:
            for job, _ in finished.batch:
                if not job.done.done():
                    job.done.set_exception(error)
            return
        for (job, _), found in zip(finished.batch, finished.found, strict=True):
            job.answers.append((found, finished.served))
            if len(job.answers) == len(job.images) and not job.done.done():
                job.done.set_result(None)
