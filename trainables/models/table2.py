"""The paper's Table II: two 3x3 convolutions with pooling, then a dense layer of 128 units.

For images of 3 x 224 x 224 and 10 classes the layers have 896, 18,496, 25,690,240 and 1,290
parameters. (The paper of Nimma and Uddagiri prints 25,689,600 for the third; 200,704 x 128 weights
and 128 biases are 25,690,240.) For other image sizes the dense layer has another number of inputs.

Here and in the other networks, pooling comes before ReLU. The result is the same, because ReLU is
monotonic, and it then processes a quarter of the values.
"""

from torch import nn


def build(image: tuple[int, int, int], classes: int, *, width: int, dropout: float) -> nn.Module:
    """Build the network with `width` and 2 `width` filters in its convolutions."""
    channels, height, side = image
    features = 2 * width * (height // 4) * (side // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(-3),
        nn.Linear(features, 128), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(128, classes),
    )  # fmt: skip
