"""Class names and probabilities of raw images, predicted by a promoted classifier.

This file is copied with the classifier, so it imports nothing from this project.

    Predictor(folder).table(images)

returns a table with one row for each image: `class`, `probability`, and for each class NAME a
column `probability of NAME`. Images are uint8, of any size: one array, (count, height, width) if
they are grey, or else (count, height, width, channels) with 1 channel (grey), 2 (grey and alpha), 3
(RGB) or 4 (RGB and alpha); or a list of images, each (height, width) or (height, width, channels),
whose sizes may differ. A single image is passed as `image[None]` or `[image]`.

A model that was promoted with promises has further columns: `answer`, which is `class` or empty if
the model abstains; `abstained`; `reason`, which is `unlike` (the image is unlike those of the
training), `uncertain` (the probability is too low) or empty; and `set`, a JSON list of the classes
that are possible.

The folder contains `about.json` (the classes, the shape of images, the batch size), this file, and
`network.pt2`, a torch.export program from uint8 pixels to probabilities. For a baseline it
contains, instead of the network, `classifier-1.skops` (with folds, one such file for each) and
`features.py`, which computes the features of images.
"""

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float64]
Classify = Callable[[Images], NDArray[np.floating[Any]]]

DESCRIPTION, NETWORK, CODE, FEATURES, ONNX = (
    "about.json",
    "network.pt2",
    "predictor.py",
    "features.py",
    "model.onnx",
)
"""The names of the files in a folder; each model has some of them."""
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


class Predictor:
    """A classifier loaded from its folder."""

    def __init__(self, folder: Path) -> None:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.describe(description)
        self._classify: Classify = (
            _network(folder) if (folder / NETWORK).exists() else _baseline(folder, description)
        )

    def describe(self, description: dict[str, Any]) -> None:
        """Set the values of `about.json`."""
        self.classes: list[str] = description["classes"]
        self.image: tuple[int, int, int] = tuple(description["image"])
        self.batch: int = description["batch"]
        self.promises: dict[str, Any] = description.get("promises", {})
        limits = self.promises.get("limits")
        # A class without a limit belongs to each set.
        self._limits = limits and np.array([limit or 0.0 for limit in limits])

    def predictions(self, images: Any) -> Probabilities:
        """Predict the probability of each class, float64 (count, classes).

        Args:
            images: in any form that `as_images` accepts.

        Raises:
            ValueError: the images have another form.
        """
        return self.raw(images)[:, : len(self.classes)]

    def outputs(self, images: Any) -> JudgedPredictions:
        """Predict images like `predictions`, and judge each prediction if there are promises."""
        values = self.raw(images)
        probabilities = values[:, : len(self.classes)]
        return JudgedPredictions(probabilities, self._judge(values) if self.promises else None)

    def raw(self, images: Any) -> Probabilities:
        """Compute the outputs of the network, float64 (count, values).

        These are the probabilities and, if unlike images are detected, the score of an image.
        """
        arrays = as_images(images)
        batches = [
            self._classify(self._as_trained(arrays[first : first + self.batch]))
            for first in range(0, len(arrays), self.batch)
        ]
        return (
            np.concatenate(batches).astype(np.float64)
            if batches
            else np.empty((0, len(self.classes)))
        )

    def _judge(self, values: Probabilities) -> list[Judgement]:
        probabilities = values[:, : len(self.classes)]
        reasons = [""] * len(values)
        if (least := self.promises.get("least_probability")) is not None:
            for row in np.flatnonzero(probabilities.max(axis=1, initial=0.0) < least).tolist():
                reasons[row] = UNCERTAIN
        if len(values) and (unlike := self.promises.get("unlike")) is not None:
            for row in np.flatnonzero(values[:, -1] > unlike["limit"]).tolist():
                reasons[row] = UNLIKE
        if self._limits is None:
            return [Judgement(reason, None) for reason in reasons]
        return list(map(Judgement, reasons, self._possible_classes(probabilities)))

    def _possible_classes(self, probabilities: Probabilities) -> list[list[str]]:
        """Return the names of the possible classes of each image, the most probable first."""
        rows, numbers = np.nonzero(probabilities >= self._limits)
        ranked = np.lexsort((-probabilities[rows, numbers], rows))
        labels: list[list[str]] = [[] for _ in range(len(probabilities))]
        for row, number in zip(rows[ranked].tolist(), numbers[ranked].tolist(), strict=True):
            labels[row].append(self.classes[number])
        return labels

    def _as_trained(self, images: Images | list[Images]) -> Images:
        if isinstance(images, list):
            return np.concatenate([as_trained(image[None], self.image) for image in images])
        return as_trained(images, self.image)

    def table(self, images: Any) -> "pd.DataFrame":
        """Return a table of the predicted classes and probabilities, one row for each image."""
        import pandas as pd  # importing it takes half a second, and servers do not need it

        chances, judgements = self.outputs(images)
        columns: dict[str, Any] = {
            "class": [self.classes[number] for number in chances.argmax(axis=1)],
            "probability": chances.max(axis=1, initial=0.0),
        }
        if judgements is not None:
            columns |= judgement_columns(columns["class"], judgements)
        return pd.DataFrame(
            columns | {column(name): chances[:, number] for number, name in enumerate(self.classes)}
        )


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


def _network(folder: Path) -> Classify:
    import torch  # baselines do not need it

    program = torch.export.load(folder / NETWORK).module()

    def classify(images: Images) -> NDArray[np.floating[Any]]:
        with torch.no_grad():
            probabilities: NDArray[np.floating[Any]] = program(
                torch.from_numpy(np.require(images, requirements=["C", "W"]))
            ).numpy()
        return probabilities

    return classify


def _baseline(folder: Path, description: dict[str, Any]) -> Classify:
    """Load scikit-learn classifiers, and return a function that averages their probabilities.

    The function computes the hand-crafted features of images first.
    """
    import skops.io

    features = _module(folder / FEATURES)
    members = [
        (
            skops.io.load(folder / own["file"], trusted=["sklearn.tree._tree.Tree"]),
            own["temperature"],
        )
        for own in description["members"]
    ]

    def classify(images: Images) -> Probabilities:
        values = np.hstack(
            [
                features.compute_features(images, kind)
                for kind in features.kinds_of(description["features"])
            ]
        )
        chances = np.zeros((len(images), len(description["classes"])))
        for fitted, temperature in members:
            chances[:, fitted.classes_] += _fitted_chances(fitted, temperature, values) / len(
                members
            )
        return at_temperature(description.get("temperature", 1.0), chances)

    return classify


def at_temperature(temperature: float, chances: Probabilities) -> Probabilities:
    """Divide the logarithms of probabilities, (images, classes), by a temperature, and normalise.

    See Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    logs = np.log(np.maximum(chances, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def _fitted_chances(fitted: Any, temperature: float | None, values: Any) -> Probabilities:
    """Predict class probabilities from features.

    Only an SVM has a temperature. Its probabilities are softmax(decisions / temperature).
    """
    from scipy.special import softmax

    if temperature is None:
        probabilities: Probabilities = fitted.predict_proba(values)
        return probabilities
    decisions = fitted.decision_function(values)
    decisions = (
        np.column_stack([-decisions / 2, decisions / 2]) if decisions.ndim == 1 else decisions
    )
    return np.asarray(softmax(decisions / temperature, axis=1), dtype=np.float64)


def _module(path: Path) -> Any:
    """Load a Python file as a module, without registering it in `sys.modules`.

    A file of another model could have the same name.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
