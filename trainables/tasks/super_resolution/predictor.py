"""Raw images enlarged by a promoted model of super-resolution.

This file is copied with the network, and `base` beside it (`trainables.predictors.base`).

    Predictor(folder).predictions(images)

returns each image enlarged, uint8 (scale * height, scale * width, channels). Images are uint8
(height, width, channels) or, if grey, (height, width), of any height and width: a list, or one
array. `Predictor(folder).table(images)` returns a table with one row for each image: the `width`
and `height` of the enlarged one, and `image`, a PNG.

The folder contains `about.json` (the number of channels, the scale, the side of a tile), this file,
and `network.pt2`, a torch.export program from uint8 tiles to enlarged ones, float32 from 0 to 255.
For a baseline, `about.json` has the name of the interpolation instead.

An image is enlarged tile by tile (`base.run_tiles`), so that memory does not grow with its size. An
image that is smaller than a tile is continued by the pixels of its edges.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.predictors.base import (
    Images,
    Run,
    TaskPredictor,
    encode_png,
    load_program,
    run_tiles,
)

TILE_PIXELS = 8 * 256 * 256
"""The maximum number of pixels of the enlarged tiles that are computed at once."""
REACH = 2
"""The pixels to each side of a small pixel on which its bicubic enlargement depends."""
METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's interpolations, by the names of the baselines; `bicubic` has its own function."""


def enlarge_by_tiles(run: Run, image: Images, side: int, scale: int) -> Images:
    """Enlarge an image (height, width, channels), tile by tile; a grey one stays grey.

    `run` maps tiles, uint8 (count, side, side, channels), to enlarged ones, with pixels from 0 to
    255.
    """
    height, width, channels = image.shape
    enlarged = np.empty((scale * height, scale * width, channels), np.uint8)
    at_once = max(1, TILE_PIXELS // (scale * side) ** 2)
    for rows, columns, tile in run_tiles(run, image, side, at_once):
        down, across = rows.times(scale), columns.times(scale)
        enlarged[down.taken, across.taken] = as_pixels(tile[down.within, across.within])
    if channels > 1 and (image == image[..., :1]).all():
        enlarged[...] = as_pixels(enlarged.mean(axis=2, keepdims=True))
    return enlarged


def as_pixels(values: NDArray[np.floating[Any]]) -> Images:
    """Round values from 0 to 255 to uint8."""
    pixels: Images = np.rint(values).clip(0, 255).astype(np.uint8)
    return pixels


def bicubic_weights(scale: int) -> NDArray[np.float64]:
    """Return the weights of the five pixels around a small pixel for each large one in its place.

    The result is (scale, 5), for one axis. The cubic has a = -0.5 (Keys 1981), as in MATLAB.
    """
    places = (np.arange(scale) + 0.5) / scale - 0.5
    distances = np.abs(places[:, None] - np.arange(-REACH, REACH + 1))
    weights: NDArray[np.float64] = np.where(
        distances <= 1,
        1.5 * distances**3 - 2.5 * distances**2 + 1,
        (-0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2) * (distances < 2),
    )
    return weights


def bicubic(image: Images, scale: int) -> Images:
    """Enlarge an image (height, width, channels); its outermost pixels are repeated at the edges.

    Pillow's bicubic differs from this by up to a grey level, since it also rounds between the axes.
    """
    height, width = image.shape[:2]
    weights = bicubic_weights(scale).astype(np.float32)
    padded = np.pad(image, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    values = padded.astype(np.float32)
    tall = np.empty((height, scale, *values.shape[1:]), np.float32)
    for phase, own in enumerate(weights):
        tall[:, phase] = sum(weight * values[at : at + height] for at, weight in enumerate(own))
    rows = tall.reshape(scale * height, *values.shape[1:])
    wide = np.empty((scale * height, width, scale, image.shape[2]), np.float32)
    for phase, own in enumerate(weights):
        wide[:, :, phase] = sum(weight * rows[:, at : at + width] for at, weight in enumerate(own))
    return as_pixels(wide.reshape(scale * height, scale * width, image.shape[2]))


def interpolate(image: Images, scale: int, method: str) -> Images:
    """Enlarge an image (height, width, channels) by `bicubic` or one of `METHODS`."""
    if method == "bicubic":
        return bicubic(image, scale)
    height, width, channels = image.shape
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    enlarged = np.asarray(picture.resize((scale * width, scale * height), METHODS[method]))
    return enlarged[..., None] if channels == 1 else enlarged


class EnlargingPredictor(TaskPredictor):
    """A model of super-resolution loaded from its folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network, or choose the interpolation of a baseline."""
        self.scale: int = description["scale"]
        if method := description.get("baseline"):
            self._predict = lambda image: interpolate(image, self.scale, method)
        else:
            side, enlarge_tiles = description["tile"], run or load_program(folder)
            self._predict = lambda image: enlarge_by_tiles(enlarge_tiles, image, side, self.scale)

    def row(self, prediction: Images) -> dict[str, Any]:
        """Return the size of an enlarged image, and the image as PNG."""
        return size_of(prediction) | {"image": encode_png(prediction)}


Predictor = EnlargingPredictor
"""The name by which the code that loads a model finds the class, whatever the model's task is."""


def size_of(image: Images) -> dict[str, int]:
    """Return the size of an image, by the titles of the columns."""
    return {"width": image.shape[1], "height": image.shape[0]}
