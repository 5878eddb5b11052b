"""Augmentation: random changes of a batch on its own device, drawn for each image separately.

Rotation, scaling, shift (crop) and flip are combined into one affine transform for each image, so
that pixels are interpolated only once. Without rotation and scaling, they are copied without
interpolation. Brightness, contrast and saturation follow, and then a policy (`policies`).

The random numbers are drawn on the CPU, so that they do not depend on the device, and for many
batches at once (`draw`): they are copied to the device once, and no step waits for a transfer.

Pairs of images of a batch can be mixed afterwards, with their labels. `mixup` averages two images
(Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1), `cutmix` replaces a
random box of one by the same box of the other (Yun et al. 2019, "CutMix: Regularization Strategy to
Train Strong Classifiers with Localizable Features", equations 1 and 2). The labels are mixed by the
share of each image. The share is drawn for each pair, from Beta(alpha, alpha); the implementations
of both papers draw it once for all pairs of a batch.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import MIX_ALPHAS, AugmentConfig

if TYPE_CHECKING:
    from trainables.augmentation.policies import Policy

# The weights of red, green and blue in brightness (ITU-R BT.601).
GREY_WEIGHTS = (0.299, 0.587, 0.114)
MIX_VALUES = 4
"""The random numbers to mix an image: its partner, its share, and the row and column of the box."""


class MixedPairs(NamedTuple):
    """The second image in each mixed image of a batch."""

    partners: Tensor
    """The row in the batch of the second image, int64 (batch,)."""
    shares: Tensor
    """The share of the first image, (batch,)."""


def draw(
    config: AugmentConfig,
    batches: int,
    count: int,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Draw the random numbers that `augment` needs for `batches` batches of `count` images.

    They are followed by those of `mix`, if the config mixes images.

    Returns:
        float32 (batches, values per image, count), on the device.
    """
    if not config.is_on:
        return torch.empty(batches, 0, count, device=device)
    drawn = [torch.stack(_draw_batch(config, count, generator)) for _ in range(batches)]
    return torch.stack(drawn).to(device)


def _draw_batch(config: AugmentConfig, count: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the random numbers of one batch, in the order in which `augment` uses them."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    def pixels(limit: int) -> Tensor:
        return torch.randint(-limit, limit + 1, (count,), generator=generator).float()

    drawn = list[Tensor]()
    moves = bool(config.rotation or config.scale)
    if moves:
        drawn += [uniform(math.radians(config.rotation)), uniform(config.scale)]
    if moves or config.crop or config.flip:
        drawn += [pixels(config.crop), pixels(config.crop)]
    if config.flip:
        drawn.append((torch.rand(count, generator=generator) < 0.5).float())
    if config.jitter:
        drawn += [uniform(config.jitter) for _ in range(3)]
    if config.policy != "none":
        numbers, _ = load_policy(config.policy)
        drawn += torch.rand(numbers, count, generator=generator)
    if config.mix != "none":
        drawn += draw_pairs(config, count, generator)
    return drawn


def draw_pairs(config: AugmentConfig, count: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the random numbers of a batch of `count` images, `MIX_VALUES` tensors (count,)."""
    alpha = config.mix_alpha or MIX_ALPHAS[config.mix]
    partners = torch.randperm(count, generator=generator)
    # Torch's beta distribution accepts no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    shares = np.random.default_rng(seed).beta(alpha, alpha, count)
    places = torch.rand(2, count, generator=generator)
    return [partners.float(), torch.from_numpy(shares).float(), *places]


def load_policy(name: str) -> "Policy":
    """Return the number of random numbers that a policy needs for an image, and its function.

    It is imported here because torchvision takes two seconds, and few trainings need it.
    """
    from trainables.augmentation.policies import POLICIES

    return POLICIES[name]


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
    brightness, contrast, saturation = (1 + values.pop(0).view(-1, 1, 1, 1) for _ in range(3))
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


def mix(images: Tensor, config: AugmentConfig, drawn: Tensor) -> tuple[Tensor, MixedPairs]:
    """Mix each image with its partner.

    Args:
        images: float (batch, channels, height, width), scaled or not.
        config: the augmentation; `mix` is on.
        drawn: the numbers of `draw_pairs`, (MIX_VALUES, batch).

    Returns:
        New images, and the pairs with the shares of their labels.
    """
    partners, shares = drawn[0].long(), drawn[1]
    if config.mix == "mixup":
        mixed = torch.lerp(images[partners], images, shares[:, None, None, None])
        return mixed, MixedPairs(partners, shares)
    box = boxes(shares, drawn[2:], images.shape[2], images.shape[3])
    mixed = torch.where(box[:, None], images[partners], images)
    return mixed, MixedPairs(partners, 1 - box.float().mean(dim=(1, 2)))


def boxes(shares: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Return a mask of a box in each image, (batch, height, width).

    Height and width of a box are those of the image times sqrt(1 - share), so that it covers the
    rest of the image beside `share`. The part outside of the image is cut off.

    Args:
        shares: the shares that are not covered, (batch,).
        places: the row and the column of the box's centre, from 0 to 1, (2, batch).
        height: the images' height.
        width: the images' width.
    """
    masks = list[Tensor]()
    for place, side in zip(places, (height, width), strict=True):
        length = ((1 - shares).sqrt() * side).floor()[:, None]
        start = (place * side).floor()[:, None] - (length / 2).floor()
        pixels = torch.arange(side, device=shares.device)
        masks.append((pixels >= start) & (pixels < start + length))
    return masks[0][:, :, None] & masks[1][:, None]
