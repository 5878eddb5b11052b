"""One trial from its config to its reports: the loop, its checkpoints, and how it ended. Every way to run a trial goes through here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.loop import EpochMetrics, Training
from trainables.ranking import rank
from trainables.world import World

NEWEST_KEPT = 2


@dataclass(frozen=True)
class Report:
    """What a trial says after an epoch. `outcome` is None while it goes on, else `completed`, `diverged` or `failed`."""

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to cross a process border."""
        return {"epoch": self.epoch, "metrics": self.metrics, "outcome": self.outcome, "reason": self.reason}


def run_trial(config: TrialConfig, dataset: Dataset, folder: Path, *, device: str = "cpu", world: World | None = None) -> Iterator[Report]:
    """Train, and after each epoch save a checkpoint under `folder` and report; the checkpoint is on disk before the report is out.

    An epoch whose loss is not finite, or has blown up, ends the trial as diverged; it is not saved and has no metrics.
    Kept are the checkpoint of the best epoch and the newest two. With several processes each yields; the first one saves.
    """
    world = world or World()
    training = Training(config, dataset, device=device, world=world)
    best: EpochMetrics | None = None
    for epoch in training.epochs():
        if epoch.diverged:
            yield Report(epoch.epoch, outcome="diverged", reason=epoch.diverged)
            return
        best = epoch if best is None or rank(epoch.values) > rank(best.values) else best
        if world.rank == 0:
            checkpoint.save(folder, training.state(), {"metrics": epoch.values, "best_epoch": best.epoch})
            checkpoint.keep_only(folder, {best.epoch, *range(epoch.epoch - NEWEST_KEPT + 1, epoch.epoch + 1)})
        yield Report(epoch.epoch, epoch.values, outcome="completed" if epoch.epoch == config.epochs else None)
