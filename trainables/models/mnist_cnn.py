"""The paper's custom network for MNIST: two convolutions with pooling, two dense layers, dropout.

The paper (Nimma and Uddagiri) has a dropout rate of 0.5.
"""

from torch import nn


def build(image: tuple[int, int, int], classes: int, *, width: int, dropout: float) -> nn.Module:
    """Build two 5x5 convolutions of `width` and 2 `width` filters, and two dense layers.

    The hidden dense layer has 4 `width` units. The dropout rate is `dropout` after this layer, and
    half of that before it.
    """
    channels, height, side = image
    features = 2 * width * (height // 4) * (side // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(-3), nn.Dropout(dropout / 2),
        nn.Linear(features, 4 * width), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(4 * width, classes),
    )  # fmt: skip
