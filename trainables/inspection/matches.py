"""The images that show the same picture as an earlier one, by part, class and name."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.targets import ClassNumbers, Labels, Targets
from trainables.errors import printable
from trainables.inspection.copies import Copies, Rows

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"


@dataclass(frozen=True)
class Image:
    """One image of a data set."""

    part: str
    row: int
    """Its number in the part, from 0, before copies were removed."""
    name: str
    """Its file, below the data's folder; empty where it is from no file of its own."""
    label: str
    """Its class; empty where the targets are no classes."""


@dataclass(frozen=True)
class Match:
    """An image, and an earlier one that shows the same picture."""

    kind: str
    """`exact`: equal in every pixel; `near`: nearly; `mirrored`: nearly its mirror image."""
    image: Image
    same_as: Image
    removed: bool = False
    """True if the image was left out because of it."""

    @property
    def across(self) -> bool:
        """True if the images are in two parts."""
        return self.image.part != self.same_as.part

    @property
    def disagrees(self) -> bool:
        """True if one picture has two classes; a mirror image may well mean something else."""
        return self.kind != MIRRORED and self.image.label != self.same_as.label


def parts_of(dataset: Dataset) -> dict[str, Part]:
    """Return the parts by name; with folds the validation part is the training part."""
    found = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    if dataset.folds is not None:
        del found["val"]
    return {name: part for name, part in found.items() if part is not None}


@dataclass(frozen=True)
class Places:
    """The parts and rows of images that are counted through all parts."""

    parts: Mapping[str, Part]
    part: NDArray[np.int64]
    """The number of each image's part."""
    row: Rows
    strata: Labels
    """The class of each image, or 0 where the targets are no classes."""
    classes: tuple[str, ...]
    """The classes' names; none where the targets are no classes."""

    @classmethod
    def of(cls, dataset: Dataset, targets: Targets) -> "Places":
        """Count the images of a data set through."""
        parts = parts_of(dataset)
        sizes = [len(part) for part in parts.values()]
        return cls(
            parts,
            np.repeat(np.arange(len(sizes)), sizes),
            np.concatenate([np.arange(size) for size in sizes]),
            np.concatenate([targets.strata(part.targets) for part in parts.values()]),
            dataset.classes if isinstance(targets, ClassNumbers) else (),
        )

    def image(self, number: int) -> Image:
        """Return the facts of an image."""
        title, part = list(self.parts.items())[self.part[number]]
        row = int(self.row[number])
        name = part.names[row] if part.names is not None else ""
        label = self.classes[self.strata[number]] if self.classes else ""
        return Image(title, row, printable(name), label)


@dataclass(frozen=True)
class Pairs:
    """For some images, counted through, the one that each shows the picture of."""

    image: Rows
    same_as: Rows
    kind: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.image)


def pairs_of(copies: Copies, places: Places) -> Pairs:
    """Return each image that shows the picture of an earlier one, with that one.

    Of several, it is one in an earlier part if there is any, and an equal one before others.
    """
    count = len(copies.original)
    nobody = count
    part = np.append(places.part, len(places.parts))
    best, kind = np.full(count, nobody), np.full(count, "", dtype="U8")
    is_copy = copies.original != np.arange(count)
    stratum = np.append(places.strata, -1)
    own = copies.near[stratum[copies.near[:, 0]] == stratum[copies.near[:, 1]]]
    for name, same in (
        (EXACT, np.where(is_copy, copies.original, nobody)),
        (NEAR, _first_of(own, count)[copies.original]),
        (NEAR, _first_of(copies.near, count)[copies.original]),
        (MIRRORED, _first_of(copies.mirrored, count)[copies.original]),
    ):
        # One in an earlier part is the leak: what is less sure does not take its place.
        is_better = (part[same] < part[best]) & (part[best] >= places.part)
        best, kind = np.where(is_better, same, best), np.where(is_better, name, kind)
    images = np.flatnonzero(best != nobody)
    return Pairs(images, best[images], kind[images])


def _first_of(pairs: Rows, count: int) -> Rows:
    """Return for each image the first with which it is in a pair as the second; else `count`."""
    first = np.full(count, count)
    np.minimum.at(first, pairs[:, 1], pairs[:, 0])
    return first
