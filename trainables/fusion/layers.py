"""Layers that compute K networks of the same shape in one operation, and the network built of them.

The K networks are called *members*. The idea is that of HFTA (Wang et al., MLSys 2021): an
operation on a small network spends most of its time on overhead (Python, dispatch, launching a
kernel), which a fused layer pays once for all members.

Shapes. Each tensor of the fused network has an axis of members:

    activations of convolutions   (batch, members, channels, height, width)
    activations of dense layers   (batch, members, features)
    parameters and buffers        (members, ...), the rest as in a single network

In memory activations are channels-last with the channels after the members, that is (batch, height,
width, members, channels). So (batch, members * channels, height, width), which torch's convolution,
pooling and batch normalisation need, is a view and not a copy. If all members are trained on the
same batch, it is stored once and expanded along the members with a stride of 0; `FusedConv2d` makes
use of that in the first layer.

Correctness. No layer may mix values of two members: then the gradient of the sum of all losses with
respect to one member's parameters is the gradient of that member's own loss. Therefore only layers
listed in `LEAVES` and modules listed in `CONTAINERS` are fused, by their exact type. A subclass, or
any other layer, might mix members, so that a network that contains one is not fused (`blueprint`).

The fused network is a copy of the structure of the first member (`fuse`), whose layers are replaced
by fused ones. Each container's own `forward` still runs. This `forward` must address channels from
the end of the shape (`dim=-3`), because the fused network has one more axis in front.
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
"""Modules whose `forward` is correct for activations with the additional axis of members."""


class FusedConv2d(nn.Module):
    """K convolutions as one: grouped by member, or ordinary if all members have the same input.

    A convolution with `groups=K` applies each of K sets of filters to its own channels only, which
    is exactly K separate convolutions. If the members' input is the same, an ordinary convolution
    with the filters of all members reads it only once, which is faster.
    """

    def __init__(self, members: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.weight, self.bias = (
            stack_parameter(members, "weight"),
            stack_parameter_or_none(members, "bias"),
        )
        first = members[0]
        self.groups = first.groups
        self.geometry: dict[str, Any] = {
            "stride": first.stride,
            "padding": first.padding,
            "dilation": first.dilation,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, channels, height, width) to (batch, members, filters, ...)."""
        members = len(self.weight)
        # (members, filters, channels, h, w) -> (members * filters, channels, h, w), channels-last.
        # A member's filters are a part of its row in the matrix of all weights
        # (`stack.move_into_rows`), so the members cannot be joined without a copy. The copy has
        # the layout that channels-last convolutions read, so that they do not copy it again.
        weight = self.weight.permute(0, 1, 3, 4, 2).flatten(0, 1).contiguous().permute(0, 3, 1, 2)
        bias = flatten_members(self.bias)
        # A stride of 0 along the members means that all of them share the input.
        if self.groups == 1 and x.stride(1) == 0:
            y = functional.conv2d(x[:, 0], weight, bias, **self.geometry)
        else:
            y = functional.conv2d(
                x.flatten(1, 2), weight, bias, groups=members * self.groups, **self.geometry
            )
        return split_members(y, members)


class FusedLinear(nn.Module):
    """K dense layers as one batched matrix product (`torch.bmm`, with the members as its batch)."""

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight, self.bias = (
            stack_parameter(members, "weight"),
            stack_parameter_or_none(members, "bias"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, input features) to (batch, members, output features)."""
        inputs, weight = x.transpose(0, 1), self.weight.transpose(1, 2)
        y = (
            torch.bmm(inputs, weight)
            if self.bias is None
            else torch.baddbmm(self.bias.unsqueeze(1), inputs, weight)
        )
        return y.transpose(0, 1)


class FusedBatchNorm2d(nn.Module):
    """K batch normalisations as a single one over all their channels.

    Batch normalisation treats each channel separately, so that joining the channels of the members
    does not mix members. `num_batches_tracked` is not stacked: only momentum None, which cannot be
    fused, would use it. `Stack.hand_back` advances the counts of the members.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, members: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.weight, self.bias = (
            stack_parameter_or_none(members, "weight"),
            stack_parameter_or_none(members, "bias"),
        )
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.stack([member.get_buffer(name) for member in members]))
        self.momentum, self.eps = members[0].momentum, members[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, members, channels, height, width)."""
        mean, variance = self.running_mean.view(-1), self.running_var.view(-1)
        y = functional.batch_norm(
            x.flatten(1, 2),
            mean,
            variance,
            flatten_members(self.weight),
            flatten_members(self.bias),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return split_members(y, x.shape[1])


class FusedMaxPool2d(nn.Module):
    """K max poolings with the same settings, as a single one over all their channels."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, members, channels, height, width) over height and width."""
        return split_members(self.pool(x.flatten(1, 2)), x.shape[1])


class FusedDropout(nn.Module):
    """Dropout with a separate rate and a separate random mask for each member (see `masks`)."""

    def __init__(self, rates: Sequence[float], masks: Masks) -> None:
        super().__init__()
        self.rates, self.masks = rates, masks

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of (batch, members, ...) and scale up the others, in training mode only."""
        return x * self.masks(x, self.rates) if self.training and any(self.rates) else x


@dataclass(frozen=True)
class Leaf:
    """Two functions that determine how layers of one type are fused."""

    traits: Callable[[Any], Hashable]
    """Returns the settings that all members must share; None if the layer cannot be fused."""
    fuse: Callable[[list[Any], Masks], nn.Module]
    """Builds the fused layer from the members' layers."""


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


def stack_parameter(members: Sequence[nn.Module], name: str) -> nn.Parameter:
    """Stack a parameter of all members, (members, ...)."""
    return nn.Parameter(torch.stack([member.get_parameter(name).detach() for member in members]))


def stack_parameter_or_none(members: Sequence[nn.Module], name: str) -> nn.Parameter | None:
    """Stack a parameter of all members, or return None if they have no such parameter."""
    return None if getattr(members[0], name) is None else stack_parameter(members, name)


def flatten_members(values: Tensor | None) -> Tensor | None:
    """Reshape (members, channels) to (members * channels,), contiguous in memory.

    On the CPU, torch's batch normalisation (2.13) ignores the strides of its weights, and would
    read wrong values from memory that is not contiguous.
    """
    return None if values is None else values.flatten().contiguous()


def split_members(y: Tensor, members: int) -> Tensor:
    """View (batch, members * channels, h, w) as (batch, members, channels, h, w)."""
    batch, channels, height, width = y.shape
    return y.view(batch, members, channels // members, height, width)


def blueprint(module: nn.Module) -> Hashable | None:
    """Describe the structure of a network by a hashable value; None if it cannot be fused.

    Networks with equal blueprints can be fused. Dropout rates are not part of a blueprint, because
    each member may have its own.
    """
    # A layer or parameter that is used in two places would become two independent copies.
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
    """Build one network that computes all `members`, which must have equal blueprints.

    It maps (batch, members, channels, height, width) to (batch, members, classes). Its parameters
    and buffers are stacked copies, (members, ...), with the same names as a member's. The members
    are not changed.
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
