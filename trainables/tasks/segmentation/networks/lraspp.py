"""LR-ASPP, "Lite Reduced Atrous Spatial Pyramid Pooling", on an encoder of torchvision.

See Howard et al. 2019, "Searching for MobileNetV3", section 6.4. The encoder's last stage is
dilated, so that it keeps 1/16 of the resolution. Unlike in the paper, the pooled features are those
of the whole image instead of large windows, as in torchvision's `lraspp_mobilenet_v3_large`.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from trainables.models.encoders import ENCODERS, EncoderNetwork

DETAILED = 2
"""The index of the stage, at 1/8 of the resolution, that adds details."""


def build(
    image: tuple[int, int, int], outputs: int, *, name: str, width: int, **transfer: Any
) -> nn.Module:
    """Build the network.

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        name: the encoder, a key of `ENCODERS`.
        width: the number of the head's channels.
        transfer: `pretrained`, `weights` and `freeze` of `EncoderNetwork`.
    """
    channels = ENCODERS[name].channels
    head = LrAsppHead(channels[DETAILED], channels[-1], outputs, width=width)
    return EncoderNetwork(name, head, dilated=1, **transfer)


class LrAsppHead(nn.Module):
    """Logits from features at 1/16, weighted by those of the whole image, and features at 1/8."""

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
