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
listed in `FUSED` and modules listed in `UNCHANGED` are fused, by their exact type. A subclass, or
any other layer, might mix members, so that a network that contains one is not fused (`blueprint`).

The fused network is a copy of the structure of the first member (`fuse`), whose layers are replaced
by fused ones. Each container's own `forward` still runs. This `forward` must address channels from
the end of the shape (`dim=-3`), because the fused network has one more axis in front.

Dropout. A mask has a factor for each value: 0 if it is dropped, else 1 / (1 - rate), so that the
expected value does not change. A member's masks must depend neither on the number nor on the seeds
of the other members, so that a training is reproducible in any group. On a CPU they are exactly
those that `functional.dropout` would draw for each member alone; they are drawn in a loop over the
members. On a GPU such a loop would launch a kernel for each member, which is the overhead that
fusion avoids. There the masks of all members are computed at once, by a hash (`HashedMasks`). They
differ from those of a training that is not fused, but have the same distribution.
"""

import copy
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.paper import MultiScale, ResidualPair

UNCHANGED: tuple[type[nn.Module], ...] = (
    nn.Sequential,
    nn.ModuleList,
    ResidualPair,
    MultiScale,
    nn.ReLU,
    nn.Flatten,
)
"""Modules whose `forward` is correct for activations with the additional axis of members."""
Masks = Callable[[Tensor, Sequence[float]], Tensor]
"""A function from activations and each member's dropout rate to masks, (batch, members, ...)."""
HASH_FACTORS = [
    factor - (1 << 64) for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
]
"""The constants of SplitMix64 (Steele, Lea and Flood 2014; Vigna's public-domain splitmix64.c).

They are the signed 64-bit numbers with the same bits.
"""


class FusedLayer(nn.Module):
    """A layer with the stacked weights of K layers of the same shape, (members, ...)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            each = [getattr(member, name) for member in members]
            stacked = None if each[0] is None else torch.stack([values.detach() for values in each])
            self.register_parameter(name, None if stacked is None else nn.Parameter(stacked))


class FusedConv2d(FusedLayer):
    """K convolutions as one: grouped by member, or ordinary if all members have the same input.

    A convolution with `groups=K` applies each of K sets of filters to its own channels only, which
    is exactly K separate convolutions. If the members' input is the same, an ordinary convolution
    with the filters of all members reads it only once, which is faster.
    """

    def __init__(self, members: Sequence[nn.Conv2d]) -> None:
        super().__init__(members)
        first, self.groups = members[0], members[0].groups
        self.geometry: tuple[Any, Any, Any] = (first.stride, first.padding, first.dilation)

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
            y = functional.conv2d(x[:, 0], weight, bias, *self.geometry)
        else:
            groups = members * self.groups
            y = functional.conv2d(x.flatten(1, 2), weight, bias, *self.geometry, groups=groups)
        return split_members(y, members)


class FusedLinear(FusedLayer):
    """K dense layers as one batched matrix product (`torch.bmm`, with the members as its batch)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, members, input features) to (batch, members, output features)."""
        inputs, weight = x.transpose(0, 1), self.weight.transpose(1, 2)
        if self.bias is None:
            return torch.bmm(inputs, weight).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), inputs, weight).transpose(0, 1)


class FusedBatchNorm2d(FusedLayer):
    """K batch normalisations as a single one over all their channels.

    Batch normalisation treats each channel separately, so that joining the channels of the members
    does not mix members. `num_batches_tracked` is not stacked: only momentum None, which cannot be
    fused, would use it. `Stack.hand_back` advances the counts of the members.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, members: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__(members)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.stack([member.get_buffer(name) for member in members]))
        self.momentum, self.eps = members[0].momentum, members[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, members, channels, height, width)."""
        y = functional.batch_norm(
            x.flatten(1, 2),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            flatten_members(self.weight),
            flatten_members(self.bias),
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return split_members(y, x.shape[1])


class FusedMaxPool2d(nn.Module):
    """K max poolings with the same settings, as a single one over all their channels."""

    def __init__(self, members: Sequence[nn.MaxPool2d]) -> None:
        super().__init__()
        self.pool = copy.copy(members[0])

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, members, channels, height, width) over height and width."""
        return split_members(self.pool(x.flatten(1, 2)), x.shape[1])


class FusedDropout(nn.Module):
    """Dropout with a separate rate and a separate random mask for each member."""

    def __init__(self, rates: Sequence[float], masks: Masks) -> None:
        super().__init__()
        self.rates, self.masks = rates, masks

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of (batch, members, ...) and scale up the others, in training mode only."""
        return x * self.masks(x, self.rates) if self.training and any(self.rates) else x


FUSED: Mapping[type[nn.Module], Callable[[list[Any]], nn.Module]] = {
    nn.Conv2d: FusedConv2d,
    nn.Linear: FusedLinear,
    nn.BatchNorm2d: FusedBatchNorm2d,
    nn.MaxPool2d: FusedMaxPool2d,
}
"""The layers that are replaced by one for all members; `FusedDropout`, which needs masks, too."""


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


def blueprint(network: nn.Module) -> Hashable | None:
    """Describe the structure of a network by a hashable value; None if it cannot be fused.

    Networks with equal blueprints can be fused. Dropout rates are not part of a blueprint, because
    each member may have its own.
    """
    modules = list(network.named_modules(remove_duplicate=False))
    weights = [
        id(values)
        for _, module in modules
        for values in module._parameters.values()
        if values is not None
    ]
    # A layer or parameter that is used in two places would become two independent copies.
    if len({id(module) for _, module in modules}) < len(modules):
        return None
    if len(set(weights)) < len(weights):
        return None
    if not all(_is_fusable(module) for _, module in modules):
        return None
    return tuple((name, *_settings(module)) for name, module in modules)


def _is_fusable(module: nn.Module) -> bool:
    """True if a module's `forward`, or that of its fused form, keeps the members separate."""
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if type(module) in UNCHANGED and (module._parameters or module._buffers):
        return False
    match module:
        case nn.Conv2d():
            is_plain = module.padding_mode == "zeros"
        case nn.BatchNorm2d():
            is_plain = module.track_running_stats and module.momentum is not None
        case nn.MaxPool2d():
            is_plain = not module.return_indices
        case nn.Flatten():
            is_plain = (module.start_dim, module.end_dim) == (-3, -1)
        case nn.Dropout():
            is_plain = module.p < 1
        case _:
            is_plain = True
    return is_plain and type(module) in (*UNCHANGED, *FUSED, nn.Dropout)


def _settings(module: nn.Module) -> tuple[Any, ...]:
    """Return the type of a module, its settings, and the shapes of its own parameters."""
    settings: list[Hashable] = [
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in ("training", "p")
    ]
    shapes = [getattr(values, "shape", None) for values in module._parameters.values()]
    return type(module), tuple(settings), tuple(shapes)


def fuse(members: Sequence[nn.Module], masks: Masks) -> nn.Module:
    """Build one network that computes all `members`, which must have equal blueprints.

    It maps (batch, members, channels, height, width) to (batch, members, classes). Its parameters
    and buffers are stacked copies, (members, ...), with the same names as a member's. The members
    are not changed.
    """
    first = members[0]
    if isinstance(first, nn.Dropout):
        return FusedDropout(
            [member.p for member in members if isinstance(member, nn.Dropout)], masks
        )
    if type(first) in FUSED:
        return FUSED[type(first)](list(members))
    copied = copy.copy(first)
    copied.__dict__["_modules"] = {
        name: fuse([member.get_submodule(name) for member in members], masks)
        for name, _ in first.named_children()
    }
    return copied


def masks_for(seeds: Sequence[int], device: torch.device) -> Masks:
    """Build a function that draws the members' masks, with a separate seed for each member.

    Each call continues the members' random sequences.
    """
    if device.type != "cpu":
        return HashedMasks(seeds, device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda x, rates: draw_masks(x, rates, generators)


def draw_masks(x: Tensor, rates: Sequence[float], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw masks for x (batch, members, ...), exactly as `functional.dropout` does on a CPU.

    As in torch, no random numbers are drawn for a member whose rate is 0.
    """
    batch, members, *rest = x.shape
    masks = torch.ones((members, batch, *rest), dtype=x.dtype)
    for mask, rate, generator in zip(masks, rates, generators, strict=True):
        if rate:
            mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    return masks.transpose(0, 1)


class HashedMasks:
    """Draws the masks of all members at once, with a counter-based random number generator.

    The random number of a value is the SplitMix64 output for a key (from the member's seed) plus a
    counter (from the number of masks drawn so far and the value's position) times an odd constant.
    So a member's numbers do not depend on the other members, and all are computed in parallel.

    Attributes:
        keys: the hashed seeds, int64 (members,).
        drawn: the number of masks drawn so far.
        columns: a cache of the rates on the device, (members, 1), so that they are copied once.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.keys = mix_bits(torch.tensor(seeds, dtype=torch.int64, device=device))
        self.drawn = 0
        self.columns: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, x: Tensor, rates: Sequence[float]) -> Tensor:
        """Draw masks for x, (batch, members, ...)."""
        self.drawn += 1
        batch, members, *rest = x.shape
        # Counter: the number of masks from bit 40 upwards, the value's position below (a mask has
        # fewer than 2**40 values). Shape (batch * values,), the same for all members.
        places = torch.arange(batch * math.prod(rest), device=x.device) + (self.drawn << 40)
        # (members, 1) + (batch * values,) -> (members, batch * values); wraps modulo 2**64.
        hashed = mix_bits(self.keys.unsqueeze(1) + HASH_FACTORS[0] * places)
        # Uniform numbers in [0, 1) are made from 24 bits, which is the precision of a float32.
        uniform = ((hashed >> 40) & 0xFFFFFF).float() / (1 << 24)
        key = tuple(rates)
        if key not in self.columns:
            self.columns[key] = torch.tensor(key, device=x.device).unsqueeze(1)
        rate = self.columns[key]
        masks = (uniform >= rate).float() / (1 - rate)
        return masks.to(x.dtype).view(members, batch, *rest).transpose(0, 1)


def mix_bits(values: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to 64-bit numbers.

    Every bit of an output depends on every bit of its input.
    """
    values = (values ^ shift_right(values, 30)) * HASH_FACTORS[1]
    values = (values ^ shift_right(values, 27)) * HASH_FACTORS[2]
    return values ^ shift_right(values, 31)


def shift_right(values: Tensor, bits: int) -> Tensor:
    """Shift 64-bit numbers to the right, filling with zeros.

    torch's own shift of int64 fills with the sign bit.
    """
    return (values >> bits) & ((1 << (64 - bits)) - 1)
