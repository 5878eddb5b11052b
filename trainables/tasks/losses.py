"""The loss that a network is trained on: cross-entropy, with auxiliary heads also theirs."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class WithAuxiliary(NamedTuple):
    """The outputs of a network with auxiliary heads in training.

    They are its logits, those of the other heads, and how much each of theirs counts.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


def losses(outputs: Tensor | WithAuxiliary, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss to train on, and the loss of the network's own logits, which is reported.

    The first is the mean cross-entropy over the batch, with auxiliary heads' added by their weight.

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
