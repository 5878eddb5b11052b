"""Asynchronous successive halving, stopping variant (Li et al. 2018, arXiv 1810.05934).

Trials are compared at rungs, epochs `grace`, `grace * reduction`, `grace * reduction**2` ...; at each, one goes on only if its best
value so far is among the top `1 / reduction` of all that have come there. Nobody waits for anybody: the first to come goes on.
"""

from search.schedulers.base import Scheduler, Stop

REDUCTION = 3
GRACE_SHARE = 10


class Asha(Scheduler):
    """Rungs from `grace`, by default a tenth of the longest trial, up to the longest trial."""

    def __init__(self, horizon: int, *, grace: int | None = None, reduction: int = REDUCTION) -> None:
        self.reduction = reduction
        self.rungs: dict[int, list[float]] = {}
        rung = grace or max(1, horizon // GRACE_SHARE)
        while rung < horizon:
            self.rungs[rung] = []
            rung *= reduction

    def on_epoch(self, trial: str, epoch: int, value: float) -> Stop | None:
        """Compare at a rung; ties go on."""
        if epoch not in self.rungs:
            return None
        values = self.rungs[epoch]
        values.append(value)
        cutoff = sorted(values, reverse=True)[max(1, len(values) // self.reduction) - 1]
        if value >= cutoff:
            return None
        return Stop(f"{value:.4f} at epoch {epoch}, below {cutoff:.4f}, the bar among {len(values)} trials", rung=epoch, cutoff=cutoff, rivals=len(values))
