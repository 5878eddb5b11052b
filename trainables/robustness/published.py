"""The published parameters of the fifteen corruptions, for images of any size.

They are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (2019): of ImageNet-C for images of 224 x 224 pixels
(`create_c/make_imagenet_c.py` in the authors' repository), and of CIFAR-10-C for images of 32 x 32
(`create_c/make_cifar_c.py` there).
"""

from dataclasses import dataclass

SMALL_SIDE, LARGE_SIDE = 32, 224
"""The side of the images of CIFAR-10-C and of ImageNet-C, in pixels."""
SEVERITIES = (1, 2, 3, 4, 5)
Row = tuple[float, ...]
Levels = tuple[Row, ...]
"""The parameters of each of the `SEVERITIES`."""


@dataclass(frozen=True)
class PublishedParameters:
    """The parameters of a corruption at both published sizes."""

    small: Levels
    """The parameters of CIFAR-10-C."""
    large: Levels
    """The parameters of ImageNet-C."""
    lengths: tuple[int, ...] = ()
    """The positions of the parameters that are lengths in pixels."""
    shrinks: bool = False
    """True if lengths also shrink for images below 32 pixels.

    Other lengths are about a pixel at 32 pixels already, so that less would change nothing.
    """


def _levels(*values: float) -> Levels:
    return tuple((value,) for value in values)


PUBLISHED = {
    # Standard deviation.
    "gaussian_noise": PublishedParameters(
        _levels(0.04, 0.06, 0.08, 0.09, 0.10), _levels(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    # Photons of a white pixel.
    "shot_noise": PublishedParameters(_levels(500, 250, 100, 75, 50), _levels(60, 25, 12, 5, 3)),
    # Share of the values that become black or white.
    "impulse_noise": PublishedParameters(
        _levels(0.01, 0.02, 0.03, 0.05, 0.07), _levels(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    # Radius of the disk, standard deviation of its smoothing.
    "defocus_blur": PublishedParameters(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        lengths=(0,),
    ),
    # Standard deviation of the blur, largest move of a pixel, number of passes.
    "glass_blur": PublishedParameters(
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        lengths=(0, 1),
    ),
    # Radius and standard deviation of the blur along a line.
    "motion_blur": PublishedParameters(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        lengths=(0, 1),
    ),
    # Exclusive end of the zoom factors, their step; they begin with 1.
    "zoom_blur": PublishedParameters(
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # Mean and standard deviation of the flakes' brightness, their zoom, the threshold of what is
    # visible, radius and standard deviation of their blur, share of the image that is not whitened.
    "snow": PublishedParameters(
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        lengths=(2, 4, 5),
    ),
    # Weight of the image, weight of the frost.
    "frost": PublishedParameters(
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # Weight of the fog, decay of its roughness.
    "fog": PublishedParameters(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # Added to the value (HSV).
    "brightness": PublishedParameters(
        _levels(0.05, 0.1, 0.15, 0.2, 0.3), _levels(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    # Factor of the distance from the mean.
    "contrast": PublishedParameters(
        _levels(0.75, 0.5, 0.4, 0.3, 0.15), _levels(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    # Amplitude and smoothness of the distortion, largest move of the corners.
    "elastic_transform": PublishedParameters(
        tuple(
            tuple(32 * share for share in row)
            for row in (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            )
        ),
        # 244 is the published number, although the images have 224 pixels.
        tuple(
            tuple(244 * share for share in row)
            for row in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
        lengths=(0, 1, 2),
        shrinks=True,
    ),
    # Remaining share of the side.
    "pixelate": PublishedParameters(
        _levels(0.95, 0.9, 0.85, 0.75, 0.65), _levels(0.6, 0.5, 0.4, 0.3, 0.25)
    ),
    # JPEG quality.
    "jpeg_compression": PublishedParameters(
        _levels(80, 65, 58, 50, 40), _levels(25, 18, 15, 10, 7)
    ),
}
"""The fifteen corruptions, in the order of the paper."""


def parameters_of(name: str, severity: int, side: int) -> Row:
    """Return the parameters of a corruption for images whose shorter side has `side` pixels.

    At 32 and at 224 pixels they are the published ones, and in between they are interpolated
    linearly in the side, since most of them are lengths. Above 224 pixels, lengths grow with the
    side; below 32 pixels, they shrink with it only if the corruption `shrinks`. All other
    parameters stay at the nearest published ones.

    Raises:
        KeyError: there is no such corruption.
        ValueError: the severity is not 1, 2, 3, 4 or 5.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"the severity must be 1, 2, 3, 4 or 5 (got {severity})")
    published = PUBLISHED[name]
    share = min(1.0, max(0.0, (side - SMALL_SIDE) / (LARGE_SIDE - SMALL_SIDE)))
    growth = max(1.0, side / LARGE_SIDE)
    if published.shrinks:
        growth *= min(1.0, side / SMALL_SIDE)
    pairs = zip(published.small[severity - 1], published.large[severity - 1], strict=True)
    return tuple(
        ((1 - share) * small + share * large) * (growth if place in published.lengths else 1)
        for place, (small, large) in enumerate(pairs)
    )
