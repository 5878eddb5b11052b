"""The paper's multi-scale network: 3x3, 5x5 and 7x7 filters on the same input.

Their outputs are concatenated along the channels. The paper is that of Nimma and Uddagiri.
"""

import torch
from torch import Tensor, nn

FILTER_SIZES = (3, 5, 7)
HIDDEN = 128


def build(image: tuple[int, int, int], classes: int, *, width: int, dropout: float) -> nn.Module:
    """Build two multi-scale layers of about `width` and 2 `width` filters, then two dense layers.

    Each multi-scale layer is followed by pooling and ReLU.
    """
    channels, height, side = image
    first, second = MultiScale(channels, width), MultiScale(_total_width(width), 2 * width)
    features = _total_width(2 * width) * (height // 4) * (side // 4)
    return nn.Sequential(
        first, pooling(), second, pooling(),
        nn.Flatten(-3), nn.Dropout(dropout),
        nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(HIDDEN, classes),
    )  # fmt: skip


def _each(width: int) -> int:
    return max(1, width // len(FILTER_SIZES))


def _total_width(width: int) -> int:
    return _each(width) * len(FILTER_SIZES)


def pooling() -> nn.Module:
    """Build 2 x 2 max pooling followed by ReLU."""
    return nn.Sequential(nn.MaxPool2d(2), nn.ReLU())


class MultiScale(nn.Module):
    """Convolutions of each filter size on the same input, concatenated and normalised.

    There is no ReLU; the caller adds it.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, _each(width), size, padding=size // 2, bias=False)
            for size in FILTER_SIZES
        )
        self.normalise = nn.BatchNorm2d(_total_width(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, about `width`, height, width).

        Each filter size has an equal share of `width`, rounded down, but at least one filter.
        """
        return self.normalise(torch.cat([branch(x) for branch in self.branches], dim=-3))  # type: ignore[no-any-return]
