"""Trained networks in the form that explanations need, and copies of these with random layers.

Images are uint8 (images, height, width, channels), in the size of the training images.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model
from trainables.explanations.explainable import ExplainableModel, Floats
from trainables.tasks.base import FromPixels
from trainables.tasks.pixels import shared_tensor

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
