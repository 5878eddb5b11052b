"""Measures, as plain values, of how good a trained network is on a part of the data.

The measures are those of scikit-learn and torchmetrics, computed here as they compute them, to the
last bit: to import the two takes each process that evaluates longer than all of its evaluations.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.catalog.models import MODELS
from trainables.catalog.tasks import Metric
from trainables.checkpoints import checkpoint
from trainables.checkpoints.remembered import MEMORY
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Labels, Part, Selected
from trainables.tasks.metrics import SCORES
from trainables.tasks.mistakes import confidently_wrong
from trainables.training.loop import (
    Pixels,
    autocast,
    eval_batch,
    on_device,
    put_weights,
    shared_tensor,
)

CURVE_POINTS = 200
CALIBRATION_BINS = 15

Probabilities = NDArray[np.float64]
Classify = Callable[[Images], Probabilities]
"""From images, uint8 (count, height, width, channels), to class probabilities, (count, classes)."""


class ProbabilityModel(nn.Module):
    """A network with the scaling of its pixels before it and softmax behind.

    It maps images, uint8 (count, height, width, channels), to class probabilities, float64 (count,
    classes).
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.shift, self.spread = nn.Buffer(pixels.mean255), nn.Buffer(pixels.deviation255)

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities, (count, classes), of uint8 images."""
        pixels = (
            images.permute(0, 3, 1, 2)
            .to(torch.float32, copy=True)
            .sub_(self.shift)
            .div_(self.spread)
        )
        logits: Tensor = self.network(pixels)
        return logits.double().softmax(dim=1)


class Ensemble(nn.Module):
    """The mean of several networks' probabilities, each of which scales pixels in its own way.

    Input and output are those of `ProbabilityModel`.
    """

    def __init__(self, members: Iterable[ProbabilityModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities, (count, classes), of uint8 images."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


@dataclass(frozen=True)
class Classifier:
    """The classifier that a checkpoint holds, ready to be used.

    For a trial with folds it is an ensemble of all its networks: it has seen every image but the
    test part's.
    """

    classify: Classify
    network: nn.Module | None
    """The network as it was trained, for images that are scaled.

    For a trial with folds it is the whole ensemble (`module`), and None for what is no network.
    """
    precision: str
    """The precision in which it was trained, and computes: `fp32`, `bf16` or `fp16`."""
    module: "ProbabilityModel | Ensemble | None" = None
    """The whole way from pixels to probabilities."""

    @property
    def networks(self) -> list[nn.Module]:
        """Every network in it."""
        return [member.network for member in members_of(self.module)]


def check(path: Path) -> None:
    """Check that the checkpoint at `path` is whole, before anything is opened for it.

    Raises:
        CheckpointError: it is damaged.
    """
    checkpoint.verify(path)


def evaluate(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> dict[str, Any]:
    """Load the checkpoint at `path` and measure it on `part`.

    Returns:
        What `report` gives for `probabilities`; and `wrong`, the images most confidently wrong (see
        `mistakes`). Where trials are ranked by another metric than accuracy also `metric`: its
        `name`, `value` and 95 % interval (`low`, `high`). With folds also `members`, how good each
        network is by itself: `accuracy` (of each, on what it classifies), their `mean` and sample
        standard deviation `std`.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    parts = _parts_of_networks(config, dataset, part)
    each = _by_network(config, dataset, parts, path, device)
    chances = _combined(parts, each)
    found = {
        **report(part.labels, chances, dataset.classes),
        "wrong": confidently_wrong(part, chances),
        **_by_metric(config.ranked_by, part.labels, chances),
    }
    if dataset.folds is None:
        return found
    alone = [
        accuracy(own.labels, said.argmax(axis=1)) for own, said in zip(parts, each, strict=True)
    ]
    return {**found, "members": {"accuracy": alone, "mean": fmean(alone), "std": stdev(alone)}}


def _by_metric(metric: Metric, labels: Labels, chances: Probabilities) -> dict[str, Any]:
    """Return the metric by which trials are ranked, with its interval; of accuracy nothing."""
    if metric.name not in SCORES:
        return {}
    value, error = SCORES[metric.name](labels, chances)
    low, high = metric.interval(value, error)
    return {"metric": {"name": metric.name, "value": value, "low": low, "high": high}}


def probabilities(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Probabilities:
    """Return class probabilities, (images, classes), of the network or baseline saved at `path`.

    They are computed in the precision that the network was trained in. `dataset` gives the scaling
    of pixels. With folds they are those of the ensemble of all networks; but for the data set's own
    training (and validation) part, each image's are those of the one network that has not seen it.
    """
    parts = _parts_of_networks(config, dataset, part)
    return _combined(parts, _by_network(config, dataset, parts, path, device))


def _parts_of_networks(config: TrialConfig, dataset: Dataset, part: Part) -> list[Part]:
    """Return the part that each network classifies, so that together they cover this part."""
    if dataset.folds is None:
        return [part]
    if part is dataset.train or (
        len(part) == len(dataset.train) and part.fingerprint == dataset.train.fingerprint
    ):
        return [fold.val for fold in _data_of_networks(config, dataset)]
    return [part] * dataset.folds


def _combined(parts: list[Part], each: list[Probabilities]) -> Probabilities:
    """Return the probabilities of the whole part.

    They are the mean of what several networks give for one part, or what a single one gives. Where
    the parts are folds, each network gives its own rows.
    """
    if all(part is parts[0] for part in parts):
        mean: Probabilities = np.mean(each, axis=0)
        return mean
    found = np.empty((sum(map(len, parts)), each[0].shape[1]))
    for part, chances in zip(parts, each, strict=True):
        assert isinstance(part, Selected)
        found[part.rows] = chances
    return found


def _by_network(
    config: TrialConfig, dataset: Dataset, parts: list[Part], path: Path, device: str
) -> list[Probabilities]:
    """Return the probabilities that each network of a checkpoint gives for its part."""
    if config.model.is_baseline:
        # Imported here: networks need not wait the half second that scikit-image takes.
        from trainables.baselines import fitting

        # By the features that all trials share; `classifier` computes those of new images.
        fitted = [state["classifier"] for state in _states(dataset, path)]
        return [
            fitting.probabilities(config, dataset, part, own)
            for part, own in zip(parts, fitted, strict=True)
        ]
    if (
        torch.device(device).type == "cpu"
        and (known := MEMORY.probabilities(path, config, parts[0])) is not None
    ):
        return [known]
    with classifier(config, dataset, path, device=device) as saved:
        size = eval_batch(config, dataset, torch.device(device))
        return [
            _in_batches(network, part.images, size, device)
            for part, network in zip(parts, members_of(saved.module), strict=True)
        ]


def _in_batches(network: nn.Module, images: Images, size: int, device: str) -> Probabilities:
    return np.concatenate(
        [
            _classified(network, images[first : first + size], device)
            for first in range(0, len(images), size)
        ]
    )


def _classified(network: nn.Module, images: Images, device: str) -> Probabilities:
    chances: Probabilities = network(shared_tensor(images).to(device)).cpu().numpy()
    return chances


@contextmanager
def classifier(
    config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu"
) -> Iterator[Classifier]:
    """Load the classifier saved at `path`, to be used inside the `with` block.

    There its weights are converted to its precision once.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    states = _states(dataset, path)
    if config.model.is_baseline:
        from trainables.baselines import fitting

        fitted = [state["classifier"] for state in states]
        yield Classifier(
            lambda images: fitting.from_images(config, dataset, images, *fitted), None, ""
        )
        return
    place = torch.device(device)
    members = [
        _member(config, own, state, place)
        for own, state in zip(_data_of_networks(config, dataset), states, strict=True)
    ]
    module = Ensemble(members) if dataset.folds is not None else members[0]
    with torch.no_grad(), autocast(states[0]["precision"], place):
        network = module if isinstance(module, Ensemble) else module.network
        yield Classifier(
            lambda images: _classified(module, images, device),
            network,
            states[0]["precision"],
            module,
        )


def _states(dataset: Dataset, path: Path) -> list[dict[str, Any]]:
    """Return what a checkpoint holds of each network."""
    saved = checkpoint.load(path)
    states: list[dict[str, Any]] = saved.get("folds", [saved])
    if len(states) != (dataset.folds or 1) or ("folds" in saved) != (dataset.folds is not None):
        raise ValueError(
            f"{path} holds {len(states)} networks, and the data are in "
            f"{dataset.folds or 'no'} folds: load them as its config says"
        )
    return states


def _data_of_networks(config: TrialConfig, dataset: Dataset) -> list[Dataset]:
    """Return the data that each network was trained on and validated with."""
    if dataset.folds is None:
        return [dataset]
    return [dataset.fold(number, config.seed) for number in range(1, dataset.folds + 1)]


def _member(
    config: TrialConfig, dataset: Dataset, state: dict[str, Any], place: torch.device
) -> ProbabilityModel:
    """Build a network, and give it the weights that were trained on this data."""
    network = MODELS[config.model.name].build(
        dataset.image, len(dataset.classes), **config.model.options
    )
    put_weights(network, config, state)
    return ProbabilityModel(
        on_device(network, place), Pixels(dataset.val, dataset, config, place)
    ).eval()


def members_of(module: ProbabilityModel | Ensemble | None) -> list[ProbabilityModel]:
    """Return the networks, each with its scaling and softmax."""
    if module is None:
        return []
    return (
        [module]
        if isinstance(module, ProbabilityModel)
        else [member for member in module.members if isinstance(member, ProbabilityModel)]
    )


def report(labels: Labels, chances: Probabilities, classes: tuple[str, ...]) -> dict[str, Any]:
    """Measure probabilities against the true classes.

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        classes: the classes' names.

    Returns:
        Accuracy; precision, recall and F1 (per class, their mean, and weighted by the classes'
        numbers of images); confusion matrix; ROC curves and AUC, one class against the rest; the
        expected calibration error (`calibration_error`) and the bins behind it
        (`calibration_bins`).
    """
    guesses, support = chances.argmax(axis=1), np.bincount(labels, minlength=len(classes))
    confusion = np.bincount(labels * len(classes) + guesses, minlength=len(classes) ** 2).reshape(
        len(classes), -1
    )
    right, guessed = confusion.diagonal(), confusion.sum(axis=0)
    precision, recall, f1 = (
        _share(right, guessed),
        _share(right, support),
        _share(2.0 * right, support + guessed),
    )
    curves = {
        name: _curve(labels == number, chances[:, number]) for number, name in enumerate(classes)
    }
    occurring = np.array([curve["auc"] is not None for curve in curves.values()])
    areas = np.array([curve["auc"] for curve in curves.values() if curve["auc"] is not None])
    per_class = {
        name: {
            "precision": float(precision[number]),
            "recall": float(recall[number]),
            "f1": float(f1[number]),
            "images": int(support[number]),
        }
        for number, name in enumerate(classes)
    }
    return {
        "images": len(labels),
        "accuracy": accuracy(labels, guesses),
        "macro": {
            "precision": float(precision.mean()),
            "recall": float(recall.mean()),
            "f1": float(f1.mean()),
            "auc": float(areas.mean()) if len(areas) else None,
        },
        "weighted": {
            "precision": float(np.average(precision, weights=support)),
            "recall": float(np.average(recall, weights=support)),
            "f1": float(np.average(f1, weights=support)),
            "auc": float(np.average(areas, weights=support[occurring])) if len(areas) else None,
        },
        "ece": calibration_error(labels, chances),
        "bins": calibration_bins(guesses == labels, chances.max(axis=1)),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
        "classes": list(classes),
        "roc": curves,
    }


def accuracy(labels: Labels, guesses: NDArray[Any]) -> float:
    """Return the share of guesses that are right."""
    return float(np.mean(labels == guesses))


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide one by the other; 0 where the whole is 0."""
    found: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return found


def calibration_error(labels: Labels, chances: Probabilities) -> float:
    """Return the distance of the guessed classes' probability from the share of right guesses.

    It is the mean distance over 15 bins of that probability, equally wide and weighted by their
    images (the L1 norm; Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2). As
    in torchmetrics it is computed in single precision.
    """
    confidence, guesses = torch.from_numpy(chances).max(dim=1)
    confidence = confidence.float()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, CALIBRATION_BINS + 1), right=True) - 1

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(CALIBRATION_BINS + 1).scatter_add_(0, bins, values)

    counts = summed(torch.ones_like(confidence))
    right = torch.nan_to_num(summed((guesses == torch.from_numpy(labels)).float()) / counts)
    sure = torch.nan_to_num(summed(confidence) / counts)
    return float(torch.sum(torch.abs(right - sure) * (counts / counts.sum())))


def calibration_bins(
    right: NDArray[np.bool_], confidence: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Return sums over the images in each of the 15 bins of the guess's probability.

    Args:
        right: whether each image's guess is right, (images,).
        confidence: the guess's probability, (images,).

    Returns:
        By name, a value for each bin: the number of `images`, the sum of `confidence`, and the
        number of guesses that are `right`.
    """
    weights = {
        "images": np.ones(len(right)),
        "confidence": confidence,
        "right": right.astype(float),
    }
    return {
        name: np.histogram(confidence, CALIBRATION_BINS, (0, 1), weights=weight)[0].tolist()
        for name, weight in weights.items()
    }


def _curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> dict[str, Any]:
    """Return one class's ROC curve, thinned to at most 200 points.

    It is empty where the part holds only images of this class, or none of it.
    """
    if positive.all() or not positive.any():
        return {"auc": None, "fpr": [], "tpr": []}
    order = np.argsort(score, kind="stable")[::-1]
    score, found = score[order], np.cumsum(positive[order])
    # Images of one score pass the threshold together.
    steps = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    right, wrong = found[steps].astype(float), (1 + steps - found[steps]).astype(float)
    if len(steps) > 2:  # points between two others on a straight line say nothing
        corners = np.concatenate(
            [[True], (np.diff(wrong, 2) != 0) | (np.diff(right, 2) != 0), [True]]
        )
        right, wrong = right[corners], wrong[corners]
    fpr, tpr = (np.concatenate([[0.0], counts]) / counts[-1] for counts in (wrong, right))
    kept = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
    return {
        "auc": float(np.trapezoid(tpr, fpr)),
        "fpr": fpr[kept].tolist(),
        "tpr": tpr[kept].tolist(),
    }
