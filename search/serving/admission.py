"""The server's memory and time that are spoken for, and the refusal of what would be more."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from search.feedback.observer import ServedAnswer
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

SMOOTHING = 0.2
"""The weight of the last image in the mean time in which a pixel is decoded."""
LARGE_PIXELS = 16_000_000
"""An image of more pixels is large. Others have room for this number for each thread."""
PIXELS_OF_ANY = 10_000
"""The fixed cost of any image, about 0.2 ms, in pixels that take as long."""

Made = TypeVar("Made")


@dataclass(slots=True)
class Ticket:
    """The room that one request has reserved, and the answers that it was given."""

    size: int = 0
    images: int = 0
    answered: list[ServedAnswer] = field(default_factory=list)


class Lane:
    """A queue of images: threads decode the first of them, at once as many as have room."""

    def __init__(self, pool: ThreadPoolExecutor, at_once: int, most_pixels: int) -> None:
        """Begin with nothing to decode.

        Args:
            pool: its threads.
            at_once: how many of them decode such images, for the time that these wait.
            most_pixels: how many pixels are decoded at once.
        """
        self._pool, self._at_once, self._free = pool, at_once, most_pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pixels, self._each_s = 0, 0.0
        """The pixels that wait or are decoded; the mean seconds of one."""

    @property
    def wait_s(self) -> float:
        """The seconds that another image would wait for a thread, by the mean time of the last."""
        return self._pixels * self._each_s / self._at_once

    async def decode(self, pixels: int, call: Callable[[], Made]) -> Made:
        """Decode an image in a thread; one that is cancelled while it waits is not decoded."""
        self._pixels += pixels
        try:
            await self._room(pixels)
        except asyncio.CancelledError:
            self._pixels -= pixels
            raise
        loop = asyncio.get_running_loop()
        made = self._pool.submit(self._timed, pixels, call)
        # The room is free when the thread is, also where nobody waits for it any more.
        made.add_done_callback(lambda _: loop.call_soon_threadsafe(self._give_back, pixels))
        return await asyncio.wrap_future(made)

    async def _room(self, pixels: int) -> None:
        """Wait until there is room for an image."""
        if not self._waiting and pixels <= self._free:
            self._free -= pixels
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had got its room just then
                self._free += pixels
            self._next()
            raise

    def _give_back(self, pixels: int) -> None:
        self._free += pixels
        self._pixels -= pixels
        self._next()

    def _next(self) -> None:
        """Let those begin for which there is room now, in their order."""
        while self._waiting:
            pixels, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif pixels <= self._free:
                self._waiting.popleft()
                self._free -= pixels
                turn.set_result(None)
            else:
                return

    def _timed(self, pixels: int, call: Callable[[], Made]) -> Made:
        """Decode, in a thread, and note how long that took."""
        began = time.perf_counter()
        try:
            return call()
        finally:
            each = (time.perf_counter() - began) / pixels
            before = self._each_s or each
            self._each_s = before + SMOOTHING * (each - before)


class Decoding:
    """The threads that decode images. Large images wait for each other, and no other for them.

    Memory is bounded by the pixels that are decoded at once, which take about 8 bytes each.
    """

    def __init__(self, threads: int, most_pixels: int) -> None:
        """Begin with nothing to decode.

        Args:
            threads: how many images are decoded at once, beside a large one.
            most_pixels: of the largest image.
        """
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads + 1, thread_name_prefix="decoding")
        self._usual = Lane(self._pool, threads, threads * (LARGE_PIXELS + PIXELS_OF_ANY))
        self._large = Lane(self._pool, 1, most_pixels + PIXELS_OF_ANY)

    def _lane(self, pixels: int) -> Lane:
        return self._large if pixels > LARGE_PIXELS else self._usual

    def wait_s(self, pixels: int) -> float:
        """Return the seconds that an image of this size would wait for a thread."""
        return self._lane(pixels).wait_s

    async def decode(self, pixels: int, call: Callable[[], Made]) -> Made:
        """Decode an image in a thread; one that is cancelled while it waits is not decoded.

        Args:
            pixels: those of the image.
            call: decodes it.

        Raises:
            Exception: as `call`.
        """
        return await self._lane(pixels).decode(pixels + PIXELS_OF_ANY, call)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class Admission:
    """Lets requests in as long as there is room, and they need not wait for long."""

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        seconds_per_image: Callable[[], float],
        decoding_s: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        """Begin with nothing reserved.

        Args:
            limits: how much there may be.
            metrics: what is told of it.
            seconds_per_image: returns the mean time in which the last ones were computed.
            decoding_s: returns the seconds that an image waits to be decoded, given its pixels.
        """
        self._limits, self._metrics = limits, metrics
        self._each_s, self._decoding_s = seconds_per_image, decoding_s
        self.size, self.images = 0, 0

    def take_bytes(self, ticket: Ticket, count: int) -> None:
        """Reserve bytes of a request's body.

        Raises:
            Refusal: all requests together have too many.
        """
        if self.size + count > self._limits.queue_bytes:
            raise _busy(self._wait_s(self.images))
        ticket.size += count
        self.size += count

    def take_images(self, ticket: Ticket, count: int) -> None:
        """Reserve places for images; where none waits, any number that is allowed.

        Raises:
            Refusal: they would wait too long.
        """
        total = self.images + count
        if self.images and (
            total > self._limits.queue_images or self._wait_s(total) > self._limits.wait_s
        ):
            raise _busy(self._wait_s(self.images))
        ticket.images += count
        self.images = total

    def check_pixels(self, sizes: Sequence[int]) -> None:
        """Check that threads may decode the files of a request, by the pixels of each.

        Raises:
            Refusal: these are more than a request may have, or would wait too long.
        """
        limit, pixels = self._limits.request_pixels, sum(sizes)
        if pixels > limit:
            raise Refusal(
                413,
                f"the images have {pixels // 1_000_000} million pixels together (limit "
                f"{limit // 1_000_000} million): send fewer of them in a request",
            )
        if (wait_s := self._decoding_s(max(sizes))) > self._limits.wait_s:
            raise _busy(wait_s)

    def release(self, ticket: Ticket) -> None:
        """Give back what a request has reserved."""
        self.size -= ticket.size
        self.images -= ticket.images

    def measure(self) -> None:
        """Tell the metrics how much is reserved."""
        self._metrics.queue_images.set(self.images)
        self._metrics.queue_bytes.set(self.size)

    def _wait_s(self, images: int) -> float:
        return images * self._each_s()


def _busy(wait_s: float) -> Refusal:
    seconds = max(1, math.ceil(wait_s))
    return Refusal(503, f"too many images wait; try again in {seconds} s", seconds)
