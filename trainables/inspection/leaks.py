"""The data of a search without leaks: no picture is in two of its parts.

Parts, and folds, are drawn so that copies are together in one of them. Where that cannot be,
copies of a picture that is trained on are removed from the validation and the test part, and copies
of what is validated on from the test part. Nearly equal images count as copies if they are of one
class: where classes differ in a detail, two images may be nearly equal and no copies. Mirror images
do not, since mirrored a picture may mean something else.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.datasets import DATASETS
from trainables.catalog.tasks import TASKS
from trainables.config import KEEP, TOGETHER, DataConfig
from trainables.datasets.arrays import TITLES, Dataset, Decoded, Part, derive_fingerprint
from trainables.datasets.load import divide, load, read
from trainables.datasets.targets import ClassNumbers, Labels
from trainables.errors import DataError
from trainables.inspection.copies import Copies
from trainables.inspection.matches import EXACT, NEAR, Pairs, Places, pairs_of, parts_of
from trainables.inspection.remembered import copies_before, copies_in


@dataclass(frozen=True)
class Looked:
    """A data set that was looked through for copies."""

    dataset: Dataset
    """The data set to search with."""
    places: Places
    """The images before any were removed."""
    copies: Copies
    pairs: Pairs
    removed: NDArray[np.bool_]
    """For each pair, whether its image was removed."""


def load_clean(config: DataConfig, *, download: bool = False) -> Dataset:
    """Load a data set and remove leaks, unless the config keeps them.

    Raises:
        DataError: images or labels that cannot be used, or a part that holds nothing but copies.
        Unavailable: files that are not there.
    """
    if removes(config):
        return load_looked(config, download=download).dataset
    return load(config, download=download)


def load_looked(config: DataConfig, *, download: bool = False) -> Looked:
    """Load a data set and look for copies, which make no leaks unless the config keeps them.

    Raises:
        DataError, Unavailable: as `load_clean`.
    """
    whole = read(config, download=download)
    if not draws_together(config, whole.decoded):
        return look(divide(whole, config)[0], config)
    copies = copies_before(whole.decoded)
    dataset, numbers = divide(whole, config, groups_of(copies, whole.decoded, config))
    return look(dataset, config, copies.among(numbers))


def removes(config: DataConfig) -> bool:
    """Return whether leaks are removed: never from published data, whose parts everybody knows."""
    return config.leaks != KEEP and DATASETS[config.name].from_folder


def draws_together(config: DataConfig, decoded: Decoded) -> bool:
    """Return whether copies are to be in one part, of the parts or folds that are drawn."""
    is_drawn = decoded.val is None or decoded.test is None or config.folds is not None
    return config.leaks == TOGETHER and is_drawn and DATASETS[config.name].from_folder


def groups_of(copies: Copies, decoded: Decoded, config: DataConfig) -> Labels:
    """Return the group of each image: with all its copies, their copies, and so on."""
    from scipy.sparse import coo_array  # takes a while to import
    from scipy.sparse.csgraph import connected_components

    targets = TASKS[config.task].load_targets()
    strata = np.concatenate([targets.strata(part.targets) for part in decoded.parts.values()])
    near = copies.near if isinstance(targets, ClassNumbers) else copies.near[:0]
    near = near[strata[near[:, 0]] == strata[near[:, 1]]]
    count = len(strata)
    ends = np.concatenate([np.stack([copies.original, np.arange(count)], axis=1), near]).T
    joins = coo_array((np.ones(len(ends[0])), (ends[0], ends[1])), shape=(count, count))
    return np.asarray(connected_components(joins, directed=False)[1], np.int64)


def look(dataset: Dataset, config: DataConfig, copies: Copies | None = None) -> Looked:
    """Look for copies, unless they are known, and remove leaks unless the config keeps them.

    Raises:
        DataError: a part holds nothing but copies, or what is left cannot be used.
    """
    targets = TASKS[config.task].load_targets()
    places = Places.of(dataset, targets)
    copies = copies_in(dataset, config) if copies is None else copies
    pairs = pairs_of(copies, places)
    removed = np.zeros(len(pairs), bool)
    if removes(config):
        removed = _leaks(pairs, places, in_folds=dataset.folds is not None)
        if dataset.groups is not None:
            removed &= ~_are_together(pairs, places, dataset.groups)
        if removed.any():
            dataset = _without(dataset, places, pairs.image[removed])
            targets.check_split(dataset)
    return Looked(dataset, places, copies, pairs, removed)


def _leaks(pairs: Pairs, places: Places, *, in_folds: bool) -> NDArray[np.bool_]:
    """Return for each pair whether its image must not stay.

    With folds, every image is validated on by a network that was trained on the others: no picture
    may be there twice. Where targets are no classes, nearly equal images may well have different
    ones: they stay.
    """
    part, strata = places.part, places.strata
    is_across = part[pairs.image] > part[pairs.same_as]
    is_of_one_class = strata[pairs.image] == strata[pairs.same_as]
    is_same = pairs.kind == EXACT
    if places.classes:
        is_same |= (pairs.kind == NEAR) & is_of_one_class
    found: NDArray[np.bool_] = is_same & (is_across | (in_folds & (part[pairs.image] == 0)))
    return found


def _are_together(pairs: Pairs, places: Places, groups: Labels) -> NDArray[np.bool_]:
    """Return for each pair whether its images are of one group of what is divided into folds."""
    of_group = np.append(groups, -np.arange(1, len(places.row) - len(groups) + 1))
    found: NDArray[np.bool_] = of_group[pairs.image] == of_group[pairs.same_as]
    return found


def _without(dataset: Dataset, places: Places, images: NDArray[np.int64]) -> Dataset:
    """Return the data set without these images, which are counted through its parts.

    Raises:
        DataError: nothing of a part would be left.
    """
    kept, gone = dict[str, Part](), np.isin(np.arange(len(places.row)), images)
    for number, (name, part) in enumerate(parts_of(dataset).items()):
        is_gone = gone[places.part == number]
        if is_gone.all():
            raise DataError(
                f"every image of the {TITLES[name]} part is a copy of one in an earlier part. "
                "Give parts whose images differ (train/, val/, test/), or keep the copies with "
                "--set data.leaks=keep."
            )
        kept[name] = part.take(np.flatnonzero(~is_gone)) if is_gone.any() else part
    strata, groups = dataset.strata, dataset.groups
    return replace(
        dataset,
        train=kept["train"],
        val=kept["train" if dataset.folds is not None else "val"],
        test=kept.get("test"),
        strata=None if strata is None else strata[~gone[places.part == 0]],
        groups=None if groups is None else groups[~gone[places.part == 0]],
        fingerprint=derive_fingerprint(dataset.fingerprint, images),
    )
