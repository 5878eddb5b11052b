"""Scores of how unlike an image is to those of the training, computed within an exported network.

There are four scores (higher is more unlike), of which `trainables.reliability.choice` takes the
best for a network:

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
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

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


@dataclass(frozen=True)
class FeatureSample:
    """Features, logits and classes of images, on the CPU."""

    features: Tensor
    """float32 (images, features)."""
    logits: Tensor
    """float32 (images, classes)."""
    labels: Tensor
    """int64 (images,)."""

    def take(self, rows: Tensor) -> "FeatureSample":
        """Return the images at these rows, or those where a mask is True."""
        return FeatureSample(self.features[rows], self.logits[rows], self.labels[rows])


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
        """Store the features of training images, projected to a basis to save space.

        The features must not be centred: it is the part that all images have in common by which
        noise and drawings differ from photographs.

        Args:
            sample: training images, at most `BANK`.
        """
        super().__init__()
        features = normalize(sample.features, dim=1)
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
        energy, neighbours = (
            Energy(),
            Neighbours(sample.take(torch.arange(len(sample.labels))[:BANK])),
        )
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
        self,
        scaling: nn.Module,
        score: nn.Module,
        classes: int,
        temperature: float,
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
