"""The networks by name. Torch-free: a builder is imported when a model is built.

To add one: write `build(image, classes, **options)` in a file here and name it in `MODELS`; the conformance tests find it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What is known of a network before torch is imported."""

    builder: str
    """`module:function`; called with the image's (channels, height, width), the number of classes and the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of `ModelConfig` that this network reads, with its defaults."""
    min_side: int = 1
    """The smallest height and width of an image, in pixels, that passes through."""
    kind: str = "network"
    """`network`, trained in epochs by gradient descent, or `baseline`: features made by hand and a classifier that is fitted once."""

    def build(self, image: tuple[int, int, int], classes: int, **options: Any) -> "nn.Module":
        """A freshly initialised network: float32 (batch, channels, height, width) in, logits (batch, classes) out."""
        module, _, function = self.builder.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), function)(image, classes, **options)
        return network


MODELS: dict[str, ModelEntry] = {
    "table2": ModelEntry(builder="trainables.models.table2:build", options={"width": 32, "dropout": 0.0}, min_side=4),
    "mnist_cnn": ModelEntry(builder="trainables.models.mnist_cnn:build", options={"width": 32, "dropout": 0.5}, min_side=4),
    "deep_cnn": ModelEntry(builder="trainables.models.deep_cnn:build", options={"layers": 5, "filter_size": 3, "width": 16, "dropout": 0.25}),
    "multi_scale": ModelEntry(builder="trainables.models.multi_scale:build", options={"width": 32, "dropout": 0.0}, min_side=4),
}
