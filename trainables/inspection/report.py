"""The facts about a data set, as plain values that are stored with a search.

Conclusions from them (small classes, the precision of an accuracy) are computed here too; `words`
puts them into sentences.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import numpy as np

from trainables.catalog.entries import WIDTH
from trainables.config import DataConfig
from trainables.datasets.arrays import LeftOut, Part
from trainables.datasets.images import header
from trainables.datasets.layout import kind_of
from trainables.datasets.targets import ObjectCounts, PixelCounts
from trainables.inspection.leaks import MIRRORED, Image, InspectedData, parts_of
from trainables.tasks import TASKS
from trainables.values import Json

MAX_MATCHES, MAX_SIZES, MAX_HEADERS = 25, 8, 2000
"""The maximum numbers of matches (of the same kind and parts), of sizes, and of headers to read."""
MIN_CLASS = 10
"""A class with fewer training images is hardly learned."""
EXPECTED = 0.9
"""The accuracy for which the width of the confidence interval on a part is stated."""
MAX_LISTED, MAX_PAIRS = 100, 10
"""The maximum numbers of suspicious labels, and of pairs of classes, that a report lists."""
LIKELY = 0.5
"""A label is announced as probably wrong from this probability on."""
MIN_EXPECTED = 0.5
"""A pair of classes is listed from this expected number of wrong labels on."""


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
    def group(self) -> tuple[str, str, str]:
        """The kind and the parts, by which matches are counted (`MatchCount.group`)."""
        return self.kind, self.image.part, self.same_as.part

    @property
    def disagrees(self) -> bool:
        """True if the classes differ; False for mirror images, which may mean something else."""
        return self.kind != MIRRORED and self.image.label != self.same_as.label


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

    @property
    def group(self) -> tuple[str, str, str]:
        """The kind and the parts of the matches that are counted (`Match.group`)."""
        return self.kind, self.part, self.same_as


@dataclass(frozen=True)
class SuspiciousLabel:
    """An image whose label may be wrong."""

    image: Image
    suggested: str
    """The most probable other class."""
    chance: float
    """The probability that the label is wrong; 0 if there is no evidence of wrong labels at all."""
    webp: str = ""
    """A thumbnail, a WebP in base64."""


@dataclass(frozen=True)
class PairErrors:
    """The expected number of images with one label that belong to another class."""

    label: str
    suggested: str
    expected: float


@dataclass(frozen=True)
class LabelErrors:
    """The wrong labels that are expected in a data set, and the most suspicious ones."""

    judged: int
    """The number of images whose label was judged; those that a person has checked are not."""
    checked: int
    """The number of images whose label a person has checked."""
    expected: float
    """The expected number of wrong labels."""
    likely: int
    """The number of labels whose probability of being wrong is at least `LIKELY`."""
    features: str
    """The features by which images were compared, in words."""
    pairs: tuple[PairErrors, ...]
    """The pairs of classes with the most expected errors; at most `MAX_PAIRS`."""
    suspicious: tuple[SuspiciousLabel, ...]
    """The most suspicious labels first; at most `MAX_LISTED`."""


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
        report: Self = _decode(cls, values)
        return report

    @property
    def removed(self) -> dict[str, int]:
        """The number of images that were removed, as copies or for their class, by part."""
        numbers: Counter[str] = Counter(test=self.contradicting)
        for count in self.match_counts:
            numbers[count.part] += count.removed
        return {part: number for part, number in numbers.items() if number}

    @property
    def unit(self) -> str:
        """The things whose classes are counted: `images`, `pixels` or `objects`."""
        return "pixels" if self.pixels else "objects" if self.objects else "images"

    @property
    def majority(self) -> tuple[str, float]:
        """The name of the largest class of the training set, and its share of the `unit`s."""
        of_part = self.counts or {
            **{part: each.pixels for part, each in self.pixels.items()},
            **{part: each.objects for part, each in self.objects.items()},
        }
        counts = of_part["train"]
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
        """Return the half-width of Wilson's 95 % interval for an accuracy of `EXPECTED` on a part.

        It is 0 for a part without images, or if images do not have one class each.
        """
        images, square = self.images.get(part, 0) if self.counts else 0, WIDTH**2
        if not images:
            return 0.0
        spread = sqrt(EXPECTED * (1 - EXPECTED) / images + square / (4 * images**2))
        return WIDTH * spread / (1 + square / images)


_hints = cache(get_type_hints)


def _decode(kind: Any, values: Any) -> Any:
    """Build a value of a type, such as a dataclass, from JSON-compatible values.

    Unknown fields of a dataclass are ignored. pydantic can do this too, but takes 0.1 seconds to be
    imported and to build its validators.
    """
    kinds = get_args(kind)
    if isinstance(kind, UnionType):  # with None
        return None if values is None else _decode(kinds[0], values)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        fields = {name: _decode(hints[name], values[name]) for name in hints if name in values}
        return kind(**fields)
    if get_origin(kind) is tuple:
        return tuple(_decode(kinds[0], each) for each in values)
    if get_origin(kind) is dict:
        return {name: _decode(kinds[1], each) for name, each in values.items()}
    return values


def report_of(inspected: InspectedData, config: DataConfig) -> DataReport:
    """Build the report on a data set that was loaded with this config."""
    dataset, targets = inspected.dataset, TASKS[config.task].load_targets()
    parts, classes = parts_of(dataset), len(dataset.classes)
    counts, pixels, objects = {}, {}, {}
    for name, part in parts.items():
        if targets.are_classes:
            counts[name] = tuple(targets.class_counts(part, classes).tolist())
        if pixel_counts := targets.count_pixels(part, classes):
            pixels[name] = pixel_counts
        if object_counts := targets.count_objects(part, classes):
            objects[name] = object_counts
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
    part, same_as = places.part[pairs.image], places.part[pairs.same_as]
    differs = places.strata[pairs.image] != places.strata[pairs.same_as]
    groups = set(zip(pairs.kind.tolist(), part.tolist(), same_as.tolist(), strict=True))
    counts = []
    for kind, own, earlier in sorted(groups, key=lambda group: (group[1] == group[2], group)):
        is_of = (pairs.kind == kind) & (part == own) & (same_as == earlier)
        sums = (int(np.sum(is_of & each)) for each in (True, inspected.removed, differs))
        counts.append(MatchCount(kind, names[own], names[earlier], *sums))
    return tuple(counts)
