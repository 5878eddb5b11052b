"""Losses of segmentation: cross-entropy, Dice, focal, and sums; ignored pixels do not count."""

import torch
from torch import Tensor
from torch.nn import functional

from trainables.tasks.segmentation.values import IGNORED


def cross_entropy(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean cross-entropy over pixels.

    Args:
        logits: float32 (batch, classes, height, width).
        masks: the class of each pixel, int64 (batch, height, width); `IGNORED` does not count.
        weights: the weight of each class, (classes,); None for equal weights.
    """
    total = functional.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="sum")
    counted = masks != IGNORED
    count = counted.sum() if weights is None else weights[masks[counted]].sum()
    return total / count.clamp(min=1e-6)


def focal(logits: Tensor, masks: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Compute the focal loss (Lin et al. 2017, arXiv 1708.02002), a mean over pixels.

    Each pixel's cross-entropy is multiplied by (1 - p) ** gamma, where p is the probability of its
    true class. The arguments are those of `cross_entropy`.
    """
    entropies = functional.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")
    counted = masks != IGNORED
    pixel_weights = counted.to(logits.dtype)
    if weights is not None:
        pixel_weights = pixel_weights * weights[masks.masked_fill(~counted, 0)]
    easy = (1 - torch.exp(-entropies)) ** gamma
    return (easy * entropies * pixel_weights).sum() / pixel_weights.sum().clamp(min=1e-6)


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute 1 minus the mean soft Dice coefficient of the classes in the batch.

    The coefficient of a class is 2 * sum(p * y) / (sum(p) + sum(y)), over all pixels of the batch
    (Milletari et al. 2016, arXiv 1606.04797, without squares). Classes that no pixel of the batch
    has are left out, because their coefficient would only say how small p is.

    The arguments are those of `cross_entropy`.
    """
    counted = (masks != IGNORED)[:, None]
    truth = functional.one_hot(masks.masked_fill(~counted[:, 0], 0), logits.shape[1])
    truth = truth.permute(0, 3, 1, 2).to(logits.dtype) * counted
    chances = logits.softmax(dim=1) * counted
    overlaps = (chances * truth).sum(dim=(0, 2, 3))
    sizes = truth.sum(dim=(0, 2, 3))
    coefficients = 2 * overlaps / (chances.sum(dim=(0, 2, 3)) + sizes).clamp(min=1e-6)
    present = (sizes > 0).to(logits.dtype)
    return 1 - (coefficients * present).sum() / present.sum().clamp(min=1)


def loss(
    name: str, logits: Tensor, masks: Tensor, *, gamma: float, weights: Tensor | None
) -> Tensor:
    """Compute the loss of this name (`SegmentationOptions.loss`); of two, the sum."""
    total = torch.zeros((), device=logits.device)
    if name.startswith("cross_entropy"):
        total = total + cross_entropy(logits, masks, weights)
    if name.startswith("focal"):
        total = total + focal(logits, masks, gamma, weights)
    if name.endswith("dice"):
        total = total + dice(logits, masks)
    return total
