"""Outputs on the validation part at each trial's best epoch, kept in the process that made them.

The trial's evaluation needs the same outputs of the network again, and finds them here by the
SHA-256 of its weights: to load these and compute anew takes as long as the validation did. Nothing
is found in any other process, after a restart, and for what was computed otherwise (folds, several
processes, networks fused into one, a GPU, whose kernels may differ from call to call); the outputs
are then computed anew.
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
"""The limit for all that a process keeps; what is oldest is dropped first."""


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


class Memory:
    """Outputs by trial, each with the SHA-256 of the weights."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, Outputs]] = OrderedDict()
        self._lock = Lock()

    def keep(self, trial: str, path: Path, outputs: Outputs) -> None:
        """Keep the outputs of the checkpoint at `path`, the trial's best; drop earlier ones."""
        try:
            weights = checkpoint.digest(path)
        except (OSError, ValueError):  # somebody has removed it: nobody will evaluate it
            return
        with self._lock:
            for name in [
                name
                for name, (_, kept) in self._kept.items()
                if name == trial or kept.part is not outputs.part
            ]:
                del self._kept[name]  # a part holds its images
            self._kept[trial] = weights, outputs
            while sum(kept.size for _, kept in self._kept.values()) > MAX_BYTES:
                self._kept.popitem(last=False)

    def outputs(self, path: Path, config: TrialConfig, part: Part) -> list[Tensor] | None:
        """Return the outputs, batch by batch, of the network saved at `path`.

        These are the ones that it gave for this part in this process; None if they are not known.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        with self._lock:
            known = {
                weights: outputs
                for weights, outputs in self._kept.values()
                if outputs.config == config and outputs.part is part
            }
        if not known:
            return None
        checkpoint.verify(path)
        found = known.get(checkpoint.digest(path))
        return found.batches if found is not None else None

    @property
    def trials(self) -> list[str]:
        """The trials of which outputs are kept."""
        with self._lock:
            return list(self._kept)

    def forget(self) -> None:
        """Drop everything that is kept."""
        with self._lock:
            self._kept.clear()


MEMORY = Memory()
"""The outputs that this process keeps."""
