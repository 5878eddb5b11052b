"""The facts about a data set, as plain values that are kept with a search.

What follows from them (what is too small, how sure a test can be) is computed here too; the words
are in `words`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainables.catalog.tasks import TASKS, WIDTH
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, LeftOut, Part
from trainables.datasets.images import header
from trainables.datasets.layout import kind_of
from trainables.datasets.targets import ClassNumbers, Targets
from trainables.inspection.leaks import Looked
from trainables.inspection.matches import MIRRORED, Image, Match, parts_of
from trainables.values import Json

MAX_MATCHES, MAX_SIZES, MAX_HEADERS = 25, 8, 2000
"""The most matches of a kind in two parts, sizes that are counted by themselves, and files whose
headers are read."""
MIN_CLASS = 10
"""A class of fewer training images is hardly learned."""
EXPECTED = 0.9
"""The share of right answers for which it is told how precise a part can measure it."""


@dataclass(frozen=True)
class Files:
    """The image files, before they were read."""

    formats: dict[str, int]
    """Their number by suffix, in lower case (`kind_of`)."""
    looked_at: int
    """The number whose headers were read, evenly spread: `sizes` and `modes` are of these."""
    sizes: dict[str, int]
    """Their number by size, such as `640 x 480` (width, height); the most frequent ones."""
    other_sizes: int
    """The number of further sizes."""
    modes: dict[str, int]
    """Their number by Pillow's mode."""


@dataclass(frozen=True)
class MatchCount:
    """The images of a part that show the picture of an earlier image, by kind."""

    kind: str
    part: str
    same_as: str
    """The earlier image's part."""
    images: int
    removed: int
    disagree: int
    """The number whose class is another than the earlier image's."""


@dataclass(frozen=True)
class DataReport:
    """The facts about the data set of a search."""

    name: str
    root: str
    task: str
    fingerprint: str
    classes: tuple[str, ...]
    """The classes' names; none where the targets are no classes."""
    images: dict[str, int]
    """The number of images by part: `train`, `val`, `test`; with folds `val` is missing."""
    counts: dict[str, tuple[int, ...]]
    """By part the number of images of each class; empty where the targets are no classes."""
    shape: tuple[int, ...]
    """(height, width, channels) of the arrays; of several sizes the largest of each."""
    folds: int | None = None
    is_ragged: bool = False
    value_range: tuple[float, float] | None = None
    """The values that became 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines of the loader on how the images were read and divided."""
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0
    files: Files | None = None
    """None where the images are no files."""
    matches: tuple[Match, ...] = ()
    """Images that show the picture of an earlier one, those in two parts first."""
    match_counts: tuple[MatchCount, ...] = ()
    together: bool = False
    """True if no fold divides copies of one picture that were not removed."""
    compared: str = ""
    """A clause on what was not looked for, and why; empty if all was (`Copies.limit`)."""

    def to_json(self) -> Json:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that `to_json` made; what a later version added is left out.

        Raises:
            KeyError, TypeError: it is none.
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known |= {
            "classes": tuple(values["classes"]),
            "counts": {part: tuple(counts) for part, counts in values["counts"].items()},
            "shape": tuple(values["shape"]),
            "value_range": tuple(values["value_range"]) if values["value_range"] else None,
            "remarks": tuple(values["remarks"]),
            "left_out": tuple(LeftOut(**one) for one in values["left_out"]),
            "files": Files(**values["files"]) if values["files"] else None,
            "matches": tuple(_match(one) for one in values["matches"]),
            "match_counts": tuple(MatchCount(**one) for one in values["match_counts"]),
        }
        return cls(**known)

    @property
    def removed(self) -> dict[str, int]:
        """The number of images that were removed as copies, by part."""
        found: Counter[str] = Counter()
        for count in self.match_counts:
            found[count.part] += count.removed
        return {part: number for part, number in found.items() if number}

    @property
    def majority(self) -> tuple[str, float]:
        """The largest class of the training part, and its share."""
        counts = self.counts["train"]
        largest = int(np.argmax(counts))
        return self.classes[largest], counts[largest] / max(1, sum(counts))

    @property
    def small_classes(self) -> dict[str, int]:
        """The classes of fewer than `MIN_CLASS` training images, with their number."""
        counts = zip(self.classes, self.counts.get("train", ()), strict=False)
        return {name: count for name, count in counts if count < MIN_CLASS}

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """By part the classes of which it has no image."""
        found = {
            part: tuple(name for name, count in zip(self.classes, counts, strict=True) if not count)
            for part, counts in self.counts.items()
        }
        return {part: names for part, names in found.items() if names}

    def precision(self, part: str) -> float:
        """Return the half-width of the 95 % interval of a share of `EXPECTED` of this part."""
        return half_width(self.images[part])


def half_width(images: int, share: float = EXPECTED) -> float:
    """Return the half-width of the 95 % interval of a share of so many images (Wilson)."""
    square = WIDTH**2
    spread = sqrt(share * (1 - share) / images + square / (4 * images**2))
    return WIDTH * spread / (1 + square / images)


def class_counts(dataset: Dataset, targets: Targets) -> dict[str, tuple[int, ...]]:
    """Return by part the number of images of each class; empty where targets are no classes."""
    if not isinstance(targets, ClassNumbers):
        return {}
    return {
        name: tuple(np.bincount(part.targets, minlength=len(dataset.classes)).tolist())
        for name, part in parts_of(dataset).items()
    }


def report_of(looked: Looked, config: DataConfig) -> DataReport:
    """Return the report on a data set that was looked through."""
    dataset, targets = looked.dataset, TASKS[config.task].load_targets()
    parts, counts = parts_of(dataset), class_counts(dataset, targets)
    return DataReport(
        name=dataset.name,
        root=str(Path(config.root).absolute()) if config.root else "",
        task=config.task,
        fingerprint=dataset.fingerprint,
        classes=dataset.classes if counts else (),
        images={name: len(part) for name, part in parts.items()},
        counts=counts,
        shape=dataset.train.shape[1:],
        folds=dataset.folds,
        is_ragged=dataset.train.is_ragged,
        value_range=dataset.value_range,
        remarks=dataset.remarks,
        left_out=dataset.left_out,
        left_out_count=dataset.left_out_count,
        files=_files(list(looked.places.parts.values()), config),
        matches=_matches(looked),
        match_counts=_match_counts(looked),
        together=dataset.groups is not None,
        compared=looked.copies.limit,
    )


def _files(parts: list[Part], config: DataConfig) -> Files | None:
    """Return the facts about the image files, of which at most `MAX_HEADERS` are opened."""
    names = [name for part in parts for name in part.names or ()]
    if not names:
        return None
    chosen = np.unique(np.linspace(0, len(names) - 1, MAX_HEADERS).astype(int))
    headers = [found for row in chosen if (found := header(Path(config.root, names[row])))]
    sizes = Counter(f"{width} x {height}" for width, height in (each.size for each in headers))
    return Files(
        formats=dict(Counter(kind_of(Path(name)) for name in names).most_common()),
        looked_at=len(headers),
        sizes=dict(sizes.most_common(MAX_SIZES)),
        other_sizes=max(0, len(sizes) - MAX_SIZES),
        modes=dict(Counter(each.mode for each in headers).most_common()),
    )


def _matches(looked: Looked) -> tuple[Match, ...]:
    """Return some of the matches, a few of each kind.

    Those of two classes come first, as people have to look at them, then those in two parts.
    """
    places, pairs = looked.places, looked.pairs
    part, other = places.part[pairs.image], places.part[pairs.same_as]
    agree = (places.strata[pairs.image] == places.strata[pairs.same_as]) | (pairs.kind == MIRRORED)
    order = np.lexsort((np.arange(len(pairs)), pairs.kind, ~looked.removed, part == other, agree))
    told: Counter[tuple[str, int, int]] = Counter()
    found = []
    for row in order.tolist():
        group = str(pairs.kind[row]), int(part[row]), int(other[row])
        told[group] += 1
        if told[group] <= MAX_MATCHES:
            images = places.image(pairs.image[row]), places.image(pairs.same_as[row])
            found.append(Match(group[0], *images, bool(looked.removed[row])))
    return tuple(found)


def _match_counts(looked: Looked) -> tuple[MatchCount, ...]:
    places, pairs, names = looked.places, looked.pairs, list(looked.places.parts)
    differs = places.strata[pairs.image] != places.strata[pairs.same_as]
    found: dict[tuple[str, int, int], list[int]] = {}
    rows = zip(
        pairs.kind.tolist(),
        places.part[pairs.image].tolist(),
        places.part[pairs.same_as].tolist(),
        looked.removed.tolist(),
        differs.tolist(),
        strict=True,
    )
    for kind, part, same_as, removed, differ in rows:
        counts = found.setdefault((kind, part, same_as), [0, 0, 0])
        for place, is_counted in enumerate((True, removed, differ)):
            counts[place] += is_counted
    return tuple(
        MatchCount(kind, names[part], names[same_as], *counts)
        for (kind, part, same_as), counts in sorted(
            found.items(), key=lambda item: (item[0][1] == item[0][2], item[0])
        )
    )


def _match(values: Mapping[str, Any]) -> Match:
    images = {name: Image(**values[name]) for name in ("image", "same_as")}
    return Match(**{**values, **images})
