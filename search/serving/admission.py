"""How much of the server's memory and time is spoken for, and the refusal of what would be more."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from search.feedback.observer import Answered
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics


@dataclass(slots=True)
class Ticket:
    """What one request has reserved, and what it was told."""

    size: int = 0
    images: int = 0
    answered: list[Answered] = field(default_factory=list)


class Admission:
    """Lets requests in as long as there is room, and they need not wait for long."""

    def __init__(
        self, limits: Limits, metrics: Metrics, seconds_per_image: Callable[[], float]
    ) -> None:
        """Begin with nothing reserved; `seconds_per_image` is the mean time of the last ones."""
        self._limits, self._metrics, self._each_s = limits, metrics, seconds_per_image
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
            total > self._limits.queue_images or total * self._each_s() > self._limits.wait_s
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

    def _busy(self) -> Refusal:
        wait_s = max(1, math.ceil(self.images * self._each_s()))
        return Refusal(503, f"too many images wait; try again in {wait_s} s", wait_s)
