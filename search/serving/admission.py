"""The server's memory and time that are spoken for, and the refusal of what would be more."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from search.feedback.observer import Answered
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

SMOOTHING = 0.2
"""The weight of the last image in the mean time in which a pixel is decoded."""
PIXELS_PER_THREAD = 16_000_000
"""The pixels that are decoded at once for each thread; the largest image may have more."""
PIXELS_OF_ANY = 10_000
"""The pixels that take as long as what any image takes besides, about 0.2 ms."""

Made = TypeVar("Made")


@dataclass(slots=True)
class Ticket:
    """The room that one request has reserved, and the answers that it was given."""

    size: int = 0
    images: int = 0
    answered: list[Answered] = field(default_factory=list)


class Decoding:
    """The threads that decode images, the room that they have, and the time that it takes them.

    Images are decoded in the order in which they come, as many at once as have room together: an
    image takes about 8 bytes of memory a pixel. Of one request as many wait for that as there are
    threads, so that others are not behind all of them.
    """

    def __init__(self, threads: int, most_pixels: int) -> None:
        """Begin with nothing to decode.

        Args:
            threads: how many images are decoded at once.
            most_pixels: of the largest image.
        """
        self.threads = threads
        self._free = max(most_pixels, threads * PIXELS_PER_THREAD)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoding")
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pixels, self._each_s = 0, 0.0
        """The pixels that wait or are decoded; the mean seconds of one."""

    @property
    def wait_s(self) -> float:
        """The seconds that another image would wait for a thread, by the mean time of the last."""
        return self._pixels * self._each_s / self.threads

    async def decode(self, pixels: int, call: Callable[[], Made]) -> Made:
        """Return what a thread makes of an image; cancelled, it is not begun, if it is not yet.

        Args:
            pixels: those of the image.
            call: decodes it.

        Raises:
            Exception: as `call`.
        """
        pixels += PIXELS_OF_ANY
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
        decoding_s: Callable[[], float] = float,
    ) -> None:
        """Begin with nothing reserved.

        Args:
            limits: how much there may be.
            metrics: what is told of it.
            seconds_per_image: returns the mean time in which the last ones were computed.
            decoding_s: returns how long an image would wait to be decoded.
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
            raise self._busy()
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
            raise self._busy()
        ticket.images += count
        self.images = total

    def check_pixels(self, pixels: int) -> None:
        """Check that the files of a request have no more pixels than one may have.

        Raises:
            Refusal: they have.
        """
        limit = self._limits.request_pixels
        if pixels > limit:
            raise Refusal(
                413,
                f"the images have {pixels // 1_000_000} million pixels together (limit "
                f"{limit // 1_000_000} million): send fewer of them in a request",
            )

    def release(self, ticket: Ticket) -> None:
        """Give back what a request has reserved."""
        self.size -= ticket.size
        self.images -= ticket.images

    def measure(self) -> None:
        """Tell the metrics how much is reserved."""
        self._metrics.queue_images.set(self.images)
        self._metrics.queue_bytes.set(self.size)

    def _wait_s(self, images: int) -> float:
        return images * self._each_s() + self._decoding_s()

    def _busy(self) -> Refusal:
        wait_s = max(1, math.ceil(self._wait_s(self.images)))
        return Refusal(503, f"too many images wait; try again in {wait_s} s", wait_s)
