"""U-Net (Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image
Segmentation").

It differs from the paper in four points. Convolutions are padded, so that the logits have the
height and width of the image. They are normalised, unless `norm` is `none`. The first stage has
`width` channels, by default 32 instead of 64, which makes training four times faster. There is no
dropout.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

MAX_GROUPS = 8
"""The largest number of groups of a group normalisation."""

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    # The number of groups has to divide the number of channels.
    "group": lambda channels: nn.GroupNorm(math.gcd(channels, MAX_GROUPS), channels),
    "none": lambda channels: nn.Identity(),
}
"""The normalisations for a number of channels, by the names in `model.norm`."""


def build(
    image: tuple[int, int, int], outputs: int, *, depth: int, width: int, norm: str
) -> nn.Module:
    """Build the network for images whose sides are multiples of 2 ** `depth`.

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        depth: how often the images are halved.
        width: the number of channels at full resolution, which doubles with each halving.
        norm: a key of `NORMS`.
    """
    return UNet(image[0], outputs, depth=depth, width=width, norm=norm)


class UNet(nn.Module):
    """A contracting path, and an expanding path with a skip connection at each resolution."""

    def __init__(self, channels: int, outputs: int, *, depth: int, width: int, norm: str) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.pool = nn.MaxPool2d(2)
        self.contracting = nn.ModuleList(
            DoubleConvolution(inputs, filters, norm)
            for inputs, filters in pairwise([channels, *widths])
        )
        self.upsampling, self.expanding = nn.ModuleList(), nn.ModuleList()
        for filters in reversed(widths[:-1]):
            self.upsampling.append(nn.ConvTranspose2d(2 * filters, filters, 2, stride=2))
            self.expanding.append(DoubleConvolution(2 * filters, filters, norm))
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (batch, channels, height, width) to logits of the same height and width."""
        skips = [self.contracting[0](images)]
        for stage in self.contracting[1:]:
            skips.append(stage(self.pool(skips[-1])))
        x = skips.pop()
        for upsample, stage in zip(self.upsampling, self.expanding, strict=True):
            x = stage(torch.cat([skips.pop(), upsample(x)], dim=1))
        logits: Tensor = self.output(x)
        return logits


class DoubleConvolution(nn.Sequential):
    """Two padded 3 x 3 convolutions, each followed by normalisation and ReLU.

    Weights are drawn from a normal distribution that keeps the variance of ReLU's outputs (section
    3 of the paper); without normalisation, deep networks would hardly train otherwise.
    """

    def __init__(self, channels: int, filters: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, filters):
            convolution = nn.Conv2d(inputs, filters, 3, padding=1, bias=norm == "none")
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, NORMS[norm](filters), nn.ReLU()]
        super().__init__(*layers)
