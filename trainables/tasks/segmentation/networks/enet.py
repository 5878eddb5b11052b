"""ENet (Paszke et al. 2016, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation").

It differs from the paper in one point: maps are upsampled by bilinear interpolation instead of by
the indices of max pooling, because ONNX and deterministic training on GPUs do not support these.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (16, 64, 128)
"""The number of channels at 1/2, 1/4 and 1/8 of the resolution."""
REDUCTION = 4
"""The factor by which a bottleneck reduces the number of channels."""
EARLY_DROPOUT = 0.1
"""The rate of dropout at 1/4 of the resolution, as a share of that of the later stages.

The paper has 0.01 and 0.1 (section 4).
"""


def build(image: tuple[int, int, int], outputs: int, *, dropout: float) -> nn.Module:
    """Build the network for images whose sides are multiples of 8.

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
        downsampling(second, third, dropout), *dilated_stage(dropout), *dilated_stage(dropout),
        upsampling(third, second, dropout), *(bottleneck(second, dropout) for _ in range(2)),
        upsampling(second, first, dropout), bottleneck(first, dropout),
        nn.ConvTranspose2d(first, outputs, 2, stride=2),
    )  # fmt: skip


def dilated_stage(dropout: float) -> list[nn.Module]:
    """Build a stage at 1/8 of the resolution, whose bottlenecks see ever larger regions."""
    channels = CHANNELS[2]
    return [
        module
        for dilations in ((2, 4), (8, 16))
        for module in (
            bottleneck(channels, dropout),
            bottleneck(channels, dropout, dilation=dilations[0]),
            bottleneck(channels, dropout, is_asymmetric=True),
            bottleneck(channels, dropout, dilation=dilations[1]),
        )
    ]


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


def bottleneck(
    channels: int, dropout: float, *, dilation: int = 1, is_asymmetric: bool = False
) -> nn.Module:
    """Build a bottleneck that keeps the shape.

    With `is_asymmetric` its 3 x 3 convolution is replaced by a 5 x 1 and a 1 x 5 convolution.
    """
    inner = channels // REDUCTION
    middle = (
        [
            nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
            nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
        ]
        if is_asymmetric
        else [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
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
