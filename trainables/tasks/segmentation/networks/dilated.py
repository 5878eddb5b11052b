"""FCN, PSPNet and DeepLabV3 on a dilated ResNet-50, whose features have 1/8 of the resolution.

FCN and DeepLabV3 are those of torchvision (`fcn_resnet50`, `deeplabv3_resnet50`), without the
auxiliary loss. They are made for GPUs: on a CPU they are many times slower than U-Net.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from trainables.models.encoders import ENCODERS, EncoderNetwork, LastStage

BINS = (1, 2, 3, 6)
"""The sides of the pooled maps of PSPNet (Zhao et al. 2017, section 3.2)."""


def fcn(image: tuple[int, int, int], outputs: int, *, name: str, **options: Any) -> nn.Module:
    """Build a fully convolutional network (Long, Shelhamer and Darrell 2015).

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        name: the encoder, a key of `ENCODERS`.
        options: see `dilated_network`.
    """
    return dilated_network(name, FCNHead(ENCODERS[name].channels[-1], outputs), **options)


def deeplabv3(image: tuple[int, int, int], outputs: int, *, name: str, **options: Any) -> nn.Module:
    """Build DeepLabV3 (Chen et al. 2017); the arguments are those of `fcn`."""
    return dilated_network(name, DeepLabHead(ENCODERS[name].channels[-1], outputs), **options)


def pspnet(image: tuple[int, int, int], outputs: int, *, name: str, **options: Any) -> nn.Module:
    """Build PSPNet (Zhao et al. 2017); the arguments are those of `fcn`."""
    channels = ENCODERS[name].channels[-1]
    filters = channels // len(BINS)
    head = nn.Sequential(
        PyramidPooling(channels),
        nn.Conv2d(2 * channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        nn.Dropout(),
        nn.Conv2d(filters, outputs, 1),
    )
    return dilated_network(name, head, **options)


def dilated_network(name: str, head: nn.Module, *, dropout: float, **transfer: Any) -> nn.Module:
    """Build a network whose head is applied to the last of the encoder's stages.

    Args:
        name: the encoder, a key of `ENCODERS`.
        head: the head.
        dropout: the rate of all dropout layers in the head.
        transfer: `pretrained`, `weights` and `freeze` of `EncoderNetwork`.
    """
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return EncoderNetwork(name, LastStage(head), dilated=2, **transfer)


class PyramidPooling(nn.Module):
    """Features, joined by their means over 1, 4, 9 and 36 regions of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        filters = channels // len(BINS)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side),
                nn.Conv2d(channels, filters, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
            )
            for side in BINS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, 2 * channels, height, width)."""
        pooled = [
            functional.interpolate(level(x), x.shape[-2:], mode="bilinear") for level in self.levels
        ]
        return torch.cat([x, *pooled], dim=1)
