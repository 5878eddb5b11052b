"""Outputs on the validation set at each trial's best epoch, cached in the process that trained it.

The trial's evaluation needs the same outputs of the network again, and finds them here by the
SHA-256 of its weights: computing them again would take as long as the validation did. The cache is
empty in any other process and after a restart, and has no outputs of folds, of several processes,
of fused networks, or of a GPU, whose kernels may differ from call to call. These are computed
again.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from torch import Tensor

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Part

MAX_BYTES = 64 << 20
"""The limit for all outputs that a process keeps; the oldest are dropped first."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network for a part: a tensor (images, ...) for each batch."""

    epoch: int
    config: TrialConfig
    part: Part
    batches: list[Tensor]

    @property
    def size(self) -> int:
        """The size of all outputs, in bytes."""
        return sum(values.nbytes for values in self.batches)


class OutputCache:
    """Outputs by trial, each with the SHA-256 of the weights."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[str, Outputs]] = OrderedDict()
        self._lock = Lock()

    def keep(self, trial: str, path: Path, outputs: Outputs) -> None:
        """Keep the outputs of the checkpoint at `path`, the trial's best; drop earlier ones."""
        try:
            weights = checkpoint.digest(path)
        except (OSError, ValueError):  # it was removed, so that nobody will evaluate it
            return
        with self._lock:
            for name in [
                name
                for name, (_, earlier) in self._entries.items()
                if name == trial or earlier.part is not outputs.part
            ]:
                del self._entries[name]  # a `Part` keeps its images in memory
            self._entries[trial] = weights, outputs
            while sum(earlier.size for _, earlier in self._entries.values()) > MAX_BYTES:
                self._entries.popitem(last=False)

    def outputs(self, path: Path, config: TrialConfig, part: Part) -> list[Tensor] | None:
        """Return the cached outputs for this part, batch by batch, of the network saved at `path`.

        None if they are not in the cache.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        with self._lock:
            outputs_of_weights = {
                weights: outputs
                for weights, outputs in self._entries.values()
                if outputs.config == config and outputs.part is part
            }
        if not outputs_of_weights:
            return None
        checkpoint.verify(path)
        outputs = outputs_of_weights.get(checkpoint.digest(path))
        return outputs.batches if outputs is not None else None

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
