"""The torchvision families that the paper names, and a vision transformer for small images.

The paper is that of Nimma and Uddagiri (see `trainables.models`). All networks have the same
interface: the head has an output for each of the data set's classes, grey images are repeated as
three channels, and images of an unsuitable size are resized. A network that starts from pretrained
weights expects pixels from 0 to 1, and normalises them as in the training of those weights. The
weights may be published ones, or come from a checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from trainables.catalog.models import MODELS
from trainables.tasks.losses import WithAuxiliary

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The mean and standard deviation of each channel in the training of the published weights.

Source: https://docs.pytorch.org/vision/stable/models.html.
"""


class Scaling(TypedDict):
    """A scaling of pixels from 0 to 1, as it is stored in a checkpoint."""

    mean: list[float]
    """A value for each channel."""
    deviation: list[float]
    transform_input: NotRequired[bool]
    """True if torchvision's network itself converts ImageNet's scaling to its own one."""


IMAGENET: Scaling = {
    "mean": list(IMAGENET_MEAN),
    "deviation": list(IMAGENET_DEVIATION),
    "transform_input": True,
}

MOMENTUM = 0.1
"""The minimum momentum of batch normalisation in a training from random weights.

MobileNet's 0.01 is meant for trainings of weeks: after a hundred steps the running statistics are
still close to their initial values, and the validation accuracy is at chance level.
"""

HEAD_WIDTH = 32
"""The approximate width of each attention head of the small transformer."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of a network, as prefixes of the names of its weights."""

    head: tuple[str, ...]
    """The layer with an output for each class, and the output layers of the auxiliary heads."""
    last_stage: tuple[str, ...]
    """The layers that are trained in addition to the head with `freeze=all_but_last_stage`."""
    dropout: str = "dropout"
    """The name of torchvision's argument for the dropout rate; empty if the network has no dropout.
    """
    auxiliary: tuple[str, ...] = ()
    """Heads at earlier layers that are used only in training."""
    auxiliary_weight: float = 0.0
    """The weight of each auxiliary head's loss.

    It is 0.3 in Szegedy et al., "Going deeper with convolutions", section 5, and 0.4 in
    torchvision's recipe for Inception v3.
    """
    auxiliary_side: int = 1
    """The minimum side of an image, in pixels, with which the auxiliary heads are used."""


def features(*numbers: int) -> tuple[str, ...]:
    """Return the name prefixes of these layers in torchvision's `features`."""
    return tuple(f"features.{number}." for number in numbers)


ANATOMY = {
    "alexnet": Anatomy(("classifier.6.",), (*features(10), "classifier.")),
    "vgg11_bn": Anatomy(("classifier.6.",), (*features(22, 23, 25, 26), "classifier.")),
    "vgg16_bn": Anatomy(("classifier.6.",), (*features(34, 35, 37, 38, 40, 41), "classifier.")),
    "resnet18": Anatomy(("fc.",), ("layer4.",), dropout=""),
    "resnet50": Anatomy(("fc.",), ("layer4.",), dropout=""),
    "googlenet": Anatomy(
        ("fc.", "aux1.fc2.", "aux2.fc2."),
        ("inception5a.", "inception5b."),
        auxiliary=("aux1.", "aux2."),
        auxiliary_weight=0.3,
    ),
    "inception_v3": Anatomy(
        ("fc.", "AuxLogits.fc."),
        ("Mixed_7a.", "Mixed_7b.", "Mixed_7c."),
        auxiliary=("AuxLogits.",),
        auxiliary_weight=0.4,
        auxiliary_side=299,
    ),
    "densenet121": Anatomy(
        ("classifier.",), ("features.denseblock4.", "features.norm5."), dropout="drop_rate"
    ),
    "efficientnet_b0": Anatomy(("classifier.1.",), features(7, 8)),
    "mobilenet_v2": Anatomy(("classifier.1.",), features(17, 18)),
    "mobilenet_v3_small": Anatomy(("classifier.3.",), (*features(9, 10, 11, 12), "classifier.")),
    "squeezenet1_0": Anatomy(("classifier.1.",), features(9, 10, 12)),
    "vit_b_16": Anatomy(("heads.",), ("encoder.layers.encoder_layer_11.", "encoder.ln.")),
    "vit": Anatomy(("heads.",), ()),
}


def build(
    image: tuple[int, int, int],
    classes: int,
    *,
    name: str,
    pretrained: bool = False,
    weights: str | None = None,
    freeze: str = "nothing",
    input_size: int | None = None,
    dropout: float | None = None,
    **shape: Any,
) -> nn.Module:
    """Build the network of this name, with random weights.

    Pretrained weights are loaded later, by `trainables.models.weights.start_from`.

    Args:
        image: (channels, height, width) of the data.
        classes: the number of classes.
        name: a key of `ANATOMY`.
        pretrained: True to normalise pixels, and resize images, as the published weights require.
        weights: the path of pretrained weights, which is not used here.
        freeze: `nothing`; `backbone`, which is all but the head; or `all_but_last_stage`.
        input_size: the height and width to which images are resized; None for the default.
        dropout: the dropout rate; None for the network's default.
        shape: for the small transformer, `patch`, `layers` and `width`.
    """
    size = MODELS[name].effective_size(
        image, {**shape, "input_size": input_size, "pretrained": pretrained}
    )
    anatomy = ANATOMY[name]
    arguments: dict[str, Any] = {"num_classes": classes} | (
        {anatomy.dropout: dropout} if dropout is not None and anatomy.dropout else {}
    )
    if anatomy.auxiliary:
        arguments |= {
            "aux_logits": freeze == "nothing" and min(size) >= anatomy.auxiliary_side,
            "transform_input": pretrained,
            "init_weights": not pretrained,
        }
    if name == "vit":
        net = small_transformer(side=size[0], **shape, **arguments)
    else:
        of_size = {"image_size": size[0]} if name == "vit_b_16" else {}
        net = models.get_model(name, weights=None, **arguments, **of_size)
    return Family(net, anatomy, size=size, pretrained=pretrained, freeze=freeze)


def small_transformer(
    *, side: int, patch: int, layers: int, width: int, **arguments: Any
) -> nn.Module:
    """Build a small vision transformer (Dosovitskiy et al. 2020).

    It has `layers` encoder blocks of dimension `width`, over patches of `patch` x `patch` pixels.
    """
    heads = next(count for count in range(max(1, width // HEAD_WIDTH), 0, -1) if width % count == 0)
    network: nn.Module = models.VisionTransformer(
        image_size=side,
        patch_size=patch,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=2 * width,
        **arguments,
    )
    return network


def frozen_modules(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules whose parameters are all frozen.

    Modules without parameters, such as dropout between trained layers, are not included.
    """
    for module in network.children():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            yield module
        else:
            yield from frozen_modules(module)


class Family(nn.Module):
    """A torchvision network with this project's interface.

    It maps images of any size, grey or colour, to logits.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        net: nn.Module,
        anatomy: Anatomy,
        *,
        size: tuple[int, int],
        pretrained: bool,
        freeze: str,
    ) -> None:
        super().__init__()
        self.net, self.anatomy, self.size, self.pretrained = net, anatomy, size, pretrained
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        if not pretrained:
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = max(module.momentum or 0.0, MOMENTUM)
        learning = {
            "nothing": ("",),
            "backbone": anatomy.head,
            "all_but_last_stage": (*anatomy.head, *anatomy.last_stage),
        }[freeze]
        for weights_name, weights in net.named_parameters():
            weights.requires_grad_(weights_name.startswith(learning))
        self._frozen = list(frozen_modules(net))

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the head, which are never pretrained."""
        return [
            weights
            for name, weights in self.net.named_parameters()
            if name.startswith(self.anatomy.head)
        ]

    def normalise(self, scaling: Scaling) -> None:
        """Set the scaling of pixels; a single value is used for all three channels."""
        for buffer, values in (
            (self.mean, scaling["mean"]),
            (self.deviation, scaling["deviation"]),
        ):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype).view(-1, 1, 1))
        if hasattr(self.net, "transform_input"):
            self.net.transform_input = scaling.get("transform_input", False)  # type: ignore[assignment]

    @property
    def scaling(self) -> Scaling:
        """The network's own scaling of pixels, in the form of `normalise`."""
        scaling: Scaling = {
            "mean": self.mean.flatten().tolist(),
            "deviation": self.deviation.flatten().tolist(),
        }
        if getattr(self.net, "transform_input", False):
            scaling["transform_input"] = True
        return scaling

    @property
    def for_training(self) -> tuple[str, ...]:
        """The name prefixes of weights that are used only in training."""
        return tuple(f"net.{head}" for head in self.anatomy.auxiliary)

    def train(self, mode: bool = True) -> "Family":
        """Set the training (or evaluation) mode of all but the frozen modules.

        Frozen modules stay in evaluation mode, so that their batch normalisation keeps its
        statistics, and their dropout is off.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Map float32 (batch, 1 or 3, height, width) to logits (batch, classes).

        In training, a network with auxiliary heads returns `WithAuxiliary`.
        """
        if images.shape[-2:] != self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        if self.pretrained:
            images = (images - self.mean) / self.deviation
        outputs = self.net(images)
        if isinstance(outputs, Tensor):
            return outputs
        auxiliary = tuple(logits for logits in outputs[1:] if logits is not None)
        return (
            WithAuxiliary(outputs[0], auxiliary, self.anatomy.auxiliary_weight)
            if auxiliary
            else outputs[0]
        )
