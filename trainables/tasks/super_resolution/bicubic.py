"""Bicubic enlargement on tensors, equal to `trainables.tasks.super_resolution.predictor.bicubic`.

It consists of shifted sums, which stay in single precision under autocast, unlike a convolution.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.tasks.super_resolution.predictor import REACH, bicubic_weights


def enlarge_bicubic(images: Tensor, scale: int) -> Tensor:
    """Enlarge images, float32 (batch, channels, height, width), `scale` times.

    At the edges of an image, its outermost pixels are repeated.
    """
    batch, channels, height, width = images.shape
    padded = functional.pad(images, (REACH,) * 4, mode="replicate")
    weights = bicubic_weights(scale).tolist()
    down = [
        _sum([weight * padded[:, :, at : at + height] for at, weight in enumerate(phase)])
        for phase in weights
    ]
    tall = torch.stack(down, dim=3).reshape(batch, channels, scale * height, width + 2 * REACH)
    across = [
        _sum([weight * tall[..., at : at + width] for at, weight in enumerate(phase)])
        for phase in weights
    ]
    return torch.stack(across, dim=4).reshape(batch, channels, scale * height, scale * width)


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class BicubicEnlargement(nn.Module):
    """`enlarge_bicubic` as a layer."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """Enlarge images, (batch, channels, height, width)."""
        return enlarge_bicubic(images, self.scale)
