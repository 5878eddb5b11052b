"""The data of a search without leaks: no picture is in two of its parts.

Copies of a picture that is trained on are removed from the validation and the test part, and copies
of what is validated on from the test part. Nearly equal images are removed if they are of one
class: where classes differ in a detail, two images may be nearly equal and no copies. Mirror images
are left, since mirrored a picture may mean something else.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.datasets import DATASETS
from trainables.catalog.tasks import TASKS
from trainables.config import DROP, DataConfig
from trainables.datasets.arrays import TITLES, Dataset, Part
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.inspection.copies import Copies
from trainables.inspection.matches import EXACT, NEAR, Pairs, Places, pairs_of, parts_of
from trainables.inspection.remembered import copies_in


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
    dataset = load(config, download=download)
    return look(dataset, config).dataset if removes(config) else dataset


def removes(config: DataConfig) -> bool:
    """Return whether leaks are removed: never from published data, whose parts everybody knows."""
    return config.leaks == DROP and DATASETS[config.name].from_folder


def look(dataset: Dataset, config: DataConfig) -> Looked:
    """Look for copies, and remove leaks unless the config keeps them.

    Raises:
        DataError: a part holds nothing but copies, or what is left cannot be used.
    """
    targets = TASKS[config.task].load_targets()
    places = Places.of(dataset, targets)
    copies = copies_in(dataset, config)
    pairs = pairs_of(copies, places)
    removed = np.zeros(len(pairs), bool)
    if removes(config):
        removed = _leaks(pairs, places, in_folds=dataset.folds is not None)
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
    strata = dataset.strata
    return replace(
        dataset,
        train=kept["train"],
        val=kept["train" if dataset.folds is not None else "val"],
        test=kept.get("test"),
        strata=None if strata is None else strata[~gone[places.part == 0]],
        fingerprint=_changed(dataset.fingerprint, images),
    )


def _changed(fingerprint: str, images: NDArray[np.int64]) -> str:
    """Return the fingerprint of the data without these images."""
    return hashlib.sha256(fingerprint.encode() + images.tobytes()).hexdigest()[:16]
