"""The network's outputs on the validation part at each trial's best epoch, kept in the process that
computed them.

The trial's evaluation needs the same outputs again, and finds them here by the weights' own hash:
to load these and compute anew takes as long as the validation did. In any other process, after a
restart, and for what was computed otherwise (folds, several processes, networks fused into one, a
GPU, whose kernels may differ from call to call) there is nothing here, and it is computed anew.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Part

MAX_BYTES = 64 << 20
"""Of all that a process keeps; what is oldest is dropped first."""


@dataclass(frozen=True)
class Outputs:
    """What a network of these weights says of a part, a tensor (images, classes) for each batch."""

    epoch: int
    config: TrialConfig
    part: Part
    logits: list[Tensor]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(values.nbytes for values in self.logits)


class Memory:
    """Outputs by trial, each with the SHA-256 of the weights."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, Outputs]] = OrderedDict()
        self._lock = Lock()

    def keep(self, trial: str, path: Path, outputs: Outputs) -> None:
        """Keep these of the checkpoint at `path`, which is the trial's best, in the place of what
        was kept of the trial.
        """
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

    def probabilities(
        self, path: Path, config: TrialConfig, part: Part
    ) -> NDArray[np.float64] | None:
        """Class probabilities, (images, classes), that the network saved at `path` has given for
        this part here; None if that is not known.

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
        outputs = known.get(checkpoint.digest(path))
        if outputs is None:
            return None
        return torch.cat([logits.double().softmax(dim=1) for logits in outputs.logits]).numpy()

    @property
    def trials(self) -> list[str]:
        """Of whom something is kept."""
        with self._lock:
            return list(self._kept)

    def forget(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()


MEMORY = Memory()
"""Of this process."""
