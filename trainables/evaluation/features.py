"""The features by which a saved model tells classes apart."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model

Floats = NDArray[np.float64]

BATCH = 256


def features_of(config: TrialConfig, dataset: Dataset, path: Path, images: Images) -> Floats:
    """Compute the inputs of the last dense layer of the model saved at `path`, (images, features).

    With folds, they are those of the first network. For a network without dense layers, the result
    has its log-probabilities instead; for a baseline without a network, its hand-made features.

    Args:
        config: the config of the model's trial.
        dataset: the data set of the training, which determines the scaling of pixels.
        path: the checkpoint.
        images: uint8 (images, height, width, channels), in the size of the data set's images.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    if not MODELS[config.model.name].has_network:
        from trainables.baselines.features import compute_features, kinds_of

        kinds = kinds_of(config.model.options["features"])
        return np.hstack([compute_features(images, kind) for kind in kinds]).astype(np.float64)
    last_inputs: list[torch.Tensor] = []
    answers = []
    with load_model(config, dataset, path) as saved:
        dense = [part for part in saved.networks[0].modules() if isinstance(part, nn.Linear)]
        for last in dense[-1:]:
            last.register_forward_pre_hook(
                lambda _, inputs: last_inputs.append(inputs[0].flatten(1).cpu())
            )
        for first in range(0, len(images), BATCH):
            answers.append(saved.predict(images[first : first + BATCH]))
    if last_inputs:
        features: Floats = torch.cat(last_inputs).double().numpy()
    else:  # no dense layer: use the log-probabilities
        features = np.log(np.maximum(np.concatenate(answers), 1e-6))
    return features
