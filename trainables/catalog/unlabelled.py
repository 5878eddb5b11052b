"""The number of images without labels that a `pseudo_*` model trains on."""

SHARE, MOST = 0.5, 4000
"""The share of the images without labels that are used, and the maximum number of images.

The classes of the others are less certain.
"""


def number_used(count: int) -> int:
    """Return the number of images that are used, of `count` images without labels."""
    return min(MOST, max(1, round(SHARE * count)))
