"""The operations of augmentation policies, each applied to many images with their own magnitudes.

They compute the same as the functions of torchvision that its policies use. Those that depend on a
magnitude are written again, because torchvision's functions apply one magnitude to a whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

Operation = Callable[[Tensor, Tensor], Tensor]
"""Changes images, float (count, channels, height, width) from 0 to 1, by magnitudes, (count,)."""


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample each image at transformed places; places outside of the image are black.

    Args:
        images: (count, channels, height, width).
        matrices: (count, 2, 3), from the place of a pixel in the result to that in the image. Both
            are x and y in pixels, from the image's centre.
    """
    height, width = images.shape[2:]
    # `affine_grid` measures from -1 to 1 along each side.
    sides = matrices.new_tensor([width, height]) / 2
    units = torch.cat([sides, sides.new_ones(1)])
    grid = functional.affine_grid(
        matrices * units / sides[:, None], list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid, mode="nearest", padding_mode="zeros", align_corners=False
    )


def _matrices(magnitudes: Tensor, **cells: Tensor) -> Tensor:
    """Build matrices for `transform`: the identity, except for the named cells, such as `xy`."""
    matrices = torch.eye(2, 3, device=magnitudes.device).repeat(len(magnitudes), 1, 1)
    for name, values in cells.items():
        matrices[:, "xy".index(name[0]), "xy1".index(name[1])] = values
    return matrices


def shear_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Shift each row by its distance from the upper border times the magnitude."""
    shift = magnitudes * images.shape[2] / 2
    return transform(images, _matrices(magnitudes, xy=magnitudes, x1=shift))


def shear_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Shift each column by its distance from the left border times the magnitude."""
    shift = magnitudes * images.shape[3] / 2
    return transform(images, _matrices(magnitudes, yx=magnitudes, y1=shift))


def translate_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Shift images to the right, by whole pixels."""
    return transform(images, _matrices(magnitudes, x1=-magnitudes.trunc()))


def translate_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Shift images down, by whole pixels."""
    return transform(images, _matrices(magnitudes, y1=-magnitudes.trunc()))


def rotate(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Rotate images around their centre, counter-clockwise, by degrees."""
    angles = magnitudes.deg2rad()
    cos, sin = angles.cos(), angles.sin()
    return transform(images, _matrices(magnitudes, xx=cos, xy=-sin, yx=sin, yy=cos))


def brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend images with black; a negative magnitude darkens them."""
    return _blend(torch.zeros_like(images), images, magnitudes)


def color(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend images with their grey versions; grey images do not change."""
    return _blend(vision.rgb_to_grayscale(images), images, magnitudes)


def contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend images with their mean brightness."""
    grey = vision.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return _blend(grey, images, magnitudes)


def sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend images with blurred versions."""
    return _blend(vision.adjust_sharpness(images, 0.0), images, magnitudes)


def _blend(reduced: Tensor, images: Tensor, magnitudes: Tensor) -> Tensor:
    """Move images away from their reduced versions: -1 gives these, 0 the images themselves."""
    factors = (1 + magnitudes)[:, None, None, None]
    return (reduced + factors * (images - reduced)).clamp(0, 1)


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Reduce the number of bits of each channel to the rounded magnitude."""
    levels = 2 ** magnitudes.round()[:, None, None, None]
    return (images * levels).floor().clamp_max(levels - 1) / levels


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Invert all values from the magnitude on."""
    return torch.where(images >= magnitudes[:, None, None, None], 1 - images, images)


def autocontrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Stretch each channel to the range from 0 to 1; the magnitude has no effect."""
    stretched: Tensor = vision.autocontrast(images)
    return stretched


def equalize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Equalise the histogram of each channel, in 8 bits; the magnitude has no effect."""
    equalized: Tensor = vision.equalize(images)
    return equalized


def identity(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Return the images unchanged."""
    return images


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        identity,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
        rotate,
        brightness,
        color,
        contrast,
        sharpness,
        posterize,
        solarize,
        autocontrast,
        equalize,
    )
}


def apply(images: Tensor, names: list[str], numbers: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply one operation to each image; the images of an operation are changed together.

    On a GPU, this waits once for the numbers.

    Args:
        images: float (count, channels, height, width), from 0 to 1.
        names: names in `OPERATIONS`.
        numbers: the operation of each image, as an index into `names`, (count,); -1 for none.
        magnitudes: the magnitude of each image's operation, (count,).
    """
    changed = images.clone()
    numbers = numbers.cpu()
    for number, name in enumerate(names):
        rows = torch.nonzero(numbers == number).flatten().to(images.device)
        if len(rows):
            changed[rows] = OPERATIONS[name](images[rows], magnitudes[rows])
    return changed
