"""The server's memory and time that are spoken for, and the refusal of what would be more."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from search.feedback.observer import Answered
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

SMOOTHING = 0.2
"""The weight of the last image in the mean time in which one is decoded."""

Made = TypeVar("Made")


@dataclass(slots=True)
class Ticket:
    """The room that one request has reserved, and the answers that it was given."""

    size: int = 0
    images: int = 0
    answered: list[Answered] = field(default_factory=list)


class Decoding:
    """The images that threads are to decode, and the time that it takes them."""

    def __init__(self, threads: int) -> None:
        self._threads, self._count, self._each_s = threads, 0, 0.0

    @property
    def wait_s(self) -> float:
        """The seconds that another image would wait for a thread, by the mean time of the last."""
        return self._count * self._each_s / self._threads

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count an image, from before a thread is asked until it is decoded."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    def timed(self, call: Callable[[bytes], Made], content: bytes) -> Made:
        """Decode, in a thread, and note how long that took."""
        began = time.perf_counter()
        try:
            return call(content)
        finally:
            took = time.perf_counter() - began
            before = self._each_s or took
            self._each_s = before + SMOOTHING * (took - before)


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
