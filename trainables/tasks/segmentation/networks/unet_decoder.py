"""U-Net's expanding path on an encoder of torchvision (`trainables.models.encoders`).

Unlike in U-Net itself, maps are upsampled by bilinear interpolation, and there is no skip
connection at full resolution, where the encoder has no stage.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.encoders import ENCODERS, EncoderNetwork
from trainables.tasks.segmentation.networks.unet import DoubleConvolution


def build(
    image: tuple[int, int, int], outputs: int, *, name: str, width: int, norm: str, **transfer: Any
) -> nn.Module:
    """Build the network.

    Args:
        image: (channels, height, width) of the images.
        outputs: the number of logits for each pixel.
        name: the encoder, a key of `ENCODERS`.
        width: the number of the decoder's channels at full resolution, which doubles with each
            halving.
        norm: the decoder's normalisation, a key of `NORMS` (`unet`).
        transfer: `pretrained`, `weights` and `freeze` of `EncoderNetwork`.
    """
    decoder = UNetDecoder(ENCODERS[name].channels, outputs, width=width, norm=norm)
    return EncoderNetwork(name, decoder, **transfer)


class UNetDecoder(nn.Module):
    """Upsampling to full resolution, joined at each resolution by the encoder's stage."""

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
