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

The operations compute the same as the functions of torchvision that its policies use. Those that
depend on a magnitude are written again, because torchvision's functions apply one magnitude to a
whole batch, while here each image has its own.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

STRENGTHS: dict[str, tuple[float, Callable[[int], float], float, float, tuple[int, int]]] = {
    "trivial": (0.99, lambda side: min(32, side), 135, 0.99, (8, 2)),
    "randaugment": (0.3, lambda side: 150 / 331 * side, 30, 0.9, (8, 4)),
    "augmix": (0.3, lambda side: side / 3, 30, 0.0, (4, 0)),
}
"""The magnitudes of each policy at its highest level.

They are the shear, the shift for an image's side in pixels, the rotation in degrees, the strength
of the operations in `REDUCED` (0 if these, and `identity`, are not used), and the bits of
`posterize` at the lowest and the highest level.
"""
RAND_OPERATIONS, RAND_LEVEL = 2, 9
CHAINS, DEPTH, SEVERITY = 3, 3, 3
"""For `augmix`: the chains, the operations of the longest, and the number of the lowest levels that
are drawn.
"""


def _quantize(images: Tensor, levels: Tensor) -> Tensor:
    return (images * levels).floor().clamp_max(levels - 1) / levels


def _rotation(angles: Tensor) -> "Cells":
    cos, sin = angles.cos(), angles.sin()
    return {"xx": cos, "xy": -sin, "yx": sin, "yy": cos}


Cells = dict[str, Tensor]
"""Some cells of the matrix of each image, (count,), such as `xy`: row x, column y."""
MOVES: dict[str, Callable[[Tensor, int, int], Cells]] = {
    "shear_x": lambda shear, height, width: {"xy": shear, "x1": shear * height / 2},
    "shear_y": lambda shear, height, width: {"yx": shear, "y1": shear * width / 2},
    "translate_x": lambda pixels, height, width: {"x1": -pixels.trunc()},
    "translate_y": lambda pixels, height, width: {"y1": -pixels.trunc()},
    "rotate": lambda degrees, height, width: _rotation(degrees.deg2rad()),
}
"""Operations that move pixels, as functions of the magnitudes and the size of the images.

A matrix maps the place (x, y, 1) of a pixel in the result to that in the image, both in pixels from
the image's centre. Cells that are not named are those of the identity.
"""
REDUCED: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": torch.zeros_like,
    "color": vision.rgb_to_grayscale,
    "contrast": lambda images: vision.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True),
    "sharpness": lambda images: vision.adjust_sharpness(images, 0.0),  # blurred
}
"""Operations that move images away from, or for negative magnitudes towards, reduced versions."""
TONES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, magnitudes: images,
    "posterize": lambda images, bits: _quantize(images, 2 ** bits.round()),
    "solarize": lambda images, least: torch.where(images >= least, 1 - images, images),
    "autocontrast": lambda images, magnitudes: vision.autocontrast(images),
    "equalize": lambda images, magnitudes: vision.equalize(images),
}
"""Operations on single values, as functions of images and magnitudes, (count, 1, 1, 1)."""

Ranges = dict[str, tuple[float, float]]
"""The magnitudes at the lowest and the highest level, by the name of the operation."""


def change(name: str, images: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply an operation to images, float (count, ...) from 0 to 1, with magnitudes (count,)."""
    if name in MOVES:
        return transform(images, MOVES[name](magnitudes, *images.shape[2:]))
    magnitudes = magnitudes[:, None, None, None]
    if name in TONES:
        return TONES[name](images, magnitudes)
    reduced = REDUCED[name](images)
    return (reduced + (1 + magnitudes) * (images - reduced)).clamp(0, 1)


def transform(images: Tensor, cells: Cells) -> Tensor:
    """Sample images at the places that matrices (`MOVES`) give; places outside are black."""
    matrices = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    for name, values in cells.items():
        matrices[:, "xy".index(name[0]), "xy1".index(name[1])] = values
    # `affine_grid` measures from -1 to 1 along each side.
    sides = matrices.new_tensor([images.shape[3], images.shape[2]]) / 2
    scaled = matrices * torch.cat([sides, sides.new_ones(1)]) / sides[:, None]
    grid = functional.affine_grid(scaled, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="nearest", padding_mode="zeros", align_corners=False
    )


def ranges_of(policy: str, height: int, width: int) -> Ranges:
    """Return the operations of a policy for images of this size, in the order of their numbers."""
    shear, shift, degrees, blend, bits = STRENGTHS[policy]
    moves = (shear, shear, shift(width), shift(height), degrees)
    ranges: Ranges = {
        "identity": (0, 0),
        **{name: (0, limit) for name, limit in zip(MOVES, moves, strict=True)},
        **dict.fromkeys(REDUCED, (0, blend)),
        "posterize": bits,
        "solarize": (1, 0),
        "autocontrast": (0, 0),
        "equalize": (0, 0),
    }
    omitted = () if blend else ("identity", *REDUCED)
    return {name: limits for name, limits in ranges.items() if name not in omitted}


def apply(images: Tensor, names: list[str], numbers: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply one operation to each image; the images of an operation are changed together.

    On a GPU, this waits once for the numbers.

    Args:
        images: float (count, channels, height, width), from 0 to 1.
        names: names of operations.
        numbers: the operation of each image, as an index into `names`, (count,); negative for none.
        magnitudes: the magnitude of each image's operation, (count,).
    """
    changed = images.clone()
    numbers = numbers.cpu()
    for number, name in enumerate(names):
        rows = torch.nonzero(numbers == number).flatten().to(images.device)
        if len(rows):
            changed[rows] = change(name, images[rows], magnitudes[rows])
    return changed


class MagnitudeTable:
    """The operations of a policy for images of one size, with their magnitudes at each level."""

    def __init__(self, policy: str, levels: int, height: int, width: int) -> None:
        ranges = ranges_of(policy, height, width)
        self.names = list(ranges)
        self.magnitudes = torch.stack(
            [torch.linspace(low, high, levels) for low, high in ranges.values()]
        )
        """(operations, levels)."""
        self.is_signed = torch.tensor([name in MOVES or name in REDUCED for name in self.names])

    def apply(self, images: Tensor, places: Tensor, levels: Tensor, signs: Tensor) -> Tensor:
        """Apply an operation to each image.

        Args:
            images: float (count, channels, height, width), from 0 to 1.
            places: a uniform number from 0 to 1 that chooses each image's operation; -1 for none.
            levels: the level of its magnitude, (count,).
            signs: a uniform number from 0 to 1; magnitudes with a sign are negative below 0.5.
        """
        numbers = (places * len(self.names)).long()
        magnitudes = self.magnitudes.to(images.device)[numbers, levels]
        is_negative = self.is_signed.to(images.device)[numbers] & (signs < 0.5)
        return apply(images, self.names, numbers, torch.where(is_negative, -magnitudes, magnitudes))


_table = lru_cache(MagnitudeTable)


def trivial(images: Tensor, values: Tensor) -> Tensor:
    """Apply one operation of a random level to each image."""
    operation, level, sign = values
    table = _table("trivial", 31, *images.shape[2:])
    return table.apply(images, operation, (level * 31).long(), sign)


def randaugment(images: Tensor, values: Tensor) -> Tensor:
    """Apply two operations of a fixed level to each image."""
    table = _table("randaugment", 31, *images.shape[2:])
    for operation, sign in values.view(RAND_OPERATIONS, 2, -1):
        levels = torch.full_like(operation, RAND_LEVEL, dtype=torch.long)
        images = table.apply(images, operation, levels, sign)
    return images


def augmix(images: Tensor, values: Tensor) -> Tensor:
    """Average each image with the average of three chains of operations on it.

    The weights of the chains have the distribution Dirichlet(1, 1, 1): exponential numbers, divided
    by their sum. The weight of the image has the distribution Beta(1, 1), which is uniform.
    """
    table = _table("augmix", 10, *images.shape[2:])
    depths, weights, steps = values[:CHAINS], values[CHAINS : 2 * CHAINS], values[2 * CHAINS : -1]
    weights = -(1 - weights).log()
    weights = weights / weights.sum(dim=0).clamp_min(torch.finfo(weights.dtype).tiny)
    mixed = torch.zeros_like(images)
    for depth, weight, chain in zip(depths, weights, steps.view(CHAINS, DEPTH, 3, -1), strict=True):
        changed = images
        for number, (operation, level, sign) in enumerate(chain):
            places = torch.where(number <= (depth * DEPTH).long(), operation, -1)
            changed = table.apply(changed, places, (level * SEVERITY).long(), sign)
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
