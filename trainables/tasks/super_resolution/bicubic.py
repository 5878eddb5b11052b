"""Bicubic enlargement as a convolution, which runs wherever a network does."""

import torch
from torch import Tensor, nn
from torch.nn import functional

REACH = 2
"""The pixels to each side of a small pixel on which its enlargement depends."""


def enlarge_bicubic(images: Tensor, scale: int) -> Tensor:
    """Enlarge images by bicubic interpolation with a = -0.5, as Pillow and MATLAB do.

    At the edges of an image, its outermost pixels are repeated.

    Args:
        images: (batch, channels, height, width).
        scale: how many times height and width grow.
    """
    channels = images.shape[1]
    weights = _weights(scale).to(images)[:, None].repeat(channels, 1, 1, 1)
    padded = functional.pad(images, (REACH,) * 4, mode="replicate")
    return functional.pixel_shuffle(functional.conv2d(padded, weights, groups=channels), scale)


class BicubicEnlargement(nn.Module):
    """`enlarge_bicubic` as a layer."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """Enlarge images, (batch, channels, height, width)."""
        return enlarge_bicubic(images, self.scale)


def _weights(scale: int) -> Tensor:
    """Return the filter of each of the scale x scale large pixels, (scale ** 2, 5, 5)."""
    places = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    distances = (places[:, None] - torch.arange(-REACH, REACH + 1)).abs()
    axis = torch.where(
        distances <= 1,
        1.5 * distances**3 - 2.5 * distances**2 + 1,
        (-0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2) * (distances < 2),
    )
    return torch.einsum("ai,bj->abij", axis, axis).reshape(scale**2, len(axis[0]), len(axis[0]))
