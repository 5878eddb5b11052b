"""How good a trained network is on a part of the data, beyond one accuracy: by scikit-learn, as plain values."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics

from trainables import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Labels, Part
from trainables.loop import EVAL_BATCH, Pixels, autocast, on_device
from trainables.models.registry import MODELS

CURVE_POINTS = 200


def evaluate(config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Load the checkpoint at `path` and measure it on `part` (see `report`).

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    return report(part.labels, probabilities(config, dataset, part, path, device=device), dataset.classes)


@torch.no_grad()
def probabilities(config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu") -> NDArray[np.float64]:
    """Class probabilities, (images, classes), of the network saved at `path`, computed in the precision it was trained in, or of the baseline.
    `dataset` gives the scaling of pixels.
    """
    if config.model.is_baseline:
        return _of_baseline(config, dataset, part, path)
    network = MODELS[config.model.name].build(dataset.image, len(dataset.classes), **config.model.options)
    saved = checkpoint.load(path)
    network.load_state_dict(saved["model"])
    network = on_device(network, torch.device(device)).eval()
    pixels = Pixels(part, dataset, config, torch.device(device))
    chances = []
    with autocast(saved["precision"], torch.device(device)):
        for rows in torch.arange(len(pixels)).split(EVAL_BATCH):
            chances.append(network(pixels.batch(rows)[0]).double().softmax(dim=1).cpu())
    return torch.cat(chances).numpy()


def _of_baseline(config: TrialConfig, dataset: Dataset, part: Part, path: Path) -> NDArray[np.float64]:
    from trainables.baselines import fitting  # scikit-image takes half a second, which networks need not wait

    return fitting.probabilities(config, dataset, part, checkpoint.load(path)["classifier"])


def report(labels: Labels, chances: NDArray[np.float64], classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy; precision, recall and F1 (macro and per class); confusion matrix; ROC curves and AUC, one class against the rest.

    Args:
        labels: true class numbers, (images,).
        chances: class probabilities, (images, classes).
        classes: the classes' names.
    """
    numbers, guesses = np.arange(len(classes)), chances.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, guesses, labels=numbers, zero_division=0)
    curves = {name: _curve(labels == number, chances[:, number]) for number, name in enumerate(classes)}
    areas = [curve["auc"] for curve in curves.values() if curve["auc"] is not None]
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
            "auc": float(np.mean(areas)) if areas else None,
        },
        "per_class": per_class,
        "confusion_matrix": metrics.confusion_matrix(labels, guesses, labels=numbers).tolist(),
        "classes": list(classes),
        "roc": curves,
    }


def _curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> dict[str, Any]:
    """One class's ROC curve, thinned to at most 200 points; empty where the part holds only one kind."""
    if positive.all() or not positive.any():
        return {"auc": None, "fpr": [], "tpr": []}
    fpr, tpr, _ = metrics.roc_curve(positive, score)
    kept = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
    return {"auc": float(metrics.auc(fpr, tpr)), "fpr": fpr[kept].tolist(), "tpr": tpr[kept].tolist()}
