"""The choice of the score by which a network detects images unlike those of the training.

The scores are compared on strange images. Classes that are left out of the fit of a score are no
substitute for unknown ones: the network was trained on them, so that the energy without their logit
detects them too easily (an area of 0.95 under the ROC curve for the classes of a probe on CIFAR-10,
but 0.66 and 0.82 for two classes that the probe never saw).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part
from trainables.progress import step
from trainables.reliability.conformal import conformal_quantile
from trainables.reliability.strange import STRANGE
from trainables.reliability.unlike import (
    BANK,
    FeatureSample,
    ScoringModel,
    TappedNetwork,
    build_scores,
)
from trainables.tasks.base import FromPixels
from trainables.tasks.pixels import Pixels
from trainables.training.loop import eval_batch
from trainables.values import Json

MOST_STRANGE = 300
"""The maximum number of strange images of each kind."""
SEED = 7


@dataclass(frozen=True)
class UnlikeDetection:
    """A network that also scores images, and the limit above which they are unlike the training."""

    module: nn.Module
    """Maps uint8 images to probabilities and the score (`ScoringModel`)."""
    values: Json
    """The `method`, the `limit`, the rate of `false_alarms`, the number of validation `images`, and
    `kinds`: for each kind of unlike images the share that is `detected`, the area under the ROC
    curve (`auc`), and that of the maximum probability (`auc_probability`)."""


def build_detection(
    network: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    false_alarms: float,
    temperature: float,
) -> UnlikeDetection:
    """Choose the best score for a network, and the limit at a rate of false alarms.

    The scores are fitted to training images, and compared on validation images that are changed to
    strange ones (`STRANGE`). The best has the highest mean area under the ROC curve. The limit is a
    quantile of the validation images' scores.

    Args:
        network: the trained network, from scaled images to logits.
        config: the trial's config.
        dataset: the data of the training, without folds.
        false_alarms: the share of images like the validation images that are above the limit.
        temperature: divides the logits for the probabilities.
    """
    pixels = Pixels(dataset.val, dataset, config, torch.device("cpu"))
    scaling = FromPixels(TappedNetwork(network), pixels).eval()
    batch, classes = eval_batch(config, dataset, torch.device("cpu")), len(dataset.classes)
    generator = np.random.default_rng(SEED)
    parts = [
        part.take(generator.permutation(len(part))[:most])
        for part, most in ((dataset.train, BANK), (dataset.val, None))
    ]
    with step("comparing the features of training and validation images"):
        trained, validated = (_sample_of(scaling, part, classes, batch) for part in parts)
    few = parts[1].take(np.arange(min(MOST_STRANGE, len(parts[1]))))
    strange = _strange_samples(scaling, few, classes, batch)
    scores = build_scores(trained, validated)
    areas = _areas(scores, validated, strange)
    method = max(scores, key=lambda name: np.mean([own[name] for own in areas.values()]))
    ordinary = _scored(scores[method], validated)
    limit = conformal_quantile(ordinary, 1 - false_alarms)
    assert limit is not None  # `check_promises` requires enough validation images
    detected = {
        title: float((_scored(scores[method], sample) > limit).mean())
        for title, sample in strange.items()
    }
    return UnlikeDetection(
        ScoringModel(scaling, scores[method], classes, temperature),
        {
            "method": method,
            "limit": limit,
            "false_alarms": false_alarms,
            "images": len(ordinary),
            "kinds": {
                title: {
                    "detected": detected[title],
                    "auc": own[method],
                    "auc_probability": own["probability"],
                }
                for title, own in areas.items()
            },
        },
    )


def _strange_samples(
    scaling: nn.Module, part: Part, classes: int, batch: int
) -> dict[str, FeatureSample]:
    """Compute the features of a part's images after each change of `STRANGE`, by its title."""
    generator, images = np.random.default_rng(SEED), _images(part)
    samples = {}
    for title, change in STRANGE.items():
        with step(f"scoring images with {title}"):
            changed = Part(change(images, generator), np.zeros(len(images), np.int64))
            samples[title] = _sample_of(scaling, changed, classes, batch)
    return samples


def _images(part: Part) -> Images:
    images: Images = np.asarray(part.images)
    return images


def _sample_of(scaling: nn.Module, part: Part, classes: int, batch: int) -> FeatureSample:
    images, outputs = _images(part), []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for first in range(0, len(images), batch):
            outputs.append(scaling(torch.from_numpy(images[first : first + batch].copy())).float())
    whole = torch.cat(outputs)
    labels = torch.from_numpy(np.asarray(part.targets).astype(np.int64))
    return FeatureSample(whole[:, classes:].contiguous(), whole[:, :classes].contiguous(), labels)


def _scored(score: nn.Module, sample: FeatureSample) -> NDArray[np.float64]:
    with torch.no_grad():
        scores: NDArray[np.float64] = score(sample.features, sample.logits).double().numpy()
    return scores


def _areas(
    scores: dict[str, nn.Module], ordinary: FeatureSample, strange: dict[str, FeatureSample]
) -> dict[str, dict[str, float]]:
    """Compute the area under the ROC curve of each score and of the maximum probability, by kind.

    The curve is that of finding a kind of images among the ordinary ones.
    """

    def values_of(sample: FeatureSample) -> dict[str, NDArray[np.float64]]:
        probability = -sample.logits.double().softmax(dim=1).amax(dim=1).numpy()
        return {name: _scored(score, sample) for name, score in scores.items()} | {
            "probability": probability
        }

    usual = values_of(ordinary)
    return {
        title: {name: area_above(usual[name], own) for name, own in values_of(sample).items()}
        for title, sample in strange.items()
    }


def area_above(ordinary: NDArray[np.float64], unlike: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve: the probability that an unlike image scores higher.

    Ties count half (Hanley and McNeil 1982).
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([ordinary, unlike]))[len(ordinary) :]
    pairs = len(ordinary) * len(unlike)
    return float((ranks.sum() - len(unlike) * (len(unlike) + 1) / 2) / pairs)
