"""Compute the images of several requests in batches, without waiting for a batch to fill.

To compute an image means to compute the model's answer on it. A thread computes the batches; small
batches are computed in the event loop, if that is faster than a handover to the thread. Images that
arrive while a batch is being computed form the next batch. If the server is idle, an image is
computed immediately. So the size of the batches adapts to the load.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.serving.versions import ServedVersion

LOG = logging.getLogger(__name__)
SMOOTHING = 0.2
"""Weight of the last batch in the moving average of the time per image."""


class ComputedAnswer(NamedTuple):
    """The model's answer on an image."""

    prediction: Any
    """The probability of each class, (classes,), or the prediction of another task."""
    served: ServedVersion
    """The version that computed it."""
    judgement: Any
    """The answer's `trainables.predictors.base.Judgement`; None without promises."""


@dataclass(slots=True)
class PendingRequest:
    """The images of a request, and the model's answers so far."""

    images: Sequence[NDArray[np.uint8]]
    done: "asyncio.Future[None]"
    """Completed once all images are answered, or with the error of the model."""
    answers: list[ComputedAnswer] = field(default_factory=list)
    """The model's answers on the images so far."""


Batch = list[tuple[PendingRequest, int]]
"""Images as pairs of a request and an index into its `images`."""


@dataclass(slots=True)
class BatchResult:
    """A batch with the model's answers, or with the error that prevented them."""

    batch: Batch
    served: ServedVersion
    predictions: Any
    """The model's answers on the images, in their order; None after an error."""
    judgements: Sequence[Any] | None
    """The judgement of each answer; None for a model without promises, or after an error."""
    error: Exception | None
    seconds: float
    """Time to compute the batch."""


class Batcher:
    """Computes waiting images as soon as the previous batch has finished."""

    def __init__(
        self, current: Callable[[], ServedVersion], on_result: Callable[[BatchResult], None]
    ) -> None:
        """Start the thread that computes batches.

        Args:
            current: returns the version in use.
            on_result: called with each computed batch, before its requests receive the answers.
        """
        self._current, self._on_result = current, on_result
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[PendingRequest, int]] = deque()
        self._is_busy = False
        self._work: SimpleQueue[Batch | None] = SimpleQueue()
        self.seconds_per_image = 0.0
        """Moving average of the time to compute an image; 0 before the first batch."""
        self._thread = threading.Thread(target=self._compute_all, name="inference", daemon=True)
        self._thread.start()

    async def answers(self, images: Sequence[NDArray[np.uint8]]) -> list[ComputedAnswer]:
        """Compute the model's answer on each image.

        Any exception that the model raises is raised here.
        """
        request = PendingRequest(images, self._loop.create_future())
        self._waiting.extend((request, number) for number in range(len(images)))
        if not self._is_busy:
            self._is_busy = True
            # The batch starts slightly later, so that simultaneous requests share it.
            self._loop.call_soon(self._begin)
        await request.done
        return request.answers

    @property
    def is_busy(self) -> bool:
        """True while images are being computed."""
        return self._is_busy

    def close(self) -> None:
        """End the thread; call this only when no images are waiting."""
        self._work.put(None)
        self._thread.join()

    def _begin(self) -> None:
        """Compute the next batch in the event loop if that is quick, otherwise in the thread."""
        served = self._current()
        batch: Batch = []
        while self._waiting and len(batch) < served.largest_batch:
            entry = self._waiting.popleft()
            if not entry[0].done.done():  # done if its client has left
                batch.append(entry)
        self._is_busy = bool(batch)
        if len(batch) > served.quick_batch:
            self._work.put(batch)
        elif batch:
            self._settle(self._compute(batch))
            self._loop.call_soon(self._begin)

    def _compute_all(self) -> None:
        while (batch := self._work.get()) is not None:
            self._loop.call_soon_threadsafe(self._continue, self._compute(batch))

    def _compute(self, batch: Batch) -> BatchResult:
        served, began = self._current(), time.perf_counter()
        predictions, judgements, error = None, None, None
        try:
            images = [request.images[number] for request, number in batch]
            predictions, judgements = served.judged(images)
            if len(predictions) != len(images):
                raise ValueError(
                    f"the model returned {len(predictions)} predictions for {len(images)} images"
                )
        except Exception as raised:  # noqa: BLE001 - a model may raise anything
            LOG.error("version %s could not answer: %r", served.version, raised)
            error = raised
        return BatchResult(
            batch, served, predictions, judgements, error, time.perf_counter() - began
        )

    def _continue(self, result: BatchResult) -> None:
        """Start the next batch, so that the thread is not idle, then pass on this result."""
        self._begin()
        self._settle(result)

    def _settle(self, result: BatchResult) -> None:
        image_s = result.seconds / len(result.batch)
        mean_s = self.seconds_per_image or image_s
        self.seconds_per_image = mean_s + SMOOTHING * (image_s - mean_s)
        error = result.error
        try:
            self._on_result(result)
        except Exception as raised:  # noqa: BLE001 - its requests must get an answer
            LOG.error(
                "the result of version %s could not be processed: %r", result.served.version, raised
            )
            error = error or raised
        if error is not None:
            for request, _ in result.batch:
                if not request.done.done():
                    request.done.set_exception(error)
            return
        judgements = result.judgements or repeat(None, len(result.batch))
        for (request, _), prediction, judgement in zip(
            result.batch, result.predictions, judgements, strict=True
        ):
            request.answers.append(ComputedAnswer(prediction, result.served, judgement))
            if len(request.answers) == len(request.images) and not request.done.done():
                request.done.set_result(None)
