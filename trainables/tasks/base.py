"""The protocol of a task: all that a training, an evaluation and an export ask of it.

A task is one class in one file, named in `trainables.catalog.tasks.TASKS`. It overrides what is
special about it; what stays as it is here suits images that all have one size, and targets that are
one array.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.catalog.models import MODELS
from trainables.catalog.tasks import Metric, TaskEntry
from trainables.config import AugmentConfig, ModelConfig
from trainables.datasets.arrays import Arrays, Dataset, Images, Part, Ragged
from trainables.datasets.targets import Targets
from trainables.tasks.augment import draw
from trainables.tasks.pixels import Pixels, shared_tensor
from trainables.values import Evaluation, Json

Predictions = Any
"""A task's predictions of several images: one array whose first axis counts them, or a list."""
Predict = Callable[[Images], Predictions]
"""From images, uint8 (count, height, width, channels), to what the task predicts of them."""


class Batch(NamedTuple):
    """Images and targets as a step takes them."""

    inputs: Any
    """The network's input, mostly float32 (batch, channels, height, width)."""
    targets: Any
    size: int
    """The number of images."""
    weights: Tensor | None = None
    """The weight of each image in the training loss, (batch,); None: all alike."""


class Losses(NamedTuple):
    """The losses of a batch, each a mean over its images."""

    train: Tensor
    """The loss that is followed downhill."""
    told: Tensor
    """The loss that is reported, without what helps in training alone."""


class Processes(Protocol):
    """The processes that train one network together (`trainables.training.world`)."""

    size: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""

    def slice(self, rows: Tensor) -> Tensor:
        """Return this process's share of a batch."""


class Meter(Protocol):
    """A sum over a network's outputs on the validation part."""

    kept: list[Tensor]
    """The outputs of all batches; empty where they are not to be kept."""

    def add(self, outputs: Any, batch: Batch) -> None:
        """Take the outputs of a batch (`Task.outputs`)."""

    def values(self, world: Processes) -> dict[str, float]:
        """Return what an epoch reports of the validation part, all of it finite.

        These are the metric under its key, and its standard error if it is no share of the images
        (`Metric.error_key`, `Metric.freedom_key`); the task's primary metric; and the losses that
        are named by either (`Metric.loss`).
        """


class Task:
    """One kind of problem: all that is special about it. It has no state of its own."""

    tolerance = 1e-4
    """The largest allowed difference between predictions of one network computed in two ways."""
    any_size = False
    """True if images of any size are predicted as they are, one by one where sizes differ."""

    output = "predictions"
    """The name of what a network in ONNX gives."""

    def __init__(self, entry: TaskEntry) -> None:
        self.entry = entry
        self.targets: Targets = entry.load_targets()

    def network(self, model: ModelConfig, dataset: Dataset) -> nn.Module:
        """Build a freshly initialised network for this data."""
        return MODELS[model.name].build(
            self.targets.image(dataset), self.targets.width(dataset), **model.options
        )

    # Training.

    def draw(
        self,
        config: AugmentConfig,
        batches: int,
        count: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Tensor:
        """Draw the random numbers that `batch` needs for `batches` batches of `count` images.

        Returns:
            float32 (batches, values per image, count), on the device.
        """
        return draw(config, batches, count, generator, device)

    def batch(self, pixels: Pixels, rows: Tensor, changes: Tensor | None = None) -> Batch:
        """Return the batch of these rows.

        Args:
            pixels: the part, on the device where the network is.
            rows: which images of the part, (batch,).
            changes: what was drawn for them, (values per image, batch); None for validation.
        """
        images, targets = pixels.batch(rows, changes)
        return Batch(images, targets, len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Return the losses of a batch in training; the network is called within `autocast`."""
        raise NotImplementedError

    def outputs(self, network: nn.Module, batch: Batch) -> Any:
        """Return the outputs of a batch in validation, which the meter takes."""
        return network(batch.inputs)

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> Meter:
        """Return a new meter of this metric for a part; `keeps` if outputs are to be kept."""
        raise NotImplementedError

    def output_bytes(self, dataset: Dataset) -> int | None:
        """Return the bytes of a validation's outputs, to be kept for the evaluation.

        None if they are computed anew for it.
        """
        return None

    def from_outputs(self, outputs: list[Tensor]) -> Predictions:
        """Return the predictions that outputs kept by the meter stand for."""
        raise NotImplementedError

    # Use.

    def module(self, network: nn.Module, pixels: Pixels) -> nn.Module:
        """Return the way from images to raw predictions, which is exported too.

        It maps uint8 (count, height, width, channels) to a tensor (count, ...) in single or double
        precision, under autocast too. The network itself takes one tensor.
        """
        raise NotImplementedError

    def ensemble(self, members: list[nn.Module]) -> nn.Module:
        """Return several such modules as one; only of a task that can be cross-validated."""
        raise NotImplementedError

    def combine(self, each: list[Predictions]) -> Predictions:
        """Return the predictions that those of an ensemble's members amount to."""
        raise NotImplementedError

    def raw(self, module: nn.Module, images: Images, device: str) -> NDArray[Any]:
        """Return raw predictions of images of one size, uint8 (count, height, width, channels)."""
        found: NDArray[Any] = module(shared_tensor(images).to(device)).cpu().numpy()
        return found

    def decode(self, raw: NDArray[Any]) -> Predictions:
        """Return what raw predictions mean."""
        return raw

    def difference(self, one: Predictions, other: Predictions) -> float:
        """Return how far two predictions of the same images differ (`difference`).

        A task whose `decode` makes steps, as from probabilities to classes, says here what is the
        same.
        """
        return difference(one, other)

    def predict(self, module: nn.Module, images: Arrays, size: int, device: str) -> Predictions:
        """Return the predictions of images as they are given, `size` at once.

        Where their sizes differ it is one by one.
        """
        return in_batches(lambda some: self.decode(self.raw(module, some, device)), images, size)

    def given(self, part: Part) -> Arrays:
        """Return the images of a part as a user would give them to a model."""
        return part.images

    def examples(self, dataset: Dataset, count: int) -> Images:
        """Return images of the validation part as they are used, over and over, of one size."""
        images = self.given(dataset.val)
        if isinstance(images, np.ndarray):
            found: Images = images[np.arange(count) % len(images)]
            return found
        _, height, width = dataset.image
        return np.stack(
            [cut(images[number % len(images)], height, width) for number in range(count)]
        )

    # What is said of it.

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Measure predictions against the targets, as plain values.

        Every evaluation has `images`, their number; the primary metric under its name; and
        `metric`, unless that is a share of the images, as `Metric.evaluated` gives it: the `name`,
        the `value`, its standard `error`, and the ends of its 95 % interval, `low` and `high`, None
        where it is not known. What people are shown beside is in `tables`, each with its `title`,
        `columns` and `rows`, and in `pictures`, each with its `title` and a WebP in base64, `webp`.
        """
        raise NotImplementedError

    def value(self, predictions: Predictions, part: Part) -> float:
        """Return the primary metric of predictions."""
        raise NotImplementedError

    def brief(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation of the validation part as the journal takes it for each trial."""
        return self.plain(evaluation)

    def plain(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation without what is only there to be looked at."""
        return {name: value for name, value in evaluation.items() if name != "pictures"}

    # Export.

    def about(self, dataset: Dataset) -> Json:
        """Return what the stand-alone predictor needs to know beside the network."""
        image = list(self.examples(dataset, 1).shape[1:])
        any_size = {"any_size": True} if self.any_size else {}
        return {"classes": list(dataset.classes), "image": image, **any_size}


def in_batches(predict: Predict, images: Arrays, size: int) -> Predictions:
    """Return the predictions of images, `size` at once; one by one where sizes differ."""
    if isinstance(images, Ragged):
        return [predict(image[None])[0] for image in images]
    found = [predict(images[first : first + size]) for first in range(0, len(images), size)]
    return (
        np.concatenate(found)
        if all(isinstance(some, np.ndarray) for some in found)
        else [one for some in found for one in some]
    )


def difference(one: Predictions, other: Predictions) -> float:
    """Return the largest difference between two predictions; NaN if one of them is.

    It is infinite where they are not of one shape.
    """
    if isinstance(one, list):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if np.shape(one) != np.shape(other):
        return math.inf
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max(initial=0.0))


class FromPixels(nn.Module):
    """A network with the scaling of its pixels before it: a task's `module` derives from it.

    It maps images, uint8 (count, height, width, channels), to the network's outputs.
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.shift, self.spread = nn.Buffer(pixels.mean255), nn.Buffer(pixels.deviation255)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs for uint8 images."""
        pixels = (
            images.permute(0, 3, 1, 2)
            .to(torch.float32, copy=True)
            .sub_(self.shift)
            .div_(self.spread)
        )
        outputs: Tensor = self.network(pixels)
        return outputs


def cut(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return the upper left of an image, (height, width, ...), filled up by repetition."""
    missing = [max(0, height - image.shape[0]), max(0, width - image.shape[1])]
    pads = [(0, missing[0]), (0, missing[1]), *[(0, 0)] * (image.ndim - 2)]
    return np.pad(image, pads, mode="wrap")[:height, :width]
