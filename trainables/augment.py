"""Random changes of a batch on its own device, drawn for each image by itself.

Rotation, scaling, shift (crop) and flip are one affine map an image, sampled once; without the first two, pixels are copied as they are.
Brightness, contrast and saturation follow.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import AugmentConfig

GREY_WEIGHTS = (0.299, 0.587, 0.114)


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change each image of a batch, float (batch, channels, height, width) in 0..1, drawing from `generator` alone."""
    if config.rotation or config.scale:
        images = _move(images, config, generator)
    elif config.crop or config.flip:
        images = _shift(images, config, generator)
    if config.jitter:
        images = _jitter(images, config.jitter, generator)
    return images


def _uniform(count: int, limit: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """`count` values from -limit to limit. Drawn on the CPU, so that every device sees the same numbers."""
    return ((torch.rand(count, generator=generator) * 2 - 1) * limit).to(device)


def _move(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    angle = _uniform(count, math.radians(config.rotation), generator, images.device)
    size = 1 + _uniform(count, config.scale, generator, images.device)
    across, down = (_steps(count, config.crop, generator, images.device) for _ in range(2))
    shift_x, shift_y = across * 2 / width, down * 2 / height
    mirror = torch.ones_like(angle)
    if config.flip:
        mirror = torch.where(_half(count, generator, images.device), -mirror, mirror)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    aspect = height / width
    rows = torch.stack([cos * mirror, -sin * aspect, shift_x, sin * mirror / aspect, cos, shift_y], dim=1)
    grid = functional.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _shift(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Each image is a window into its copy with a black border; all windows are read at once."""
    count, channels, height, width = images.shape
    crop, device = min(config.crop, max(height, width)), images.device  # further than its own size an image cannot be shifted out of sight
    across, down = (_steps(count, config.crop, generator, device).clamp(-crop, crop) + crop for _ in range(2))
    bordered = functional.pad(images.permute(0, 2, 3, 1), (0, 0, crop, crop, crop, crop)).contiguous()
    rows = (width + 2 * crop) * channels
    windows = bordered.as_strided((count, 2 * crop + 1, 2 * crop + 1, height, width * channels), (bordered.stride(0), rows, channels, rows, 1))
    shifted = windows[torch.arange(count, device=device), down, across].view(count, height, width, channels)
    if config.flip:
        shifted = torch.where(_half(count, generator, device).view(-1, 1, 1, 1), shifted.flip(2), shifted)
    return shifted.permute(0, 3, 1, 2)


def _steps(count: int, most: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """`count` whole numbers from -most to most."""
    return torch.randint(-most, most + 1, (count,), generator=generator).to(device)


def _half(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """`count` truth values, each true with probability one half."""
    return (torch.rand(count, generator=generator) < 0.5).to(device)


def _jitter(images: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    brightness, contrast, saturation = (1 + _uniform(len(images), limit, generator, images.device).view(-1, 1, 1, 1) for _ in range(3))
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if images.shape[1] == 3:
        weights = torch.tensor(GREY_WEIGHTS, device=images.device).view(1, 3, 1, 1)
        grey = (images * weights).sum(dim=1, keepdim=True)
        images = grey + (images - grey) * saturation
    return images.clamp(0, 1)
