"""Networks for super-resolution: each returns what the bicubic enlargement of its input lacks.

Their input is float32 (batch, channels, height, width), and their output (batch, channels, scale *
height, scale * width). The last layer begins with small weights, so that the first steps do not
have to undo a random correction.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import leaky_relu

from trainables.tasks.super_resolution.predictor import REACH, bicubic_weights

FIRST_DEVIATION = 1e-3
"""The standard deviation of the last layer's first weights, as in SRCNN."""
SHRINKING = 4
"""FSRCNN's inner layers have `width` divided by this number of channels, about as in the paper."""
LEAK = 0.1
"""The slope of ReLUs below 0. With 0, as in the papers, all units of the last but one layer may die
in the first steps, and the correction is 0 for ever.
"""
RESIDUAL_SCALE = 0.1
"""The factor of a residual block's output, with which wide networks train stably (EDSR)."""


def srcnn(image: tuple[int, int, int], outputs: int, *, width: int) -> nn.Module:
    """Build SRCNN (Dong et al. 2014, arXiv 1501.00092), with filters of 9, 5 and 5 pixels.

    Args:
        image: (channels, height, width) of the input.
        outputs: the scale.
        width: the number of channels of the first layer; the second has half of them.
    """
    channels = image[0]
    return nn.Sequential(
        BicubicEnlargement(outputs),
        _convolution(channels, width, 9),
        nn.LeakyReLU(LEAK),
        _convolution(width, max(1, width // 2), 5),
        nn.LeakyReLU(LEAK),
        _last(_convolution(max(1, width // 2), channels, 5)),
    )


def fsrcnn(image: tuple[int, int, int], outputs: int, *, width: int, layers: int) -> nn.Module:
    """Build FSRCNN (Dong, Loy and Tang 2016, arXiv 1608.00367).

    For the arguments see `srcnn`; `layers` is the number of mapping layers.
    """
    channels, inner = image[0], max(1, width // SHRINKING)
    mapping = [
        layer for _ in range(layers) for layer in (_convolution(inner, inner, 3), nn.PReLU(inner))
    ]
    deconvolution = nn.ConvTranspose2d(
        width, channels, 9, stride=outputs, padding=4, output_padding=outputs - 1
    )
    return nn.Sequential(
        _convolution(channels, width, 5),
        nn.PReLU(width),
        _convolution(width, inner, 1),
        nn.PReLU(inner),
        *mapping,
        _convolution(inner, width, 1),
        nn.PReLU(width),
        _last(deconvolution),
    )


def espcn(image: tuple[int, int, int], outputs: int, *, width: int) -> nn.Module:
    """Build ESPCN (Shi et al. 2016, arXiv 1609.05158).

    For the arguments see `srcnn`.
    """
    channels = image[0]
    return nn.Sequential(
        _convolution(channels, width, 5),
        nn.Tanh(),
        _convolution(width, max(1, width // 2), 3),
        nn.Tanh(),
        _last(_convolution(max(1, width // 2), channels * outputs**2, 3)),
        nn.PixelShuffle(outputs),
    )


def edsr(image: tuple[int, int, int], outputs: int, *, width: int, layers: int) -> nn.Module:
    """Build a small EDSR (Lim et al. 2017, arXiv 1707.02921), with one step of enlargement.

    For the arguments see `srcnn`; `layers` is the number of residual blocks.
    """
    channels = image[0]
    body = nn.Sequential(
        *(ResidualBlock(width) for _ in range(layers)), _convolution(width, width, 3)
    )
    return nn.Sequential(
        _convolution(channels, width, 3),
        Skip(body),
        _last(_convolution(width, channels * outputs**2, 3)),
        nn.PixelShuffle(outputs),
    )


def autoencoder(image: tuple[int, int, int], outputs: int, *, width: int, depth: int) -> nn.Module:
    """Build a convolutional autoencoder with skips (Mao, Shen and Yang 2016, arXiv 1603.09056).

    It encodes the bicubic enlargement at `depth` lower resolutions, each a half of the one before.
    For the other arguments see `srcnn`.
    """
    return nn.Sequential(BicubicEnlargement(outputs), Autoencoder(image[0], width, depth))


class Autoencoder(nn.Module):
    """An encoder that halves its input, and a decoder that doubles it, with sums as skips.

    Halves are rounded up, and what the decoder has too much is cut off.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = _convolution(channels, width, 3)
        self.encoder = nn.ModuleList(
            nn.Conv2d(wide, wider, 3, stride=2, padding=1) for wide, wider in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(wider, wide, 4, stride=2, padding=1)
            for wide, wider in reversed(list(pairwise(widths)))
        )
        self.last = _last(_convolution(width, channels, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (batch, channels, height, width), to corrections of the same shape."""
        levels = [leaky_relu(self.first(images), LEAK)]
        for layer in self.encoder:
            levels.append(leaky_relu(layer(levels[-1]), LEAK))
        x = levels.pop()
        for layer in self.decoder:
            skip = levels.pop()
            x = leaky_relu(layer(x)[..., : skip.shape[2], : skip.shape[3]] + skip, LEAK)
        correction: Tensor = self.last(x)
        return correction


class ResidualBlock(nn.Module):
    """Two convolutions whose scaled output is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(width, width, 3), nn.ReLU(), _convolution(width, width, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width, height, width) to the same shape."""
        added: Tensor = x + RESIDUAL_SCALE * self.layers(x)
        return added


class Skip(nn.Module):
    """Layers whose output is added to their input."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the input and of the layers' output."""
        added: Tensor = x + self.layers(x)
        return added


def _convolution(channels: int, filters: int, side: int) -> nn.Conv2d:
    """Build a convolution whose output is as large as its input."""
    layer = nn.Conv2d(channels, filters, side, padding=side // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _last(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Return the last layer with small weights."""
    nn.init.normal_(layer.weight, std=FIRST_DEVIATION)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


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
