"""Observers of all answers that are served, such as a recorder or a second model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ServedAnswer:
    """An image and the model's answer."""

    id: str
    """The answer's unique id, which the client received."""
    content: bytes
    """The bytes of the file; empty if the image arrived as an array."""
    pixels: NDArray[np.uint8]
    """The decoded image, (height, width, channels)."""
    version: str
    """The version of the model, which the client received."""
    probabilities: NDArray[np.float32]
    """The probability of each class, (classes)."""
    time_ms: int
    """The Unix time of the answer, in milliseconds."""


class Observer(Protocol):
    """Receives answers after they were sent."""

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        """Receive a batch and return at once; called by one thread at a time."""

    def close(self) -> None:
        """Finish pending work; no batch follows."""
