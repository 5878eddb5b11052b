"""Published augmentation policies: sets of operations, of which some are drawn for each image.

`trivial` is TrivialAugment in its wide form (Mueller and Hutter 2021, "TrivialAugment: Tuning-free
Yet State-of-the-Art Data Augmentation", table 7), with one operation of a random magnitude.
`randaugment` applies two operations of magnitude 9 of 30 (Cubuk et al. 2020, "RandAugment:
Practical Automated Data Augmentation with a Reduced Search Space"). `augmix` averages three chains
of one to three operations, and averages the result with the image (Hendrycks et al. 2020, "AugMix:
A Simple Data Processing Method to Improve Robustness and Uncertainty", algorithm 1), with the
operations that do not resemble the corruptions of robustness tests. The Jensen-Shannon loss of
AugMix, which needs three times as many images in each step, is not part of it.

The magnitudes are those of torchvision, except that `trivial` shifts images by at most their side.
No operation mirrors images. The uncovered border is black.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from trainables.augmentation.operations import apply

TRIVIAL_PIXELS = 32
"""The largest shift of `trivial`, in pixels."""
RAND_SHIFT = 150 / 331
"""The largest shift of `randaugment`, as a share of the image's side (150 of 331 pixels)."""
RAND_OPERATIONS, RAND_LEVEL = 2, 9
CHAINS, DEPTH, SEVERITY = 3, 3, 3
"""For `augmix`: the chains, the operations of the longest, and the number of the lowest levels that
are drawn.
"""
SIGNED = ("shear", "translate", "rotate", "brightness", "color", "contrast", "sharpness")
"""The first words of the operations whose magnitudes get a random sign."""

Ranges = dict[str, tuple[float, float]]
"""The magnitudes at the lowest and the highest level, by the name of the operation."""


def _moves(shear: float, shift_x: float, shift_y: float, angle: float) -> Ranges:
    return {
        "shear_x": (0, shear),
        "shear_y": (0, shear),
        "translate_x": (0, shift_x),
        "translate_y": (0, shift_y),
        "rotate": (0, angle),
    }


def _blends(limit: float) -> Ranges:
    return dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0, limit))


def _tones(most_bits: int, least_bits: int) -> Ranges:
    return {
        "posterize": (most_bits, least_bits),
        "solarize": (1, 0),
        "autocontrast": (0, 0),
        "equalize": (0, 0),
    }


def trivial_ranges(height: int, width: int) -> Ranges:
    """Return the operations of `trivial` for images of this size."""
    across, down = min(TRIVIAL_PIXELS, width), min(TRIVIAL_PIXELS, height)
    return {"identity": (0, 0), **_moves(0.99, across, down, 135), **_blends(0.99), **_tones(8, 2)}


def rand_ranges(height: int, width: int) -> Ranges:
    """Return the operations of `randaugment` for images of this size."""
    across, down = RAND_SHIFT * width, RAND_SHIFT * height
    return {"identity": (0, 0), **_moves(0.3, across, down, 30), **_blends(0.9), **_tones(8, 4)}


def augmix_ranges(height: int, width: int) -> Ranges:
    """Return the operations of `augmix` for images of this size."""
    return {**_moves(0.3, width / 3, height / 3, 30), **_tones(4, 0)}


class MagnitudeTable:
    """The operations of a policy for images of one size, with their magnitudes at each level."""

    def __init__(self, ranges: Ranges, levels: int) -> None:
        self.names = list(ranges)
        self.magnitudes = torch.stack(
            [torch.linspace(low, high, levels) for low, high in ranges.values()]
        )
        """(operations, levels)."""
        self.is_signed = torch.tensor([name.startswith(SIGNED) for name in self.names])

    def numbers(self, uniform: Tensor) -> Tensor:
        """Choose an operation for each image by a uniform number from 0 to 1."""
        return (uniform * len(self.names)).long()

    def apply(self, images: Tensor, numbers: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
        """Apply an operation to each image.

        Args:
            images: float (count, channels, height, width), from 0 to 1.
            numbers: the number of each image's operation, (count,); -1 for none.
            levels: the level of its magnitude, (count,).
            signs: a uniform number from 0 to 1; magnitudes with a sign are negative below 0.5.
        """
        magnitudes = self.magnitudes.to(images.device)[numbers, levels]
        is_negative = self.is_signed.to(images.device)[numbers] & (signs < 0.5)
        return apply(images, self.names, numbers, torch.where(is_negative, -magnitudes, magnitudes))


@lru_cache
def _table(
    ranges: Callable[[int, int], Ranges], levels: int, height: int, width: int
) -> MagnitudeTable:
    return MagnitudeTable(ranges(height, width), levels)


def trivial(images: Tensor, values: Tensor) -> Tensor:
    """Apply one operation of a random level to each image."""
    table = _table(trivial_ranges, 31, *images.shape[2:])
    operation, level, sign = values
    return table.apply(images, table.numbers(operation), (level * 31).long(), sign)


def randaugment(images: Tensor, values: Tensor) -> Tensor:
    """Apply two operations of a fixed level to each image."""
    table = _table(rand_ranges, 31, *images.shape[2:])
    for operation, sign in values.view(RAND_OPERATIONS, 2, -1):
        levels = torch.full_like(operation, RAND_LEVEL, dtype=torch.long)
        images = table.apply(images, table.numbers(operation), levels, sign)
    return images


def augmix(images: Tensor, values: Tensor) -> Tensor:
    """Average each image with the average of three chains of operations on it.

    The weights of the chains have the distribution Dirichlet(1, 1, 1): exponential numbers, divided
    by their sum. The weight of the image has the distribution Beta(1, 1), which is uniform.
    """
    table = _table(augmix_ranges, 10, *images.shape[2:])
    depths, weights, steps = values[:CHAINS], values[CHAINS : 2 * CHAINS], values[2 * CHAINS : -1]
    weights = -(1 - weights).log()
    weights = weights / weights.sum(dim=0).clamp_min(torch.finfo(weights.dtype).tiny)
    mixed = torch.zeros_like(images)
    for depth, weight, chain in zip(depths, weights, steps.view(CHAINS, DEPTH, 3, -1), strict=True):
        changed = images
        for number, (operation, level, sign) in enumerate(chain):
            has_step = number <= (depth * DEPTH).long()
            numbers = torch.where(has_step, table.numbers(operation), -1)
            changed = table.apply(changed, numbers, (level * SEVERITY).long(), sign)
        mixed += weight[:, None, None, None] * changed
    share = values[-1][:, None, None, None]
    return share * images + (1 - share) * mixed


Policy = tuple[int, Callable[[Tensor, Tensor], Tensor]]
"""The uniform numbers from 0 to 1 that an image needs, and the function of a policy.

Its arguments are images, float (count, channels, height, width) from 0 to 1, and these numbers,
(numbers, count).
"""
POLICIES: dict[str, Policy] = {
    "trivial": (3, trivial),
    "randaugment": (2 * RAND_OPERATIONS, randaugment),
    "augmix": (2 * CHAINS + 3 * CHAINS * DEPTH + 1, augmix),
}
"""The policies by the names of `augment.policy`."""
