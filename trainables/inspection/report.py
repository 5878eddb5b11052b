"""The facts about a data set, as plain values that are stored with a search.

Conclusions from them (small classes, the precision of an accuracy) are computed here too; `words`
puts them into sentences.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainables.catalog.entries import WIDTH
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, LeftOut, Part
from trainables.datasets.images import header
from trainables.datasets.layout import kind_of
from trainables.datasets.targets import ObjectCounts, PixelCounts, Targets
from trainables.inspection.labels import LabelErrors
from trainables.inspection.leaks import InspectedData
from trainables.inspection.matches import MIRRORED, Image, Match, parts_of
from trainables.tasks import TASKS
from trainables.values import Json

MAX_MATCHES, MAX_SIZES, MAX_HEADERS = 25, 8, 2000
"""The maximum numbers of matches (of the same kind and parts), of sizes, and of headers to read."""
MIN_CLASS = 10
"""A class with fewer training images is hardly learned."""
EXPECTED = 0.9
"""The accuracy for which the width of the confidence interval on a part is stated."""


@dataclass(frozen=True)
class FileFacts:
    """The formats, modes and sizes of the image files of a folder."""

    formats: dict[str, int]
    """The number of files by suffix in lower case (`kind_of`)."""
    looked_at: int
    """The number of files whose headers were read for `sizes` and `modes`, evenly spread."""
    sizes: dict[str, int]
    """The number of files by size (the most frequent ones), such as `640 x 480` (width, height)."""
    other_sizes: int
    """The number of sizes that are not in `sizes`."""
    modes: dict[str, int]
    """The number of files by Pillow's mode."""


@dataclass(frozen=True)
class MatchCount:
    """The number of matches of one kind between two parts, or within one."""

    kind: str
    part: str
    same_as: str
    """The part of the earlier images."""
    images: int
    """The number of images in `part` that show the same picture as an earlier one in `same_as`."""
    removed: int
    disagree: int
    """The number of images whose class differs from that of the earlier image."""


@dataclass(frozen=True)
class DataReport:
    """The facts about the data set of a search."""

    name: str
    root: str
    task: str
    fingerprint: str
    classes: tuple[str, ...]
    """The names of the classes of images, pixels or objects; empty if targets have no classes."""
    images: dict[str, int]
    """The number of images by part: `train`, `val`, `test`; with folds `val` is missing."""
    counts: dict[str, tuple[int, ...]]
    """The number of images of each class, by part; empty if images do not have one class each."""
    shape: tuple[int, ...]
    """(height, width, channels) of the arrays; if sizes differ, the maximum of each."""
    folds: int | None = None
    is_ragged: bool = False
    value_range: tuple[float, float] | None = None
    """The values that were mapped to 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines of the loader on how the images were read and split."""
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0
    files: FileFacts | None = None
    """None if the images are not files."""
    matches: tuple[Match, ...] = ()
    """At most `MAX_MATCHES` of the same kind and parts; those that users should check come first.
    """
    match_counts: tuple[MatchCount, ...] = ()
    contradicting: int = 0
    """The number of images that were removed from the test set because an equal one there has
    another class."""
    together: bool = False
    """True if folds were drawn such that copies of a picture are in the same one."""
    pixels: dict[str, PixelCounts] = field(default_factory=dict)
    """The pixels of each class, by part; empty if pixels have no classes."""
    objects: dict[str, ObjectCounts] = field(default_factory=dict)
    """The objects of each class, by part; empty if targets are no objects."""
    compared: str = ""
    """A clause on what was not searched (`Copies.limit`); empty if the search was complete."""
    labels: LabelErrors | None = None
    """The labels that are probably wrong; None if they were not looked for."""

    def to_json(self) -> Json:
        """Return the fields as JSON-compatible values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build a report from the output of `to_json`; fields of later versions are ignored.

        Raises:
            KeyError, TypeError: the values are not those of a report.
        """
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        fields |= {
            "classes": tuple(values["classes"]),
            "counts": {part: tuple(counts) for part, counts in values["counts"].items()},
            "shape": tuple(values["shape"]),
            "value_range": tuple(values["value_range"]) if values["value_range"] else None,
            "remarks": tuple(values["remarks"]),
            "left_out": tuple(LeftOut(**file) for file in values["left_out"]),
            "files": FileFacts(**values["files"]) if values["files"] else None,
            "matches": tuple(_match(match) for match in values["matches"]),
            "match_counts": tuple(MatchCount(**count) for count in values["match_counts"]),
            "pixels": {
                part: PixelCounts(tuple(each["pixels"]), tuple(each["images"]), each["ignored"])
                for part, each in values.get("pixels", {}).items()
            },
            "objects": {
                part: ObjectCounts(tuple(each["objects"]), tuple(each["images"]), each["without"])
                for part, each in values.get("objects", {}).items()
            },
            "labels": LabelErrors.from_json(each) if (each := values.get("labels")) else None,
        }
        return cls(**fields)

    @property
    def removed(self) -> dict[str, int]:
        """The number of images that were removed, as copies or for their class, by part."""
        numbers: Counter[str] = Counter(test=self.contradicting)
        for count in self.match_counts:
            numbers[count.part] += count.removed
        return {part: number for part, number in numbers.items() if number}

    @property
    def majority(self) -> tuple[str, float]:
        """The name of the largest class of the training set.

        The second value is its share of the images, pixels or objects.
        """
        counts = (
            self.pixels["train"].pixels
            if self.pixels
            else self.objects["train"].objects
            if self.objects
            else self.counts["train"]
        )
        largest = int(np.argmax(counts))
        return self.classes[largest], counts[largest] / max(1, sum(counts))

    @property
    def occurrences(self) -> dict[str, tuple[int, ...]]:
        """The number of images in which each class occurs, by part."""
        counts = self.pixels or self.objects
        return self.counts or {part: each.images for part, each in counts.items()}

    @property
    def small_classes(self) -> dict[str, int]:
        """The number of training images with each class that has fewer than `MIN_CLASS`."""
        counts = zip(self.classes, self.occurrences.get("train", ()), strict=False)
        return {name: count for name, count in counts if count < MIN_CLASS}

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """The classes without images, by part; parts that have all classes are left out."""
        absent = {
            part: tuple(name for name, count in zip(self.classes, counts, strict=True) if not count)
            for part, counts in self.occurrences.items()
        }
        return {part: names for part, names in absent.items() if names}

    def precision(self, part: str) -> float:
        """Return the half-width of the 95 % interval for an accuracy of `EXPECTED` on a part."""
        return half_width(self.images[part])


def half_width(images: int, share: float = EXPECTED) -> float:
    """Return the half-width of Wilson's 95 % confidence interval for a share of `images` images."""
    square = WIDTH**2
    spread = sqrt(share * (1 - share) / images + square / (4 * images**2))
    return WIDTH * spread / (1 + square / images)


def class_counts(dataset: Dataset, targets: Targets) -> dict[str, tuple[int, ...]]:
    """Count the images of each class, by part; empty if targets are not classes."""
    if not targets.are_classes:
        return {}
    return {
        name: tuple(np.bincount(part.targets, minlength=len(dataset.classes)).tolist())
        for name, part in parts_of(dataset).items()
    }


def pixel_counts(dataset: Dataset, targets: Targets) -> dict[str, PixelCounts]:
    """Count the pixels of each class, by part; empty if pixels have no classes."""
    counts = {
        name: targets.count_pixels(part, len(dataset.classes))
        for name, part in parts_of(dataset).items()
    }
    return {name: each for name, each in counts.items() if each is not None}


def object_counts(dataset: Dataset, targets: Targets) -> dict[str, ObjectCounts]:
    """Count the objects of each class, by part; empty if targets are no objects."""
    counts = {
        name: targets.count_objects(part, len(dataset.classes))
        for name, part in parts_of(dataset).items()
    }
    return {name: each for name, each in counts.items() if each is not None}


def report_of(inspected: InspectedData, config: DataConfig) -> DataReport:
    """Build the report on a data set that was loaded with this config."""
    dataset, targets = inspected.dataset, TASKS[config.task].load_targets()
    parts, counts = parts_of(dataset), class_counts(dataset, targets)
    pixels, objects = pixel_counts(dataset, targets), object_counts(dataset, targets)
    return DataReport(
        name=dataset.name,
        root=str(Path(config.root).absolute()) if config.root else "",
        task=config.task,
        fingerprint=dataset.fingerprint,
        classes=dataset.classes if counts or pixels or objects else (),
        images={name: len(part) for name, part in parts.items()},
        counts=counts,
        shape=dataset.train.shape[1:],
        folds=dataset.folds,
        is_ragged=dataset.train.is_ragged,
        value_range=dataset.value_range,
        remarks=dataset.remarks,
        left_out=dataset.left_out,
        left_out_count=dataset.left_out_count,
        files=_files(list(inspected.places.parts.values()), config),
        matches=_matches(inspected),
        match_counts=_match_counts(inspected),
        contradicting=len(inspected.contradicting),
        together=dataset.groups is not None,
        pixels=pixels,
        objects=objects,
        compared=inspected.copies.limit,
    )


def _files(parts: list[Part], config: DataConfig) -> FileFacts | None:
    """Collect facts about the image files, of which at most `MAX_HEADERS` are opened.

    None if the images are not files.
    """
    names = [name for part in parts for name in part.names or ()]
    if not names:
        return None
    chosen = np.unique(np.linspace(0, len(names) - 1, MAX_HEADERS).astype(int))
    headers = [
        image_header for row in chosen if (image_header := header(Path(config.root, names[row])))
    ]
    sizes = Counter(f"{width} x {height}" for width, height in (each.size for each in headers))
    return FileFacts(
        formats=dict(Counter(kind_of(Path(name)) for name in names).most_common()),
        looked_at=len(headers),
        sizes=dict(sizes.most_common(MAX_SIZES)),
        other_sizes=max(0, len(sizes) - MAX_SIZES),
        modes=dict(Counter(each.mode for each in headers).most_common()),
    )


def _matches(inspected: InspectedData) -> tuple[Match, ...]:
    """Return at most `MAX_MATCHES` matches of the same kind and parts.

    Those with different classes come first, because users should check them, then those in
    different parts.
    """
    places, pairs = inspected.places, inspected.pairs
    part, same_as_part = places.part[pairs.image], places.part[pairs.same_as]
    agree = (places.strata[pairs.image] == places.strata[pairs.same_as]) | (pairs.kind == MIRRORED)
    is_left_out = np.isin(pairs.image, inspected.removed_images)
    order = np.lexsort(
        (np.arange(len(pairs)), pairs.kind, ~is_left_out, part == same_as_part, agree)
    )
    counts: Counter[tuple[str, int, int]] = Counter()
    matches = []
    for row in order.tolist():
        group = str(pairs.kind[row]), int(part[row]), int(same_as_part[row])
        counts[group] += 1
        if counts[group] <= MAX_MATCHES:
            images = places.image(pairs.image[row]), places.image(pairs.same_as[row])
            matches.append(Match(group[0], *images, bool(is_left_out[row])))
    return tuple(matches)


def _match_counts(inspected: InspectedData) -> tuple[MatchCount, ...]:
    places, pairs, names = inspected.places, inspected.pairs, list(inspected.places.parts)
    differs = places.strata[pairs.image] != places.strata[pairs.same_as]
    counts_of: dict[tuple[str, int, int], list[int]] = {}
    rows = zip(
        pairs.kind.tolist(),
        places.part[pairs.image].tolist(),
        places.part[pairs.same_as].tolist(),
        inspected.removed.tolist(),
        differs.tolist(),
        strict=True,
    )
    for kind, part, same_as, removed, differ in rows:
        counts = counts_of.setdefault((kind, part, same_as), [0, 0, 0])
        for place, is_counted in enumerate((True, removed, differ)):
            counts[place] += is_counted
    return tuple(
        MatchCount(kind, names[part], names[same_as], *counts)
        for (kind, part, same_as), counts in sorted(
            counts_of.items(), key=lambda item: (item[0][1] == item[0][2], item[0])
        )
    )


def _match(values: Mapping[str, Any]) -> Match:
    images = {name: Image(**values[name]) for name in ("image", "same_as")}
    return Match(**{**values, **images})
