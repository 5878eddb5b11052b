"""Pairs of images that show the same picture, with the part, class and file of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.targets import Labels, Targets
from trainables.errors import printable
from trainables.inspection.copies import Copies, Rows

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"


@dataclass(frozen=True)
class Image:
    """One image of a data set."""

    part: str
    row: int
    """The image's index in the part before copies were removed, from 0."""
    name: str
    """The image's file, relative to the data set's folder; empty if it has no file of its own."""
    label: str
    """The image's class; empty if the targets are not classes."""


@dataclass(frozen=True)
class Match:
    """An image, and an earlier one that shows the same picture."""

    kind: str
    """`exact`: equal in every pixel; `near`: nearly equal; `mirrored`: nearly its mirror image."""
    image: Image
    same_as: Image
    removed: bool = False
    """True if `image` was removed, as a copy or since an equal image has another class."""

    @property
    def across(self) -> bool:
        """True if the images are in different parts."""
        return self.image.part != self.same_as.part

    @property
    def disagrees(self) -> bool:
        """True if the classes differ; False for mirror images, which may mean something else."""
        return self.kind != MIRRORED and self.image.label != self.same_as.label


def parts_of(dataset: Dataset) -> dict[str, Part]:
    """Return the parts of a data set by name; with folds there is no validation set."""
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    if dataset.folds is not None:
        del parts["val"]
    return {name: part for name, part in parts.items() if part is not None}


def counts_near_copies(targets: Targets) -> bool:
    """True if nearly equal images, and not only equal ones, may be copies."""
    return targets.are_classes or targets.copies_follow_images


def strata_of_copies(parts: Iterable[Part], targets: Targets) -> Labels:
    """Return the class of each image, int64 (images,); 0 if the targets are not classes.

    Nearly equal images are copies only within a class.
    """
    return np.concatenate(
        [
            targets.strata(part.targets) if targets.are_classes else np.zeros(len(part), np.int64)
            for part in parts
        ]
    )


@dataclass(frozen=True)
class Places:
    """The parts and rows of images, which are numbered across all parts."""

    parts: Mapping[str, Part]
    part: NDArray[np.int64]
    """The index of each image's part in `parts`, (images,)."""
    row: Rows
    """The index of each image in its part, (images,)."""
    strata: Labels
    """The class of each image, (images,), or 0 if the targets are not classes."""
    classes: tuple[str, ...]
    """The classes' names; empty if the targets are not classes."""
    has_near_copies: bool
    """True if nearly equal images of one stratum are copies (`counts_near_copies`)."""

    @classmethod
    def of(cls, dataset: Dataset, targets: Targets) -> "Places":
        """Number the images of a data set."""
        parts = parts_of(dataset)
        sizes = [len(part) for part in parts.values()]
        return cls(
            parts,
            np.repeat(np.arange(len(sizes)), sizes),
            np.concatenate([np.arange(size) for size in sizes]),
            strata_of_copies(parts.values(), targets),
            dataset.classes if targets.are_classes else (),
            counts_near_copies(targets),
        )

    def image(self, number: int) -> Image:
        """Return the part, row, file and class of the image with this number."""
        title, row = list(self.parts)[self.part[number]], int(self.row[number])
        label = self.classes[self.strata[number]] if self.classes else ""
        return Image(title, row, printable(self.file(number)), label)

    def file(self, number: int) -> str:
        """Return the path of an image in the data set's folder; empty if it has no file."""
        part = list(self.parts.values())[self.part[number]]
        return part.names[self.row[number]] if part.names is not None else ""


@dataclass(frozen=True)
class Pairs:
    """Images, each with another one that shows the same picture; all arrays are (pairs,)."""

    image: Rows
    same_as: Rows
    """The number of the other image, which is earlier."""
    kind: NDArray[np.str_]
    """`exact`, `near` or `mirrored` (`Match.kind`)."""

    def __len__(self) -> int:
        return len(self.image)


def pairs_of(copies: Copies, places: Places) -> Pairs:
    """Pair each image with an earlier one that shows the same picture, if there is one.

    If there are several, one in an earlier part than the image's is preferred. Otherwise, equal
    images come first, then nearly equal ones of the same class, then other nearly equal ones, then
    mirror images.
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
        # A pair across parts is a leak; a less certain kind of copy must not replace it.
        is_better = (part[same] < part[best]) & (part[best] >= places.part)
        best, kind = np.where(is_better, same, best), np.where(is_better, name, kind)
    images = np.flatnonzero(best != nobody)
    return Pairs(images, best[images], kind[images])


def _first_of(pairs: Rows, count: int) -> Rows:
    """Find for each image the first of the earlier images that it is paired with, (count,).

    The earlier image is the first of a pair. The result is `count` if there is no such pair.
    """
    first = np.full(count, count)
    np.minimum.at(first, pairs[:, 1], pairs[:, 0])
    return first
