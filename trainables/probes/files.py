"""Features of image files that belong to no data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.baselines.base import Beat, load_baseline, no_beat
from trainables.baselines.feature_classifiers import FeatureClassifier
from trainables.baselines.features import Values
from trainables.catalog.models import MODELS
from trainables.catalog.weights import cached, in_folder
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.models.weights import check
from trainables.probes.unlabelled import FilesPart

NETWORKS = ("mobilenet_v2", "efficientnet_b0", "resnet18", "resnet50", "squeezenet1_0")
"""The networks whose features can be used, the first one that has weights."""
HAND_MADE = "svm"
"""The model whose hand-made features are used without weights."""
SIDE, HAND_MADE_SIDE = 128, 32
"""The height and width, in pixels, to which images are resized for a network, and without one."""
CLASSES = ("a", "b")
"""Features do not depend on the classes, but a data set has some."""


def model_for_files(weights: Path | None) -> ModelConfig:
    """Return the probe whose features are used: that of the first network that has weights.

    Without weights, it is the classifier on hand-made features.

    Args:
        weights: a folder of files, or a file or checkpoint of the first network; None to look in
            torch's cache.

    Raises:
        ConfigError: `weights` cannot be used.
    """
    if weights is None:
        names = [name for name in NETWORKS if name in cached()]
    elif weights.is_dir() and not (weights / "manifest.json").exists():
        names = [name for name in NETWORKS if in_folder(weights, name).exists()]
    else:
        names = [NETWORKS[0]]
    if weights is not None:
        names = names or [NETWORKS[0]]  # whose check says what is missing
    if not names:
        return ModelConfig(name=HAND_MADE, features="all")
    place = None if weights is None else str(weights.absolute())
    model = ModelConfig(name=f"probe_{names[0]}", input_size=SIDE, weights=place)
    check(model, (3, SIDE, SIDE), len(CLASSES))
    return model


class FileFeatures:
    """Computes the features of image files, and keeps them in the cache."""

    def __init__(self, model: ModelConfig) -> None:
        """Choose the model (`model_for_files`)."""
        side = SIDE if MODELS[model.name].source else HAND_MADE_SIDE
        part = Part(np.zeros((1, side, side, 3), np.uint8), np.zeros(1, np.int64))
        self._dataset = Dataset("folder", CLASSES, part, part, None, "")
        baseline = load_baseline(TrialConfig(model=model))
        assert isinstance(baseline, FeatureClassifier)
        self._baseline = baseline

    def of(self, paths: Sequence[Path], beat: Beat = no_beat) -> Values:
        """Return the features of images, float32 (images, length).

        Raises:
            ConfigError: an image is damaged.
        """
        part = FilesPart(list(paths), self._dataset, beat)
        return np.asarray(self._baseline.features(part, self._dataset, beat))
