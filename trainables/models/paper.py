"""The paper's own networks for whole images (Nimma and Uddagiri, see `trainables.models`).

In all of them, pooling comes before ReLU. The result is the same, because ReLU is monotonic, and it
then processes a quarter of the values.
"""

import torch
from torch import Tensor, nn

HIDDEN = 128
"""The number of units of the hidden dense layer of Table II and of the multi-scale network."""
FILTER_SIZES = (3, 5, 7)
"""The filter sizes of the multi-scale network."""
PLAIN_LAYERS = 5
"""A `deep_cnn` with more layers has the paper's "enhanced components"."""
STAGES = 3
"""The largest number of resolutions of a `deep_cnn`."""
DEEP_HIDDEN = 64
"""The number of units of the hidden dense layer of a `deep_cnn`."""


def table2(image: tuple[int, int, int], classes: int, *, width: int, dropout: float) -> nn.Module:
    """Build Table II: 3x3 convolutions of `width` and 2 `width` filters, and a hidden dense layer.

    For images of 3 x 224 x 224 and 10 classes the layers have 896, 18,496, 25,690,240 and 1,290
    parameters. (The paper prints 25,689,600 for the third; 200,704 x 128 weights and 128 biases are
    25,690,240.) For other image sizes the dense layer has another number of inputs.
    """
    return nn.Sequential(
        *_pooled_convolutions(image[0], width, 3),
        *_dense(2 * width * _pooled_area(image), HIDDEN, classes, dropout),
    )


def mnist_cnn(
    image: tuple[int, int, int], classes: int, *, width: int, dropout: float
) -> nn.Module:
    """Build the network for MNIST: 5x5 convolutions of `width` and 2 `width` filters.

    The hidden dense layer has 4 `width` units. The dropout rate is `dropout` after this layer (0.5
    in the paper), and half of that before it.
    """
    return nn.Sequential(
        *_pooled_convolutions(image[0], width, 5),
        *_dense(2 * width * _pooled_area(image), 4 * width, classes, dropout, dropout / 2),
    )


def multi_scale(
    image: tuple[int, int, int], classes: int, *, width: int, dropout: float
) -> nn.Module:
    """Build the multi-scale network: two `MultiScale` layers, of about `width` and 2 `width`."""
    first = MultiScale(image[0], width)
    second = MultiScale(first.filters, 2 * width)
    pooling = [nn.Sequential(nn.MaxPool2d(2), nn.ReLU()) for _ in range(2)]
    dense = _dense(second.filters * _pooled_area(image), HIDDEN, classes, dropout, dropout)
    return nn.Sequential(first, pooling[0], second, pooling[1], *dense)


def deep_cnn(
    image: tuple[int, int, int],
    classes: int,
    *,
    layers: int,
    filter_size: int,
    width: int,
    dropout: float,
) -> nn.Module:
    """Build the network that is searched in Table III.

    It has n layers: n - 2 convolutions, whose filters all have the same size, and 2 dense layers.
    The paper does not define "number of layers"; we count layers with weights. Networks of up to 5
    layers are plain, like that of Table II. Deeper ones have batch normalisation after each
    convolution, and a residual connection over each pair of convolutions of equal width. The
    convolutions are spread over up to three resolutions, most of them at the lowest, where they are
    cheap.

    Args:
        image: (channels, height, width) of the images.
        classes: the number of classes.
        layers: the number of layers, including the two dense layers.
        filter_size: the side of all filters.
        width: the number of filters in the first stage; the others have twice as many.
        dropout: the dropout rate before each of the dense layers.
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
    head = _dense(channels * height * side, DEEP_HIDDEN, classes, dropout, dropout)
    return nn.Sequential(*stages, *head)


def spread(convolutions: int, side: int) -> list[int]:
    """Return the number of convolutions in each stage.

    The first stage has one, the second a quarter of the others (at least one), and the third the
    remaining ones. Images below 16 pixels have at most two stages, and below 8 pixels one.
    """
    stages = max(1, min(STAGES, convolutions, side.bit_length() - 2))
    rest = convolutions - 1
    second = rest if stages == 2 else max(1, rest // 4)
    return [convolutions] if stages == 1 else [1, second, rest - second][:stages]


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


class MultiScale(nn.Module):
    """Convolutions of each filter size on the same input, concatenated and normalised.

    Each filter size has an equal share of `width`, rounded down, but at least one filter; `filters`
    is their sum. There is no ReLU; the caller adds it.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        share = max(1, width // len(FILTER_SIZES))
        self.filters = share * len(FILTER_SIZES)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, share, size, padding=size // 2, bias=False) for size in FILTER_SIZES
        )
        self.normalise = nn.BatchNorm2d(self.filters)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, filters, height, width)."""
        return self.normalise(torch.cat([branch(x) for branch in self.branches], dim=-3))  # type: ignore[no-any-return]


def _pooled_convolutions(channels: int, width: int, size: int) -> list[nn.Module]:
    """Build two convolutions, of `width` and 2 `width` filters, each with pooling and ReLU."""
    return [
        layer
        for inputs, filters in ((channels, width), (width, 2 * width))
        for layer in (
            nn.Conv2d(inputs, filters, size, padding=size // 2),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
    ]


def _pooled_area(image: tuple[int, int, int]) -> int:
    """Return the number of pixels after pooling twice."""
    return (image[1] // 4) * (image[2] // 4)


def _dense(
    features: int, hidden: int, classes: int, dropout: float, first: float | None = None
) -> list[nn.Module]:
    """Build two dense layers with `dropout` between them and, if not None, `first` before them."""
    return [
        nn.Flatten(-3),
        *([] if first is None else [nn.Dropout(first)]),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
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
