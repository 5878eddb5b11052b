"""Observers of each answer that is served, such as a recorder or a second model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answered:
    """One image and what the model said of it."""

    id: str
    """The answer's own name, unique, which the client was told."""
    content: bytes
    """The image as it came; empty if it came as an array."""
    pixels: NDArray[np.uint8]
    """The same, decoded: (height, width, channels)."""
    version: str
    """The version of the model, as the client was told."""
    probabilities: NDArray[np.float32]
    """The probability of each class, (classes)."""
    time_ms: int
    """The Unix time of the answer, in milliseconds."""


class Observer(Protocol):
    """Hears of answers after they were sent."""

    def answered(self, batch: Sequence[Answered]) -> None:
        """Take note of a batch and return at once; called by one thread at a time."""

    def close(self) -> None:
        """Finish what was begun; no batch follows."""
