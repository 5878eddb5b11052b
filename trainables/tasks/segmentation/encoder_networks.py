"""Networks of segmentation whose encoder is one of torchvision's, and may be pretrained.

FCN, PSPNet and DeepLabV3 are made for GPUs: on a CPU they are many times slower than U-Net. FCN and
DeepLabV3 are those of torchvision (`fcn_resnet50`, `deeplabv3_resnet50`), without the auxiliary
loss.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from trainables.models.encoders import ENCODERS, EncoderNetwork, LastStage
from trainables.tasks.segmentation.networks import DoubleConvolution

DETAILED = 2
"""The index of the encoder's stage, at 1/8 of the resolution, that adds details in LR-ASPP."""
BINS = (1, 2, 3, 6)
"""The sides of the pooled maps of PSPNet (Zhao et al. 2017, section 3.2)."""


def unet_on_encoder(
    image: tuple[int, int, int], outputs: int, *, name: str, width: int, norm: str, **transfer: Any
) -> nn.Module:
    """Build U-Net's expanding path on an encoder.

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        name: the encoder, a key of `ENCODERS`.
        width: the number of the decoder's channels at full resolution, which doubles with each
            halving.
        norm: the normalisation of the decoder, a key of `networks.NORMS`.
        transfer: `pretrained` and `freeze` of `EncoderNetwork`.
    """
    decoder = UNetDecoder(ENCODERS[name].channels, outputs, width=width, norm=norm)
    return EncoderNetwork(name, decoder, **transfer)


class UNetDecoder(nn.Module):
    """Upsampling to full resolution, joined at each resolution by the encoder's stage.

    Unlike in U-Net itself, maps are upsampled by bilinear interpolation, and there is no skip
    connection at full resolution, where the encoder has no stage.
    """

    def __init__(self, channels: tuple[int, ...], outputs: int, *, width: int, norm: str) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        inputs = channels[-1]
        for level, skipped in reversed(list(enumerate((0, *channels[:-1])))):
            filters = width * 2**level
            self.stages.append(DoubleConvolution(inputs + skipped, filters, norm))
            inputs = filters
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the outputs of the encoder's stages to logits at twice the first one's resolution."""
        x = maps[-1]
        for stage, skip in zip(self.stages, [*reversed(maps[:-1]), None], strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = stage(x if skip is None else torch.cat([skip, x], dim=1))
        logits: Tensor = self.output(x)
        return logits


def lraspp(
    image: tuple[int, int, int], outputs: int, *, name: str, width: int, **transfer: Any
) -> nn.Module:
    """Build LR-ASPP, "Lite Reduced Atrous Spatial Pyramid Pooling", on an encoder.

    See Howard et al. 2019, "Searching for MobileNetV3", section 6.4. The encoder's last stage is
    dilated, so that it keeps 1/16 of the resolution. `width` is the number of the head's channels;
    for the other arguments see `unet_on_encoder`.
    """
    channels = ENCODERS[name].channels
    head = LrAsppHead(channels[DETAILED], channels[-1], outputs, width=width)
    return EncoderNetwork(name, head, dilated=1, **transfer)


class LrAsppHead(nn.Module):
    """Logits from features at 1/16, weighted by those of the whole image, and features at 1/8.

    Unlike in the paper, the pooled features are those of the whole image instead of large windows,
    as in torchvision's `lraspp_mobilenet_v3_large`.
    """

    def __init__(self, detailed: int, channels: int, outputs: int, *, width: int) -> None:
        """Build the head.

        Args:
            detailed: the number of channels of the features at 1/8.
            channels: the number of channels of the features at 1/16.
            outputs: the number of logits for each pixel.
            width: the number of the head's own channels.
        """
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1, bias=False), nn.Sigmoid()
        )
        self.output = nn.Conv2d(width, outputs, 1)
        self.details = nn.Conv2d(detailed, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the outputs of the encoder's stages to logits at 1/8 of the resolution."""
        weighted = self.features(maps[-1]) * self.weights(maps[-1])
        weighted = functional.interpolate(weighted, scale_factor=2.0, mode="bilinear")
        logits: Tensor = self.output(weighted) + self.details(maps[DETAILED])
        return logits


def dilated_network(
    build_head: Callable[[int, int], nn.Module],
    image: tuple[int, int, int],
    outputs: int,
    *,
    name: str,
    dropout: float,
    **transfer: Any,
) -> nn.Module:
    """Build a network whose head is applied to the last stage of a dilated encoder.

    The last stage has 1/8 of the resolution. For the other arguments see `unet_on_encoder`.

    Args:
        build_head: builds the head for a number of channels and of outputs.
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        name: the encoder, a key of `ENCODERS`.
        dropout: the rate of all dropout layers in the head.
        transfer: `pretrained` and `freeze` of `EncoderNetwork`.
    """
    head = build_head(ENCODERS[name].channels[-1], outputs)
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


class PyramidHead(nn.Sequential):
    """The head of PSPNet."""

    def __init__(self, channels: int, outputs: int) -> None:
        filters = channels // len(BINS)
        super().__init__(
            PyramidPooling(channels),
            nn.Conv2d(2 * channels, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Dropout(),
            nn.Conv2d(filters, outputs, 1),
        )


fcn = partial(dilated_network, FCNHead)
"""Builds a fully convolutional network (Long, Shelhamer and Darrell 2015)."""
deeplabv3 = partial(dilated_network, DeepLabHead)
"""Builds DeepLabV3 (Chen et al. 2017)."""
pspnet = partial(dilated_network, PyramidHead)
"""Builds PSPNet (Zhao et al. 2017)."""
