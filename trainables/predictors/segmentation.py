"""Masks of raw images, predicted by a promoted segmentation model.

This file is copied with the network, so it imports nothing from this project.

    Predictor(folder).predictions(images)

returns a mask for each image: the number of the class of each pixel, uint8 (height, width). Images
are uint8 (height, width, channels) or, if grey, (height, width), of any height and width: a list,
or one array. `Predictor(folder).table(images)` returns a table with one row for each image: the
share of each class, and `mask`, a PNG whose palette gives each class a colour.

The folder contains `about.json` (the classes, the number of channels, the side of a tile), this
file, and `network.pt2`, a torch.export program from uint8 tiles to class probabilities. For a
baseline, which `about.json` names, it contains `pixel_models.py` instead of the network and, for
forests, `classifier-1.skops` and so on.

An image is predicted tile by tile, so that memory does not grow with its size: all tiles have one
size, neighbours overlap, and each pixel is taken from the tile in which it lies further from the
edge (the overlap-tile strategy of Ronneberger et al. 2015, arXiv 1505.04597). An image that is
smaller than a tile is continued by the pixels of its edges.
"""

import importlib.util
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Run = Callable[[Images], NDArray[np.floating[Any]]]
"""Maps tiles, uint8 (count, side, side, channels), to (count, classes, side, side)."""

DESCRIPTION, NETWORK, BASELINE = "about.json", "network.pt2", "pixel_models.py"
OVERLAP = 4
"""The overlap of neighbouring tiles is at least the side divided by this number."""
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


class Span(NamedTuple):
    """The place of a tile along one axis of an image."""

    start: int
    """The first pixel of the tile in the image."""
    low: int
    """The first pixel that is taken from this tile."""
    high: int
    """One past the last pixel that is taken from this tile."""


def spans(length: int, side: int) -> list[Span]:
    """Divide an axis of `length` pixels among as few tiles of this side as the overlap allows."""
    if length <= side:
        return [Span(0, 0, length)]
    overlap = max(1, side // OVERLAP)
    count = 1 + -(-(length - side) // (side - overlap))
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    edges = [
        0,
        *((before + side + after) // 2 for before, after in itertools.pairwise(starts)),
        length,
    ]
    return [Span(*span) for span in zip(starts, edges, edges[1:], strict=False)]


def tiles(height: int, width: int, side: int) -> Iterator[tuple[Span, Span]]:
    """Yield the rows and the columns of each tile of an image."""
    for rows in spans(height, side):
        for columns in spans(width, side):
            yield rows, columns


def cut_tile(image: Images, rows: Span, columns: Span, side: int) -> Images:
    """Cut a tile out of an image (height, width, channels), continued by its edges."""
    down, across = (
        np.minimum(np.arange(span.start, span.start + side), length - 1)
        for span, length in zip((rows, columns), image.shape[:2], strict=True)
    )
    tile: Images = image[down[:, None], across]
    return tile


def predict_mask(run: Run, image: Images, side: int) -> Mask:
    """Predict the class number of each pixel of an image (height, width, channels)."""
    height, width = image.shape[:2]
    mask = np.empty((height, width), np.uint8)
    places, at_once = list(tiles(height, width, side)), max(1, TILE_PIXELS // side**2)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        chances = run(np.stack([cut_tile(image, *place, side) for place in some]))
        for (rows, columns), tile in zip(some, chances.argmax(axis=1), strict=True):
            mask[rows.low : rows.high, columns.low : columns.high] = tile[
                rows.low - rows.start : rows.high - rows.start,
                columns.low - columns.start : columns.high - columns.start,
            ]
    return mask


class MaskPredictor:
    """A segmentation network loaded from its folder."""

    def __init__(self, folder: Path, run: Run | None = None) -> None:
        """Load the model.

        Args:
            folder: the model's folder.
            run: predicts tiles instead of `network.pt2`.
        """
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.classes: list[str] = description["classes"]
        self.image: tuple[int, int, int] = tuple(description["image"])
        self.batch: int = description["batch"]
        self.tile: int = description["tile"]
        if run is None and "baseline" in description:
            self._predict: Callable[[Images], Mask] = _baseline(folder, description)
        else:
            predict_tiles = run or _network(folder)
            self._predict = lambda image: predict_mask(predict_tiles, image, self.tile)

    def predictions(self, images: Any) -> list[Mask]:
        """Predict the mask of each image."""
        return [self._predict(image) for image in as_images(images)]

    def table(self, images: Any) -> "pd.DataFrame":
        """Return a table of the share of each class, and of the mask as PNG, a row an image."""
        import pandas as pd  # importing it takes half a second, and servers do not need it

        masks = self.predictions(images)
        return pd.DataFrame([row_of(mask, self.classes) | {"mask": png(mask)} for mask in masks])


Predictor = MaskPredictor
"""The name by which the code that loads a model finds the class, whatever the model's task is."""


def row_of(mask: Mask, classes: Sequence[str]) -> dict[str, float]:
    """Return the share of each class in a mask, by the title of its column."""
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / max(1, mask.size)
    return {f"share of {name}": float(share) for name, share in zip(classes, shares, strict=True)}


def png(mask: Mask) -> bytes:
    """Encode a mask as a PNG: pixels are class numbers, and the palette gives them colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette())
    return encode_png(picture)


def encode_png(picture: "Image.Image | Images") -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, "PNG")
    return buffer.getvalue()


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


def as_images(images: Any) -> list[Images]:
    """Check images, and give grey ones an axis of channels.

    Raises:
        ValueError: an image is not uint8, or has neither two nor three axes.
    """
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                "images must be uint8 (height, width, channels) or, if grey, (height, width) "
                f"(got {array.dtype} {array.shape})"
            )
    return [array[..., None] if array.ndim == 2 else array for array in arrays]


def _network(folder: Path) -> Run:
    import torch

    program = torch.export.load(folder / NETWORK).module()

    def run(tile_images: Images) -> NDArray[np.floating[Any]]:
        with torch.no_grad():
            chances: NDArray[np.floating[Any]] = program(torch.from_numpy(tile_images)).numpy()
        return chances

    return run


def _baseline(folder: Path, description: dict[str, Any]) -> Callable[[Images], Mask]:
    """Load a baseline by the code in its folder, which is not registered in `sys.modules`.

    The file of another model has the same name.
    """
    spec = importlib.util.spec_from_file_location("pixel_models", folder / BASELINE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / BASELINE} cannot be loaded")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    predict: Callable[[Images], Mask] = code.load(folder, description)
    return predict
