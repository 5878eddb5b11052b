"""A folder of images with a shortcut: the colour of a mark that agrees with most of the classes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = ((255, 60, 60), (60, 255, 60))
NAMES = ("red", "green")


def write_marked_images(
    folder: Path,
    groups: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    agreement: float = 0.9,
    side: int = 4,
    seed: int = 0,
) -> None:
    """Write images of two classes with a mark in the upper left corner, and their groups.

    Args:
        folder: the new folder, with a folder for each class.
        groups: the new file with the columns `image` and `mark`.
        images: grey images, (images, height, width).
        labels: class numbers, 0 or 1, (images,).
        classes: the names of the two classes.
        agreement: the share of the images of each class whose mark has the colour of the class.
        side: the side of the mark, in pixels.
        seed: the seed that decides which images have the other colour.
    """
    generator = np.random.default_rng((seed, 1))  # not that of the split
    colours = labels.copy()
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        others = rows[: round((1 - agreement) * len(rows))]
        colours[others] = 1 - label
    with groups.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mark"])
        for name in classes:
            (folder / name).mkdir(parents=True)
        for number, (image, label, colour) in enumerate(zip(images, labels, colours, strict=True)):
            path = f"{classes[label]}/{number:05}.png"
            pixels = np.repeat(image[..., None], 3, axis=2)
            pixels[:side, :side] = COLOURS[colour]
            Image.fromarray(pixels).save(folder / path)
            writer.writerow([path, NAMES[colour]])
