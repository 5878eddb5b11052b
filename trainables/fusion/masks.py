"""Dropout masks for K fused networks, with a separate seed for each member.

A mask has a factor for each value: 0 if it is dropped, else 1 / (1 - rate), so that the expected
value does not change. A member's masks must depend neither on the number nor on the seeds of the
other members, so that a training is reproducible in any group.

On a CPU the masks are exactly those that `functional.dropout` would draw for each member alone;
they are drawn in a loop over the members. On a GPU such a loop would launch a kernel for each
member, which is the overhead that fusion avoids. There the masks of all members are computed at
once, by a hash (`HashedMasks`). They differ from those of a training that is not fused, but have
the same distribution.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Masks = Callable[[Tensor, Sequence[float]], Tensor]
"""A function from activations and each member's dropout rate to masks, (batch, members, ...)."""
HASH_FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The constants of SplitMix64 (Steele, Lea and Flood 2014; Vigna's public-domain splitmix64.c)."""


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
        columns: a cache of rates that are already on the device (`_column`).
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
        hashed = mix_bits(self.keys.unsqueeze(1) + as_signed(HASH_FACTORS[0]) * places)
        # Uniform numbers in [0, 1) are made from 24 bits, which is the precision of a float32.
        uniform = ((hashed >> 40) & 0xFFFFFF).float() / (1 << 24)
        rate = self._column(tuple(rates), x.device)
        masks = (uniform >= rate).float() / (1 - rate)
        return masks.to(x.dtype).view(members, batch, *rest).transpose(0, 1)

    def _column(self, rates: tuple[float, ...], device: torch.device) -> Tensor:
        """Return the rates on the device, (members, 1); the same rates are copied only once."""
        if rates not in self.columns:
            self.columns[rates] = torch.tensor(rates, device=device).unsqueeze(1)
        return self.columns[rates]


def mix_bits(values: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to 64-bit numbers.

    Every bit of an output depends on every bit of its input.
    """
    values = (values ^ shift_right(values, 30)) * as_signed(HASH_FACTORS[1])
    values = (values ^ shift_right(values, 27)) * as_signed(HASH_FACTORS[2])
    return values ^ shift_right(values, 31)


def shift_right(values: Tensor, bits: int) -> Tensor:
    """Shift 64-bit numbers to the right, filling with zeros.

    torch's own shift of int64 fills with the sign bit.
    """
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def as_signed(factor: int) -> int:
    """Convert an unsigned 64-bit number to the signed one with the same bits."""
    return factor - (1 << 64) if factor >= 1 << 63 else factor
