"""Explanations of predictions: a map of each image, with its faithfulness and its check.

The maps from gradients are computed by captum: Grad-CAM and integrated gradients.

The parameter-randomisation check: do the maps depend on the trained weights? Maps that remain the
same when the network's last layers get random weights show the image, not the network (Adebayo et
al. 2018, "Sanity Checks for Saliency Maps", section 3). In addition, a map must explain the trained
network better than the map of each of these networks does: otherwise it could be one of them, since
the maps of two random networks differ too.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model
from trainables.explanations.maps import (
    LEAST_GAIN,
    ExplainableModel,
    Floats,
    Maps,
    MapScorer,
    Numbers,
    judge_faithfulness,
    occlusion,
)
from trainables.progress import step
from trainables.tasks.base import FromPixels
from trainables.tasks.pixels import shared_tensor
from trainables.values import Json

REDRAWN_SHARE = 0.5
"""The share of the weight tensors, counted from the outputs, that `with_random_layers` draws again.

The cascade of Adebayo et al. (2018), section 3, begins at the outputs too. Were only the last layer
random, Grad-CAM would still be a sum of trained features, which are at the object's place.
"""


class Logits(nn.Module):
    """Maps images with pixels from 0 to 255, float32 (count, height, width, channels), to logits.

    Logits are explained because the gradients of probabilities vanish where these are almost 1.
    """

    def __init__(self, member: FromPixels) -> None:
        """Wrap a task's module (`Task.module`), which ends with a softmax."""
        super().__init__()
        self.member = member

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (count, classes)."""
        return FromPixels.forward(self.member, images)


def with_random_layers(model: ExplainableModel, seed: Sequence[int]) -> ExplainableModel:
    """Return a copy whose networks have random weights in their last layers (`REDRAWN_SHARE`).

    New weights are normally distributed with the standard deviation of the trained ones, so
    that they still fit the statistics of normalisation layers. Their mean is 0: with that of
    the trained ones, thousands of positive inputs push all units of a layer below 0, and the
    maps of such a network are flat, from which any map differs.
    """
    generator = np.random.default_rng(seed)
    networks = [copy.deepcopy(network) for network in model.networks]
    for network in networks:
        # Vectors are biases, and weights of normalisation layers.
        weights = [weight for weight in network.parameters() if weight.ndim > 1]
        for weight in weights[round(len(weights) * (1 - REDRAWN_SHARE)) :]:
            values = generator.standard_normal(weight.shape, np.float32)
            trained = weight.data
            weight.data = trained.std() * torch.from_numpy(values)
    return ExplainableModel(_mean_probabilities(networks), networks, model.fill)


def _mean_probabilities(networks: Sequence[Logits]) -> Callable[[Images], Floats]:
    """Return the function that predicts with several networks, as their ensemble does."""

    def predict(images: Images) -> Floats:
        pixels = shared_tensor(images).float()
        with torch.no_grad():
            each = [network(pixels).double().softmax(dim=1) for network in networks]
        mean: Floats = torch.stack(each).mean(dim=0).numpy()
        return mean

    return predict


@contextmanager
def load_explainable(
    config: TrialConfig, dataset: Dataset, path: Path
) -> Iterator[ExplainableModel]:
    """Load the model saved at `path`, for use inside the `with` block.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    mean, _ = dataset.channel_statistics
    fill = np.round(255 * mean).astype(np.uint8)
    with load_model(config, dataset, path) as saved:
        networks = [Logits(member) for member in saved.members if isinstance(member, FromPixels)]
        yield ExplainableModel(saved.predict, networks, fill)


STEPS = 20
"""The points of the integral of integrated gradients, by Gauss-Legendre quadrature.

Sundararajan et al. (2017), section 5, recommend 20 to 300.
"""
AT_ONCE = 64
"""The number of images, or of points of the integral, in one forward and backward pass."""


def grad_cam(model: ExplainableModel, images: Images, classes: Numbers) -> Maps:
    """Compute Grad-CAM (Selvaraju et al. 2017, section 3), without its final ReLU.

    The maps are interpolated to the size of the images. With folds, they are means over networks.
    """

    def explain_batch(network: Logits, pixels: Tensor, targets: Tensor) -> Tensor:
        layer = feature_layer(network, pixels[:1])
        small: Any = LayerGradCam(network, layer).attribute(pixels, target=targets)
        maps = functional.interpolate(small, pixels.shape[1:3], mode="bilinear")
        return maps[:, 0]

    return _mean_maps(model, images, classes, explain_batch)


def integrated_gradients(model: ExplainableModel, images: Images, classes: Numbers) -> Maps:
    """Compute integrated gradients (Sundararajan et al. 2017, section 3), summed over channels.

    The baseline is an image of the mean colour of the training images. The values of a map add up
    to the difference of the logits of the image and of the baseline (completeness).
    """
    baseline = torch.from_numpy(model.fill).float().expand(1, *images.shape[1:])

    def explain_batch(network: Logits, pixels: Tensor, targets: Tensor) -> Tensor:
        parts: Any = IntegratedGradients(network).attribute(
            pixels,
            baselines=baseline,
            target=targets,
            n_steps=STEPS,
            internal_batch_size=max(AT_ONCE, len(pixels)),
        )
        summed: Tensor = parts.sum(dim=-1)
        return summed

    return _mean_maps(model, images, classes, explain_batch)


def _mean_maps(
    model: ExplainableModel,
    images: Images,
    classes: Numbers,
    explain_batch: Callable[[Logits, Tensor, Tensor], Tensor],
) -> Maps:
    """Compute the mean of the maps of the model's networks, batch by batch.

    Gradients are computed in single precision: `load_model` predicts without gradients, and perhaps
    in half precision.
    """
    total = np.zeros(images.shape[:3])
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for network in model.networks:
            for first in range(0, len(images), AT_ONCE):
                batch = slice(first, first + AT_ONCE)
                pixels = shared_tensor(np.ascontiguousarray(images[batch])).float()
                maps = explain_batch(network, pixels, torch.from_numpy(classes[batch]))
                total[batch] += maps.detach().double().numpy()
    return total / len(model.networks)


def feature_layer(network: nn.Module, pixels: Tensor) -> nn.Module:
    """Find the module whose output is the last convolutional feature map.

    It is the last module that is called once and whose output is as large as that of the last
    convolution with an output of more than one pixel. (Later modules of this size are activations
    and normalisations. Convolutions to one pixel belong to the attention between channels.)

    Args:
        network: the network.
        pixels: inputs of the network, by which the sizes are determined.

    Raises:
        ValueError: the network has no such module.
    """
    calls: list[tuple[nn.Module, tuple[int, ...]]] = []

    def record(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            calls.append((module, tuple(output.shape[2:])))

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    convolved = [size for module, size in calls if isinstance(module, nn.Conv2d) and max(size) > 1]
    if not convolved:
        raise ValueError("the network has no convolution whose output has more than one pixel")
    counts = Counter(id(module) for module, _ in calls)
    return [module for module, size in calls if size == convolved[-1] and counts[id(module)] == 1][
        -1
    ]


REDRAWS = 19
"""The largest number of networks with random layers with which a map is compared.

A map of another such network passes with a probability of at most 1 / 20: it is exchangeable with
the maps of these, so that each of the 20 has the highest score equally often (a Monte Carlo test,
Barnard 1963). A map that has lost a comparison is compared no further, which changes no verdict
(Besag and Clifford 1991, section 2).
"""
MAX_CORRELATION = 0.5
"""The rank correlation from which maps count as equal: they share a quarter of their variance.

Adebayo et al. state no threshold. The mean over `REDRAWS` networks is compared, since random layers
may turn the sign of a single map by chance. A method that ignores the weights, such as an edge
detector, has correlation 1.
"""


def rank_correlations(first: Maps, second: Maps) -> Floats:
    """Compute Spearman's rank correlation of two maps of each image; 0 for a flat map."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    lengths = [np.linalg.norm(values, axis=1) for values in centred]
    products = (centred[0] * centred[1]).sum(axis=1)
    scale = lengths[0] * lengths[1]
    correlations: Floats = np.divide(products, scale, out=np.zeros(len(first)), where=scale > 0)
    return correlations


COMPUTE: dict[str, Callable[[ExplainableModel, Images, Numbers], Maps]] = {
    "gradcam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
}
"""The functions of the methods in `trainables.catalog.explanations.METHODS`."""


WeightCheck = tuple[float | None, float | None, bool | None]
"""`Explanation.correlation`, `redrawn_score` and `depends_on_weights` of an image."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of one prediction."""

    number: int
    """The class that is explained: the most probable one."""
    probability: float
    """The probability of this class."""
    values: Maps
    """The map, (height, width)."""
    insertion: float
    deletion: float
    random_score: float
    """The mean of insertion minus deletion over random maps."""
    is_faithful: bool
    """True if the map's score is the highest, and exceeds this mean by `LEAST_GAIN`."""
    correlation: float | None
    """The mean rank correlation with maps of networks with random layers; None without a network.

    A map that explains no better than one of these is not compared with further networks.
    """
    redrawn_score: float | None
    """The mean of insertion minus deletion over these maps; None without a network."""
    depends_on_weights: bool | None
    """True if the map passes the parameter-randomisation check; None without a network."""

    @property
    def score(self) -> float:
        """Insertion minus deletion, from -1 to 1; higher is better."""
        return self.insertion - self.deletion

    def to_json(self) -> Json:
        """Return the verdicts, without the map, as JSON-compatible values."""
        return {
            "probability": self.probability,
            "faithfulness": {
                "insertion": self.insertion,
                "deletion": self.deletion,
                "score": self.score,
                "random": self.random_score,
                "passed": self.is_faithful,
            },
            "check": None
            if self.depends_on_weights is None
            else {
                "correlation": self.correlation,
                "redrawn": self.redrawn_score,
                "passed": self.depends_on_weights,
            },
        }


def explain(
    model: ExplainableModel, method: str, images: Images, *, seed: int = 0
) -> list[Explanation]:
    """Explain the most probable class of each image.

    Args:
        model: the model.
        method: a key of `COMPUTE` that supports the model.
        images: uint8 (images, height, width, channels), in the size of the training images.
        seed: determines the random maps and the random layers.
    """
    chances = model.predict(images)
    classes = chances.argmax(axis=1)
    with step("computing maps"):
        maps = COMPUTE[method](model, images, classes)
    return judge_maps(model, method, images, classes, maps, seed=seed)


def judge_maps(
    model: ExplainableModel,
    method: str,
    images: Images,
    classes: Numbers,
    maps: Maps,
    *,
    seed: int = 0,
) -> list[Explanation]:
    """Judge maps of images as explanations of these classes.

    Args:
        model: the model.
        method: the method of the maps with which they are compared.
        images: the images.
        classes: the class that each map explains.
        maps: the maps, (images, height, width).
        seed: determines the random maps and the random layers.
    """
    chances = model.predict(images)
    scorer = MapScorer(model, images, classes, seed)
    faithfulness = judge_faithfulness(scorer, maps, seed)
    scores, is_faithful = faithfulness.scores, faithfulness.is_faithful
    checks: Sequence[WeightCheck] = [(None, None, None)] * len(images)
    if model.networks:
        checks = _check(scorer, method, maps, scores.values, seed)
    return [
        Explanation(
            number=int(number),
            probability=float(chances[row, number]),
            values=maps[row],
            insertion=float(scores.insertion[row]),
            deletion=float(scores.deletion[row]),
            random_score=float(faithfulness.random_scores[:, row].mean()),
            is_faithful=bool(is_faithful[row]),
            correlation=correlation,
            redrawn_score=redrawn_score,
            depends_on_weights=depends_on_weights,
        )
        for row, (number, (correlation, redrawn_score, depends_on_weights)) in enumerate(
            zip(classes, checks, strict=True)
        )
    ]


def _check(
    scorer: MapScorer, method: str, maps: Maps, scores: Floats, seed: int
) -> list[WeightCheck]:
    """Compare the map of each image with those of networks with random layers."""
    correlations, redrawn = np.full((2, REDRAWS, len(maps)), np.nan)
    rows = np.arange(len(maps))
    with step("drawing the weights again", REDRAWS) as advance:
        for number in range(REDRAWS):
            if not len(rows):
                break
            random_model = with_random_layers(scorer.model, (seed, number))
            redrawn_maps = COMPUTE[method](random_model, scorer.images[rows], scorer.classes[rows])
            correlations[number, rows] = rank_correlations(maps[rows], redrawn_maps)
            redrawn[number, rows] = scorer.score(redrawn_maps, rows).values
            rows = rows[scores[rows] > redrawn[number, rows]]  # the others have failed
            advance()
    mean = np.nanmean(correlations, axis=0)
    passed = np.isin(np.arange(len(maps)), rows) & (mean < MAX_CORRELATION)
    redrawn_scores = np.nanmean(redrawn, axis=0)
    passed &= scores - redrawn_scores >= LEAST_GAIN
    return list(zip(mean.tolist(), redrawn_scores.tolist(), passed.tolist(), strict=True))
