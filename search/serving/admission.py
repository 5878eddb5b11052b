"""Admission of requests, within limits of a server's memory and of waiting times."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from search.feedback.observer import ServedAnswer
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

SMOOTHING = 0.2
"""Weight of the last image in the moving average of the decoding time per pixel."""
LARGE_PIXELS = 16_000_000
"""An image with more pixels than this is large, and is decoded in a separate queue. The other queue
decodes at most this number of pixels, multiplied by the number of threads, at the same time.
"""
OVERHEAD_PIXELS = 10_000
"""Fixed cost of decoding an image (about 0.2 ms), expressed as an equivalent number of pixels."""

Result = TypeVar("Result")


@dataclass(slots=True)
class Ticket:
    """The bytes and images that a request has reserved, and its answers for the observers."""

    size_bytes: int = 0
    images: int = 0
    answers: list[ServedAnswer] = field(default_factory=list)


class Lane:
    """A queue of images that threads decode in order.

    The total number of pixels that are decoded at the same time is limited.
    """

    def __init__(self, pool: ThreadPoolExecutor, concurrency: int, max_pixels: int) -> None:
        """Start with an empty queue.

        Args:
            pool: the threads that decode.
            concurrency: the number of threads that share this queue, to estimate the waiting time.
            max_pixels: the maximum number of pixels that are decoded at the same time.
        """
        self._pool, self._concurrency, self._free_pixels = pool, concurrency, max_pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pending_pixels, self._seconds_per_pixel = 0, 0.0
        """Number of pixels that wait or are being decoded, and the mean decoding time per pixel."""

    @property
    def wait_s(self) -> float:
        """The estimated seconds until a thread would start to decode another image."""
        return self._pending_pixels * self._seconds_per_pixel / self._concurrency

    async def decode(self, pixels: int, call: Callable[[], Result]) -> Result:
        """Decode an image in a thread, and return the result.

        If the caller is cancelled before a thread has started, the image is not decoded.

        Args:
            pixels: the number of pixels of the image, including `OVERHEAD_PIXELS`.
            call: decodes the image; its errors are raised here.
        """
        self._pending_pixels += pixels
        try:
            await self._acquire(pixels)
        except asyncio.CancelledError:
            self._pending_pixels -= pixels
            raise
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        future = self._pool.submit(self._time_call, pixels, call)
        # A single callback in the loop both releases the pixels and passes on the result.
        future.add_done_callback(
            lambda ended: loop.call_soon_threadsafe(self._settle, pixels, ended, result)
        )
        try:
            return await result
        except asyncio.CancelledError:
            future.cancel()  # has no effect if a thread has started
            raise

    def _settle(
        self, pixels: int, ended: "Future[Result]", result: "asyncio.Future[Result]"
    ) -> None:
        """Release the pixels after the thread has finished, and pass on its result.

        The pixels are not released earlier, since the thread uses the memory even after the client
        has disconnected.
        """
        self._release(pixels)
        if result.done():
            return
        if (error := ended.exception()) is None:
            result.set_result(ended.result())
        else:
            result.set_exception(error)

    async def _acquire(self, pixels: int) -> None:
        """Wait until an image with this number of pixels may be decoded."""
        if not self._waiting and pixels <= self._free_pixels:
            self._free_pixels -= pixels
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was admitted before the cancellation
                self._free_pixels += pixels
            self._start_waiting()
            raise

    def _release(self, pixels: int) -> None:
        self._free_pixels += pixels
        self._pending_pixels -= pixels
        self._start_waiting()

    def _start_waiting(self) -> None:
        """Admit waiting images in order, as long as their pixels fit."""
        while self._waiting:
            pixels, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif pixels <= self._free_pixels:
                self._waiting.popleft()
                self._free_pixels -= pixels
                turn.set_result(None)
            else:
                return

    def _time_call(self, pixels: int, call: Callable[[], Result]) -> Result:
        """Decode an image and update the mean time per pixel; runs in a thread."""
        began = time.perf_counter()
        try:
            return call()
        finally:
            pixel_s = (time.perf_counter() - began) / pixels
            mean_s = self._seconds_per_pixel or pixel_s
            self._seconds_per_pixel = mean_s + SMOOTHING * (pixel_s - mean_s)


class DecodingPool:
    """The threads that decode images, with a separate queue for large images.

    So small images need not wait for large ones. Both queues limit the number of pixels that are
    decoded at the same time, and thus the memory: decoding takes about 8 bytes per pixel.
    """

    def __init__(self, threads: int, max_pixels: int) -> None:
        """Start the threads, one of them for large images.

        Args:
            threads: the maximum number of images, besides a large one, that are decoded at the
                same time.
            max_pixels: the maximum number of pixels of an image.
        """
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads + 1, thread_name_prefix="decoding")
        self._usual = Lane(self._pool, threads, threads * (LARGE_PIXELS + OVERHEAD_PIXELS))
        self._large = Lane(self._pool, 1, max_pixels + OVERHEAD_PIXELS)

    def _lane(self, pixels: int) -> Lane:
        return self._large if pixels > LARGE_PIXELS else self._usual

    def wait_s(self, pixels: int) -> float:
        """Estimate the seconds that an image with this number of pixels would wait for a thread."""
        return self._lane(pixels).wait_s

    async def decode(self, pixels: int, call: Callable[[], Result]) -> Result:
        """Decode an image in a thread, and return the result.

        If the caller is cancelled before a thread has started, the image is not decoded.

        Args:
            pixels: the number of pixels of the image.
            call: decodes the image; its errors are raised here.
        """
        return await self._lane(pixels).decode(pixels + OVERHEAD_PIXELS, call)

    def close(self) -> None:
        """Wait until the threads have finished, and end them."""
        self._pool.shutdown()


class Admission:
    """Admits requests while the limits allow, and refuses those that would wait too long."""

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        seconds_per_image: Callable[[], float],
        decoding_wait_s: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        """Start with nothing reserved.

        Args:
            limits: the limits of all reservations.
            metrics: the metrics to update.
            seconds_per_image: returns the seconds that the model recently needed for an image, on
                average.
            decoding_wait_s: given the number of pixels of an image, estimates the seconds that the
                image would wait for a thread.
        """
        self._limits, self._metrics = limits, metrics
        self._seconds_per_image, self._decoding_wait_s = seconds_per_image, decoding_wait_s
        self.size_bytes, self.images = 0, 0

    def take_bytes(self, ticket: Ticket, count: int) -> None:
        """Reserve memory for a part of a request's body.

        Args:
            ticket: the reservations of the request.
            count: the number of bytes.

        Raises:
            Refusal: the bodies of all requests would exceed `Limits.queue_bytes`.
        """
        if self.size_bytes + count > self._limits.queue_bytes:
            raise _busy_refusal(self._compute_wait_s(self.images))
        ticket.size_bytes += count
        self.size_bytes += count

    def take_images(self, ticket: Ticket, count: int) -> None:
        """Reserve places in the queue for the images of a request.

        If the queue is empty, any number of images is accepted.

        Raises:
            Refusal: the queue would be full, or the images would wait too long.
        """
        total = self.images + count
        if self.images and (
            total > self._limits.queue_images or self._compute_wait_s(total) > self._limits.wait_s
        ):
            raise _busy_refusal(self._compute_wait_s(self.images))
        ticket.images += count
        self.images = total

    def check_pixels(self, pixel_counts: Sequence[int]) -> None:
        """Check that the image files of a request may be decoded.

        Args:
            pixel_counts: the number of pixels of each file.

        Raises:
            Refusal: the files have too many pixels in total, or would wait too long.
        """
        limit, pixels = self._limits.request_pixels, sum(pixel_counts)
        if pixels > limit:
            raise Refusal(
                413,
                f"the images have {pixels:,} pixels in total (limit {limit:,}): send fewer or "
                "smaller images in a request",
            )
        if (wait_s := self._decoding_wait_s(max(pixel_counts))) > self._limits.wait_s:
            raise _busy_refusal(wait_s)

    def release(self, ticket: Ticket) -> None:
        """Release the reservations of a request."""
        self.size_bytes -= ticket.size_bytes
        self.images -= ticket.images

    def measure(self) -> None:
        """Update the metrics with the numbers of reserved images and bytes."""
        self._metrics.queue_images.set(self.images)
        self._metrics.queue_bytes.set(self.size_bytes)

    def _compute_wait_s(self, images: int) -> float:
        return images * self._seconds_per_image()


def _busy_refusal(wait_s: float) -> Refusal:
    seconds = max(1, math.ceil(wait_s))
    return Refusal(503, f"too many images are waiting; try again in {seconds} s", seconds)
