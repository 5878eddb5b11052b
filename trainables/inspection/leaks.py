"""Loading of a data set without leaks, so that no picture is in two of its parts.

Parts and folds are drawn such that all copies of a picture are in the same one. If a data set has
its own parts, copies of training images are removed from the validation and the test set, and
copies of validation images from the test set. Equal test images with different classes are removed
too, because at least one of these classes is wrong. Nearly equal images count as copies only if
they have the same class: if classes differ only in a detail, two images may be nearly equal without
being copies. Where targets are not classes, nearly equal images always count. Mirror images do not
count, because a mirrored picture may mean something else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.datasets import DATASETS
from trainables.config import CLEAN, KEEP, TOGETHER, DataConfig
from trainables.datasets.arrays import TITLES, Dataset, Decoded, Part, derive_fingerprint
from trainables.datasets.load import divide, load, read
from trainables.datasets.targets import Labels, Targets
from trainables.errors import DataError, printable
from trainables.inspection.copies import Copies, Rows, load_copies
from trainables.progress import step
from trainables.tasks import TASKS

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"
DIVIDED_BY = ("train_limit", "val_limit", "val_fraction", "test_fraction", "split_seed", "folds")
"""The fields of the config that, together with the data's fingerprint, determine the parts."""


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


def parts_of(dataset: Dataset) -> dict[str, Part]:
    """Return the parts of a data set by name; with folds there is no validation set."""
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    if dataset.folds is not None:
        del parts["val"]
    return {name: part for name, part in parts.items() if part is not None}


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
    strata: Labels
    """The class of each image, (images,), or 0 if the targets are not classes."""
    classes: tuple[str, ...]
    """The classes' names; empty if the targets are not classes."""

    @classmethod
    def of(cls, dataset: Dataset, targets: Targets) -> "Places":
        """Number the images of a data set."""
        parts = parts_of(dataset)
        return cls(
            parts,
            np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()]),
            strata_of_copies(parts.values(), targets),
            dataset.classes if targets.are_classes else (),
        )

    def image(self, number: int) -> Image:
        """Return the part, row, file and class of the image with this number."""
        title, row = self.locate(number)
        label = self.classes[self.strata[number]] if self.classes else ""
        return Image(title, row, printable(self.file(number)), label)

    def file(self, number: int) -> str:
        """Return the path of an image in the data set's folder; empty if it has no file."""
        title, row = self.locate(number)
        names = self.parts[title].names
        return names[row] if names is not None else ""

    def locate(self, number: int) -> tuple[str, int]:
        """Return the name of the image's part, and the image's index in this part."""
        part = self.part[number]
        return list(self.parts)[part], int(number - np.searchsorted(self.part, part))


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


@dataclass(frozen=True)
class InspectedData:
    """A data set that was searched for copies, and the copies that were found."""

    dataset: Dataset
    """The data set without the removed images."""
    places: Places
    """The parts and rows of all images, before any were removed."""
    copies: Copies
    pairs: Pairs
    removed: NDArray[np.bool_]
    """True for each pair whose image was removed as a leak, (pairs,)."""
    contradicting: NDArray[np.int64]
    """The numbers of the images that were removed from the test set because an equal test image has
    another class, (images,)."""

    @property
    def removed_images(self) -> NDArray[np.int64]:
        """The numbers of all images that were removed, sorted, (images,)."""
        return np.union1d(self.pairs.image[self.removed], self.contradicting)

    @property
    def removed_of_one_class(self) -> NDArray[np.int64]:
        """The numbers of the images that were removed as copies with the same class, (images,)."""
        pairs, strata = self.pairs, self.places.strata
        is_agreed = self.removed & (strata[pairs.image] == strata[pairs.same_as])
        return np.unique(pairs.image[is_agreed])


def load_clean(config: DataConfig, *, download: bool = False) -> Dataset:
    """Load a data set and remove leaks, unless the config keeps them.

    Raises:
        DataError: images or labels cannot be used, or all images of a part are copies.
        Unavailable: files are missing.
    """
    if should_remove(config):
        return load_inspected(config, download=download).dataset
    return load(config, download=download)


def load_inspected(config: DataConfig, *, download: bool = False) -> InspectedData:
    """Load a data set, search it for copies, and remove leaks, unless the config keeps them.

    Raises:
        DataError, Unavailable: as for `load_clean`.
    """
    with step(f"reading the data set '{config.name}'"):
        whole = read(config, download=download)
    decoded = whole.decoded
    is_drawn = decoded.val is None or decoded.test is None or config.folds is not None
    if not (is_drawn and should_remove(config) and config.leaks in (CLEAN, TOGETHER)):
        return inspect_data(divide(whole, config)[0], config)
    with step("looking for copies of images"):
        copies = load_copies(decoded.parts.values(), decoded.fingerprint)
    dataset, numbers = divide(whole, config, groups_of(copies, decoded, config))
    return inspect_data(dataset, config, copies.among(numbers))


def should_remove(config: DataConfig) -> bool:
    """True if leaks are to be removed.

    Only folders of images are changed: published data sets keep their well-known parts.
    """
    return config.leaks != KEEP and DATASETS[config.name].from_folder


def groups_of(copies: Copies, decoded: Decoded, config: DataConfig) -> Labels:
    """Return the group of each image, int64 (images,): connected components of the graph of copies.

    Its edges connect equal images, nearly equal ones of one class, and the images of each group of
    the data itself.
    """
    strata = strata_of_copies(decoded.parts.values(), TASKS[config.task].load_targets())
    images = np.arange(len(strata))
    edges = [np.stack([copies.original, images], axis=1), _of_one_class(copies.near, strata)]
    if decoded.groups is not None:
        _, firsts, numbers = np.unique(decoded.groups, return_index=True, return_inverse=True)
        edges.append(np.stack([firsts[numbers], images], axis=1))
    return components(np.concatenate(edges), len(images))


def components(edges: Rows, count: int) -> Labels:
    """Return the connected component of each node, (count,), of the graph with these edges."""
    from scipy.sparse import coo_array  # imported here because importing scipy is slow
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _of_one_class(pairs: Rows, strata: Labels) -> Rows:
    within: Rows = pairs[strata[pairs[:, 0]] == strata[pairs[:, 1]]]
    return within


def inspect_data(
    dataset: Dataset, config: DataConfig, copies: Copies | None = None
) -> InspectedData:
    """Find copies, unless they are given, and remove leaks, unless the config keeps them.

    Raises:
        DataError: all images of a part are copies, or the remaining images cannot be used.
    """
    targets = TASKS[config.task].load_targets()
    places = Places.of(dataset, targets)
    if copies is None:
        with step("looking for copies of images"):
            division = (getattr(config, name) for name in DIVIDED_BY)
            copies = load_copies(places.parts.values(), dataset.fingerprint, *division)
    pairs = pairs_of(copies, places)
    removed, contradicting = np.zeros(len(pairs), bool), np.zeros(0, np.int64)
    if should_remove(config):
        removed = _leaks(pairs, places, dataset)
        if config.leaks == CLEAN:
            contradicting = np.setdiff1d(_contradictions(copies, places), pairs.image[removed])
    inspected = InspectedData(dataset, places, copies, pairs, removed, contradicting)
    if not len(inspected.removed_images):
        return inspected
    dataset = _without(dataset, places, inspected.removed_images)
    targets.check_split(dataset)
    return replace(inspected, dataset=dataset)


def _leaks(pairs: Pairs, places: Places, dataset: Dataset) -> NDArray[np.bool_]:
    """Return the mask of the pairs whose image is a leak, (pairs,).

    With folds, every image validates a network that was trained on other folds, so that any copy
    within the training set is a leak, unless both images are of one group and therefore one fold.
    """
    part, strata = places.part, places.strata
    is_leak = part[pairs.image] > part[pairs.same_as]
    if dataset.folds is not None:
        is_leak |= part[pairs.image] == 0
    is_of_one_class = strata[pairs.image] == strata[pairs.same_as]
    is_leak &= (pairs.kind == EXACT) | ((pairs.kind == NEAR) & is_of_one_class)
    if dataset.groups is not None:
        ungrouped = -np.arange(1, len(part) - len(dataset.groups) + 1)
        groups = np.concatenate([dataset.groups, ungrouped])
        is_leak &= groups[pairs.image] != groups[pairs.same_as]
    return np.asarray(is_leak)


def _contradictions(copies: Copies, places: Places) -> NDArray[np.int64]:
    """Return the numbers of the test images that equal another one with another class, sorted."""
    if "test" not in places.parts:
        return np.zeros(0, np.int64)
    images = np.flatnonzero(places.part == list(places.parts).index("test"))
    classes, originals = places.strata[images], copies.original[images]
    pairs = np.unique(np.stack([originals, classes], axis=1), axis=0)
    first, counts = np.unique(pairs[:, 0], return_counts=True)
    contradicting: NDArray[np.int64] = images[np.isin(originals, first[counts > 1])]
    return contradicting


def _without(dataset: Dataset, places: Places, images: NDArray[np.int64]) -> Dataset:
    """Return the data set without these images, which are numbered across its parts.

    Raises:
        DataError: a part would be empty.
    """
    parts, is_removed = dict[str, Part](), np.isin(np.arange(len(places.part)), images)
    for number, (name, part) in enumerate(parts_of(dataset).items()):
        is_removed_here = is_removed[places.part == number]
        if is_removed_here.all():
            raise DataError(
                f"every image of the {TITLES[name]} set is a copy of an image in another set, or "
                "of one with another class. "
                "Use different images in train/, val/ and test/, or keep the copies with "
                "--set data.leaks=keep."
            )
        parts[name] = part.take(np.flatnonzero(~is_removed_here)) if is_removed_here.any() else part
    strata, groups = dataset.strata, dataset.groups
    return replace(
        dataset,
        train=parts["train"],
        val=parts["train" if dataset.folds is not None else "val"],
        test=parts.get("test"),
        strata=None if strata is None else strata[~is_removed[places.part == 0]],
        groups=None if groups is None else groups[~is_removed[places.part == 0]],
        fingerprint=derive_fingerprint(dataset.fingerprint, images),
    )


def pairs_of(copies: Copies, places: Places) -> Pairs:
    """Pair each image with an earlier one that shows the same picture, if there is one.

    If there are several, one in an earlier part than the image's is preferred. Otherwise, equal
    images come first, then nearly equal ones of the same class, then other nearly equal ones, then
    mirror images.
    """
    count = nobody = len(copies.original)
    part = np.append(places.part, len(places.parts))
    best, kind = np.full(count, nobody), np.full(count, "", dtype="U8")
    is_copy = copies.original != np.arange(count)
    own = _of_one_class(copies.near, places.strata)
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
