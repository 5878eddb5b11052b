"""Detection of images that are unlike those of the training, within an exported network.

There are four scores (higher is more unlike):

- `energy`: minus the log-sum-exp of the logits (Liu et al. 2020, "Energy-based Out-of-distribution
  Detection", equation 4).
- `mahalanobis`: the squared distance of an image's features to the nearest class mean, relative to
  the covariance within the classes (Lee et al. 2018, "A Simple Unified Framework for Detecting
  Out-of-Distribution Samples and Adversarial Attacks", equation 2).
- `neighbours`: minus the cosine similarity of an image's features to its k-th nearest training
  image (Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors").
- `energy and neighbours`: their sum, each relative to its deviation on ordinary images.

The features are the inputs of the network's last layer that has weights; those of a convolution are
averaged over their positions.

The best score for a network is chosen on validation images that are changed to strange ones.
Classes that are left out of the fit of a score are no substitute for unknown ones: the network was
trained on them, so that the energy without their logit detects them too easily (an area of 0.95
under the ROC curve for the classes of a probe on CIFAR-10, but 0.66 and 0.82 for two classes that
the probe never saw).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Labels
from trainables.progress import step
from trainables.reliability.promises import conformal_quantile
from trainables.tasks.base import FromPixels
from trainables.tasks.pixels import Pixels
from trainables.training.loop import eval_batch
from trainables.values import Json

Change = Callable[[Images, np.random.Generator], Images]
"""Changes images, uint8 (count, height, width, channels), to ones of the same shape."""
GRID = 4
"""Images are scrambled in GRID x GRID tiles."""
MOST_STRANGE = 300
"""The maximum number of strange images of each kind."""
SEED = 7
MOST_FEATURES = 256
"""The maximum number of directions that are used of the features, to save space and time."""
BANK = 2000
"""The maximum number of training images whose features are stored in the exported network."""
NEIGHBOUR_SHARE = 0.005
"""The rank k of the nearest neighbour, as a share of the stored images.

Sun et al. use 50 of 50,000 images and, if only 1 % of them are stored, still 5 to 10.
"""
SHRINKAGE = 0.05
"""The share of the mean variance in the covariance, so that it can be inverted for few images."""

PROBABILITY = "probability"
"""The score with which the others are compared: it is not fitted."""
Scores = NDArray[np.float64]
Values = dict[str, Scores]
"""The scores of images, (images,), by the name of the score."""


@dataclass(frozen=True)
class FeatureSample:
    """Features, logits and classes of images, on the CPU."""

    features: Tensor
    """float32 (images, features)."""
    logits: Tensor
    """float32 (images, classes)."""
    labels: Tensor
    """int64 (images,)."""


class TappedNetwork(nn.Module):
    """A network that also returns its features; both are concatenated.

    It maps scaled images to float32 (count, classes + features).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._inputs: list[Tensor] = []
        layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        layers[-1].register_forward_pre_hook(lambda _, inputs: self._inputs.append(inputs[0]))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits and features."""
        self._inputs.clear()
        logits = self.network(images)
        features = self._inputs.pop()
        features = features.mean(dim=(2, 3)) if features.ndim == 4 else features.flatten(1)
        return torch.cat([logits, features], dim=1)


class Energy(nn.Module):
    """The score `energy`, which needs no images."""

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Score images, (count,)."""
        return -torch.logsumexp(logits, dim=1)


class Mahalanobis(nn.Module):
    """The score `mahalanobis`, on the first principal components of the features."""

    def __init__(self, sample: FeatureSample) -> None:
        """Estimate the class means, and the covariance within the classes.

        Args:
            sample: training images.
        """
        super().__init__()
        self.mean = nn.Buffer(sample.features.mean(dim=0))
        centred = sample.features - self.mean
        self.basis = nn.Buffer(principal_directions(centred))
        reduced = centred @ self.basis
        classes = sample.labels.unique()
        means = torch.stack([reduced[sample.labels == label].mean(dim=0) for label in classes])
        within = (reduced - means[torch.searchsorted(classes, sample.labels)]).double()
        covariance = within.T @ within / len(within)
        variance = covariance.diagonal().mean().clamp_min(1e-12)
        identity = torch.eye(len(covariance), dtype=torch.float64)
        values, vectors = torch.linalg.eigh(
            (1 - SHRINKAGE) * covariance + SHRINKAGE * variance * identity
        )
        self.whitening = nn.Buffer((vectors / values.sqrt()).float())
        self.white_means = nn.Buffer(means @ self.whitening)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Score images, (count,)."""
        white = (features - self.mean) @ self.basis @ self.whitening
        # |a - b|^2 = |a|^2 - 2ab + |b|^2, without an array (count, classes, features).
        distances = (
            white.square().sum(dim=1, keepdim=True)
            - 2 * white @ self.white_means.T
            + self.white_means.square().sum(dim=1)
        )
        return distances.amin(dim=1)


class Neighbours(nn.Module):
    """The score `neighbours`."""

    def __init__(self, sample: FeatureSample) -> None:
        """Store the features of at most `BANK` training images.

        They are projected to a basis to save space. They must not be centred: it is the part that
        all images have in common by which noise and drawings differ from photographs.
        """
        super().__init__()
        features = normalize(sample.features[:BANK], dim=1)
        self.basis = nn.Buffer(principal_directions(features))
        self.bank = nn.Buffer((features @ self.basis).T.contiguous())
        self.rank = max(1, round(NEIGHBOUR_SHARE * len(features)))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Score images, (count,)."""
        # Divided by the norm before the projection, so that what is outside the basis counts.
        similar = normalize(features, dim=1) @ self.basis @ self.bank
        return -similar.topk(self.rank, dim=1).values[:, -1]


class Combined(nn.Module):
    """The sum of several scores, each relative to its mean and deviation on ordinary images."""

    def __init__(self, scores: list[nn.Module], ordinary: FeatureSample) -> None:
        super().__init__()
        self.scores = nn.ModuleList(scores)
        values = [score(ordinary.features, ordinary.logits) for score in scores]
        self.means = [float(value.mean()) for value in values]
        self.deviations = [max(float(value.std(correction=0)), 1e-6) for value in values]

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Score images, (count,)."""
        parts = zip(self.scores, self.means, self.deviations, strict=True)
        return torch.stack(
            [(score(features, logits) - mean) / deviation for score, mean, deviation in parts]
        ).sum(dim=0)


def principal_directions(vectors: Tensor) -> Tensor:
    """Return the directions in which vectors are largest, (values, at most `MOST_FEATURES`)."""
    _, directions = torch.linalg.eigh(vectors.T.double() @ vectors.double())
    largest: Tensor = directions[:, -MOST_FEATURES:].float().contiguous()
    return largest


def build_scores(sample: FeatureSample, ordinary: FeatureSample) -> dict[str, nn.Module]:
    """Build each score from training images, by its name.

    Args:
        sample: training images.
        ordinary: other images like them, by which scores are made comparable.
    """
    with torch.no_grad():
        energy, neighbours = Energy(), Neighbours(sample)
        return {
            "energy": energy,
            "mahalanobis": Mahalanobis(sample),
            "neighbours": neighbours,
            "energy and neighbours": Combined([energy, neighbours], ordinary),
        }


class ScoringModel(nn.Module):
    """A model that also scores how unlike the training images an image is.

    It maps uint8 images to float64 (count, classes + 1): probabilities, and the score.
    """

    def __init__(
        self, scaling: nn.Module, score: nn.Module, classes: int, temperature: float
    ) -> None:
        """Combine the parts.

        Args:
            scaling: maps uint8 images to logits and features: `FromPixels` of a `TappedNetwork`.
            score: one of `build_scores`.
            classes: the number of classes.
            temperature: divides the logits.
        """
        super().__init__()
        self.scaling, self.score = scaling, score
        self.classes, self.temperature = classes, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Compute probabilities and scores."""
        outputs = self.scaling(images)
        logits, features = outputs[:, : self.classes], outputs[:, self.classes :]
        score = self.score(features, logits)
        probabilities = (logits.double() / self.temperature).softmax(dim=1)
        return torch.cat([probabilities, score.double()[:, None]], dim=1)


def _noise(images: Images, generator: np.random.Generator) -> Images:
    """Replace images by independent uniform pixels."""
    return generator.integers(0, 256, images.shape, dtype=np.uint8)


def _noisy(images: Images, generator: np.random.Generator) -> Images:
    """Add normal noise with a standard deviation of 38 % of the range (severity 5 of ImageNet-C).

    See Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations".
    """
    noisy = images + generator.normal(0, 0.38 * 255, images.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _blurred(images: Images, generator: np.random.Generator) -> Images:
    """Average over squares of an eighth of the image."""
    _, height, width, _ = images.shape
    rows = np.arange(height) * 8 // height
    columns = np.arange(width) * 8 // width
    blurred = np.empty_like(images)
    for row in range(8):
        for column in range(8):
            square = np.ix_(np.arange(len(images)), rows == row, columns == column)
            if images[square].size:
                blurred[square] = images[square].mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    return blurred


def _scrambled(images: Images, generator: np.random.Generator) -> Images:
    """Shuffle the tiles of each image."""
    _, height, width, _ = images.shape
    high, wide = height // GRID, width // GRID
    if not high or not wide:
        return images[:, ::-1]
    scrambled = images.copy()
    places = [(row * high, column * wide) for row in range(GRID) for column in range(GRID)]
    for number, image in enumerate(images):
        for target, source in zip(places, generator.permutation(places).tolist(), strict=True):
            scrambled[number, target[0] : target[0] + high, target[1] : target[1] + wide] = image[
                source[0] : source[0] + high, source[1] : source[1] + wide
            ]
    return scrambled


def _inverted(images: Images, generator: np.random.Generator) -> Images:
    return 255 - images


STRANGE: dict[str, Change] = {
    "uniform noise": _noise,
    "strong noise": _noisy,
    "strong blur": _blurred,
    "scrambled tiles": _scrambled,
    "inverted colours": _inverted,
}
"""Kinds of strange images, by the title that is shown to users."""


def build_detection(
    network: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    false_alarms: float,
    temperature: float,
) -> tuple[ScoringModel, Json]:
    """Choose the best score for a network, and the limit at a rate of false alarms.

    The scores are fitted to training images, and compared on strange images. The best has the
    highest mean area under the ROC curve. The limit is a quantile of the validation images' scores.

    Args:
        network: the trained network, from scaled images to logits.
        config: the trial's config.
        dataset: the data of the training, without folds.
        false_alarms: the share of images like the validation images that are above the limit.
        temperature: divides the logits for the probabilities.

    Returns:
        The network that also scores images; and the `method`, the `limit`, the rate of
        `false_alarms`, the number of validation `images`, and `kinds`: for each kind of unlike
        images the share that is `detected`, the area under the ROC curve (`auc`), and that of the
        maximum probability (`auc_probability`).
    """
    pixels = Pixels(dataset.val, dataset, config, torch.device("cpu"))
    scaling = FromPixels(TappedNetwork(network), pixels).eval()
    batch, classes = eval_batch(config, dataset, torch.device("cpu")), len(dataset.classes)
    sample_of = partial(_sample_of, scaling, classes, batch)
    generator = np.random.default_rng(SEED)
    with step("comparing the features of training and validation images"):
        parts = [
            part.take(generator.permutation(len(part))[:most])
            for part, most in ((dataset.train, BANK), (dataset.val, None))
        ]
        trained, validated = (sample_of(np.asarray(part.images), part.targets) for part in parts)
    scores = build_scores(trained, validated)
    usual, unlike = _values(scores, validated), {}
    images = np.asarray(parts[1].take(np.arange(min(MOST_STRANGE, len(parts[1])))).images)
    generator = np.random.default_rng(SEED)
    for title, change in STRANGE.items():
        with step(f"scoring images with {title}"):
            changed = sample_of(change(images, generator), np.zeros(len(images), np.int64))
            unlike[title] = _values(scores, changed)
    values = _choose(usual, unlike, false_alarms)
    return ScoringModel(scaling, scores[values["method"]], classes, temperature), values


def _choose(usual: Values, unlike: dict[str, Values], false_alarms: float) -> Json:
    """Choose the best score (`build_detection`), by the scores of usual and of unlike images."""
    areas = {
        title: {name: area_above(usual[name], values) for name, values in own.items()}
        for title, own in unlike.items()
    }
    methods = [name for name in usual if name != PROBABILITY]
    method = max(methods, key=lambda name: np.mean([own[name] for own in areas.values()]))
    limit = conformal_quantile(usual[method], 1 - false_alarms)
    assert limit is not None  # `check_promises` requires enough validation images
    return {
        "method": method,
        "limit": limit,
        "false_alarms": false_alarms,
        "images": len(usual[method]),
        "kinds": {
            title: {
                "detected": float((unlike[title][method] > limit).mean()),
                "auc": own[method],
                "auc_probability": own[PROBABILITY],
            }
            for title, own in areas.items()
        },
    }


def _sample_of(
    scaling: nn.Module, classes: int, batch: int, images: Images, labels: Labels
) -> FeatureSample:
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        outputs = torch.cat(
            [
                scaling(torch.from_numpy(images[first : first + batch].copy())).float()
                for first in range(0, len(images), batch)
            ]
        )
    logits, features = outputs[:, :classes].contiguous(), outputs[:, classes:].contiguous()
    return FeatureSample(features, logits, torch.from_numpy(labels.astype(np.int64)))


def _values(scores: dict[str, nn.Module], sample: FeatureSample) -> Values:
    """Score images by each method, and by `PROBABILITY`: minus the maximum probability."""
    with torch.no_grad():
        values = {
            name: score(sample.features, sample.logits).double().numpy()
            for name, score in scores.items()
        }
    probability = -sample.logits.double().softmax(dim=1).amax(dim=1).numpy()
    return {**values, PROBABILITY: probability}


def area_above(ordinary: Scores, unlike: Scores) -> float:
    """Return the area under the ROC curve: the probability that an unlike image scores higher.

    Ties count half (Hanley and McNeil 1982).
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([ordinary, unlike]))[len(ordinary) :]
    pairs = len(ordinary) * len(unlike)
    return float((ranks.sum() - len(unlike) * (len(unlike) + 1) / 2) / pairs)
