"""Metrics over the batches of an epoch, summed on the device and read once at its end."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": lambda logits, labels: functional.cross_entropy(logits, labels, reduction="sum"),
    "accuracy": lambda logits, labels: (logits.argmax(dim=1) == labels).sum().to(logits.dtype),
}
"""By name, functions from logits (batch, classes) and labels (batch,) to the sum over the batch."""


class MetricAverage:
    """Running sums of named metrics, and the number of images they came from."""

    def __init__(self, *names: str, device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        values = [METRICS[name](logits.float(), labels) for name in self.names]
        self.add_sums(torch.stack(values), len(labels))

    def add_sums(self, sums: Tensor, images: int) -> None:
        """Add metrics that are summed over `images` already: one value for each name."""
        self.sums[:-1] += sums.detach()
        self.sums[-1] += images

    def means(self, prefix: str) -> dict[str, float]:
        """Return each metric's mean over all images added so far, as `prefix/name`."""
        *sums, images = self.sums.tolist()
        return {
            f"{prefix}/{name}": value / max(images, 1)
            for name, value in zip(self.names, sums, strict=True)
        }
