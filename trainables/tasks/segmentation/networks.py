"""U-Net and ENet, whose outputs are logits for each pixel. Torchvision is not imported."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_GROUPS = 8
"""The largest number of groups of a group normalisation."""
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    # The number of groups has to divide the number of channels.
    "group": lambda channels: nn.GroupNorm(math.gcd(channels, MAX_GROUPS), channels),
    "none": lambda channels: nn.Identity(),
}
"""The normalisations for a number of channels, by the names in `model.norm`."""
CHANNELS = (16, 64, 128)
"""The number of ENet's channels at 1/2, 1/4 and 1/8 of the resolution."""
REDUCTION = 4
"""The factor by which a bottleneck of ENet reduces the number of channels."""
DILATIONS = (1, 2, 0, 4, 1, 8, 0, 16)
"""The dilation of each bottleneck of ENet's stages at 1/8 of the resolution (`bottleneck`)."""
EARLY_DROPOUT = 0.1
"""ENet's rate of dropout at 1/4 of the resolution, as a share of that of the later stages.

The paper has 0.01 and 0.1 (section 4).
"""


class DoubleConvolution(nn.Sequential):
    """Two padded 3 x 3 convolutions, each followed by normalisation and ReLU.

    Weights are drawn from a normal distribution that keeps the variance of ReLU's outputs (section
    3 of U-Net's paper); without normalisation, deep networks would hardly train otherwise.
    """

    def __init__(self, channels: int, filters: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, filters):
            convolution = nn.Conv2d(inputs, filters, 3, padding=1, bias=norm == "none")
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, NORMS[norm](filters), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """A contracting path, and an expanding path with a skip connection at each resolution.

    See Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation". It differs from the paper in four points. Convolutions are padded, so that the
    logits have the height and width of the image. They are normalised, unless `norm` is `none`. The
    first stage has `width` channels, by default 32 instead of 64, which makes training four times
    faster. There is no dropout.
    """

    def __init__(
        self, image: tuple[int, int, int], outputs: int, *, depth: int, width: int, norm: str
    ) -> None:
        """Build the network for images whose sides are multiples of 2 ** `depth`.

        Args:
            image: (channels, height, width) of the images.
            outputs: the number of logits for each pixel.
            depth: how often the images are halved.
            width: the number of channels at full resolution, which doubles with each halving.
            norm: a key of `NORMS`.
        """
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.pool = nn.MaxPool2d(2)
        self.contracting = nn.ModuleList(
            DoubleConvolution(inputs, filters, norm)
            for inputs, filters in pairwise([image[0], *widths])
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


def enet(image: tuple[int, int, int], outputs: int, *, dropout: float) -> nn.Module:
    """Build ENet for images whose sides are multiples of 8.

    See Paszke et al. 2016, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation". It differs from the paper in one point: maps are upsampled by bilinear
    interpolation instead of by the indices of max pooling, because ONNX and deterministic training
    on GPUs do not support these.

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        dropout: the rate at which whole channels are dropped from the bottlenecks' branches.
    """
    first, second, third = CHANNELS
    early = EARLY_DROPOUT * dropout
    return nn.Sequential(
        InitialBlock(image[0], first),
        downsampling(first, second, early), *(bottleneck(second, early) for _ in range(4)),
        downsampling(second, third, dropout),
        *(bottleneck(third, dropout, dilation) for dilation in 2 * DILATIONS),
        upsampling(third, second, dropout), *(bottleneck(second, dropout) for _ in range(2)),
        upsampling(second, first, dropout), bottleneck(first, dropout),
        nn.ConvTranspose2d(first, outputs, 2, stride=2),
    )  # fmt: skip


class InitialBlock(nn.Module):
    """A convolution, and max pooling of the image itself, at 1/2 of the resolution."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, filters - channels, 3, stride=2, padding=1, bias=False
        )
        self.pool = nn.MaxPool2d(2)
        self.normalise = nn.Sequential(nn.BatchNorm2d(filters), nn.PReLU(filters))

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, filters, height / 2, width / 2)."""
        joined = torch.cat([self.convolution(images), self.pool(images)], dim=1)
        normalised: Tensor = self.normalise(joined)
        return normalised


class Bottleneck(nn.Module):
    """The sum of a main path and a branch with fewer channels, followed by PReLU."""

    def __init__(self, main: nn.Module, branch: nn.Module, channels: int) -> None:
        super().__init__()
        self.main, self.branch, self.activate = main, branch, nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the activation of the sum of both paths."""
        activated: Tensor = self.activate(self.main(x) + self.branch(x))
        return activated


class PadChannels(nn.Module):
    """Further channels that contain zeros."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels + count, height, width)."""
        return functional.pad(x, (0, 0, 0, 0, 0, self.count))


def bottleneck(channels: int, dropout: float, dilation: int = 1) -> nn.Module:
    """Build a bottleneck that keeps the shape.

    With a `dilation` of 0, a 5 x 1 and a 1 x 5 convolution replace its 3 x 3 convolution.
    """
    inner = channels // REDUCTION
    middle = (
        [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        if dilation
        else [
            nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
            nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
        ]
    )
    reduce = nn.Conv2d(channels, inner, 1, bias=False)
    return Bottleneck(
        nn.Identity(), _branch(reduce, *middle, channels=channels, dropout=dropout), channels
    )


def downsampling(channels: int, filters: int, dropout: float) -> nn.Module:
    """Build a bottleneck that halves height and width, and adds channels."""
    inner = channels // REDUCTION
    main = nn.Sequential(nn.MaxPool2d(2), PadChannels(filters - channels))
    layers = (
        nn.Conv2d(channels, inner, 2, stride=2, bias=False),
        nn.Conv2d(inner, inner, 3, padding=1, bias=False),
    )
    return Bottleneck(main, _branch(*layers, channels=filters, dropout=dropout), filters)


def upsampling(channels: int, filters: int, dropout: float) -> nn.Module:
    """Build a bottleneck that doubles height and width, and removes channels."""
    inner = channels // REDUCTION
    main = nn.Sequential(
        nn.Conv2d(channels, filters, 1, bias=False),
        nn.BatchNorm2d(filters),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    )
    layers = (
        nn.Conv2d(channels, inner, 1, bias=False),
        nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False),
    )
    return Bottleneck(main, _branch(*layers, channels=filters, dropout=dropout), filters)


def _branch(
    reduce: nn.Conv2d, *middle: nn.Conv2d | nn.ConvTranspose2d, channels: int, dropout: float
) -> nn.Module:
    """Build a bottleneck's branch from its first convolution and those in the middle."""
    inner = reduce.out_channels
    return nn.Sequential(
        reduce, nn.BatchNorm2d(inner), nn.PReLU(inner),
        *middle, nn.BatchNorm2d(inner), nn.PReLU(inner),
        nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels),
        nn.Dropout2d(dropout),
    )  # fmt: skip
