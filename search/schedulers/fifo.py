"""First in, first out: every trial runs to its last epoch."""

from search.schedulers.base import Scheduler, Stop


class Fifo(Scheduler):
    """Stops nothing."""

    def on_epoch(self, trial: str, epoch: int, value: float) -> Stop | None:
        """None."""
        return None
