"""The corrected images that a model can learn from, and why the others are left out.

An image that shows what a test or validation image shows is refused. Of the others a share is set
aside for good: by a third it is chosen which challenger is best, by the rest whether that is better
than the champion.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.feedback.fair_sample import fair_sample
from search.feedback.records import EARLIER, Records
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError, printable
from trainables.inspection.copies import Copies, find_copies

if TYPE_CHECKING:
    from trainables.export.model import Model

HELD, CHOOSING, TRAINED = "held", "choosing", "trained"
"""The uses of an image: to hold the best challenger against the champion, to choose that one, to
train on. Images of the first two are never trained on.
"""
MET = "met/"
"""The beginning of the name of an image that was met, among those of a data set."""
ASIDE = "set-aside"
"""The part of the images that were set aside, and whose corrections were taken back."""
SHARES = {HELD: 0.3, CHOOSING: 0.15}
FEWEST = {TRAINED: 10, CHOOSING: 5, HELD: 10}
"""The fewest new images of each use."""
TEST, VAL, SAME, CONTRADICTS, UNREADABLE, GONE, DOUBTED = (
    "shows a test image",
    "shows a validation image",
    "is known already",
    "contradicts",
    "cannot be read",
    "is no longer kept",
    "is probably labelled wrong",
)
"""The reasons for which an image is left out."""


@dataclass(frozen=True)
class New:
    """An image that may be learned from."""

    image: str
    """Its name among the records: the SHA-256 of the image as it came."""
    label: str
    pixels: NDArray[np.uint8] = field(repr=False)
    """In the form of the champion's training, (height, width, channels)."""
    corrected_ms: int
    by: str
    seen_ms: int
    """The Unix time in milliseconds when it was met first; 0 where that is not recorded."""
    use: str
    is_aside: bool = False
    """True if an earlier round has set it aside."""
    is_fair: bool = False
    """True if it was corrected whatever the champion says of it (see `fair_sample`)."""


@dataclass(frozen=True)
class LeftOut:
    """An image that is not learned from."""

    image: str
    label: str
    why: str
    beside: str = ""
    """The image that it shows again, and what that is said to be."""
    corrected_ms: int = 0
    """Of a doubted image: which correction it was; 0 where an earlier version has left it out."""

    def __str__(self) -> str:
        beside = f": {self.beside}" if self.beside else ""
        return f"{self.image[:12]} ({printable(self.label)}) {self.why}{beside}"


@dataclass(frozen=True)
class Gathered:
    """The corrected images of a place: those that may be learned from, and those left out."""

    new: tuple[New, ...]
    left_out: tuple[LeftOut, ...] = ()
    limit: str = ""
    """A clause on copies that were not looked for; empty if all were."""
    replaced: tuple[int, ...] = ()
    """The champion's training images, by row, that are among `new` with another label by now."""

    def of(self, use: str) -> list[New]:
        """Return the images of one use."""
        return [one for one in self.new if one.use == use]

    def why(self, reason: str) -> list[LeftOut]:
        """Return the images that were left out for one reason."""
        return [one for one in self.left_out if one.why == reason]

    def part(self, use: str, classes: tuple[str, ...]) -> Part:
        """Return the images of one use as a part."""
        return part_of(self.of(use), classes)

    def without(self, doubted: Mapping[str, str]) -> "Gathered":
        """Return this without images whose labels are doubted; `doubted` says why, by name."""
        known = {one.image: one for one in self.new}
        gone = [
            LeftOut(image, (one := known[image]).label, DOUBTED, why, one.corrected_ms)
            for image, why in doubted.items()
        ]
        kept = tuple(one for one in self.new if one.image not in doubted)
        return replace(self, new=kept, left_out=(*self.left_out, *gone))


def part_of(new: list[New], classes: tuple[str, ...]) -> Part:
    """Return images, at least one, as a part."""
    return Part(
        np.stack([one.pixels for one in new]),
        np.array([classes.index(one.label) for one in new], dtype=np.int64),
        tuple(f"{MET}{one.image}" for one in new),
    )


def gather(
    records: Records, model: "Model", dataset: Dataset, joined: Mapping[str, str] | None = None
) -> Gathered:
    """Return what of the corrected images may be learned from; nothing is set aside yet.

    Args:
        records: where the images and corrections are.
        model: the champion, which says in which form its images are.
        dataset: the champion's, as its search divided it.
        joined: the label with which each image has joined its training part in earlier rounds.
    """
    left_out: list[LeftOut] = []
    met = list(_met(records, model, dataset, left_out))
    if not met:
        return Gathered((), tuple(left_out))
    replaced = _replaced(dataset.train, met, joined or {})
    sifted = _Sifted(without_rows(dataset, replaced), met, list(_taken_back(records, model)))
    # In one order, whatever was set aside before: the same images make the same search.
    places = {image: place for place, image in enumerate(records.corrections())}
    kept = sorted(sifted.kept(), key=lambda one: places[one.image])
    return Gathered(tuple(kept), (*left_out, *sifted.left_out), sifted.copies.limit, replaced)


def without_rows(dataset: Dataset, rows: Sequence[int]) -> Dataset:
    """Return a data set without these training images."""
    if not rows:
        return dataset
    return replace(
        dataset, train=dataset.train.take(np.delete(np.arange(len(dataset.train)), rows))
    )


def _replaced(train: Part, met: Sequence[New], joined: Mapping[str, str]) -> tuple[int, ...]:
    """Return the rows of the training images that have joined with a label that was wrong.

    They are known by their pixels: not all data sets have names.
    """
    wrong = {one.pixels.tobytes() for one in met if joined.get(one.image, one.label) != one.label}
    if not wrong:
        return ()
    images = (image for chunk in train.chunks() for image in chunk)
    return tuple(row for row, image in enumerate(images) if image.tobytes() in wrong)


def set_aside(records: Records, gathered: Gathered) -> None:
    """Set aside what no round trains on, this one and all that follow."""
    records.note_decided(EARLIER, records.decided()[EARLIER], new=True)
    for one in gathered.new:
        if one.use != TRAINED and not one.is_aside:
            content = records.image(one.image)
            assert content is not None, one.image
            records.set_aside(one.use, one.image, content)


def drawn(pixels: NDArray[np.uint8]) -> str:
    """Return the use of an image, by its content: the same in every round."""
    digest = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()
    place, end = int.from_bytes(digest[:8]) / 2**64, 0.0
    for use, share in SHARES.items():
        end += share
        if place < end:
            return use
    return TRAINED


def _met(
    records: Records, model: "Model", dataset: Dataset, left_out: list[LeftOut]
) -> Iterator[New]:
    """Yield each corrected image that can be read: those set aside first, then in time's order."""
    aside, corrections = records.aside(), records.corrections()
    answers = list(records.seen())
    fair = fair_sample(answers, corrections)
    first: dict[str, int] = {}
    for answer in answers:
        first.setdefault(answer.image, answer.time_ms)
    ordered = sorted(corrections.values(), key=lambda one: one.image not in aside)
    with tempfile.TemporaryDirectory(prefix="improve-") as folder:
        file = Path(folder) / "image"
        for one in ordered:
            use = aside.get(one.image, "")
            content = records.aside_image(use, one.image) if use else records.image(one.image)
            if content is None:
                left_out.append(LeftOut(one.image, one.label, GONE))
                continue
            file.write_bytes(content)
            try:
                if one.label not in dataset.classes:
                    raise ConfigError(f"no class is named '{printable(one.label)}'")
                pixels = model.pixels(file)
            except ConfigError as error:
                told = str(error).replace(f"'{file}': ", "")
                left_out.append(LeftOut(one.image, one.label, UNREADABLE, told))
                continue
            yield New(
                *(one.image, one.label, pixels, one.time_ms, one.by, first.get(one.image, 0)),
                use=use or drawn(pixels),
                is_aside=bool(use),
                is_fair=one.image in fair,
            )


def _taken_back(records: Records, model: "Model") -> Iterator[NDArray[np.uint8]]:
    """Yield the images that were set aside and have no correction any more."""
    corrections = records.corrections()
    with tempfile.TemporaryDirectory(prefix="improve-") as folder:
        file = Path(folder) / "image"
        for image, use in records.aside().items():
            content = None if image in corrections else records.aside_image(use, image)
            if content is not None:
                file.write_bytes(content)
                with suppress(ConfigError):  # what cannot be read is no copy
                    yield model.pixels(file)


class _Sifted:
    """New images beside those of the champion's parts, counted through: the new ones last."""

    def __init__(
        self, dataset: Dataset, met: list[New], taken_back: list[NDArray[np.uint8]]
    ) -> None:
        assert dataset.test is not None
        self.met, self.classes = met, dataset.classes
        unlabelled = np.zeros(len(taken_back), dtype=np.int64)
        parts = {
            "training": dataset.train,
            "validation": dataset.val,
            "test": dataset.test,
            **({ASIDE: Part(np.stack(taken_back), unlabelled)} if taken_back else {}),
            "": part_of(met, dataset.classes),
        }
        self.part = np.repeat(list(parts), [len(part) for part in parts.values()])
        self.labels = np.concatenate([part.targets for part in parts.values()])
        self.names = [
            part.names[row] if part.names is not None else f"{title} image {row}"
            for title, part in parts.items()
            for row in range(len(part))
        ]
        self.copies: Copies = find_copies(list(parts.values()))
        self.left_out: list[LeftOut] = []

    def kept(self) -> list[New]:
        """Return the new images that may be learned from; the others become `left_out`."""
        kept: dict[int, New] = {}
        disputed: set[int] = set()
        for row, one in enumerate(self.met, len(self.names) - len(self.met)):
            same = self._with(row, self.copies.near) - {row}
            turned = self._with(row, self.copies.mirrored) - {row}
            before = sorted(same & (kept.keys() | disputed))
            trained = [other for other in sorted(same) if self.part[other] == "training"]
            why, beside = self._refused(same | turned)
            if not why and one.is_aside:
                why, beside = self._known(row, trained, self._mirrored(one, turned, {}))
            elif not why:
                turned_known = self._mirrored(one, turned, kept)
                why, beside = self._known(row, [*before, *trained], turned_known)
            if not why and not one.is_aside and (shown := self._aside(same | turned)):
                why, beside = SAME, self._told(shown[0])
            if not why:
                kept[row] = one
                continue
            self.left_out.append(LeftOut(one.image, one.label, why, beside))
            if why == CONTRADICTS:
                disputed.add(row)
                for other in [other for other in before if other in kept]:
                    if not kept[other].is_aside:
                        disputed.add(other)
                        gone = kept.pop(other)
                        told = LeftOut(gone.image, gone.label, why, self._told(row))
                        self.left_out.append(told)
        return list(kept.values())

    def _refused(self, same: set[int]) -> tuple[str, str]:
        """Return why an image that shows one of these again is refused, and which; or nothing."""
        for part, why in (("test", TEST), ("validation", VAL)):
            if found := [row for row in sorted(same) if self.part[row] == part]:
                return why, self._told(found[0])
        return "", ""

    def _mirrored(self, one: New, turned: set[int], kept: Mapping[int, New]) -> list[int]:
        """Return the mirror images by which an image adds nothing.

        One to train on may be the mirror image of another; no other one may be of any.
        """
        if one.use == TRAINED:
            return sorted(row for row in turned & kept.keys() if kept[row].use != TRAINED)
        return sorted(row for row in turned if row in kept or self.part[row] == "training")

    def _aside(self, same: set[int]) -> list[int]:
        """Return those of these images that were set aside, and whose label was taken back."""
        return [row for row in sorted(same) if self.part[row] == ASIDE]

    def _known(self, row: int, same: list[int], turned: list[int]) -> tuple[str, str]:
        """Return why an image adds nothing to those that show the same, or its mirror image."""
        for other in same:
            if self.labels[other] != self.labels[row]:
                return CONTRADICTS, self._told(other)
        known = [*same, *turned]
        return (SAME, self._told(known[0])) if known else ("", "")

    def _with(self, row: int, pairs: NDArray[np.int64]) -> set[int]:
        """Return the images that equal this one or one that is in a pair with it."""
        original = self.copies.original[row]
        one, other = pairs[:, 0], pairs[:, 1]
        paired = [original, *other[one == original], *one[other == original]]
        return set(np.flatnonzero(np.isin(self.copies.original, paired)).tolist())

    def _told(self, row: int) -> str:
        """Return an image's name and class."""
        name, label = self.names[row].removeprefix(MET), self.classes[self.labels[row]]
        if self.part[row] == ASIDE:
            return printable(name)
        name = name[:12] if self.part[row] == "" else name
        return f"{printable(name)} ({printable(label)})"
