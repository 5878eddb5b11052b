"""The network that is searched in the paper's Table III (Nimma and Uddagiri).

It has n layers: n - 2 convolutions, whose filters all have the same size, and 2 dense layers. The
paper does not define "number of layers"; we count layers with weights. Networks of up to 5 layers
are plain, like that of Table II. Deeper ones have the paper's "enhanced components": batch
normalisation after each convolution, and a residual connection over each pair of convolutions of
equal width. The convolutions are spread over up to three resolutions, most of them at the lowest,
where they are cheap.
"""

import torch
from torch import Tensor, nn

PLAIN_LAYERS = 5
STAGES = 3
HIDDEN = 64


def build(
    image: tuple[int, int, int],
    classes: int,
    *,
    layers: int,
    filter_size: int,
    width: int,
    dropout: float,
) -> nn.Module:
    """Build the network, with `width` filters in the first stage and twice that in the others.

    `layers` includes the two dense layers. Both are preceded by `dropout`.
    """
    channels, height, side = image
    enhanced = layers > PLAIN_LAYERS
    stages: list[nn.Sequential] = []
    for stage, convolutions in enumerate(spread(layers - 2, min(height, side))):
        filters = width if stage == 0 else 2 * width
        stages.append(_stage(channels, filters, convolutions, filter_size, enhanced=enhanced))
        channels = filters
        if min(height, side) >= 2:
            stages.append(nn.Sequential(nn.MaxPool2d(2), nn.ReLU()))
            height, side = height // 2, side // 2
        else:
            stages[-1].append(nn.ReLU())
    head = [
        nn.Flatten(-3),
        nn.Dropout(dropout),
        nn.Linear(channels * height * side, HIDDEN),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, classes),
    ]
    return nn.Sequential(*stages, *head)


def spread(convolutions: int, side: int) -> list[int]:
    """Return the number of convolutions in each stage.

    The first stage has one, the second a quarter of the others (at least one), and the third the
    remaining ones. Images below 16 pixels have at most two stages, and below 8 pixels one.
    """
    stages = max(1, min(STAGES, convolutions, side.bit_length() - 2))
    rest = convolutions - 1
    return {1: [convolutions], 2: [1, rest], 3: [1, max(1, rest // 4), rest - max(1, rest // 4)]}[
        stages
    ]


def _stage(
    channels: int, filters: int, convolutions: int, filter_size: int, *, enhanced: bool
) -> nn.Sequential:
    """Build the convolutions at one resolution, without the ReLU after the last one.

    Single convolutions come first, followed (if enhanced) by residual pairs of equal width.
    """
    parts: list[nn.Module] = []
    while convolutions:
        if enhanced and channels == filters and convolutions >= 2:
            parts.append(ResidualPair(filters, filter_size, activate=convolutions > 2))
            convolutions -= 2
        else:
            parts += _convolution(channels, filters, filter_size, normalised=enhanced)
            parts += [nn.ReLU()] if convolutions > 1 else []
            convolutions -= 1
        channels = filters
    return nn.Sequential(*parts)


def _convolution(
    channels: int, filters: int, filter_size: int, *, normalised: bool
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        channels, filters, filter_size, padding=filter_size // 2, bias=not normalised
    )
    return [convolution, nn.BatchNorm2d(filters)] if normalised else [convolution]


class ResidualPair(nn.Module):
    """Two normalised convolutions whose output is added to their input, then ReLU.

    See He et al. 2015, figure 2. Without `activate`, the caller adds the ReLU. The scale of the
    second normalisation is initialised to zero, so that a new pair is the identity, and depth does
    not slow down the start of the training (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, filters: int, filter_size: int, *, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        first = _convolution(filters, filters, filter_size, normalised=True)
        convolution, normalisation = _convolution(filters, filters, filter_size, normalised=True)
        nn.init.zeros_(normalisation.get_parameter("weight"))
        self.pair = nn.Sequential(*first, nn.ReLU(), convolution, normalisation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, filters, height, width) to the same shape."""
        joined = x + self.pair(x)
        return torch.relu(joined) if self.activate else joined
