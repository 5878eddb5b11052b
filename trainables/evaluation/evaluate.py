"""How good a trained network is on a part of the data, beyond one accuracy, as plain values.

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
from trainables.checkpoints import checkpoint
from trainables.checkpoints.remembered import MEMORY
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Labels, Part, Selected
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
"""Images, uint8 (count, height, width, channels), to class probabilities, (count, classes)."""


class ProbabilityModel(nn.Module):
    """A network with the scaling of its pixels before it and softmax behind: images, uint8 (count,
    height, width, channels), to class probabilities, float64 (count, classes).
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.shift, self.spread = nn.Buffer(pixels.mean255), nn.Buffer(pixels.deviation255)

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        pixels = (
            images.permute(0, 3, 1, 2)
            .to(torch.float32, copy=True)
            .sub_(self.shift)
            .div_(self.spread)
        )
        logits: Tensor = self.network(pixels)
        return logits.double().softmax(dim=1)


class Ensemble(nn.Module):
    """The mean of what several networks say, each of which scales pixels in its own way: as
    `ProbabilityModel`.
    """

    def __init__(self, members: Iterable[ProbabilityModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


@dataclass(frozen=True)
class Classifier:
    """What a checkpoint holds, ready to be used. Of a trial with folds, a committee of all its
    networks: it has seen every image but the test part's.
    """

    classify: Classify
    network: nn.Module | None
    """As it was trained, for images that are scaled; of a trial with folds the whole committee
    (`module`). None of what is no network.
    """
    precision: str
    """In which it was trained, and computes: `fp32`, `bf16` or `fp16`."""
    module: "ProbabilityModel | Ensemble | None" = None
    """The whole way from pixels to probabilities."""

    @property
    def networks(self) -> list[nn.Module]:
        """Every network in it."""
        return [member.network for member in members_of(self.module)]


def check(path: Path) -> None:
    """See that the checkpoint at `path` is whole, before anything is opened for it.

    Raises:
        CheckpointError: it is damaged.
    """
    checkpoint.verify(path)


def evaluate(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> dict[str, Any]:
    """Load the checkpoint at `path` and measure it on `part` (see `report` and `probabilities`);
    `wrong` are the images most confidently wrong (see `mistakes`). With folds, `members` says how
    good each network is by itself: `accuracy` (of each, on what it is asked), their `mean` and
    sample standard deviation `std`.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    parts = _asked(config, dataset, part)
    each = _by_network(config, dataset, parts, path, device)
    chances = _together(parts, each)
    found = {
        **report(part.labels, chances, dataset.classes),
        "wrong": confidently_wrong(part, chances),
    }
    if dataset.folds is None:
        return found
    alone = [
        accuracy(own.labels, said.argmax(axis=1)) for own, said in zip(parts, each, strict=True)
    ]
    return {**found, "members": {"accuracy": alone, "mean": fmean(alone), "std": stdev(alone)}}


def probabilities(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Probabilities:
    """Class probabilities, (images, classes), of the network saved at `path`, computed in the
    precision it was trained in, or of the baseline. `dataset` gives the scaling of pixels. With
    folds, of the committee of all networks; but for the data set's own training (and validation)
    part, each image's are those of the one network that has not seen it.
    """
    parts = _asked(config, dataset, part)
    return _together(parts, _by_network(config, dataset, parts, path, device))


def _asked(config: TrialConfig, dataset: Dataset, part: Part) -> list[Part]:
    """What each network is asked to classify so that all is known of this part."""
    if dataset.folds is None:
        return [part]
    if part is dataset.train or (
        len(part) == len(dataset.train) and part.fingerprint == dataset.train.fingerprint
    ):
        return [fold.val for fold in _data_of_networks(config, dataset)]
    return [part] * dataset.folds


def _together(parts: list[Part], each: list[Probabilities]) -> Probabilities:
    """The mean of what several networks say of one part, or what one does; each network's own rows,
    where parts are folds.
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
    """What each network of a checkpoint says of the part that it is asked about."""
    if config.model.is_baseline:
        from trainables.baselines import (
            fitting,
        )  # scikit-image takes half a second, which networks need not wait

        fitted = [
            state["classifier"] for state in _states(dataset, path)
        ]  # by the features that all trials share; `classifier` makes those of new images
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
    """The classifier saved at `path`, to be used inside `with`: there its weights are converted to
    its precision once.

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
    """What a checkpoint holds of each network."""
    saved = checkpoint.load(path)
    states: list[dict[str, Any]] = saved.get("folds", [saved])
    if len(states) != (dataset.folds or 1) or ("folds" in saved) != (dataset.folds is not None):
        raise ValueError(
            f"{path} holds {len(states)} networks, and the data are in {dataset.folds or 'no'} folds: load them as its config says"
        )
    return states


def _data_of_networks(config: TrialConfig, dataset: Dataset) -> list[Dataset]:
    """What each network was trained on and validated with."""
    if dataset.folds is None:
        return [dataset]
    return [dataset.fold(number, config.seed) for number in range(1, dataset.folds + 1)]


def _member(
    config: TrialConfig, dataset: Dataset, state: dict[str, Any], place: torch.device
) -> ProbabilityModel:
    """A network that was trained on this, ready to be used."""
    network = MODELS[config.model.name].build(
        dataset.image, len(dataset.classes), **config.model.options
    )
    put_weights(network, config, state)
    return ProbabilityModel(
        on_device(network, place), Pixels(dataset.val, dataset, config, place)
    ).eval()


def members_of(module: ProbabilityModel | Ensemble | None) -> list[ProbabilityModel]:
    """The networks, each with what stands around it."""
    if module is None:
        return []
    return (
        [module]
        if isinstance(module, ProbabilityModel)
        else [member for member in module.members if isinstance(member, ProbabilityModel)]
    )


def report(labels: Labels, chances: Probabilities, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 (per class, their mean, and weighted by the classes'
    numbers of images); confusion matrix; ROC curves and AUC, one class against the rest; the
    expected calibration error (`calibration_error`) and the bins behind it (`calibration_bins`).

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        classes: the classes' names.
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
    """The share of guesses that are right."""
    return float(np.mean(labels == guesses))


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """One divided by the other, and 0 of nothing."""
    found: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return found


def calibration_error(labels: Labels, chances: Probabilities) -> float:
    """How far the probability of the guessed class is from the share of right guesses: the mean
    distance over 15 bins of that probability, equally wide and weighted by their images (the L1
    norm; Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2). As torchmetrics,
    in single precision.
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
    """Of each of the 15 bins of the guess's probability: how many `images`, and the sums of
    `confidence` and of guesses that are `right`.

    Args:
        right: whether each image's guess is right, (images,).
        confidence: the guess's probability, (images,).
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
    """One class's ROC curve, thinned to at most 200 points; empty where the part holds only one
    kind.
    """
    if positive.all() or not positive.any():
        return {"auc": None, "fpr": [], "tpr": []}
    order = np.argsort(score, kind="stable")[::-1]
    score, found = score[order], np.cumsum(positive[order])
    steps = np.append(
        np.flatnonzero(np.diff(score)), len(score) - 1
    )  # images of one score pass the threshold together
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
