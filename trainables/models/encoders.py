"""Encoders: torchvision's networks without their classifiers.

They may start with the weights that torchvision publishes for the whole network. Grey images are
repeated as three channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from trainables.models.pretrained import Anatomy, Pretrainable, features


@dataclass(frozen=True)
class EncoderLayout:
    """The layers of torchvision's network that form an encoder, stage by stage.

    Each stage halves the height and width of its input.
    """

    stages: tuple[tuple[str, ...], ...]
    """The names of the modules of each stage, in the order in which they are applied."""
    channels: tuple[int, ...]
    """The number of channels of each stage's output."""
    anatomy: Anatomy


def feature_stages(*ends: int) -> tuple[tuple[str, ...], ...]:
    """Divide torchvision's `features` into stages, each of which begins where the last one ended.

    Args:
        ends: the number of the layer after each stage.
    """
    starts = (0, *ends[:-1])
    return tuple(
        tuple(f"features.{layer}" for layer in range(start, end))
        for start, end in zip(starts, ends, strict=True)
    )


RESNET_STAGES = (
    ("conv1", "bn1", "relu"),
    ("maxpool", "layer1"),
    ("layer2",),
    ("layer3",),
    ("layer4",),
)
RESNET_ANATOMY = Anatomy(("fc.",), ("layer4.",))

ENCODERS = {
    # The last layer of MobileNetV2 is left out: it maps 320 channels to 1280 for the classifier,
    # which would double the cost of the decoder.
    "mobilenet_v2": EncoderLayout(
        feature_stages(2, 4, 7, 14, 18),
        (16, 24, 32, 96, 320),
        Anatomy(("classifier.", *features(18)), features(14, 15, 16, 17)),
    ),
    "mobilenet_v3_large": EncoderLayout(
        feature_stages(2, 4, 7, 13, 17),
        (16, 24, 40, 112, 960),
        Anatomy(("classifier.",), features(13, 14, 15, 16)),
    ),
    "squeezenet1_0": EncoderLayout(
        feature_stages(2, 6, 11, 13), (96, 256, 512, 512), Anatomy(("classifier.",), features(12))
    ),
    "resnet18": EncoderLayout(RESNET_STAGES, (64, 64, 128, 256, 512), RESNET_ANATOMY),
    "resnet34": EncoderLayout(RESNET_STAGES, (64, 64, 128, 256, 512), RESNET_ANATOMY),
    "resnet50": EncoderLayout(RESNET_STAGES, (64, 256, 512, 1024, 2048), RESNET_ANATOMY),
}
"""The encoders, by torchvision's name of the network."""


class FeatureEncoder(nn.Module):
    """The stages of torchvision's network, with torchvision's names of weights."""

    def __init__(self, name: str, *, dilated: int = 0) -> None:
        """Build the encoder, with random weights.

        Args:
            name: a key of `ENCODERS`.
            dilated: the number of last stages that are dilated and keep the resolution (`dilate`).
        """
        super().__init__()
        layout = ENCODERS[name]
        self.stages = layout.stages
        network = models.get_model(name, weights=None)
        if name == "squeezenet1_0":
            # Torchvision does not pad here. With padding, the first stage halves even sides
            # exactly, so that its pixels are aligned with the image's.
            network.features[0].padding = (3, 3)
        if dilated:
            dilate(
                [
                    [network.get_submodule(layer) for layer in stage]
                    for stage in layout.stages[-dilated:]
                ]
            )
        layers = [layer for stage in layout.stages for layer in stage]
        if hasattr(network, "features"):  # a sequence that begins with the encoder's layers
            self.features = network.features[: len(layers)]
        else:
            for layer in layers:
                self.add_module(layer, network.get_submodule(layer))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map float32 (batch, 3, height, width) to the output of each stage."""
        outputs: list[Tensor] = []
        for stage in self.stages:
            for layer in stage:
                images = self.get_submodule(layer)(images)
            outputs.append(images)
        return outputs


def dilate(stages: Sequence[Sequence[nn.Module]]) -> None:
    """Replace the stride of each stage by dilation of its later convolutions, in place.

    Every weight then sees the same pixels as before, but the resolution is kept (Chen et al. 2017,
    "Rethinking Atrous Convolution", section 3.1).
    """
    rate = 1
    for stage in stages:
        for layer in nn.ModuleList(stage).modules():
            if isinstance(layer, nn.Conv2d):
                own_rate = rate if max(layer.stride) > 1 else 2 * rate
                layer.stride, layer.dilation = (1, 1), (own_rate, own_rate)
                layer.padding = tuple(own_rate * (side // 2) for side in layer.kernel_size)
        rate *= 2


class EncoderNetwork(Pretrainable):
    """An encoder, and a head that computes each pixel's logits from the encoder's stages."""

    part_name = "encoder"
    encoder: nn.Module
    head: nn.Module

    def __init__(
        self,
        name: str,
        head: nn.Module,
        *,
        pretrained: bool,
        freeze: str,
        dilated: int = 0,
        weights: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            name: the encoder's name, a key of `ENCODERS`.
            head: maps the outputs of the encoder's stages to logits of any height and width.
            pretrained: True if pretrained weights will be loaded.
            freeze: the frozen layers of the encoder (`Pretrainable`).
            dilated: the number of dilated stages (`FeatureEncoder`).
            weights: the path of pretrained weights, which is not used here.
        """
        super().__init__(
            FeatureEncoder(name, dilated=dilated),
            ENCODERS[name].anatomy,
            pretrained=pretrained,
            freeze=freeze,
            head=head,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (batch, 1 or 3, height, width) to logits of the same height and width."""
        logits: Tensor = self.head(self.encoder(self.prepare(images)))
        if logits.shape[-2:] == images.shape[-2:]:
            return logits
        return functional.interpolate(logits, images.shape[-2:], mode="bilinear")


class LastStage(nn.Module):
    """A head that is applied to the output of the encoder's last stage."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the outputs of all stages to logits."""
        logits: Tensor = self.head(maps[-1])
        return logits
