"""Statistics of images by which another light, focus, contrast or noise shows, without a network.

They are of an image as the network gets it: brightness and contrast by channel, the spread of its
values, what its edges and fine detail amount to at up to three scales, and a thumbnail of 4 x 4.
"""

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Features = NDArray[np.float32]
Values = NDArray[np.float32]

VERSION = 1
"""Becomes another whenever the features of an image do."""
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
SCALES, SMALLEST = 3, 4
"""The most scales of an image, each half the one before, and the side in pixels below which there
is none.
"""
THUMBNAIL = 4
FAINT = 1e-3
"""Added to what is near 0 before its logarithm is taken; a quarter of one step of 255."""
TITLES = ("brightness", "contrast", "colour", "fine detail")
"""The names by which people are shown the features (`shown`)."""
CHUNK = 4_000_000
"""The values of images that are worked on at once."""


def features_of(images: Images) -> Features:
    """Return the features of images of one size, (count, features).

    Args:
        images: uint8 (count, height, width, channels), of 1 or 3 channels.
    """
    size = max(1, CHUNK // max(1, int(np.prod(images.shape[1:]))))
    chunks = [_features(images[first : first + size]) for first in range(0, len(images), size)]
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def shown(features: Features, channels: int) -> dict[str, Values]:
    """Return what people are shown of features, by its title: a value for each image."""
    first = 2 * channels
    columns = (
        features[:, :channels].mean(axis=1),
        features[:, channels:first].mean(axis=1),
        features[:, first + len(QUANTILES)],
        features[:, first + len(QUANTILES) + 3],
    )
    made = dict(zip(TITLES, columns, strict=True))
    return made if channels > 1 else {key: made[key] for key in TITLES if key != "colour"}


def _features(images: Images) -> Features:
    values = images.astype(np.float32) / 255
    luma = values.mean(axis=3)
    columns = [values.mean(axis=(1, 2)), values.std(axis=(1, 2))]
    columns.append(np.quantile(luma, QUANTILES, axis=(1, 2)).T)
    columns.append((values.max(axis=3) - values.min(axis=3)).mean(axis=(1, 2))[:, None])
    scaled = luma
    for _ in range(SCALES):
        if min(scaled.shape[1:]) < SMALLEST:
            break
        columns.append(_detail(scaled))
        scaled = _halved(scaled)
    columns.append(_thumbnail(luma))
    return np.concatenate(columns, axis=1).astype(np.float32)


def _detail(luma: Values) -> Values:
    """Return the logarithms of how steep images are, across and down, and of how rough."""
    across, down = np.diff(luma, axis=2), np.diff(luma, axis=1)
    # A slope is no roughness: what is left of it after both differences is noise and fine detail.
    both = np.diff(across, axis=1)
    parts = [np.abs(part).mean(axis=(1, 2)) for part in (across, down, both)]
    parts.append(np.median(np.abs(both), axis=(1, 2)))
    return np.log(np.stack(parts, axis=1) + FAINT)


def _halved(luma: Values) -> Values:
    height, width = (side // 2 * 2 for side in luma.shape[1:])
    even = luma[:, :height, :width]
    halved: Values = even.reshape(len(luma), height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return halved


def _thumbnail(luma: Values) -> Values:
    """Return the mean brightness of the fields of a grid, (count, 16)."""
    rows, columns = (
        np.array_split(np.arange(side), min(side, THUMBNAIL)) for side in luma.shape[1:]
    )
    fields = [
        luma[:, row[0] : row[-1] + 1, column[0] : column[-1] + 1].mean(axis=(1, 2))
        for row in rows
        for column in columns
    ]
    return np.stack(fields, axis=1)
