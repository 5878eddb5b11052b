"""Maps from the gradients of networks, computed by captum: Grad-CAM and integrated gradients."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import Tensor, nn
from torch.nn import functional

from trainables.datasets.arrays import Images
from trainables.explanations.explainable import ExplainableModel, Maps, Numbers
from trainables.explanations.networks import Logits
from trainables.tasks.pixels import shared_tensor

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
