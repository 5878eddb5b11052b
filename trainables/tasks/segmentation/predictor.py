"""Masks of raw images, predicted by a promoted segmentation model.

This file is copied with the network, and `base` beside it (`trainables.predictors.base`).

    Predictor(folder).predictions(images)

returns a mask for each image: the number of the class of each pixel, uint8 (height, width). Images
are uint8 (height, width, channels) or, if grey, (height, width), of any height and width: a list,
or one array. `Predictor(folder).table(images)` returns a table with one row for each image: the
share of each class, and `mask`, a PNG whose palette gives each class a colour.

The folder contains `about.json` (the classes, the number of channels, the side of a tile), this
file, and `network.pt2`, a torch.export program from uint8 tiles to class probabilities. For a
baseline, which `about.json` names, it contains `pixel_models.py` instead of the network and, for
forests, `classifier-1.skops` and so on.

An image is predicted tile by tile (`base.run_tiles`), so that memory does not grow with its size.
An image that is smaller than a tile is continued by the pixels of its edges.
"""

from collections.abc import Sequence
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
    load_module,
    load_program,
    run_tiles,
)

Mask = NDArray[np.uint8]

BASELINE = "pixel_models.py"
"""The file in the folder of a baseline, instead of the network."""
TILE_PIXELS = 16 * 256 * 256
"""The maximum number of pixels of the tiles that are predicted at once."""
COLOURS = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167),
)  # fmt: skip
"""The colours of the first classes, which people with a colour vision deficiency can distinguish
(Okabe and Ito 2008); class 0, usually the background, is black."""
VEIL = 0.3
"""The opacity of a mask that is laid over its image, within its outlines."""
GOLDEN, TURN = 0.618034, 2 * np.pi
"""The golden ratio spreads the hues of further classes evenly, however many there are."""


def predict_mask(run: Run, image: Images, side: int) -> Mask:
    """Predict the class number of each pixel of an image (height, width, channels).

    `run` maps tiles, uint8 (count, side, side, channels), to (count, classes, side, side).
    """
    mask = np.empty(image.shape[:2], np.uint8)
    for rows, columns, chances in run_tiles(run, image, side, max(1, TILE_PIXELS // side**2)):
        mask[rows.taken, columns.taken] = chances.argmax(axis=0)[rows.within, columns.within]
    return mask


class MaskPredictor(TaskPredictor):
    """A segmentation network loaded from its folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network or the baseline."""
        if "baseline" in description:
            self._predict = load_module(folder / BASELINE).load(folder, description)
        else:
            predict_tiles, side = run or load_program(folder), description["tile"]
            self._predict = lambda image: predict_mask(predict_tiles, image, side)

    def row(self, prediction: Mask) -> dict[str, Any]:
        """Return the share of each class, and the mask as PNG."""
        return shares_of(prediction, self.classes) | {"mask": mask_png(prediction)}


Predictor = MaskPredictor
"""The name by which the code that loads a model finds the class, whatever the model's task is."""


def shares_of(mask: Mask, classes: Sequence[str]) -> dict[str, float]:
    """Return the share of each class in a mask, by the title of its column."""
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / max(1, mask.size)
    return {f"share of {name}": float(share) for name, share in zip(classes, shares, strict=True)}


def mask_png(mask: Mask) -> bytes:
    """Encode a mask as a PNG: pixels are class numbers, and the palette gives them colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette())
    return encode_png(picture)


def overlay(image: Images, mask: Mask) -> Images:
    """Lay the colours of a mask over an image; pixels of class 0 and of 255 stay as they are.

    Outlines have the full colour, so that the image can be seen within them.
    """
    colours = np.array(palette(), np.float32).reshape(256, 3)
    colour_image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    opacity = np.where(outlines(mask), np.float32(1), np.float32(VEIL))
    opacity *= (mask > 0) & (mask < 255)
    mixed = colours[mask]  # float32: with float64, a large image would take twice the memory
    mixed -= colour_image
    mixed *= opacity[..., None]
    mixed += colour_image
    picture: Images = mixed.astype(np.uint8)
    return picture


def outlines(mask: Mask) -> NDArray[np.bool_]:
    """Return the pixels beside a pixel of another number, (height, width)."""
    beside_other = np.zeros(mask.shape, bool)
    rows, columns = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    beside_other[1:] |= rows
    beside_other[:-1] |= rows
    beside_other[:, 1:] |= columns
    beside_other[:, :-1] |= columns
    return beside_other


def palette() -> list[int]:
    """Return the colours of 256 class numbers, as Pillow takes them: R, G, B of each in turn."""
    colours = [list(colour) for colour in COLOURS]
    while len(colours) < 256:
        hue = len(colours) * GOLDEN % 1
        colours.append([round(127 + 127 * np.cos(TURN * (hue + third / 3))) for third in range(3)])
    return [value for colour in colours for value in colour]
