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


def losses(
    outputs: Tensor | WithAuxiliary, labels: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the loss to train on, and the loss of the network's own logits, which is reported.

    The first is the mean cross-entropy over the batch, with auxiliary heads' added by their weight.
    The second is never weighted.

    Args:
        outputs: logits (batch, classes), or those of several heads.
        labels: class numbers (batch,).
        weights: how much each image counts in the first, (batch,); None: all alike.
    """
    if isinstance(outputs, Tensor):
        outputs = WithAuxiliary(outputs, (), 0.0)
    own = functional.cross_entropy(outputs.logits.float(), labels)
    loss = own if weights is None else weighted(outputs.logits, labels, weights)
    if not outputs.auxiliary:
        return loss, own
    others = torch.stack([weighted(logits, labels, weights) for logits in outputs.auxiliary])
    return loss + outputs.weight * others.sum(), own


def weighted(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over a batch of each image's cross-entropy times its weight.

    It is not divided by the batch's own weights: so several processes that share a batch follow
    the gradient of one.
    """
    if weights is None:
        return functional.cross_entropy(logits.float(), labels)
    each = functional.cross_entropy(logits.float(), labels, reduction="none")
    return (each * weights).mean()
