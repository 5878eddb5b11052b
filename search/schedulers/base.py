"""What a scheduler is: it hears every finished epoch and may stop the trial."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Stop:
    """A decision to stop a trial, with what it rests on."""

    reason: str
    """In words, for people."""
    rung: int | None = None
    """The epoch at which trials were compared."""
    cutoff: float | None = None
    """The value that had to be reached there."""
    rivals: int | None = None
    """How many trials had reached that epoch, this one included."""

    def to_dict(self) -> dict[str, Any]:
        """What is known, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Scheduler(ABC):
    """Decides after each epoch whether a trial goes on."""

    @abstractmethod
    def on_epoch(self, trial: str, epoch: int, value: float) -> Stop | None:
        """Hear a trial's best value so far (validation accuracy, higher is better) after an epoch (1-based)."""
