"""Layers that compute K networks of one shape side by side, and the network made of them.

An activation is (batch, members, ...): images (batch, members, channels, height, width), features
(batch, members, features). In memory channels follow members, so a convolution sees (batch, members
* channels, height, width) without a copy. A batch that all members share is expanded along the
members, at a stride of 0. Parameters and buffers have the members in front.

The network is a copy of the members' structure (`fuse`). Only what is named in `LEAVES` and
`CONTAINERS` is stacked, by its exact type: of any other layer it is not known whether it keeps
members apart. HFTA (Wang et al., MLSys 2021) describes the idea.
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.fusion.masks import Masks
from trainables.models.deep_cnn import ResidualPair
from trainables.models.multi_scale import MultiScale

CONTAINERS: tuple[type[nn.Module], ...] = (nn.Sequential, nn.ModuleList, ResidualPair, MultiScale)
"""Modules whose `forward` joins their children in the same way with a dimension of members."""


class FusedConv2d(nn.Module):
    """K convolutions: one with a group per member, or a wide one where all see the same batch."""

    def __init__(self, members: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.weight, self.bias = stacked(members, "weight"), stacked_or_none(members, "bias")
        first = members[0]
        self.groups = first.groups
        self.geometry: dict[str, Any] = {
            "stride": first.stride,
            "padding": first.padding,
            "dilation": first.dilation,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, channels, height, width) to the same with the filters' channels."""
        members = len(self.weight)
        # Copied once here, into the order in which channels-last convolutions read it.
        weight = self.weight.permute(0, 1, 3, 4, 2).flatten(0, 1).contiguous().permute(0, 3, 1, 2)
        bias = in_line(self.bias)
        if self.groups == 1 and x.stride(1) == 0:
            y = functional.conv2d(x[:, 0], weight, bias, **self.geometry)
        else:
            y = functional.conv2d(
                x.flatten(1, 2), weight, bias, groups=members * self.groups, **self.geometry
            )
        return apart(y, members)


class FusedLinear(nn.Module):
    """K dense layers as one batched matrix product."""

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight, self.bias = stacked(members, "weight"), stacked_or_none(members, "bias")

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, features in) to (batch, members, features out)."""
        inputs, weight = x.transpose(0, 1), self.weight.transpose(1, 2)
        y = (
            torch.bmm(inputs, weight)
            if self.bias is None
            else torch.baddbmm(self.bias.unsqueeze(1), inputs, weight)
        )
        return y.transpose(0, 1)


class FusedBatchNorm2d(nn.Module):
    """K batch normalisations as one over all their channels.

    `num_batches_tracked` stays with the members: nothing is computed from it.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, members: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.weight, self.bias = (
            stacked_or_none(members, "weight"),
            stacked_or_none(members, "bias"),
        )
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.stack([member.get_buffer(name) for member in members]))
        self.momentum, self.eps = members[0].momentum, members[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, members, channels, height, width), which keeps its shape."""
        mean, variance = self.running_mean.view(-1), self.running_var.view(-1)
        y = functional.batch_norm(
            x.flatten(1, 2),
            mean,
            variance,
            in_line(self.weight),
            in_line(self.bias),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return apart(y, x.shape[1])


class FusedMaxPool2d(nn.Module):
    """K equal poolings."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, channels, height, width) to the same with fewer pixels."""
        return apart(self.pool(x.flatten(1, 2)), x.shape[1])


class FusedDropout(nn.Module):
    """Dropout with a separate rate and mask for each member."""

    def __init__(self, rates: Sequence[float], masks: Masks) -> None:
        super().__init__()
        self.rates, self.masks = rates, masks

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of (batch, members, ...), which keeps its shape; in training only."""
        return x * self.masks(x, self.rates) if self.training and any(self.rates) else x


@dataclass(frozen=True)
class Leaf:
    """The way in which layers of one type are stacked."""

    traits: Callable[[Any], Hashable]
    """Gives what must be equal among the members; None if this layer cannot be stacked."""
    fuse: Callable[[list[Any], Masks], nn.Module]
    """Makes the one layer that stands for all."""


LEAVES: Mapping[type[nn.Module], Leaf] = {
    nn.Conv2d: Leaf(
        lambda layer: (
            (
                tuple(layer.weight.shape),
                layer.bias is None,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
            if layer.padding_mode == "zeros"
            else None
        ),
        lambda members, masks: FusedConv2d(members),
    ),
    nn.Linear: Leaf(
        lambda layer: (tuple(layer.weight.shape), layer.bias is None),
        lambda members, masks: FusedLinear(members),
    ),
    nn.BatchNorm2d: Leaf(
        lambda layer: (
            (layer.num_features, layer.momentum, layer.eps, layer.affine)
            if layer.track_running_stats and layer.momentum is not None
            else None
        ),
        lambda members, masks: FusedBatchNorm2d(members),
    ),
    nn.MaxPool2d: Leaf(
        lambda layer: (
            None
            if layer.return_indices
            else (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
        ),
        lambda members, masks: FusedMaxPool2d(copy.copy(members[0])),
    ),
    nn.ReLU: Leaf(lambda layer: "any", lambda members, masks: nn.ReLU()),
    nn.Flatten: Leaf(
        lambda layer: "image" if (layer.start_dim, layer.end_dim) == (-3, -1) else None,
        lambda members, masks: nn.Flatten(-3),
    ),
    nn.Dropout: Leaf(
        lambda layer: "any" if layer.p < 1 else None,
        lambda members, masks: FusedDropout([member.p for member in members], masks),
    ),
}


def stacked(members: Sequence[nn.Module], name: str) -> nn.Parameter:
    """Return one parameter of all members, stacked with the members in front."""
    return nn.Parameter(torch.stack([member.get_parameter(name).detach() for member in members]))


def stacked_or_none(members: Sequence[nn.Module], name: str) -> nn.Parameter | None:
    """Return the same as `stacked`, or None where the members have no such parameter."""
    return None if getattr(members[0], name) is None else stacked(members, name)


def in_line(values: Tensor | None) -> Tensor | None:
    """Return (members, channels) as (members * channels,), contiguous in memory.

    torch's batch normalisation takes contiguous memory for granted (2.13, CPU).
    """
    return None if values is None else values.flatten().contiguous()


def apart(y: Tensor, members: int) -> Tensor:
    """Return (batch, members * channels, ...) as (batch, members, channels, ...), for images."""
    batch, channels, height, width = y.shape
    return y.view(batch, members, channels // members, height, width)


def blueprint(module: nn.Module) -> Hashable | None:
    """Return what a network is built of, or None if one of its parts cannot be stacked.

    Networks of equal blueprints can be stacked. Dropout rates are left out.
    """
    # A layer or parameter that is used in two places would be copied into two.
    if len(list(module.named_modules(remove_duplicate=False))) != len(list(module.modules())):
        return None
    if len(list(module.named_parameters(remove_duplicate=False))) != len(list(module.parameters())):
        return None
    return _blueprint(module)


def _blueprint(module: nn.Module) -> Hashable | None:
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if kind in LEAVES:
        traits = LEAVES[kind].traits(module)
        return None if traits is None else (kind.__name__, traits)
    if kind not in CONTAINERS or module._parameters or module._buffers:
        return None
    children = tuple((name, _blueprint(child)) for name, child in module.named_children())
    own = tuple(
        sorted(
            (name, repr(value))
            for name, value in vars(module).items()
            if not name.startswith("_") and name != "training"
        )
    )
    return None if any(part is None for _, part in children) else (kind.__name__, own, children)


def fuse(members: Sequence[nn.Module], masks: Masks) -> nn.Module:
    """Return one network that computes all of these, which have one blueprint.

    It maps (batch, members, channels, height, width) to (batch, members, classes). Parameters and
    buffers are copies under the members' own names.
    """
    kind = type(members[0])
    if kind in LEAVES:
        return LEAVES[kind].fuse(list(members), masks)
    copied = copy.copy(members[0])
    children = {
        name: fuse([member.get_submodule(name) for member in members], masks)
        for name, _ in members[0].named_children()
    }
    copied.__dict__["_modules"] = children
    return copied
