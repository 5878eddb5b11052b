"""Augmentation: random changes of a batch on its own device, drawn for each image separately.

Rotation, scaling, shift (crop) and flip are combined into one affine transform for each image, so
that pixels are interpolated only once. Without rotation and scaling, they are copied without
interpolation. Brightness, contrast and saturation follow, and then a policy (`policies`).

The random numbers are drawn on the CPU, so that they do not depend on the device, and for many
batches at once (`draw`): they are copied to the device once, and no step waits for a transfer.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augmentation.mixing import draw_pairs
from trainables.config import AugmentConfig

if TYPE_CHECKING:
    from trainables.augmentation.policies import Policy

# The weights of red, green and blue in brightness (ITU-R BT.601).
GREY_WEIGHTS = (0.299, 0.587, 0.114)


def draw(
    config: AugmentConfig,
    batches: int,
    count: int,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Draw the random numbers that `augment` needs for `batches` batches of `count` images.

    They are followed by those of `mixing.mix`, if the config mixes images.

    Returns:
        float32 (batches, values per image, count), on the device.
    """
    drawn = [_draw_batch(config, count, generator) for _ in range(batches)]
    return torch.stack([torch.stack(each) if each else torch.empty(0, count) for each in drawn]).to(
        device
    )


def _draw_batch(config: AugmentConfig, count: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the random numbers of one batch, in the order in which `augment` uses them."""
    drawn = []
    moves = bool(config.rotation or config.scale)
    if moves:
        drawn = [
            _uniform(count, math.radians(config.rotation), generator),
            _uniform(count, config.scale, generator),
        ]
    if moves or config.crop or config.flip:
        drawn += [
            torch.randint(-config.crop, config.crop + 1, (count,), generator=generator).float()
            for _ in range(2)
        ]
        drawn += [(torch.rand(count, generator=generator) < 0.5).float()] if config.flip else []
    if config.jitter:
        drawn += [_uniform(count, config.jitter, generator) for _ in range(3)]
    if config.policy != "none":
        numbers, _ = load_policy(config.policy)
        drawn += torch.rand(numbers, count, generator=generator)
    if config.mix != "none":
        drawn += draw_pairs(config, count, generator)
    return drawn


def load_policy(name: str) -> "Policy":
    """Return the number of random numbers that a policy needs for an image, and its function.

    It is imported here because torchvision takes two seconds, and few trainings need it.
    """
    from trainables.augmentation.policies import POLICIES

    return POLICIES[name]


def _uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * limit


def augment(images: Tensor, config: AugmentConfig, drawn: Tensor) -> Tensor:
    """Augment each image of a batch with the random numbers that were drawn for it.

    Args:
        images: float (batch, channels, height, width), from 0 to 1.
        config: the enabled changes and their limits.
        drawn: the numbers of `draw` for this batch, (values per image, batch); those for mixing,
            at the end, are not used.
    """
    values = list(drawn)
    images = _transform(images, config, values, "bilinear")
    if config.jitter:
        images = _jitter(images, values)
    if config.policy != "none":
        numbers, change = load_policy(config.policy)
        images = change(images, torch.stack(values[:numbers]))
    return images


def move(targets: Tensor, config: AugmentConfig, drawn: Tensor) -> Tensor:
    """Transform targets, such as masks, by the same affine transform as their images.

    Values are not interpolated; the uncovered border is 0.

    Args:
        targets: float (batch, channels, height, width).
        config: the enabled changes and their limits.
        drawn: the same numbers as for `augment`.
    """
    return _transform(targets, config, list(drawn), "nearest")


def _transform(images: Tensor, config: AugmentConfig, values: list[Tensor], mode: str) -> Tensor:
    """Rotate, scale, shift and mirror images; numbers that were used are removed from `values`."""
    if config.rotation or config.scale:
        return _move(images, values, mode, flip=config.flip)
    if config.crop or config.flip:
        return _shift(images, config.crop, values, flip=config.flip)
    return images


def _move(images: Tensor, values: list[Tensor], mode: str, *, flip: bool) -> Tensor:
    count, _, height, width = images.shape
    angle, size, across, down = values.pop(0), 1 + values.pop(0), values.pop(0), values.pop(0)
    shift_x, shift_y = across * 2 / width, down * 2 / height
    mirror = torch.ones_like(angle)
    if flip:
        mirror = torch.where(values.pop(0) > 0, -mirror, mirror)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    # Coordinates run from -1 to 1 along both sides, even if the image is not square.
    aspect = height / width
    rows = torch.stack(
        [cos * mirror, -sin * aspect, shift_x, sin * mirror / aspect, cos, shift_y], dim=1
    )
    grid = functional.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode=mode, padding_mode="zeros", align_corners=False
    )


def _shift(images: Tensor, crop: int, values: list[Tensor], *, flip: bool) -> Tensor:
    """Shift each image by whole pixels and, with `flip`, mirror the images drawn for mirroring.

    Each result is a window into a copy of the image with a black border. `as_strided` provides
    views of all possible windows, so that a single indexing operation reads those of all images.
    """
    count, channels, height, width = images.shape
    # A shift by the image's size leaves only the border, so that larger shifts are not needed.
    crop = min(crop, max(height, width))
    across, down = (values.pop(0).long().clamp(-crop, crop) + crop for _ in range(2))
    bordered = functional.pad(
        images.permute(0, 2, 3, 1), (0, 0, crop, crop, crop, crop)
    ).contiguous()
    rows = (width + 2 * crop) * channels
    windows = bordered.as_strided(
        (count, 2 * crop + 1, 2 * crop + 1, height, width * channels),
        (bordered.stride(0), rows, channels, rows, 1),
    )
    shifted = windows[torch.arange(count, device=images.device), down, across].view(
        count, height, width, channels
    )
    if flip:
        shifted = torch.where((values.pop(0) > 0).view(-1, 1, 1, 1), shifted.flip(2), shifted)
    return shifted.permute(0, 3, 1, 2)


def _jitter(images: Tensor, values: list[Tensor]) -> Tensor:
    brightness, contrast, saturation = (1 + value.view(-1, 1, 1, 1) for value in values)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if images.shape[1] == 3:
        grey = (images * _grey_weights(images.device)).sum(dim=1, keepdim=True)
        images = grey + (images - grey) * saturation
    return images.clamp(0, 1)


@lru_cache
def _grey_weights(device: torch.device) -> Tensor:
    """Return the weights of the channels, (1, 3, 1, 1), on the device.

    They are cached, so that they are copied to each device only once.
    """
    return torch.tensor(GREY_WEIGHTS, device=device).view(1, 3, 1, 1)
