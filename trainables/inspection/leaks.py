"""Loading of a data set without leaks, so that no picture is in two of its parts.

Parts and folds are drawn such that all copies of a picture are in the same one. If a data set has
its own parts, copies of training images are removed from the validation and the test set, and
copies of validation images from the test set. Equal test images with different classes are removed
too, because at least one of these classes is wrong. Nearly equal images count as copies only if
they have the same class: if classes differ only in a detail, two images may be nearly equal without
being copies. Where each pixel has a class, nearly equal images always count. Mirror images do not
count, because a mirrored picture may mean something else.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.datasets import DATASETS
from trainables.config import CLEAN, KEEP, TOGETHER, DataConfig
from trainables.datasets.arrays import TITLES, Dataset, Decoded, Part, derive_fingerprint
from trainables.datasets.load import divide, load, read
from trainables.datasets.targets import Labels
from trainables.errors import DataError
from trainables.inspection.copies import Copies
from trainables.inspection.matches import (
    EXACT,
    NEAR,
    Pairs,
    Places,
    counts_near_copies,
    pairs_of,
    parts_of,
    strata_of_copies,
)
from trainables.inspection.remembered import copies_before, copies_in
from trainables.progress import step
from trainables.tasks import TASKS


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
    if not should_draw_together(config, whole.decoded):
        return inspect_data(divide(whole, config)[0], config)
    with step("looking for copies of images"):
        copies = copies_before(whole.decoded)
    dataset, numbers = divide(whole, config, groups_of(copies, whole.decoded, config))
    return inspect_data(dataset, config, copies.among(numbers))


def should_remove(config: DataConfig) -> bool:
    """True if leaks are to be removed.

    Only folders of images are changed: published data sets keep their well-known parts.
    """
    return config.leaks != KEEP and DATASETS[config.name].from_folder


def should_draw_together(config: DataConfig, decoded: Decoded) -> bool:
    """True if parts or folds are drawn, and copies of a picture must stay together."""
    is_drawn = decoded.val is None or decoded.test is None or config.folds is not None
    are_together = config.leaks in (CLEAN, TOGETHER)
    return are_together and is_drawn and DATASETS[config.name].from_folder


def groups_of(copies: Copies, decoded: Decoded, config: DataConfig) -> Labels:
    """Return the group of each image, int64 (images,): connected components of the graph of copies.

    Its edges connect equal images, nearly equal ones that count as copies, and the images of each
    group of the data itself.
    """
    from scipy.sparse import coo_array  # imported here because importing scipy is slow
    from scipy.sparse.csgraph import connected_components

    targets = TASKS[config.task].load_targets()
    strata = strata_of_copies(decoded.parts.values(), targets)
    near = copies.near if counts_near_copies(targets) else copies.near[:0]
    near = near[strata[near[:, 0]] == strata[near[:, 1]]]
    count = len(strata)
    edges = [np.stack([copies.original, np.arange(count)], axis=1), near]
    if decoded.groups is not None:
        _, firsts, numbers = np.unique(decoded.groups, return_index=True, return_inverse=True)
        edges.append(np.stack([firsts[numbers], np.arange(count)], axis=1))
    ends = np.concatenate(edges).T
    joins = coo_array((np.ones(len(ends[0])), (ends[0], ends[1])), shape=(count, count))
    return np.asarray(connected_components(joins, directed=False)[1], np.int64)


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
            copies = copies_in(dataset, config)
    pairs = pairs_of(copies, places)
    removed, contradicting = np.zeros(len(pairs), bool), np.zeros(0, np.int64)
    if should_remove(config):
        removed = _leaks(pairs, places, in_folds=dataset.folds is not None)
        if dataset.groups is not None:
            removed &= ~_are_together(pairs, places, dataset.groups)
        if config.leaks == CLEAN:
            contradicting = np.setdiff1d(_contradictions(copies, places), pairs.image[removed])
    inspected = InspectedData(dataset, places, copies, pairs, removed, contradicting)
    if not len(inspected.removed_images):
        return inspected
    dataset = _without(dataset, places, inspected.removed_images)
    targets.check_split(dataset)
    return replace(inspected, dataset=dataset)


def _leaks(pairs: Pairs, places: Places, *, in_folds: bool) -> NDArray[np.bool_]:
    """Return the mask of the pairs whose image is a leak, (pairs,).

    With folds, every image validates a network that was trained on other folds, so that any copy
    within the training set is a leak. Of targets that are not classes, only some make nearly equal
    images leaks (`counts_near_copies`), as nearly equal images may have different targets.
    """
    part, strata = places.part, places.strata
    is_across = part[pairs.image] > part[pairs.same_as]
    is_of_one_class = strata[pairs.image] == strata[pairs.same_as]
    is_same = pairs.kind == EXACT
    if places.has_near_copies:
        is_same |= (pairs.kind == NEAR) & is_of_one_class
    is_leak: NDArray[np.bool_] = is_same & (is_across | (in_folds & (part[pairs.image] == 0)))
    return is_leak


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


def _are_together(pairs: Pairs, places: Places, groups: Labels) -> NDArray[np.bool_]:
    """Return the mask of the pairs within one group, and therefore one fold, (pairs,)."""
    of_group = np.append(groups, -np.arange(1, len(places.row) - len(groups) + 1))
    is_same_group: NDArray[np.bool_] = of_group[pairs.image] == of_group[pairs.same_as]
    return is_same_group


def _without(dataset: Dataset, places: Places, images: NDArray[np.int64]) -> Dataset:
    """Return the data set without these images, which are numbered across its parts.

    Raises:
        DataError: a part would be empty.
    """
    parts, is_removed = dict[str, Part](), np.isin(np.arange(len(places.row)), images)
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
