"""Maps of any model that predicts: the probability of the class drops where pixels matter."""

import numpy as np

from trainables.datasets.arrays import Images
from trainables.explanations.explainable import ExplainableModel, Maps, Numbers

SQUARES = 11
"""The number of positions of the covering square along a side of the image."""
SQUARE_SHARE = 0.2
"""The side of the square as a share of the image's side: neighbouring squares overlap by half."""


def occlusion(model: ExplainableModel, images: Images, classes: Numbers) -> Maps:
    """Compute the mean drop of the class's probability over the squares that cover a pixel.

    The squares have the mean colour of the training images (Zeiler and Fergus 2014, section 4.2).
    """
    height, width = images.shape[1:3]
    squares = [(rows, columns) for rows in _intervals(height) for columns in _intervals(width)]
    maps, covers = np.zeros(images.shape[:3]), np.zeros((height, width))
    before = model.predict(images)[np.arange(len(images)), classes]
    for rows, columns in squares:
        covers[rows, columns] += 1
    for number, image in enumerate(images):
        covered = np.repeat(image[None], len(squares), axis=0)
        for place, (rows, columns) in enumerate(squares):
            covered[place, rows, columns] = model.fill
        drops = before[number] - model.predict(covered)[:, classes[number]]
        for drop, (rows, columns) in zip(drops, squares, strict=True):
            maps[number, rows, columns] += drop
    return maps / covers


def _intervals(side: int) -> list[slice]:
    """Return intervals that cover a side; those at the ends are cut off."""
    length = max(1, round(SQUARE_SHARE * side))
    centres = np.unique(np.linspace(0, side - 1, SQUARES).round().astype(int))
    starts = [int(centre) - (length - 1) // 2 for centre in centres]
    return [slice(max(0, start), min(side, start + length)) for start in starts]
