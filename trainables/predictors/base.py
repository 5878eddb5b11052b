"""The code that the predictors of all tasks share; a copy goes with each promoted model.

This file and the predictor of the model's task (`TaskEntry.predictor`) are exported together, as
the package `predictor` in the model's folder. Therefore this file imports nothing from this
project, and a predictor nothing but this file.
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
Probabilities = NDArray[np.float64]
Run = Callable[[Images], NDArray[np.floating[Any]]]
"""Maps inputs of a network, uint8 (count, height, width, channels), to its outputs."""

DESCRIPTION, NETWORK, CODE, FEATURES, ONNX = (
    "about.json",
    "network.pt2",
    "predictor",
    "features.py",
    "model.onnx",
)
"""The names of the files in a folder; each model has some of them. `CODE` is a package."""
CHANNELS = 4
"""The maximum number of channels: RGB and alpha."""
ACCEPTED = (
    "images must be a uint8 array (count, height, width, channels) with 1 to 4 channels, a uint8 "
    "array (count, height, width) of grey images, or a list of image arrays"
)
MODES = {1: "L", 3: "RGB"}
"""Pillow's modes, by the number of channels of the training images."""
UNLIKE, UNCERTAIN = "unlike", "uncertain"
"""The reasons for which a model abstains."""


JUDGEMENT_COLUMNS = ("answer", "abstained", "reason", "set")
"""The columns of a table that a model with promises may add (`judgement_columns`)."""


class Judgement(NamedTuple):
    """The reason for which a model abstains, if any, and the classes that are possible."""

    reason: str
    """`UNLIKE` or `UNCERTAIN` if the model abstains, empty if it answers."""
    labels: list[str] | None
    """The names of the possible classes, the most probable first; None without this promise."""


class JudgedPredictions(NamedTuple):
    """The predictions for images, and how far they can be relied on."""

    probabilities: Probabilities
    """The probability of each class, float64 (count, classes)."""
    judgements: list[Judgement] | None
    """One for each image; None for a model without promises."""


def judgement_columns(labels: list[str], judgements: list[Judgement]) -> dict[str, list[Any]]:
    """Return the columns of a table that a model with promises adds, by title.

    Args:
        labels: the most probable class of each image.
        judgements: the judgement of each image.
    """
    columns: dict[str, list[Any]] = {
        "answer": [
            "" if own.reason else label for label, own in zip(labels, judgements, strict=True)
        ],
        "abstained": [bool(own.reason) for own in judgements],
        "reason": [own.reason for own in judgements],
    }
    if any(own.labels is not None for own in judgements):
        columns["set"] = [json.dumps(own.labels, ensure_ascii=False) for own in judgements]
    return columns


def column(name: str) -> str:
    """Return the title of the column of a class's probabilities.

    The prefix ensures that it never equals the title of another column, such as `class`.
    """
    return f"probability of {name}"


def as_images(images: Any) -> Images | list[Images]:
    """Check images, and convert them to one array or, for a sequence, to a list of arrays.

    Returns:
        uint8 (count, height, width, channels), or a list of (height, width, channels).

    Raises:
        ValueError: the images have none of the accepted forms, or their form is ambiguous.
    """
    if isinstance(images, np.ndarray) and images.dtype != object:
        return _check_array(images, ("count", "height", "width"))
    if (
        isinstance(images, Sequence | np.ndarray)
        and not isinstance(images, str | bytes)
        and np.ndim(images[:0]) == 1
    ):
        return [_check_array(np.asarray(image), ("height", "width")) for image in images]
    raise ValueError(f"{ACCEPTED} (got {type(images).__name__})")


def _check_array(images: NDArray[Any], axes: tuple[str, ...]) -> Images:
    """Check an array, and append an axis of channels if it has only the given `axes`.

    int64 values from 0 to 255 are accepted too, because JSON has no uint8.
    """
    received = images
    if images.dtype == np.int64 and images.size and images.min() >= 0 and images.max() <= 255:
        images = images.astype(np.uint8)
    if images.dtype != np.uint8:
        raise ValueError(
            f"{ACCEPTED} ({_form(received)}). Scale the pixels to 0 to 255 as in the training "
            "images, and convert them with .astype(numpy.uint8)."
        )
    if images.ndim == len(axes) and images.shape[-1] > CHANNELS:
        images = images[..., None]
    if (
        images.ndim != len(axes) + 1
        or not 1 <= images.shape[-1] <= CHANNELS
        or 0 in images.shape[-3:]
    ):
        single = (
            " Pass a single image as image[None]."
            if images.ndim in (2, 3) and len(axes) == 3
            else ""
        )
        raise ValueError(f"{ACCEPTED} ({_form(received)}).{single}")
    return images


def _form(images: NDArray[Any]) -> str:
    """Describe the type and shape of an array for a message: `got float32 (3, 8, 8)`."""
    return f"got {images.dtype} {images.shape}"


def as_trained(images: Images, trained_shape: tuple[int, int, int]) -> Images:
    """Convert images to the shape (height, width, channels) of the training images.

    Transparent images are put on a white background. Then images are converted to grey or colour,
    and resized (bilinear). The files of a data set are converted in the same way, with one
    exception: a JPEG of a million pixels or more that becomes much smaller is first decoded at a
    reduced size. Some of its pixels then differ a little.
    """
    height, width, channels = trained_shape
    if images.shape[1:] == trained_shape:
        return images
    converted = np.empty((len(images), height, width, channels), dtype=np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture = (on_white(picture) if image.shape[-1] in (2, 4) else picture).convert(
            MODES[channels]
        )
        picture = (
            picture
            if picture.size == (width, height)
            else picture.resize((width, height), Image.Resampling.BILINEAR)
        )
        converted[row] = np.asarray(picture).reshape(trained_shape)
    return converted


def on_white(picture: Image.Image) -> Image.Image:
    """Put an image with alpha on a white background; the result is RGBA."""
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture.convert("RGBA"))
    return ground


def as_list(images: Any, channels: int) -> list[Images]:
    """Check images, and give each this number of channels.

    A grey image gets three equal channels if the model was trained in colour.

    Args:
        images: a list of images, one array of several, or a single image.
        channels: those of the training images, 1 or 3.

    Raises:
        ValueError: an image is not uint8, or has other channels.
    """
    if isinstance(images, np.ndarray) and (images.ndim == 2 or images.shape[-1:] in ((1,), (3,))):
        images = images[None] if images.ndim < 4 else images
    arrays = [np.asarray(image) for image in images]
    arrays = [array[..., None] if array.ndim == 2 else array for array in arrays]
    for array in arrays:
        fits = array.ndim == 3 and 0 not in array.shape and array.shape[2] in (1, channels)
        if array.dtype != np.uint8 or not fits:
            colour = ", 3) in colour or (height, width" if channels == 3 else ""
            raise ValueError(
                f"this model takes uint8 images of shape (height, width{colour}) in grey, alone or "
                f"in a list (got {array.dtype} {array.shape})"
            )
    return [np.repeat(array, channels // array.shape[2], axis=2) for array in arrays]


def at_temperature(temperature: float, chances: Probabilities) -> Probabilities:
    """Divide the logarithms of probabilities, (images, classes), by a temperature, and normalise.

    See Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    logs = np.log(np.maximum(chances, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return scaled


class Span(NamedTuple):
    """The place of a tile along one axis of an image."""

    start: int
    """The first pixel of the tile in the image."""
    low: int
    """The first pixel that is taken from this tile."""
    high: int
    """One past the last pixel that is taken from this tile."""

    @property
    def taken(self) -> slice:
        """The pixels of the image that are taken from this tile."""
        return slice(self.low, self.high)

    @property
    def within(self) -> slice:
        """The same pixels, counted from the first pixel of the tile."""
        return slice(self.low - self.start, self.high - self.start)

    def times(self, scale: int) -> "Span":
        """Return the place in an image that is `scale` times as large."""
        return Span(scale * self.start, scale * self.low, scale * self.high)


OVERLAP = 4
"""The overlap of neighbouring tiles is at least the side divided by this number."""


def spans(length: int, side: int) -> list[Span]:
    """Divide an axis of `length` pixels among as few tiles of this side as the overlap allows.

    Each pixel is taken from the tile in which it lies further from the edge (the overlap-tile
    strategy of Ronneberger et al. 2015, arXiv 1505.04597).
    """
    if length <= side:
        return [Span(0, 0, length)]
    overlap = max(1, side // OVERLAP)
    count = 1 + -(-(length - side) // (side - overlap))
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    middles = [(before + side + after) // 2 for before, after in itertools.pairwise(starts)]
    return [Span(*span) for span in zip(starts, [0, *middles], [*middles, length], strict=True)]


def tiles(height: int, width: int, side: int) -> Iterator[tuple[Span, Span]]:
    """Yield the rows and the columns of each tile of an image."""
    yield from itertools.product(spans(height, side), spans(width, side))


def cut_tile(image: Images, rows: Span, columns: Span, side: int) -> Images:
    """Cut a tile out of an image (height, width, channels), continued by its edges."""
    down, across = (
        np.minimum(np.arange(span.start, span.start + side), length - 1)
        for span, length in zip((rows, columns), image.shape[:2], strict=True)
    )
    tile: Images = image[down[:, None], across]
    return tile


def run_tiles(run: Run, image: Images, side: int, at_once: int) -> Iterator[tuple[Span, Span, Any]]:
    """Yield the rows, the columns and the network's output of each tile of an image.

    Args:
        run: computes the outputs of tiles.
        image: (height, width, channels).
        side: the side of a tile.
        at_once: the number of tiles that are computed together.
    """
    places = list(tiles(image.shape[0], image.shape[1], side))
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        outputs = run(np.stack([cut_tile(image, *place, side) for place in some]))
        for (rows, columns), output in zip(some, outputs, strict=True):
            yield rows, columns, output


def encode_png(picture: "Image.Image | Images") -> bytes:
    """Encode a picture, or pixels (height, width, channels) or (height, width), as PNG."""
    if isinstance(picture, np.ndarray):
        is_grey = picture.ndim == 3 and picture.shape[2] == 1
        picture = Image.fromarray(picture[..., 0] if is_grey else picture)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


class TaskPredictor:
    """A model loaded from its folder; the base class of the predictor of each task.

    The defaults here are for models that predict images one by one, of any height and width.
    """

    _predict: Callable[[Images], Any]
    """Predicts an image, uint8 (height, width, channels)."""

    def __init__(self, folder: Path, run: Run | None = None) -> None:
        """Load the model.

        Args:
            folder: the model's folder, whose `about.json` has the values of the task.
            run: computes the network's outputs instead of `network.pt2`.
        """
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.classes: list[str] = description["classes"]
        """The names of the classes; empty if the task has none."""
        self.image: tuple[int, int, int] = tuple(description["image"])
        """The shape of the training images, (height, width, channels), with 1 or 3 channels."""
        self.batch: int = description["batch"]
        """The maximum number of images in a batch."""
        self.load(folder, description, run)

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the files of the task, and set `_predict`, unless `predictions` does not need it.

        `description` has the values of `about.json`.
        """
        raise NotImplementedError

    def predictions(self, images: Any) -> Any:
        """Predict images: a list with one element for each, or an array.

        Raises:
            ValueError: an image has another form than the training images.
        """
        return [self._predict(image) for image in as_list(images, self.image[2])]

    def row(self, prediction: Any) -> dict[str, Any]:
        """Return the row of a prediction in the table."""
        raise NotImplementedError

    def rows(self, images: Any) -> list[dict[str, Any]]:
        """Return the rows of the table, one for each image."""
        return [self.row(prediction) for prediction in self.predictions(images)]

    def table(self, images: Any) -> "pd.DataFrame":
        """Return the predictions as a table, one row for each image."""
        import pandas as pd  # importing it takes half a second, and servers do not need it

        return pd.DataFrame(self.rows(images))


def load_program(folder: Path) -> Run:
    """Load `network.pt2`, a torch.export program, as a function of uint8 arrays."""
    import torch  # baselines do not need it

    program = torch.export.load(folder / NETWORK).module()

    def run(images: Images) -> NDArray[np.floating[Any]]:
        with torch.no_grad():
            outputs: NDArray[np.floating[Any]] = program(
                torch.from_numpy(np.require(images, requirements=["C", "W"]))
            ).numpy()
        return outputs

    return run


def load_module(path: Path) -> Any:
    """Load a Python file as a module, without registering it in `sys.modules`.

    A file of another model could have the same name.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
