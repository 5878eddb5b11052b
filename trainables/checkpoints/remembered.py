"""A cache of the outputs on the validation set at each trial's best epoch.

The evaluation of a trial needs these outputs again, and computing them would take as long as the
validation did. An evaluation in the process that trained the trial finds them here, by the SHA-256
of the network's weights. Outputs of folds, of several processes, of fused networks, and of a
GPU (whose kernels may differ between calls) are never cached.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from torch import Tensor

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Part

MAX_BYTES = 64 << 20
"""The maximum total size of the outputs in the cache, in bytes; the oldest are dropped first."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network for a part of the data: one tensor, (images, ...), per batch."""

    epoch: int
    config: TrialConfig
    part: Part
    batches: list[Tensor]

    @property
    def size(self) -> int:
        """The size of all outputs, in bytes."""
        return sum(values.nbytes for values in self.batches)


class OutputCache:
    """A thread-safe cache of outputs by trial, each with the SHA-256 of the network's weights."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, Outputs]] = {}
        self._lock = Lock()

    def keep(self, trial: str, path: Path, outputs: Outputs) -> None:
        """Cache the outputs of the checkpoint at `path`, the trial's best.

        The trial's earlier outputs, and all outputs for other parts, are dropped.
        """
        try:
            weights = checkpoint.digest(path)
        except (OSError, ValueError):  # the checkpoint was removed, and will not be evaluated
            return
        with self._lock:
            self._entries = {
                name: entry
                for name, entry in self._entries.items()
                # An entry's `Part` would keep images in memory.
                if name != trial and entry[1].part is outputs.part
            }
            self._entries[trial] = weights, outputs
            while sum(earlier.size for _, earlier in self._entries.values()) > MAX_BYTES:
                del self._entries[next(iter(self._entries))]

    def outputs(self, path: Path, config: TrialConfig, part: Part) -> list[Tensor] | None:
        """Return the cached outputs, one tensor per batch, of the network saved at `path`.

        The result is None if the cache has no outputs for this config and this `Part` object.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        with self._lock:
            batches_of_weights = {
                weights: outputs.batches
                for weights, outputs in self._entries.values()
                if outputs.config == config and outputs.part is part
            }
        if not batches_of_weights:
            return None
        checkpoint.verify(path)
        return batches_of_weights.get(checkpoint.digest(path))

    @property
    def trials(self) -> list[str]:
        """The trials whose outputs are in the cache."""
        with self._lock:
            return list(self._entries)

    def forget(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._entries.clear()


OUTPUT_CACHE = OutputCache()
"""The cache of this process."""
