"""Adversarial training: a network learns from images that were changed to make it err.

The attack is projected gradient descent on the loss that is minimised, from a random start, bounded
in every pixel (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks",
section 2.1). It takes `STEPS` steps of `STEP` times the budget. With a single step of 1.25 times
the budget (Wong et al. 2020, "Fast is better than free") networks may suddenly lose all their
robustness during the training, which no value of an epoch shows; two steps of half the budget avoid
this at 8/255 (Andriushchenko and Flammarion 2020, "Understanding and Improving Fast Adversarial
Training", section 5).

An attack differs from those of `trainables.robustness`, which measure a trained model: it attacks
scaled images, also those that are classified wrongly already, and its random numbers are those of
the training.
"""

from contextlib import nullcontext

import torch
from torch import nn

from trainables.tasks.base import Batch, Task
from trainables.tasks.pixels import Pixels

STEPS, STEP = 2, 0.5
"""The number of steps, and the size of a step as a share of the budget."""


class Adversary:
    """An attack on the images of a training."""

    def __init__(self, budget: float, pixels: Pixels) -> None:
        """Build an attack on scaled images.

        Args:
            budget: the largest change of a pixel, in 1/255 of its range.
            pixels: the training set, which defines the scaling of images.
        """
        self.limit = budget / 255 / pixels.deviation
        self.low, self.high = -pixels.mean / pixels.deviation, (1 - pixels.mean) / pixels.deviation

    def changed(self, task: Task, network: nn.Module, batch: Batch) -> Batch:
        """Return the batch with changed images.

        The network is attacked in evaluation mode, so that dropout and running statistics are not
        affected, and in single precision, because small gradients would be 0 in float16. Random
        numbers come from torch's generator of the device, like those of dropout.

        Args:
            task: a task of which each input is an image, as a tensor.
            network: the network, in training mode.
            batch: a batch for training, with scaled images (batch, channels, height, width).
        """
        images = batch.inputs
        low = torch.maximum(images - self.limit, self.low)
        high = torch.minimum(images + self.limit, self.high)
        noise = torch.empty_like(images).uniform_(-1, 1)
        attacked = (images + self.limit * noise).clamp(low, high)
        network.eval()
        for _ in range(STEPS):
            attacked.requires_grad_()
            loss = task.step(network, batch._replace(inputs=attacked), nullcontext()).train
            (gradient,) = torch.autograd.grad(loss, attacked)
            moved = attacked.detach() + STEP * self.limit * gradient.sign()
            attacked = moved.clamp(low, high)
        network.train()
        return batch._replace(inputs=attacked)
