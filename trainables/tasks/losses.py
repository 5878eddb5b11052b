"""What a network is trained to make small: cross-entropy, also of its auxiliary heads where it has
some.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class WithAuxiliary(NamedTuple):
    """What a network with auxiliary heads gives in training: its logits, those of the other heads,
    and how much each of theirs counts.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


def losses(outputs: Tensor | WithAuxiliary, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy over a batch to train by, and that of the network's own logits alone,
    which is told.

    Args:
        outputs: logits (batch, classes), or those of several heads.
        labels: class numbers (batch,).
    """
    if isinstance(outputs, Tensor):
        loss = functional.cross_entropy(outputs.float(), labels)
        return loss, loss
    own = functional.cross_entropy(outputs.logits.float(), labels)
    others = torch.stack(
        [functional.cross_entropy(logits.float(), labels) for logits in outputs.auxiliary]
    )
    return own + outputs.weight * others.sum(), own
