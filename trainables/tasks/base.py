"""The interface of a task: everything that training, evaluation and export need from it.

A task is a folder beside this file; `Task` is the part of it that imports torch. A subclass
overrides the methods that differ. The defaults here are for images that all have the same size,
and for targets that are one array.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.augmentation.augment import MixedPairs, draw
from trainables.catalog.entries import Metric, TaskEntry
from trainables.catalog.models import MODELS
from trainables.config import AugmentConfig, ModelConfig
from trainables.datasets.arrays import Arrays, Dataset, Images, Part, Ragged
from trainables.datasets.crops import tile_side
from trainables.datasets.targets import Targets
from trainables.fields import Options
from trainables.on_disk import ImagesOnDisk
from trainables.tasks.pixels import Pixels, shared_tensor
from trainables.values import Evaluation, Json

Predictions = Any
"""A task's predictions: an array (images, ...), or a list with one element for each image."""
Run = Callable[[Images], NDArray[Any]]
"""A function from inputs of a task's module to its raw predictions."""
Predict = Callable[[Images], Predictions]
"""A function from images, uint8 (count, height, width, channels), to predictions."""


class Batch(NamedTuple):
    """The images and targets of one step."""

    inputs: Any
    """The input of the network, usually float32 (batch, channels, height, width)."""
    targets: Any
    size: int
    """The number of images."""
    weights: Tensor | None = None
    """The weight of each image in the loss to minimise, (batch,); None for equal weights."""
    pairs: MixedPairs | None = None
    """The pairs of which the images are mixtures; None if they are not mixed."""
    smoothing: float = 0.0
    """The share of each label that the loss to minimise spreads over all classes."""


class WholeImages(NamedTuple):
    """The images of a validation batch that are read one by one, as their sizes may differ."""

    pixels: Pixels
    rows: list[int]
    """The rows in the whole part."""


class Losses(NamedTuple):
    """The losses of a batch, which are means over its images."""

    train: Tensor
    """The loss to minimise."""
    told: Tensor
    """The loss to report, without terms that are used only in training."""
    each: Tensor | None = None
    """The loss of each image, (batch,), without a gradient; None unless the batch has weights."""


class Processes(Protocol):
    """The processes that train one network together (`trainables.training.world`)."""

    size: int

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""

    def slice(self, rows: Tensor) -> Tensor:
        """Return this process's share of the rows of a batch."""


class Meter(Protocol):
    """Accumulates the outputs of a network on the validation set."""

    stored: list[Tensor]
    """The outputs of all batches; empty if the meter need not store them."""

    def add(self, outputs: Any, batch: Batch) -> None:
        """Add the outputs of a batch (`Task.outputs`)."""

    def values(self, world: Processes) -> dict[str, float]:
        """Return the values that an epoch reports for the validation set; all must be finite.

        They are the metric, under its key; the task's primary metric; and the losses that these
        metrics name (`Metric.loss`). Unless the metric is a share of the images, its standard error
        and degrees of freedom are included too (`Metric.error_key`, `Metric.freedom_key`).
        """


class Task:
    """A kind of problem, with all code that is specific to it.

    An instance stores nothing about a training.
    """

    tolerance = 1e-4
    """The largest allowed difference between predictions of two forms of the same model."""
    any_size = False
    """True if images of any size are predicted without resizing, one by one if their sizes differ.
    """
    has_fixed_input = False
    """True if `module` maps inputs of one size (`module_inputs`), such as tiles or padded images.

    Then the exported network has a fixed height and width; `apply` makes inputs of images of any
    size, and predictions of images of the module's outputs.
    """

    calibrates = False
    """True if `calibrate` adds values to `about.json`."""

    def __init__(self, entry: TaskEntry, options: Options) -> None:
        self.entry, self.options = entry, options
        self.targets: Targets = entry.load_targets()

    def network(self, model: ModelConfig, dataset: Dataset) -> nn.Module:
        """Build a network for this data set, with newly initialised weights."""
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
        """Build the batch of these rows.

        Args:
            pixels: the part, on the network's device.
            rows: the images' rows in the part, (batch,).
            changes: the numbers drawn for their augmentation, (values per image, batch); None for
                validation.
        """
        images, targets = pixels.batch(rows, changes)
        return Batch(images, targets, len(rows))

    def step(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[None]
    ) -> Losses:
        """Compute the losses of a batch in training.

        An implementation calls the network within the context `autocast`.
        """
        raise NotImplementedError

    def weigh(self, batch: Batch, class_weights: Tensor) -> Batch:
        """Return the batch with the weights of its images in the loss, from those of the classes.

        Args:
            batch: a batch of `batch`.
            class_weights: the weight of each class, (classes,), on the device.
        """
        return batch._replace(weights=class_weights[batch.targets])

    def outputs(self, network: nn.Module, batch: Batch) -> Any:
        """Compute the outputs of a batch in validation, for the meter."""
        return network(batch.inputs)

    def meter(self, metric: Metric, pixels: Pixels, *, keeps: bool) -> Meter:
        """Build a meter of this metric for a part, which stores the outputs if `keeps`."""
        raise NotImplementedError

    def output_bytes(self, dataset: Dataset) -> int | None:
        """Return the size in bytes of a validation's outputs if the evaluation can reuse them.

        The result is None if the evaluation must compute them again.
        """
        return None

    def from_outputs(self, outputs: list[Tensor]) -> Predictions:
        """Convert the outputs that a meter stored to predictions."""
        raise NotImplementedError

    # Use.

    def module(self, network: nn.Module, pixels: Pixels) -> nn.Module:
        """Build the module that maps images to raw predictions, which is also exported.

        It maps uint8 (count, height, width, channels) to a tensor (count, ...) in single or double
        precision, under autocast too. The network itself takes one tensor.
        """
        raise NotImplementedError

    def ensemble(self, members: list[nn.Module]) -> nn.Module:
        """Combine several results of `module` into one; only for tasks with cross-validation."""
        return Ensemble(members)

    def combine(self, each: list[Predictions]) -> Predictions | None:
        """Combine the predictions of an ensemble's members for the same images.

        The result is None if it does not follow from them; then the ensemble itself predicts.
        """
        return None

    def raw(self, module: nn.Module, images: Images, device: str) -> NDArray[Any]:
        """Compute raw predictions for uint8 images (count, height, width, channels)."""
        outputs: NDArray[Any] = module(shared_tensor(images).to(device)).cpu().numpy()
        return outputs

    def decode(self, raw: NDArray[Any]) -> Predictions:
        """Convert the module's raw predictions to the task's predictions."""
        return raw

    def difference(self, first: Predictions, second: Predictions) -> float:
        """Return the largest difference between two predictions of the same images.

        A task whose `decode` is discontinuous, for example from probabilities to classes, overrides
        this, because tiny differences may change its predictions.
        """
        return difference(first, second)

    def predict(
        self, module: nn.Module, images: Arrays, size: int, device: str, dataset: Dataset
    ) -> Predictions:
        """Predict images with the module that `module` built, on its device (`apply`)."""
        return self.apply(lambda some: self.raw(module, some, device), images, size, dataset)

    def apply(self, run: Run, images: Arrays, size: int, dataset: Dataset) -> Predictions:
        """Predict images with a function from the inputs of `module` to its raw predictions.

        Args:
            run: computes raw predictions, for example in ONNX Runtime.
            images: the images in the form of `given`.
            size: the number of images of a batch; one if their sizes differ.
            dataset: the data of the training.
        """
        return in_batches(lambda some: self.decode(run(some)), images, size)

    def given(self, part: Part) -> Arrays:
        """Return the images of a part in the form in which a user would pass them to a model."""
        return part.images

    def examples(self, dataset: Dataset, count: int) -> Images:
        """Return `count` validation images of one size, (count, height, width, channels).

        If there are fewer images, they are repeated. With `has_fixed_input`, the size is the
        median, to which images are cut or repeated.
        """
        images = self.given(dataset.val)
        if isinstance(images, np.ndarray | ImagesOnDisk) and not self.has_fixed_input:
            repeated: Images = images[np.arange(count) % len(images)]
            return repeated
        _, height, width = dataset.image
        if self.has_fixed_input:
            shapes = np.array([image.shape[:2] for image in images])
            height, width = np.median(shapes, axis=0).astype(int).tolist()
        return np.stack(
            [cut(images[number % len(images)], height, width) for number in range(count)]
        )

    def module_inputs(self, dataset: Dataset, count: int) -> Images:
        """Return `count` inputs of `module`, by which it is exported: images, or tiles of them."""
        if not self.has_fixed_input:
            return self.examples(dataset, count)
        side, images = self.tile_side(dataset), dataset.val.images
        return np.stack([cut(images[number % len(images)], side, side) for number in range(count)])

    def tile_side(self, dataset: Dataset) -> int:
        """Return the side of the tiles of a task that `has_fixed_input`, in pixels."""
        return tile_side(dataset, self.targets.side_step)

    # Evaluation.

    def evaluate(
        self, predictions: Predictions, part: Part, dataset: Dataset, metric: Metric
    ) -> Evaluation:
        """Measure predictions against the targets, as JSON-compatible values.

        Every evaluation contains the number of `images` and the primary metric under its name.
        Unless `metric` is a share of the images, it also contains `metric`, in the form of
        `Metric.evaluated`: the `name`, the `value`, its standard `error`, and the ends of its 95 %
        interval, `low` and `high`, which are None if they are unknown. Further results to display
        are in `tables`, each with `title`, `columns` and `rows`, and in `pictures`, each with
        `title` and `webp`, a WebP in base64.
        """
        raise NotImplementedError

    def value(self, predictions: Predictions, part: Part) -> float:
        """Compute the primary metric of predictions."""
        raise NotImplementedError

    def brief(self, evaluation: Evaluation) -> Evaluation:
        """Shorten an evaluation on the validation set for the journal."""
        return self.plain(evaluation)

    def plain(self, evaluation: Evaluation) -> Evaluation:
        """Remove the pictures from an evaluation."""
        return {name: value for name, value in evaluation.items() if name != "pictures"}

    # Export.

    def calibrate(self, predictions: Predictions, dataset: Dataset) -> Json:
        """Return values for `about.json` that follow from predictions of the validation images."""
        raise NotImplementedError

    def calibrated(self, module: nn.Module, calibration: Json) -> nn.Module:
        """Return the module to export, given the values of `calibrate` (empty without any)."""
        return module

    def recalibrated(self, predictions: Predictions, calibration: Json) -> Predictions:
        """Convert predictions of a checkpoint to those of the exported model (`calibrated`)."""
        return predictions

    def describe(self, dataset: Dataset) -> Json:
        """Return the task's values for `about.json`, which the stand-alone predictor reads."""
        if self.has_fixed_input:
            channels, height, width = dataset.image
            return {
                "classes": list(dataset.classes),
                "image": [height, width, channels],
                "any_size": self.any_size,
                "tile": self.tile_side(dataset),
            }
        image = list(self.examples(dataset, 1).shape[1:])
        any_size = {"any_size": True} if self.any_size else {}
        return {"classes": list(dataset.classes), "image": image, **any_size}


def in_batches(predict: Predict, images: Arrays, size: int) -> Predictions:
    """Predict images in batches of `size`; one by one if their sizes differ."""
    if isinstance(images, Ragged):
        return [predict(image[None])[0] for image in images]
    batches = [predict(images[first : first + size]) for first in range(0, len(images), size)]
    return (
        np.concatenate(batches)
        if all(isinstance(some, np.ndarray) for some in batches)
        else [prediction for some in batches for prediction in some]
    )


def difference(first: Predictions, second: Predictions) -> float:
    """Return the largest absolute difference between two predictions.

    It is NaN if one of them contains NaN, and infinite if their shapes differ.
    """
    if isinstance(first, list):
        return max((difference(*pair) for pair in zip(first, second, strict=True)), default=0.0)
    if np.shape(first) != np.shape(second):
        return math.inf
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).max(initial=0.0))


def largest_difference(
    measure: Callable[[Any, Any], float], first: Predictions, second: Predictions
) -> float:
    """Return the largest difference between two predictions of an image, as `measure` computes it.

    It is infinite if the numbers of images differ, or the shapes of two arrays.
    """
    if len(first) != len(second):
        return math.inf
    return max(map(measure, first, second), default=0.0)


def gather(values: Tensor, images: int, world: Processes) -> Tensor:
    """Return values of all images of a part, (images, ...), from those of each process.

    They are in the order of the part, of which each process measures its `slice`.
    """
    if world.size == 1:
        return values
    rows = world.slice(torch.arange(images, device=values.device))
    whole = values.new_zeros(images, *values.shape[1:])
    whole[rows] = values
    return world.sum(whole)


QUARTERS = 4
"""The number of turns by 90 degrees that leave a square what it is."""


def draw_crops(batches: int, count: int, generator: torch.Generator, *, turns: bool) -> Tensor:
    """Draw the place of each crop, two numbers from 0 to 1, and its number of quarter turns.

    Returns:
        float32 (batches, 3, count), on the CPU; nothing is turned unless `turns`.
    """
    places = torch.rand(batches, 2, count, generator=generator)
    quarters = torch.randint(QUARTERS if turns else 1, (batches, 1, count), generator=generator)
    return torch.cat([places, quarters.float()], dim=1)


class FromPixels(nn.Module):
    """A network preceded by the scaling of its pixels; the base class of a task's `module`.

    It maps images, uint8 (count, height, width, channels), to the network's outputs.
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.shift, self.spread = nn.Buffer(pixels.mean255), nn.Buffer(pixels.deviation255)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the network's outputs for uint8 images."""
        pixels = (
            images.permute(0, 3, 1, 2)
            .to(torch.float32, copy=True)
            .sub_(self.shift)
            .div_(self.spread)
        )
        outputs: Tensor = self.network(pixels)
        return outputs


class Ensemble(nn.Module):
    """The mean of the outputs of several networks; each network has its own scaling of pixels.

    Its input and output are those of each member.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images, (count, height, width, channels), to the mean of the outputs."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def cut(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Crop an image to its upper left corner, (height, width, ...).

    A smaller image is repeated first.
    """
    missing = [max(0, height - image.shape[0]), max(0, width - image.shape[1])]
    pads = [(0, missing[0]), (0, missing[1]), *[(0, 0)] * (image.ndim - 2)]
    return np.pad(image, pads, mode="wrap")[:height, :width]
