"""The networks by name, and the baselines to hold them against. Torch-free: a builder is imported when a model is built.

To add one: write `build(image, classes, **options)` in a file here and name it in `MODELS`; the conformance tests find it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What is known of a model before torch is imported."""

    builder: str
    """`module:function`; of a network called with the image's (channels, height, width), the number of classes and the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of `ModelConfig` that this model reads, with its defaults."""
    min_side: int = 1
    """The smallest height and width of an image, in pixels, that passes through."""
    kind: str = "network"
    """`network`, trained in epochs by gradient descent, or `baseline`: features made by hand and a classifier that is fitted once."""

    def build(self, image: tuple[int, int, int], classes: int, **options: Any) -> "nn.Module":
        """A freshly initialised network: float32 (batch, channels, height, width) in, logits (batch, classes) out."""
        network: nn.Module = self._function(image, classes, **options)
        return network

    def classifier(self, seed: int, **options: Any) -> "ClassifierMixin":
        """A baseline's classifier, to be fitted: features, float32 (images, length), in, class probabilities out."""
        classifier: ClassifierMixin = self._function(seed, **options)
        return classifier

    @property
    def _function(self) -> Any:
        module, _, function = self.builder.partition(":")
        return getattr(importlib.import_module(module), function)


MODELS: dict[str, ModelEntry] = {
    "table2": ModelEntry(builder="trainables.models.table2:build", options={"width": 32, "dropout": 0.0}, min_side=4),
    "mnist_cnn": ModelEntry(builder="trainables.models.mnist_cnn:build", options={"width": 32, "dropout": 0.5}, min_side=4),
    "deep_cnn": ModelEntry(builder="trainables.models.deep_cnn:build", options={"layers": 5, "filter_size": 3, "width": 16, "dropout": 0.25}),
    "multi_scale": ModelEntry(builder="trainables.models.multi_scale:build", options={"width": 32, "dropout": 0.0}, min_side=4),
    "svm": ModelEntry(builder="trainables.baselines.classifiers:svm", options={"features": "hog", "c": 10.0, "gamma": 1.0}, min_side=8, kind="baseline"),
    "knn": ModelEntry(builder="trainables.baselines.classifiers:knn", options={"features": "hog", "neighbours": 5}, min_side=8, kind="baseline"),
    "tree": ModelEntry(builder="trainables.baselines.classifiers:tree", options={"features": "hog", "tree_depth": 12}, min_side=8, kind="baseline"),
}
NETWORKS = tuple(name for name, entry in MODELS.items() if entry.kind == "network")
