"""Mixtures of pairs of training images of a batch, and of their labels.

`mixup` averages two images (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization",
equation 1), `cutmix` replaces a random box of one by the same box of the other (Yun et al. 2019,
"CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", equations
1 and 2). The labels are mixed by the share of each image. The share is drawn for each pair, from
Beta(alpha, alpha); the implementations of both papers draw it once for all pairs of a batch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.config import MIX_ALPHAS, AugmentConfig

VALUES = 4
"""The random numbers of an image: its partner, its share, and the row and column of the box."""


class MixedPairs(NamedTuple):
    """The second image in each mixed image of a batch."""

    partners: Tensor
    """The row in the batch of the second image, int64 (batch,)."""
    shares: Tensor
    """The share of the first image, (batch,)."""


def draw_pairs(config: AugmentConfig, count: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the random numbers of a batch of `count` images, `VALUES` tensors (count,)."""
    alpha = config.mix_alpha or MIX_ALPHAS[config.mix]
    partners = torch.randperm(count, generator=generator)
    # Torch's beta distribution accepts no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    shares = np.random.default_rng(seed).beta(alpha, alpha, count)
    places = torch.rand(2, count, generator=generator)
    return [partners.float(), torch.from_numpy(shares).float(), *places]


def mix(images: Tensor, config: AugmentConfig, drawn: Tensor) -> tuple[Tensor, MixedPairs]:
    """Mix each image with its partner.

    Args:
        images: float (batch, channels, height, width), scaled or not.
        config: the augmentation; `mix` is on.
        drawn: the numbers of `draw_pairs`, (VALUES, batch).

    Returns:
        New images, and the pairs with the shares of their labels.
    """
    partners, shares = drawn[0].long(), drawn[1]
    if config.mix == "mixup":
        mixed = torch.lerp(images[partners], images, shares[:, None, None, None])
        return mixed, MixedPairs(partners, shares)
    box = boxes(shares, drawn[2:], images.shape[2], images.shape[3])
    mixed = torch.where(box[:, None], images[partners], images)
    return mixed, MixedPairs(partners, 1 - box.float().mean(dim=(1, 2)))


def boxes(shares: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Return a mask of a box in each image, (batch, height, width).

    Height and width of a box are those of the image times sqrt(1 - share), so that it covers the
    rest of the image beside `share`. The part outside of the image is cut off.

    Args:
        shares: the shares that are not covered, (batch,).
        places: the row and the column of the box's centre, from 0 to 1, (2, batch).
        height: the images' height.
        width: the images' width.
    """
    masks = list[Tensor]()
    for place, side in zip(places, (height, width), strict=True):
        length = ((1 - shares).sqrt() * side).floor()[:, None]
        start = (place * side).floor()[:, None] - (length / 2).floor()
        pixels = torch.arange(side, device=shares.device)
        masks.append((pixels >= start) & (pixels < start + length))
    return masks[0][:, :, None] & masks[1][:, None]
