"""Random changes of a batch on its own device, drawn for each image by itself.

Rotation, scaling, shift (crop) and flip are one affine map an image, sampled once; brightness, contrast and saturation follow.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import AugmentConfig

GREY_WEIGHTS = (0.299, 0.587, 0.114)


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change each image of a batch, float (batch, channels, height, width) in 0..1, drawing from `generator` alone."""
    if config.rotation or config.scale or config.crop or config.flip:
        images = _move(images, config, generator)
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
    shift_x = _uniform(count, 2 * config.crop / width, generator, images.device)
    shift_y = _uniform(count, 2 * config.crop / height, generator, images.device)
    mirror = torch.ones_like(angle)
    if config.flip:
        mirror = torch.where(_uniform(count, 1.0, generator, images.device) < 0, -mirror, mirror)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    aspect = height / width
    rows = torch.stack([cos * mirror, -sin * aspect, shift_x, sin * mirror / aspect, cos, shift_y], dim=1)
    grid = functional.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


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
