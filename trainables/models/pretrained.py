"""The base class of networks of which one part may start with pretrained weights.

The part is a whole network of torchvision with a new head, or the encoder of a larger network. Its
weights may be published ones, or come from a checkpoint; `trainables.models.weights` loads them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired, Self, TypedDict

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Anatomy:
    """Prefixes of the names of weights in a file that was saved from torchvision's network."""

    head: tuple[str, ...]
    """The layers that never start with these weights: they are new, or the network lacks them."""
    last_stage: tuple[str, ...]
    """The layers that are trained in addition to new ones with `freeze=all_but_last_stage`."""
    auxiliary: tuple[str, ...] = ()
    """Heads at earlier layers that are used only in training."""


def features(*numbers: int) -> tuple[str, ...]:
    """Return the name prefixes of these layers in torchvision's `features`."""
    return tuple(f"features.{number}." for number in numbers)


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


class Pretrainable(nn.Module):
    """A network of which one part may start with pretrained weights.

    With such weights, the network expects pixels from 0 to 1, and scales them (`prepare`) as in the
    training of these weights.
    """

    part_name: ClassVar[str]
    """The name of the attribute that contains the part.

    The names of the part's weights, without this prefix, are those in the file.
    """
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, part: nn.Module, anatomy: Anatomy, *, pretrained: bool, freeze: str, **heads: Any
    ) -> None:
        """Build the network from its part and its other modules.

        Args:
            part: the part that may start with pretrained weights.
            anatomy: the layers of the part.
            pretrained: True if such weights will be loaded.
            freeze: `nothing`; `backbone`, which is all of the part but its head; or
                `all_but_last_stage`.
            heads: the other modules, by attribute name; they are never frozen.
        """
        super().__init__()
        self.add_module(self.part_name, part)
        for name, module in heads.items():
            self.add_module(name, module)
        self.anatomy, self.pretrained = anatomy, pretrained
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        if not pretrained:
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = max(module.momentum or 0.0, MOMENTUM)
        learning = {
            "nothing": ("",),
            "backbone": anatomy.head,
            "all_but_last_stage": (*anatomy.head, *anatomy.last_stage),
        }[freeze]
        for weights_name, weights in part.named_parameters():
            weights.requires_grad_(weights_name.startswith(learning))
        self._frozen = list(frozen_modules(part))

    @property
    def part(self) -> nn.Module:
        """The part that may start with pretrained weights."""
        return self.get_submodule(self.part_name)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the weights that are never pretrained: the part's head, and all other modules."""
        inside = f"{self.part_name}."
        heads = tuple(inside + prefix for prefix in self.anatomy.head)
        return [
            weights
            for name, weights in self.named_parameters()
            if name.startswith(heads) or not name.startswith(inside)
        ]

    def normalise(self, scaling: Scaling) -> None:
        """Set the scaling of pixels; a single value is used for all three channels."""
        for buffer, values in (
            (self.mean, scaling["mean"]),
            (self.deviation, scaling["deviation"]),
        ):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype).view(-1, 1, 1))
        if hasattr(self.part, "transform_input"):
            self.part.transform_input = scaling.get("transform_input", False)  # type: ignore[assignment]

    @property
    def scaling(self) -> Scaling:
        """The network's own scaling of pixels, in the form of `normalise`."""
        scaling: Scaling = {
            "mean": self.mean.flatten().tolist(),
            "deviation": self.deviation.flatten().tolist(),
        }
        if getattr(self.part, "transform_input", False):
            scaling["transform_input"] = True
        return scaling

    def prepare(self, images: Tensor) -> Tensor:
        """Repeat grey images as three channels and, for pretrained weights, scale pixels."""
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        if self.pretrained:
            images = (images - self.mean) / self.deviation
        return images

    def train(self, mode: bool = True) -> Self:
        """Set the training (or evaluation) mode of all but the frozen modules.

        Frozen modules stay in evaluation mode, so that their batch normalisation keeps its
        statistics, and their dropout is off.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self
