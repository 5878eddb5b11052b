"""The training loss: cross-entropy, including that of auxiliary heads."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augmentation.augment import MixedPairs


class WithAuxiliary(NamedTuple):
    """The outputs in training of a network with auxiliary heads.

    They are the network's logits, the auxiliary heads' logits, and the weight of each auxiliary
    loss.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


def losses(
    outputs: Tensor | WithAuxiliary,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    pairs: MixedPairs | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss to minimise, and the loss to report.

    The first is the mean cross-entropy over the batch, plus the cross-entropy of each auxiliary
    head times `WithAuxiliary.weight`. The second is the mean cross-entropy of the network's own
    logits, without weights and smoothing. Of mixed images, both are cross-entropies to the mixed
    labels, because a mixed image has no single label.

    Args:
        outputs: logits (batch, classes), or those of several heads.
        labels: class numbers (batch,).
        weights: the weight of each image in the loss to minimise, (batch,); None for equal weights.
        smoothing: the share of each label that the loss to minimise spreads over all classes
            (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7).
        pairs: the pairs of which the images are mixtures; None if they are not mixed.
    """
    if isinstance(outputs, Tensor):
        outputs = WithAuxiliary(outputs, (), 0.0)
    own = mean_cross_entropy(outputs.logits, labels, pairs=pairs)
    loss = own
    if weights is not None or smoothing:
        loss = mean_cross_entropy(outputs.logits, labels, weights, smoothing=smoothing, pairs=pairs)
    if not outputs.auxiliary:
        return loss, own
    auxiliary_losses = torch.stack(
        [
            mean_cross_entropy(logits, labels, weights, smoothing=smoothing, pairs=pairs)
            for logits in outputs.auxiliary
        ]
    )
    return loss + outputs.weight * auxiliary_losses.sum(), own


@torch.no_grad()
def loss_of_each(outputs: Tensor | WithAuxiliary, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image's own logits, (batch,), as for `losses`."""
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def mean_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    pairs: MixedPairs | None = None,
) -> Tensor:
    """Return the mean over a batch of each image's cross-entropy times its weight.

    The result is not divided by the sum of the batch's weights, so that several processes that
    share a batch compute the same gradient as a single one. The cross-entropy of a mixed image is
    that to the label of each image of the pair, with the weight of this image, times its share.
    """
    logits = logits.float()
    if weights is None and pairs is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    def each(rows: Tensor | None = None) -> Tensor:
        """Return the weighted cross-entropies to the labels of the images in these rows."""
        own = labels if rows is None else labels[rows]
        entropies = functional.cross_entropy(
            logits, own, reduction="none", label_smoothing=smoothing
        )
        if weights is None:
            return entropies
        return entropies * (weights if rows is None else weights[rows])

    if pairs is None:
        return each().mean()
    return torch.lerp(each(pairs.partners), each(), pairs.shares).mean()
