"""How good a trained network is on a part of the data, beyond one accuracy: by scikit-learn and torchmetrics, as plain values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import nn

from trainables import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Labels, Part
from trainables.loop import Pixels, autocast, eval_batch, on_device
from trainables.mistakes import confidently_wrong
from trainables.models.registry import MODELS

CURVE_POINTS = 200
CALIBRATION_BINS = 15

Classify = Callable[[Images], NDArray[np.float64]]
"""Images, uint8 (count, height, width, channels), to class probabilities, (count, classes)."""


@dataclass(frozen=True)
class Classifier:
    """What a checkpoint holds, ready to be used."""

    classify: Classify
    network: nn.Module | None
    """None of a classifier that is no network."""
    precision: str
    """In which it was trained, and computes: `fp32` or `bf16`."""


def evaluate(config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Load the checkpoint at `path` and measure it on `part` (see `report`); `wrong` are the images most confidently wrong (see `mistakes`).

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    chances = probabilities(config, dataset, part, path, device=device)
    return {**report(part.labels, chances, dataset.classes), "wrong": confidently_wrong(part, chances)}


def probabilities(config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu") -> NDArray[np.float64]:
    """Class probabilities, (images, classes), of the network saved at `path`, computed in the precision it was trained in, or of the baseline.
    `dataset` gives the scaling of pixels.
    """
    if config.model.is_baseline:
        return _of_baseline(config, dataset, part, path)  # by the features of this part that all trials share; `classifier` makes those of new images
    with classifier(config, dataset, path, device=device) as saved:
        size = eval_batch(config, dataset)
        return np.concatenate([saved.classify(part.images[first : first + size]) for first in range(0, len(part), size)])


@contextmanager
def classifier(config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu") -> Iterator[Classifier]:
    """The classifier saved at `path`, to be used inside `with`: there its weights are converted to its precision once.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    if config.model.is_baseline:
        from trainables.baselines import fitting

        fitted = checkpoint.load(path)["classifier"]
        yield Classifier(lambda images: fitting.from_images(config, dataset, images, fitted), None, "")
        return
    place = torch.device(device)
    network = MODELS[config.model.name].build(dataset.image, len(dataset.classes), **config.model.options)
    saved = checkpoint.load(path)
    network.load_state_dict(saved["model"])
    network = on_device(network, place).eval()
    pixels = Pixels(dataset.val, dataset, config, place)

    def classify(images: Images) -> NDArray[np.float64]:
        chances: NDArray[np.float64] = network(pixels.scaled(images)).double().softmax(dim=1).cpu().numpy()
        return chances

    with torch.no_grad(), autocast(saved["precision"], place):
        yield Classifier(classify, network, saved["precision"])


def _of_baseline(config: TrialConfig, dataset: Dataset, part: Part, path: Path) -> NDArray[np.float64]:
    from trainables.baselines import fitting  # scikit-image takes half a second, which networks need not wait

    return fitting.probabilities(config, dataset, part, checkpoint.load(path)["classifier"])


def report(labels: Labels, chances: NDArray[np.float64], classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 (per class, their mean, and weighted by the classes' numbers of images); confusion matrix; ROC curves
    and AUC, one class against the rest; the expected calibration error (`calibration_error`) and the bins behind it (`calibration_bins`).

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        classes: the classes' names.
    """
    numbers, guesses = np.arange(len(classes)), chances.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, guesses, labels=numbers, zero_division=0)
    curves = {name: _curve(labels == number, chances[:, number]) for number, name in enumerate(classes)}
    occurring = np.array([curve["auc"] is not None for curve in curves.values()])
    areas = np.array([curve["auc"] for curve in curves.values() if curve["auc"] is not None])
    per_class = {
        name: {"precision": float(precision[number]), "recall": float(recall[number]), "f1": float(f1[number]), "images": int(support[number])}
        for number, name in enumerate(classes)
    }
    return {
        "images": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, guesses)),
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
        "confusion_matrix": metrics.confusion_matrix(labels, guesses, labels=numbers).tolist(),
        "classes": list(classes),
        "roc": curves,
    }


def calibration_error(labels: Labels, chances: NDArray[np.float64]) -> float:
    """How far the probability of the guessed class is from the share of right guesses: the mean distance over 15 bins of that probability,
    equally wide and weighted by their images (the L1 norm; Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2).
    """
    from torchmetrics.functional.classification import multiclass_calibration_error  # a second; no training needs it

    found = multiclass_calibration_error(torch.from_numpy(chances), torch.from_numpy(labels), chances.shape[1], n_bins=CALIBRATION_BINS, norm="l1")
    return float(found)


def calibration_bins(right: NDArray[np.bool_], confidence: NDArray[np.float64]) -> dict[str, list[float]]:
    """Of each of the 15 bins of the guess's probability: how many `images`, and the sums of `confidence` and of guesses that are `right`.

    Args:
        right: whether each image's guess is right, (images,).
        confidence: the guess's probability, (images,).
    """
    weights = {"images": np.ones(len(right)), "confidence": confidence, "right": right.astype(float)}
    return {name: np.histogram(confidence, CALIBRATION_BINS, (0, 1), weights=weight)[0].tolist() for name, weight in weights.items()}


def _curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> dict[str, Any]:
    """One class's ROC curve, thinned to at most 200 points; empty where the part holds only one kind."""
    if positive.all() or not positive.any():
        return {"auc": None, "fpr": [], "tpr": []}
    fpr, tpr, _ = metrics.roc_curve(positive, score)
    kept = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
    return {"auc": float(metrics.auc(fpr, tpr)), "fpr": fpr[kept].tolist(), "tpr": tpr[kept].tolist()}
