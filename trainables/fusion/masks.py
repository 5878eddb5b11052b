"""Dropout masks of K networks side by side, each member's from a seed of its own.

On a CPU they are those that `functional.dropout` would draw for each alone. Elsewhere they are
hashed, all members at once.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Masks = Callable[[Tensor, Sequence[float]], Tensor]
"""Factors for activations (batch, members, ...), given these and each member's dropout rate."""
HASH_FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The factors of SplitMix64 (Steele, Lea and Flood 2014; Vigna's public-domain splitmix64.c)."""


def masks_for(seeds: Sequence[int], device: torch.device) -> Masks:
    """Return a function that makes masks, with one seed for each member.

    Each call of it continues where the one before ended.
    """
    if device.type != "cpu":
        return HashedMasks(seeds, device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda x, rates: masks_drawn(x, rates, generators)


def masks_drawn(x: Tensor, rates: Sequence[float], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw masks for x (batch, members, ...), just as `functional.dropout` does on a CPU.

    Nothing is drawn at a rate of 0.
    """
    batch, members, *rest = x.shape
    masks = torch.ones((members, batch, *rest), dtype=x.dtype)
    for mask, rate, generator in zip(masks, rates, generators, strict=True):
        if rate:
            mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    return masks.transpose(0, 1)


class HashedMasks:
    """Masks of all members at once, without a loop.

    Whether a value is kept is a hash of the member's seed, the number of masks so far and the
    value's place. So a member's masks do not depend on its neighbours, though they are not those
    that it would draw alone.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.keys = mixed(torch.tensor(seeds, dtype=torch.int64, device=device))
        self.drawn = 0
        self.columns: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, x: Tensor, rates: Sequence[float]) -> Tensor:
        """Return masks for x (batch, members, ...)."""
        self.drawn += 1
        batch, members, *rest = x.shape
        # The number of masks stands above the bits of any place.
        places = torch.arange(batch * math.prod(rest), device=x.device) + (self.drawn << 40)
        hashed = mixed(self.keys.unsqueeze(1) + wrapped(HASH_FACTORS[0]) * places)
        # 24 bits: as many as a float32 holds exactly.
        uniform = ((hashed >> 40) & 0xFFFFFF).float() / (1 << 24)
        rate = self._column(tuple(rates), x.device)
        masks = (uniform >= rate).float() / (1 - rate)
        return masks.to(x.dtype).view(members, batch, *rest).transpose(0, 1)

    def _column(self, rates: tuple[float, ...], device: torch.device) -> Tensor:
        """Return the rates on the device, (members, 1); equal ones are copied there once."""
        if rates not in self.columns:
            self.columns[rates] = torch.tensor(rates, device=device).unsqueeze(1)
        return self.columns[rates]


def mixed(values: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser to 64-bit numbers.

    In the results every bit depends on every bit of the number.
    """
    values = (values ^ shifted(values, 30)) * wrapped(HASH_FACTORS[1])
    values = (values ^ shifted(values, 27)) * wrapped(HASH_FACTORS[2])
    return values ^ shifted(values, 31)


def shifted(values: Tensor, bits: int) -> Tensor:
    """Shift 64-bit numbers to the right, with zeros coming in.

    torch takes them for signed numbers, for which it would copy the sign.
    """
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def wrapped(factor: int) -> int:
    """Return an unsigned 64-bit number as the signed one of the same bits."""
    return factor - (1 << 64) if factor >= 1 << 63 else factor
