"""The training loss: cross-entropy, including that of auxiliary heads."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class WithAuxiliary(NamedTuple):
    """The outputs in training of a network with auxiliary heads.

    They are the network's logits, the auxiliary heads' logits, and the weight of each auxiliary
    loss.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


def losses(
    outputs: Tensor | WithAuxiliary, labels: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the loss to minimise, and the loss to report.

    The first is the mean cross-entropy over the batch, plus the cross-entropy of each auxiliary
    head times `WithAuxiliary.weight`. The second is the mean cross-entropy of the network's own
    logits, without weights.

    Args:
        outputs: logits (batch, classes), or those of several heads.
        labels: class numbers (batch,).
        weights: the weight of each image in the loss to minimise, (batch,); None for equal weights.
    """
    if isinstance(outputs, Tensor):
        outputs = WithAuxiliary(outputs, (), 0.0)
    own = functional.cross_entropy(outputs.logits.float(), labels)
    loss = own if weights is None else weighted_cross_entropy(outputs.logits, labels, weights)
    if not outputs.auxiliary:
        return loss, own
    auxiliary_losses = torch.stack(
        [weighted_cross_entropy(logits, labels, weights) for logits in outputs.auxiliary]
    )
    return loss + outputs.weight * auxiliary_losses.sum(), own


@torch.no_grad()
def loss_of_each(outputs: Tensor | WithAuxiliary, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image's own logits, (batch,), as for `losses`."""
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over a batch of each image's cross-entropy times its weight.

    The result is not divided by the sum of the batch's weights, so that several processes that
    share a batch compute the same gradient as a single one.
    """
    if weights is None:
        return functional.cross_entropy(logits.float(), labels)
    each = functional.cross_entropy(logits.float(), labels, reduction="none")
    return (each * weights).mean()
