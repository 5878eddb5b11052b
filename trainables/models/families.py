"""The torchvision families that the paper names, and a vision transformer for small images.

The paper is that of Nimma and Uddagiri (see `trainables.models`). All networks have the same
interface: the head has an output for each of the data set's classes, grey images are repeated as
three channels, and images of an unsuitable size are resized. A network that starts from pretrained
weights expects pixels from 0 to 1, and normalises them as in the training of those weights.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from trainables.catalog.models import MODELS
from trainables.models.pretrained import Anatomy, Pretrainable, features
from trainables.tasks.metrics import WithAuxiliary

HEAD_WIDTH = 32
"""The approximate width of each attention head of the small transformer."""


@dataclass(frozen=True)
class FamilyAnatomy(Anatomy):
    """The parts of a network, as prefixes of the names of its weights."""

    dropout: str = "dropout"
    """The name of torchvision's argument for the dropout rate; empty if the network has no dropout.
    """
    auxiliary_weight: float = 0.0
    """The weight of each auxiliary head's loss.

    It is 0.3 in Szegedy et al., "Going deeper with convolutions", section 5, and 0.4 in
    torchvision's recipe for Inception v3.
    """
    auxiliary_side: int = 1
    """The minimum side of an image, in pixels, with which the auxiliary heads are used."""


ANATOMY = {
    "alexnet": FamilyAnatomy(("classifier.6.",), (*features(10), "classifier.")),
    "vgg11_bn": FamilyAnatomy(("classifier.6.",), (*features(22, 23, 25, 26), "classifier.")),
    "vgg16_bn": FamilyAnatomy(
        ("classifier.6.",), (*features(34, 35, 37, 38, 40, 41), "classifier.")
    ),
    "resnet18": FamilyAnatomy(("fc.",), ("layer4.",), dropout=""),
    "resnet50": FamilyAnatomy(("fc.",), ("layer4.",), dropout=""),
    "googlenet": FamilyAnatomy(
        ("fc.", "aux1.fc2.", "aux2.fc2."),
        ("inception5a.", "inception5b."),
        auxiliary=("aux1.", "aux2."),
        auxiliary_weight=0.3,
    ),
    "inception_v3": FamilyAnatomy(
        ("fc.", "AuxLogits.fc."),
        ("Mixed_7a.", "Mixed_7b.", "Mixed_7c."),
        auxiliary=("AuxLogits.",),
        auxiliary_weight=0.4,
        auxiliary_side=299,
    ),
    "densenet121": FamilyAnatomy(
        ("classifier.",), ("features.denseblock4.", "features.norm5."), dropout="drop_rate"
    ),
    "efficientnet_b0": FamilyAnatomy(("classifier.1.",), features(7, 8)),
    "mobilenet_v2": FamilyAnatomy(("classifier.1.",), features(17, 18)),
    "mobilenet_v3_small": FamilyAnatomy(
        ("classifier.3.",), (*features(9, 10, 11, 12), "classifier.")
    ),
    "squeezenet1_0": FamilyAnatomy(("classifier.1.",), features(9, 10, 12)),
    "vit_b_16": FamilyAnatomy(("heads.",), ("encoder.layers.encoder_layer_11.", "encoder.ln.")),
    "vit": FamilyAnatomy(("heads.",), ()),
}
"""The head is the layer with an output for each class, and the same layer of auxiliary heads."""


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


class Family(Pretrainable):
    """A torchvision network with this project's interface.

    It maps images of any size, grey or colour, to logits.
    """

    part_name = "net"
    net: nn.Module
    anatomy: FamilyAnatomy

    def __init__(
        self,
        net: nn.Module,
        anatomy: FamilyAnatomy,
        *,
        size: tuple[int, int],
        pretrained: bool,
        freeze: str,
    ) -> None:
        super().__init__(net, anatomy, pretrained=pretrained, freeze=freeze)
        self.size = size

    @property
    def for_training(self) -> tuple[str, ...]:
        """The name prefixes of weights that are used only in training."""
        return tuple(f"net.{head}" for head in self.anatomy.auxiliary)

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:
        """Map float32 (batch, 1 or 3, height, width) to logits (batch, classes).

        In training, a network with auxiliary heads returns `WithAuxiliary`.
        """
        if images.shape[-2:] != self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        outputs = self.net(self.prepare(images))
        if isinstance(outputs, Tensor):
            return outputs
        auxiliary = tuple(logits for logits in outputs[1:] if logits is not None)
        return (
            WithAuxiliary(outputs[0], auxiliary, self.anatomy.auxiliary_weight)
            if auxiliary
            else outputs[0]
        )
