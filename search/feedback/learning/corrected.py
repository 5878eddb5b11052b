"""Select the corrected images that a model can learn from, with reasons for those left out.

Duplicates of test or validation images are refused. A share of the other images is set aside
permanently. A third of the images that are set aside select the best challenger. The rest of them
decide whether that challenger is better than the champion.
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

HELD_OUT, SELECTION, TRAINING = "held", "choosing", "trained"
"""The uses of an image: HELD_OUT compares champion and challenger, SELECTION picks the challenger,
TRAINING is trained on. Images of the first two uses are never trained on.
"""
RECORDED_PREFIX = "met/"
"""Prefix of the names of recorded images in a data set."""
SET_ASIDE = "set-aside"
"""Name of the part with images that were set aside and whose corrections were taken back."""
USE_SHARES = {HELD_OUT: 0.3, SELECTION: 0.15}
"""Share of the new images that get each of these uses; the other images are used for training."""
MIN_NEW_IMAGES = {TRAINING: 10, SELECTION: 5, HELD_OUT: 10}
"""Minimum number of new images of each use."""
(
    SHOWS_TEST_IMAGE,
    SHOWS_VALIDATION_IMAGE,
    ALREADY_KNOWN,
    CONTRADICTORY,
    UNREADABLE,
    UNKNOWN_CLASS,
    NO_LONGER_STORED,
    PROBABLY_WRONG,
) = (
    "shows a test image",
    "shows a validation image",
    "is known already",
    "contradicts",
    "cannot be read",
    "is labelled with a class that the model does not have",
    "is no longer stored",
    "is probably labelled wrong",
)
"""The reasons why an image is left out."""


@dataclass(frozen=True)
class NewImage:
    """A corrected image that a model can learn from."""

    image: str
    """The image's name in the records: the SHA-256 of the file."""
    label: str
    pixels: NDArray[np.uint8] = field(repr=False)
    """The image in the form in which the champion was trained, (height, width, channels)."""
    corrected_ms: int
    by: str
    seen_ms: int
    """Unix time in milliseconds of the first answer on the image; 0 if none is recorded."""
    use: str
    is_aside: bool = False
    """True if an earlier round has set the image aside."""
    is_fair: bool = False
    """True if the image is in the random sample that `fair_sample` selects, so that its correction
    does not depend on the champion's answer.
    """


@dataclass(frozen=True)
class ExcludedImage:
    """A corrected image that is left out, with the reason."""

    image: str
    label: str
    why: str
    beside: str = ""
    """The image that this image duplicates, with its class, or another detail of the reason."""
    corrected_ms: int = 0
    """Unix time of the correction in milliseconds if `why` is `PROBABLY_WRONG`. It is 0 for other
    reasons, and if the image was left out by an earlier version of this program.
    """

    def __str__(self) -> str:
        beside = f": {self.beside}" if self.beside else ""
        return f"{self.image[:12]} ({printable(self.label)}) {self.why}{beside}"


@dataclass(frozen=True)
class CorrectedImages:
    """The corrected images in a place: those to learn from, and those that are left out."""

    new: tuple[NewImage, ...]
    left_out: tuple[ExcludedImage, ...] = ()
    limit: str = ""
    """A note on the duplicates that were not searched for; empty if the search was complete."""
    replaced: tuple[int, ...] = ()
    """Rows of the champion's training images that are in `new` with another, newer label."""

    def with_use(self, use: str) -> list[NewImage]:
        """List the new images of one use."""
        return [new_image for new_image in self.new if new_image.use == use]

    def left_out_because(self, reason: str) -> list[ExcludedImage]:
        """List the images that were left out for one reason."""
        return [excluded for excluded in self.left_out if excluded.why == reason]

    def part(self, use: str, classes: tuple[str, ...]) -> Part:
        """Build a part of a data set from the images of one use."""
        return part_of(self.with_use(use), classes)

    def without_doubted(self, doubted: Mapping[str, str]) -> "CorrectedImages":
        """Return a copy in which the doubted images are moved from `new` to `left_out`.

        `doubted` maps the names of these images to the reasons for the doubts.
        """
        by_name = {new_image.image: new_image for new_image in self.new}
        excluded = [
            ExcludedImage(
                image,
                (new_image := by_name[image]).label,
                PROBABLY_WRONG,
                reason,
                new_image.corrected_ms,
            )
            for image, reason in doubted.items()
        ]
        remaining = tuple(new_image for new_image in self.new if new_image.image not in doubted)
        return replace(self, new=remaining, left_out=(*self.left_out, *excluded))


def part_of(new_images: list[NewImage], classes: tuple[str, ...]) -> Part:
    """Build a part of a data set; `new_images` may not be empty."""
    return Part(
        np.stack([image.pixels for image in new_images]),
        np.array([classes.index(image.label) for image in new_images], dtype=np.int64),
        tuple(f"{RECORDED_PREFIX}{image.image}" for image in new_images),
    )


def read_corrected_images(
    records: Records,
    model: "Model",
    dataset: Dataset,
    joined_labels: Mapping[str, str] | None = None,
) -> CorrectedImages:
    """Read the corrected images, and select those to learn from.

    The records are not changed: images are set aside only by `set_aside_images`.

    Args:
        records: the images and corrections.
        model: the champion, which converts images to the form that it was trained on.
        dataset: the champion's data, with the parts into which its search split them.
        joined_labels: the labels that images had when they joined the training set in earlier
            rounds, by image name.
    """
    left_out: list[ExcludedImage] = []
    new_images = list(_read_new_images(records, model, dataset, left_out))
    if not new_images:
        return CorrectedImages((), tuple(left_out))
    replaced = _replaced_rows(dataset.train, new_images, joined_labels or {})
    copy_filter = _CopyFilter(
        without_rows(dataset, replaced), new_images, list(_uncorrected_images(records, model))
    )
    # Sort in the order of the corrections, not by whether an image was set aside before, so that
    # the same images lead to the same search.
    places = {image: place for place, image in enumerate(records.corrections())}
    learnable = sorted(copy_filter.learnable(), key=lambda new_image: places[new_image.image])
    return CorrectedImages(
        tuple(learnable), (*left_out, *copy_filter.left_out), copy_filter.copies.limit, replaced
    )


def without_rows(dataset: Dataset, rows: Sequence[int]) -> Dataset:
    """Copy a data set without these rows of its training images."""
    if not rows:
        return dataset
    return replace(
        dataset, train=dataset.train.take(np.delete(np.arange(len(dataset.train)), rows))
    )


def _replaced_rows(
    train: Part, new_images: Sequence[NewImage], joined_labels: Mapping[str, str]
) -> tuple[int, ...]:
    """Find the rows of training images whose label was corrected after they joined.

    The images are identified by their pixels, because not all data sets have image names.
    """
    wrong = {
        new_image.pixels.tobytes()
        for new_image in new_images
        if joined_labels.get(new_image.image, new_image.label) != new_image.label
    }
    if not wrong:
        return ()
    images = (image for chunk in train.chunks() for image in chunk)
    return tuple(row for row, image in enumerate(images) if image.tobytes() in wrong)


def set_aside_images(records: Records, corrected_images: CorrectedImages) -> None:
    """Store copies of the new images that neither this round nor any later one may train on."""
    # All images that earlier versions of this program set aside may have decided an improvement.
    # Note them before further images are set aside.
    records.note_deciding_images(EARLIER, records.deciding_images()[EARLIER], new=True)
    for new_image in corrected_images.new:
        if new_image.use != TRAINING and not new_image.is_aside:
            content = records.image(new_image.image)
            assert content is not None, new_image.image
            records.set_aside(new_image.use, new_image.image, content)


def draw_use(pixels: NDArray[np.uint8]) -> str:
    """Choose the use of an image by a hash of its pixels, so that each round chooses the same."""
    # Hash the shape too: images of different shapes may have the same bytes.
    digest = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()
    place, end = int.from_bytes(digest[:8]) / 2**64, 0.0
    for use, share in USE_SHARES.items():
        end += share
        if place < end:
            return use
    return TRAINING


def _read_new_images(
    records: Records, model: "Model", dataset: Dataset, left_out: list[ExcludedImage]
) -> Iterator[NewImage]:
    """Yield the readable corrected images: those set aside first, then the others, oldest first.

    Images that cannot be read are added to `left_out`.
    """
    aside, corrections = records.set_aside_uses(), records.corrections()
    answers = list(records.read_answers())
    fair = fair_sample(answers, corrections)
    first_seen_ms: dict[str, int] = {}
    for answer in answers:
        first_seen_ms.setdefault(answer.image, answer.time_ms)
    ordered = sorted(corrections.values(), key=lambda correction: correction.image not in aside)
    with tempfile.TemporaryDirectory(prefix="improve-") as folder:
        file = Path(folder) / "image"
        for correction in ordered:
            use = aside.get(correction.image, "")
            content = (
                records.set_aside_image(use, correction.image)
                if use
                else records.image(correction.image)
            )
            if content is None:
                left_out.append(ExcludedImage(correction.image, correction.label, NO_LONGER_STORED))
                continue
            if correction.label not in dataset.classes:
                left_out.append(ExcludedImage(correction.image, correction.label, UNKNOWN_CLASS))
                continue
            file.write_bytes(content)
            try:
                pixels = model.pixels(file)
            except ConfigError as error:
                reason = str(error).replace(f"'{file}': ", "")
                left_out.append(
                    ExcludedImage(correction.image, correction.label, UNREADABLE, reason)
                )
                continue
            yield NewImage(
                *(
                    correction.image,
                    correction.label,
                    pixels,
                    correction.time_ms,
                    correction.by,
                    first_seen_ms.get(correction.image, 0),
                ),
                use=use or draw_use(pixels),
                is_aside=bool(use),
                is_fair=correction.image in fair,
            )


def _uncorrected_images(records: Records, model: "Model") -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of images that were set aside and no longer have a correction."""
    corrections = records.corrections()
    with tempfile.TemporaryDirectory(prefix="improve-") as folder:
        file = Path(folder) / "image"
        for image, use in records.set_aside_uses().items():
            content = None if image in corrections else records.set_aside_image(use, image)
            if content is not None:
                file.write_bytes(content)
                with suppress(ConfigError):  # an unreadable image has no duplicates
                    yield model.pixels(file)


class _CopyFilter:
    """Finds new images that duplicate others.

    A row is the position of an image in the concatenation of all parts: training, validation and
    test images, those whose correction was taken back, and last the new images.
    """

    def __init__(
        self, dataset: Dataset, new_images: list[NewImage], taken_back: list[NDArray[np.uint8]]
    ) -> None:
        assert dataset.test is not None
        self.new_images, self.classes = new_images, dataset.classes
        unlabelled = np.zeros(len(taken_back), dtype=np.int64)
        parts = {
            "training": dataset.train,
            "validation": dataset.val,
            "test": dataset.test,
            **({SET_ASIDE: Part(np.stack(taken_back), unlabelled)} if taken_back else {}),
            "": part_of(new_images, dataset.classes),
        }
        self.part = np.repeat(list(parts), [len(part) for part in parts.values()])
        self.labels = np.concatenate([part.targets for part in parts.values()])
        self.names = [
            part.names[row] if part.names is not None else f"{title} image {row}"
            for title, part in parts.items()
            for row in range(len(part))
        ]
        self.copies: Copies = find_copies(list(parts.values()))
        self.left_out: list[ExcludedImage] = []

    def learnable(self) -> list[NewImage]:
        """List the new images to learn from, and add the others to `left_out`."""
        learnable: dict[int, NewImage] = {}
        disputed: set[int] = set()
        for row, new_image in enumerate(self.new_images, len(self.names) - len(self.new_images)):
            copies = self._copies_of(row, self.copies.near) - {row}
            mirrored = self._copies_of(row, self.copies.mirrored) - {row}
            before = sorted(copies & (learnable.keys() | disputed))
            trained = [copy_row for copy_row in sorted(copies) if self.part[copy_row] == "training"]
            why, beside = self._refusal(copies | mirrored)
            if not why and new_image.is_aside:
                why, beside = self._redundancy(
                    row, trained, self._conflicting_mirrors(new_image, mirrored, {})
                )
            elif not why:
                known_mirrored = self._conflicting_mirrors(new_image, mirrored, learnable)
                why, beside = self._redundancy(row, [*before, *trained], known_mirrored)
            if (
                not why
                and not new_image.is_aside
                and (aside_rows := self._rows_set_aside(copies | mirrored))
            ):
                why, beside = ALREADY_KNOWN, self._describe(aside_rows[0])
            if not why:
                learnable[row] = new_image
                continue
            self.left_out.append(ExcludedImage(new_image.image, new_image.label, why, beside))
            if why == CONTRADICTORY:
                disputed.add(row)
                for copy_row in [copy_row for copy_row in before if copy_row in learnable]:
                    if not learnable[copy_row].is_aside:
                        disputed.add(copy_row)
                        contradicted = learnable.pop(copy_row)
                        excluded = ExcludedImage(
                            contradicted.image, contradicted.label, why, self._describe(row)
                        )
                        self.left_out.append(excluded)
        return list(learnable.values())

    def _refusal(self, copies: set[int]) -> tuple[str, str]:
        """The reason to refuse an image with these copies, and a description of one of them.

        Both are empty if the image is not refused.
        """
        for part, why in (("test", SHOWS_TEST_IMAGE), ("validation", SHOWS_VALIDATION_IMAGE)):
            if rows := [row for row in sorted(copies) if self.part[row] == part]:
                return why, self._describe(rows[0])
        return "", ""

    def _conflicting_mirrors(
        self, new_image: NewImage, mirrored: set[int], learnable: Mapping[int, NewImage]
    ) -> list[int]:
        """Find the rows of the mirrored copies that make a new image redundant.

        Two training images may be mirror images of each other. If one of two mirror images has
        another use, they are duplicates.

        Args:
            new_image: the image.
            mirrored: the rows of its mirrored copies.
            learnable: the new images that were accepted before it, by row.
        """
        if new_image.use == TRAINING:
            return sorted(
                row for row in mirrored & learnable.keys() if learnable[row].use != TRAINING
            )
        return sorted(row for row in mirrored if row in learnable or self.part[row] == "training")

    def _rows_set_aside(self, copies: set[int]) -> list[int]:
        """Rows of the copies that were set aside and whose correction was taken back."""
        return [row for row in sorted(copies) if self.part[row] == SET_ASIDE]

    def _redundancy(self, row: int, copies: list[int], mirrored: list[int]) -> tuple[str, str]:
        """The reason to leave out an image with these copies, and a description of one of them.

        Both are empty if the image is not left out.
        """
        for copy_row in copies:
            if self.labels[copy_row] != self.labels[row]:
                return CONTRADICTORY, self._describe(copy_row)
        existing = [*copies, *mirrored]
        return (ALREADY_KNOWN, self._describe(existing[0])) if existing else ("", "")

    def _copies_of(self, row: int, pairs: NDArray[np.int64]) -> set[int]:
        """Rows of all images that equal this image, or an image that is paired with this image.

        `pairs` contains pairs of rows, (pairs, 2). The result includes `row`.
        """
        original = self.copies.original[row]
        first, second = pairs[:, 0], pairs[:, 1]
        paired = [original, *second[first == original], *first[second == original]]
        return set(np.flatnonzero(np.isin(self.copies.original, paired)).tolist())

    def _describe(self, row: int) -> str:
        """Format the name and class of an image for a message."""
        name, label = self.names[row].removeprefix(RECORDED_PREFIX), self.classes[self.labels[row]]
        if self.part[row] == SET_ASIDE:
            return printable(name)
        name = name[:12] if self.part[row] == "" else name
        return f"{printable(name)} ({printable(label)})"
