"""The methods that explain a prediction by a map of its image, and the models that each supports.

It does not import torch, so that an unsuitable method is refused before anything is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.catalog.models import MODELS
from trainables.errors import ConfigError, unknown
from trainables.tasks import TASKS

CAPABILITY = "explain"
"""The capability of a task (`TaskEntry.can`) whose predictions can be explained."""


@dataclass(frozen=True, kw_only=True)
class ExplanationMethod:
    """A method that computes how much each pixel of an image supports a class."""

    title: str
    """The method's name as shown to users."""
    meaning: str
    """A sentence that explains the map."""
    needs_network: bool = False
    """True if the method needs gradients, and therefore a network."""
    needs_feature_map: bool = False
    """True if the network must have a convolutional feature map near its outputs."""


METHODS = {
    "integrated_gradients": ExplanationMethod(
        title="integrated gradients",
        meaning="the contribution of each pixel to the score of the class, compared with an image "
        "of the mean colour",
        needs_network=True,
    ),
    "gradcam": ExplanationMethod(
        title="Grad-CAM",
        meaning="the places of the last feature map that raise the score of the class",
        needs_network=True,
        needs_feature_map=True,
    ),
    "occlusion": ExplanationMethod(
        title="occlusion",
        meaning="the drop in the probability of the class when a square of the image is covered",
    ),
}
"""All methods by name, the most suitable first.

Grad-CAM is second because of networks whose last feature map is flattened, not averaged: there its
maps are hardly better than random ones (`docs/benchmarks.md`).
"""


def supported_methods(model: str) -> list[str]:
    """Return the names of the methods that support a model of the catalog."""
    entry = MODELS[model]
    return [
        name
        for name, method in METHODS.items()
        if (entry.has_network or not method.needs_network)
        and (entry.has_feature_map or not method.needs_feature_map)
    ]


def choose_method(task: str, models: Sequence[str], method: str | None) -> str:
    """Return the method for a model: `method`, or by default the most suitable one.

    Args:
        task: the name of the task.
        models: the name of the model; for an ensemble, those of all members.
        method: the name of the method; None for the default.

    Raises:
        ConfigError: the task's predictions cannot be explained, there is no such method, or it does
            not support the model.
    """
    if CAPABILITY not in TASKS[task].can:
        allowed = ", ".join(name for name, entry in TASKS.items() if CAPABILITY in entry.can)
        raise ConfigError(
            f"predictions of {TASKS[task].title} cannot be explained; those of {allowed} can. "
            "Choose a search for one of these tasks."
        )
    if method is not None and method not in METHODS:
        raise ConfigError(unknown("method", method, METHODS))
    each = [supported_methods(model) for model in models]
    supported = [name for name in METHODS if all(name in names for names in each)]
    if method is not None and method not in supported:
        model = next(model for model in models if method not in supported_methods(model))
        reason = (
            "has no convolutional feature map near its outputs"
            if MODELS[model].has_network
            else "is a baseline without gradients"
        )
        raise ConfigError(
            f"--method {method} cannot be used for the model '{model}', which {reason}. Use "
            f"{' or '.join(supported)}."
        )
    return method or supported[0]
