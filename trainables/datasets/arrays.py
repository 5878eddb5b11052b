"""Images and targets as arrays: a loader's result (`Decoded`) and a trial's data (`Dataset`).

Images (or targets) that all have the same shape are one array; otherwise they are `Ragged`. Images
that do not fit into memory are `ImagesOnDisk`.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.splits import Labels as Labels
from trainables.datasets.splits import Rows, in_folds
from trainables.errors import DataError
from trainables.fairness.groups import Attributes
from trainables.on_disk import ImagesOnDisk, keep_array

Images = NDArray[np.uint8]
Arrays = Any
"""An array with one row for each image, or `Ragged` with one array for each image."""
Allocate = Callable[[str, tuple[int, ...]], Images]
"""A function that allocates the array for a part's images, from the part's name and the shape.

The shape is (count, height, width, channels). It raises `NoRoom`.
"""
CHUNK = 4_000_000
"""The size, in bytes, of the chunks in which the images of a part are processed."""
SIXTEEN_BITS = (0, 65535)
"""The range of 16-bit values.

The fingerprint does not include it, because fingerprints of such images must not change: searches
and caches refer to them.
"""
MAX_LEFT_OUT = 200
"""The maximum number of unused files that a `Dataset` lists one by one."""
TITLES = {"train": "training", "val": "validation", "test": "test"}
"""The names of the parts in messages."""

Names = tuple[str, ...] | None
"""The file of each image, relative to the data set's root, with `/` between folders.

None for images that are not files. The names may have any characters that the file system allows;
`printable` makes them safe to print.
"""


class NoRoom(DataError):
    """The decoded images fit neither into the cache nor into memory."""


@dataclass(frozen=True)
class Ragged:
    """Arrays of one type and number of axes, but several shapes, such as images of mixed sizes.

    They are stored one after the other in a single buffer, so that any number of arrays is one
    mapped file and one Ray object. If the buffer is a tensor, so is each array.
    """

    buffer: Any
    """All values, (values,)."""
    shapes: NDArray[np.int64]
    """The shape of each array, (count, axes)."""

    @classmethod
    def of(cls, arrays: Iterable[NDArray[Any]]) -> Self:
        """Copy these arrays, of which there must be at least one, into a new buffer."""
        each = list(arrays)
        return cls(
            np.concatenate([array.ravel() for array in each]),
            np.array([array.shape for array in each], dtype=np.int64),
        )

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The end of each array in the buffer, (count,)."""
        return np.cumsum(self.shapes.prod(axis=1))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int) -> Any:
        shape = tuple(map(int, self.shapes[number]))
        end = int(self.ends[number])
        return self.buffer[end - math.prod(shape) : end].reshape(shape)

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of arrays, and the largest size of each axis."""
        return len(self), *map(int, self.shapes.max(axis=0, initial=0))

    @property
    def nbytes(self) -> int:
        """The size of all arrays, in bytes."""
        return int(self.buffer.nbytes)

    def take(self, rows: Rows) -> "Ragged":
        """Return a copy of the arrays at these indices."""
        if not len(rows):
            return Ragged(self.buffer[:0], self.shapes[:0])
        return Ragged.of(self[int(row)] for row in rows)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder of the data set that is not used."""

    path: str
    """The path relative to the data set's root, in printable characters."""
    reason: str


def derive_fingerprint(fingerprint: str, change: NDArray[np.int64]) -> str:
    """Derive the fingerprint, 16 hex digits, of data that was changed.

    Args:
        fingerprint: the fingerprint of the data before the change.
        change: numbers that encode the change.
    """
    return hashlib.sha256(fingerprint.encode() + change.tobytes()).hexdigest()[:16]


def in_memory(title: str, shape: tuple[int, ...]) -> Images:
    """Allocate an uninitialised array in memory; this function is an `Allocate`."""
    return np.empty(shape, np.uint8)


def allocate_each(
    shapes: Sequence[tuple[int, ...]], allocate: Callable[[tuple[int, ...]], Images]
) -> Arrays:
    """Allocate arrays of these shapes: one array, or `Ragged` if the shapes differ."""
    if len(set(shapes)) == 1:
        return allocate((len(shapes), *shapes[0]))
    sizes = np.array(shapes, np.int64)
    return Ragged(allocate((int(sizes.prod(axis=1).sum()),)), sizes)


def as_uniform(values: Arrays) -> Arrays:
    """Return one array if `Ragged` arrays have the same shape, because others were left out."""
    if isinstance(values, Ragged) and (values.shapes == values.shapes[0]).all():
        return np.ascontiguousarray(values.buffer.reshape(values.shape))
    return values


def take_rows(values: Arrays, rows: Any) -> Arrays:
    """Return a copy of these rows of an array, or of `Ragged` arrays; `ImagesOnDisk` stay."""
    if isinstance(values, Ragged):
        return values.take(np.arange(len(values))[rows])
    if isinstance(values, ImagesOnDisk):
        return values.take(rows)
    return np.ascontiguousarray(values[rows])


def take_names(names: Names, rows: Rows) -> Names:
    """Return the names at these indices; None if there are no names."""
    return None if names is None else tuple(names[row] for row in rows.tolist())


def pixels_of(images: Arrays, rows: Any) -> Images:
    """Return the images at these rows; for `Ragged` images all their pixels, (pixels, channels)."""
    if isinstance(images, Ragged):
        pixels: Images = take_rows(images, rows).buffer.reshape(-1, images.shapes[0, -1])
        return pixels
    selected: Images = images[rows]
    return selected


@dataclass(frozen=True)
class Part:
    """Images and their targets, whose meaning depends on the task.

    Images are uint8 (count, height, width, channels), an array or `ImagesOnDisk`, or `Ragged` of
    (height, width, channels). Targets that are classes are numbers, int64 (count,).
    """

    images: Arrays
    targets: Arrays
    names: Names = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of the images.

        Of `ImagesOnDisk`, it is that of their rows and of the files' own fingerprint.
        """
        if self.is_on_disk:
            return derive_fingerprint(self.images.fingerprint, self.images.rows)
        digest = hashlib.sha256(str(self.shape).encode())
        if self.is_ragged:
            digest.update(self.images.shapes.data)
        for images in self.chunks():
            digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels), the largest of each if images have several shapes."""
        shape: tuple[int, ...] = self.images.shape
        return shape

    @property
    def is_ragged(self) -> bool:
        """True if the images have several shapes."""
        return isinstance(self.images, Ragged)

    @property
    def is_on_disk(self) -> bool:
        """True if the images stay on the disk."""
        return isinstance(self.images, ImagesOnDisk)

    @property
    def copied(self) -> "Part":
        """A copy with its images as an array."""
        return Part(np.asarray(self.images), self.targets, self.names)

    @property
    def in_file_order(self) -> "Part":
        """The same images in the order in which they are read fastest."""
        if not self.is_on_disk:
            return self
        order = np.argsort(self.images.rows)
        return Part(self.images.take(order), self.targets[order])

    @property
    def memory(self) -> int:
        """The size of all images and targets that are in memory, in bytes."""
        return int(self.targets.nbytes) + (0 if self.is_on_disk else self.size)

    @property
    def size(self) -> int:
        """The size of all images, in bytes."""
        return int(self.images.nbytes if self.is_ragged else np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """The size of all images and targets, in bytes."""
        return self.size + int(self.targets.nbytes)

    def each(self) -> Iterator[Images]:
        """Yield each image, (height, width, channels)."""
        if self.is_ragged:
            yield from self.images
            return
        for images in self.chunks():
            yield from images

    def chunks(self) -> Iterator[Images]:
        """Yield all images in chunks of about `CHUNK` bytes, so that they are never all copied.

        Each chunk has the form that `pixels_of` returns.
        """
        count = max(1, CHUNK // max(1, self.size // max(1, len(self))))
        slices = [slice(first, first + count) for first in range(0, len(self), count)]
        for number, rows in enumerate(slices):
            if self.is_on_disk:  # so that the next chunk is read while the caller uses this one
                for expected in slices[number : number + 2]:
                    self._expect(expected)
            yield self._some(rows)

    def _some(self, rows: slice) -> Images:
        return pixels_of(self.images, rows)

    def _expect(self, rows: slice) -> None:
        """Begin to read these images from the disk."""
        self.images.expect(self.images.rows[rows])

    def take(self, rows: NDArray[np.intp]) -> "Part":
        """Return these rows; only `ImagesOnDisk` are not copied."""
        return Part(
            take_rows(self.images, rows),
            take_rows(self.targets, rows),
            take_names(self.names, rows),
        )


class PartSubset(Part):
    """Some rows of a part.

    Each access to `images` copies them, and so does each access to `targets` that are not one
    number an image, such as masks; use `whole` and `rows` to avoid that.
    """

    def __init__(self, whole: Part, rows: Rows) -> None:
        for name, value in (("whole", whole), ("rows", rows)):
            object.__setattr__(self, name, value)

    whole: Part
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> Arrays:
        """A copy of the selected images."""
        return take_rows(self.whole.images, self.rows)

    @property
    def targets(self) -> Arrays:
        """The selected targets."""
        are_numbers = isinstance(self.whole.targets, np.ndarray) and self.whole.targets.ndim == 1
        return self._numbers if are_numbers else take_rows(self.whole.targets, self.rows)

    @cached_property
    def _numbers(self) -> Arrays:
        return take_rows(self.whole.targets, self.rows)

    @cached_property
    def names(self) -> Names:
        """The file of each selected image."""
        return take_names(self.whole.names, self.rows)

    def take(self, rows: Rows) -> Part:
        """Return a copy of these rows, which are indices into the selected ones."""
        return self.whole.take(self.rows[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels), the largest of each if images have several shapes."""
        return len(self.rows), *self.whole.shape[1:]

    @property
    def is_ragged(self) -> bool:
        """True if the images have several shapes."""
        return self.whole.is_ragged

    @property
    def is_on_disk(self) -> bool:
        """True if the images stay on the disk."""
        return self.whole.is_on_disk

    def _some(self, rows: slice) -> Images:
        return pixels_of(self.whole.images, self.rows[rows])

    def _expect(self, rows: slice) -> None:
        self.whole.images.expect(self.whole.images.rows[self.rows[rows]])


class JoinedPart(Part):
    """The images of `first`, followed by those of `second`, which have the same shape.

    Images are copied only by `take` and by `images`.
    """

    def __init__(self, first: Part, second: Part) -> None:
        targets = np.concatenate([first.targets, second.targets])
        for name, value in (("first", first), ("second", second), ("targets", targets)):
            object.__setattr__(self, name, value)

    first: Part
    second: Part

    @property
    def is_ragged(self) -> bool:
        """False: for images of several shapes, `join_parts` builds an ordinary `Part`."""
        return False

    @property
    def is_on_disk(self) -> bool:
        """False: these images are not in one file."""
        return False

    @property
    def images(self) -> Arrays:
        """A copy of all images."""
        return self.take(np.arange(len(self))).images

    @cached_property
    def names(self) -> Names:
        """The file of each image."""
        return join_names(self.first.names, self.second.names)

    def take(self, rows: Rows) -> Part:
        """Return a copy of these rows."""
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        count = max(1, CHUNK // max(1, self.size // max(1, len(self))))
        for start in range(0, len(rows), count):
            images[start : start + count] = self._some(rows[start : start + count])
        return Part(images, self.targets[rows], take_names(self.names, rows))

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels)."""
        return len(self.targets), *self.first.shape[1:]

    def _some(self, rows: slice | Rows) -> Images:
        row_numbers = np.arange(len(self))[rows]
        is_first = row_numbers < len(self.first)
        images: Images = np.empty((len(row_numbers), *self.shape[1:]), np.uint8)
        images[is_first] = self.first.images[row_numbers[is_first]]
        images[~is_first] = self.second.images[row_numbers[~is_first] - len(self.first)]
        return images


def join_names(first: Names, second: Names) -> Names:
    """Concatenate the names of two parts; None if either has none."""
    return None if first is None or second is None else first + second


def join_parts(first: Part, second: Part) -> Part:
    """Join two parts; images are copied only if their shapes differ."""
    each = (first.images, first.targets, second.images, second.targets)
    if not any(isinstance(array, Ragged) for array in each) and (
        first.shape[1:] == second.shape[1:]
    ):
        return JoinedPart(first, second)

    def behind(values: Arrays, more: Arrays) -> Arrays:
        if (
            isinstance(values, Ragged)
            or isinstance(more, Ragged)
            or values.shape[1:] != more.shape[1:]
        ):
            return Ragged.of([*values, *more])
        return np.concatenate([values, more])

    return Part(
        behind(first.images, second.images),
        behind(first.targets, second.targets),
        join_names(first.names, second.names),
    )


@dataclass(frozen=True)
class Decoded:
    """A whole data set, decoded, but not split yet.

    `val` and `test` are None if the files have no such part.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    skipped: int = 0
    """The number of unreadable images that were skipped."""
    val: Part | None = None
    value_range: tuple[float, float] | None = None
    """The values that were mapped to 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines on how the images were read, which are printed when a search starts."""
    left_out: tuple[LeftOut, ...] = ()
    """The unreadable images that were skipped."""
    groups: Labels | None = None
    """The group of each image, across the parts; images of one group are in the same drawn set.

    None if the data has no groups. Copies are not considered here.
    """

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which their images are numbered."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def numbers(self) -> dict[str, Rows]:
        """The numbers of each part's images, which are numbered consecutively across the parts."""
        ends = np.cumsum([len(part) for part in self.parts.values()])
        return dict(zip(self.parts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of pixels, targets and class names."""
        digest = DataDigest(self.classes, self.value_range)
        for title, part in self.parts.items():
            digest.begin(title, part.shape)
            for images in part.chunks():
                digest.add(images)
            digest.end(part.images, part.targets)
        return digest.fingerprint


class DataDigest:
    """Computes `Decoded.fingerprint`, also while the images are decoded.

    The parts are added one after another, in the order of `Decoded.parts`.
    """

    def __init__(self, classes: Iterable[str], value_range: tuple[float, float] | None) -> None:
        self._hash = hashlib.sha256("\0".join(classes).encode())
        if value_range not in (None, SIXTEEN_BITS):
            self._hash.update(repr(value_range).encode())

    def begin(self, title: str, shape: tuple[int, ...]) -> None:
        """Begin a part; `shape` is that of all its images."""
        self._hash.update(f"{title if title == 'val' else ''}{shape}".encode())

    def add(self, images: Images) -> None:
        """Add the next images of the part."""
        self._hash.update(np.ascontiguousarray(images).data)

    def end(self, images: Arrays, targets: Arrays) -> None:
        """End a part, whose images have all been added."""
        for values in (images, targets):
            if isinstance(values, Ragged):
                self._hash.update(values.shapes.data)
        flat = targets.buffer if isinstance(targets, Ragged) else targets
        self._hash.update(np.ascontiguousarray(flat).data)

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of the parts so far."""
        return self._hash.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A data set split for training.

    `test` is None in the copy that trials get, so that they cannot use it.

    With `folds`, no network is trained on all of `train`: both `train` and `val` have all images
    outside the test set, because each image is predicted by the network that was not trained on it.
    `fold` returns the data set of one network.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part | None
    fingerprint: str
    skipped: int = 0
    """The number of unreadable images that were skipped."""
    folds: int | None = None
    split_seed: int = 0
    value_range: tuple[float, float] | None = None
    """The values that were mapped to 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines on how the images were read and split, which are printed when a search starts."""
    side: int | None = None
    """The height and width, in pixels, of training inputs if images have mixed sizes.

    None if all images have the same size, which is then that of the inputs.
    """

    strata: Labels | None = None
    """With folds, the stratum of each training image: each fold gets its share of every stratum.

    None without folds, and if the targets are class numbers, which are then the strata.
    """
    groups: Labels | None = None
    """With folds, the group of each training image; no fold divides a group. None for no groups."""
    left_out: tuple[LeftOut, ...] = ()
    """The first `MAX_LEFT_OUT` of the files and folders that are unreadable or not used."""
    left_out_count: int = 0
    """The number of all files and folders that are unreadable or not used."""
    attributes: Attributes | None = None
    """The attributes by which results are shown for groups of images; None if there are none."""

    def group_numbers(self, part: Part) -> Labels | None:
        """Return the number of each image's group by `attributes`, (images,); None without any."""
        if self.attributes is None:
            return None
        return self.attributes.numbers(part.names or ("",) * len(part))

    def fold(self, number: int, seed: int) -> "Dataset":
        """Return the data set for the network of one fold, numbered from 1.

        The validation set is this fold, and the training set all other folds. `seed` is the
        trial's seed; each seed divides the images differently.

        Raises:
            ValueError: there are no folds.
        """
        if self.folds is None:
            raise ValueError(
                f"the data set '{self.name}' is not divided into folds. Set data.folds."
            )
        if seed not in self._divided:
            self._divided.clear()  # one seed is enough: trials of a search share it
            self._divided[seed] = [
                self._without(rows)
                for rows in in_folds(self._strata, self.folds, (self.split_seed, seed), self.groups)
            ]
        return self._divided[seed][number - 1]

    def of_one_network(self) -> "Dataset":
        """Return the data of a single network; with folds, that of the first fold."""
        return self if self.folds is None else self.fold(1, 0)

    @property
    def least_trained(self) -> int:
        """The smallest number of images on which a network is trained.

        With folds, some networks are trained on one image less than others.
        """
        return len(self.train) - (0 if self.folds is None else -(-len(self.train) // self.folds))

    @property
    def _strata(self) -> Labels:
        strata: Labels = self.train.targets if self.strata is None else self.strata
        return strata

    @cached_property
    def _divided(self) -> "dict[int, list[Dataset]]":
        """The folds' data sets, by seed."""
        return {}

    def _without(self, rows: Rows) -> "Dataset":
        """Return the data set with these rows as validation set, and the others as training set."""
        training_rows = np.setdiff1d(np.arange(len(self.train)), rows)
        return dataclasses.replace(
            self,
            train=PartSubset(self.train, training_rows),
            val=PartSubset(self.train, rows),
            folds=None,
            groups=None,
        )

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width) of the inputs of networks in training."""
        _, height, width, channels = self.train.shape
        if self.side is not None:
            return channels, self.side, self.side
        return channels, height, width

    @property
    def in_memory(self) -> "Dataset":
        """A copy whose images are in memory; the same data set if they already are."""
        if not self.train.is_on_disk:
            return self
        train = self.train.copied
        val = train if self.val is self.train else self.val.copied
        test = None if self.test is None else self.test.copied
        return dataclasses.replace(self, train=train, val=val, test=test)

    @property
    def sealed(self) -> "Dataset":
        """A copy without the test set."""
        return dataclasses.replace(self, test=None)

    @cached_property
    def channel_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and standard deviation of each channel over the training images.

        Pixels are scaled to 0 to 1; both results are float32 (channels,).
        """
        levels = np.arange(256) / 255
        counts = self._level_counts()
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        deviation = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
        return mean.astype(np.float32), np.maximum(deviation, 1e-3).astype(np.float32)

    def _level_counts(self) -> NDArray[np.int64]:
        """Count each channel's 256 levels in the training images, (channels, 256).

        For `ImagesOnDisk`, of which the count takes minutes, it is stored in the cache.
        """
        path: Path | None = None
        if self.train.is_on_disk and (folder := self.train.images.folder) is not None:
            path = folder / f"levels-{self.train.fingerprint}.npy"
            with suppress(OSError, EOFError, ValueError):
                stored: NDArray[np.int64] = np.load(path, allow_pickle=False)
                return stored
        counts = np.zeros((self.image[0], 256), np.int64)
        for images in self.train.in_file_order.chunks():
            for channel, count in enumerate(counts):
                count += np.bincount(images[..., channel].ravel(), minlength=256)
        if path is not None:
            keep_array(path, counts)
        return counts
