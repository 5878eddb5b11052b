"""The interface of observers of a server's answers, such as the recorder or a second model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ServedAnswer:
    """An image with the model's answer on it."""

    id: str
    """The answer's unique id, which the client received."""
    content: bytes
    """The bytes of the file; empty if the image arrived as an array."""
    pixels: NDArray[np.uint8]
    """The decoded image, (height, width, channels)."""
    version: str
    """The version of the model, which the client received."""
    probabilities: NDArray[np.float32]
    """The probability of each class, (classes,)."""
    time_ms: int
    """The Unix time of the answer, in milliseconds."""
    abstained: str = ""
    """The reason for which the model abstained, `unlike` or `uncertain`; empty if it answered."""


class Observer(Protocol):
    """Receives answers after they were sent to the clients."""

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        """Process a batch of answers; called by one thread at a time."""

    def close(self) -> None:
        """Finish pending work; `observe` is not called again."""
