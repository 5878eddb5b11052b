"""Images and targets as arrays: a loader's result (`Decoded`) and a trial's data (`Dataset`).

Where all images, or all targets, are of one shape, they are one array. Otherwise they are `Ragged`.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.splits import Labels as Labels
from trainables.datasets.splits import Rows, in_folds

Images = NDArray[np.uint8]
Arrays = Any
"""An array whose first axis counts images, or `Ragged` arrays, one for each image."""
Allocate = Callable[[str, tuple[int, ...]], Images]
"""A function that gives the array for a part's images, from the part's name and the shape.

The shape is (count, height, width, channels).
"""
CHUNK = 4_000_000
"""The bytes of images that are worked on at once where all of them are gone through."""
SIXTEEN_BITS = (0, 65535)
"""The range of values whose images were the same before ranges were looked at.

The fingerprint leaves it out, so that it is the same as then.
"""
MAX_LEFT_OUT = 200
"""The largest number of files left out that are named one by one."""
TITLES = {"train": "training", "val": "validation", "test": "test"}
"""The parts, in words."""

Names = tuple[str, ...] | None
"""The file of each image, relative to the data set's root, with `/` between folders.

None for images that are no files. They are as the system has them: `printable` is for people.
"""


@dataclass(frozen=True)
class Ragged:
    """Arrays of several shapes, of one type and number of axes: images of mixed sizes, boxes.

    They lie behind one another in one buffer: that is one map of a file and one object of Ray's,
    however many arrays are in it. The buffer may be a tensor too; `each[number]` is then one.
    """

    buffer: Any
    """All values, (values,)."""
    shapes: NDArray[np.int64]
    """The shape of each array, (count, axes)."""

    @classmethod
    def of(cls, arrays: Iterable[NDArray[Any]]) -> Self:
        """Put these arrays, at least one, behind one another."""
        each = list(arrays)
        return cls(
            np.concatenate([array.ravel() for array in each]),
            np.array([array.shape for array in each], dtype=np.int64),
        )

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The place in the buffer behind each array, (count,)."""
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
        """(count, and the largest size of each axis)."""
        return len(self), *map(int, self.shapes.max(axis=0, initial=0))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return int(self.buffer.nbytes)

    def take(self, rows: Rows) -> "Ragged":
        """Return a copy of these arrays."""
        if not len(rows):
            return Ragged(self.buffer[:0], self.shapes[:0])
        return Ragged.of(self[int(row)] for row in rows)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder of the data set that is not read."""

    path: str
    """Relative to the data set's root, printable."""
    reason: str


def derived(fingerprint: str, change: NDArray[np.int64]) -> str:
    """Return the fingerprint of data of which something else is made than these numbers say."""
    return hashlib.sha256(fingerprint.encode() + change.tobytes()).hexdigest()[:16]


def in_memory(title: str, shape: tuple[int, ...]) -> Images:
    """Return a new array."""
    return np.empty(shape, np.uint8)


def taken(values: Arrays, rows: Any) -> Arrays:
    """Return a copy of these rows."""
    if isinstance(values, Ragged):
        return values.take(np.arange(len(values))[rows])
    return np.ascontiguousarray(values[rows])


def taken_names(names: Names, rows: Rows) -> Names:
    """Return the names of these rows."""
    return None if names is None else tuple(names[row] for row in rows.tolist())


def pixels_of(images: Arrays, rows: Any) -> Images:
    """Return these images; of several shapes their pixels in a row, (pixels, channels)."""
    if isinstance(images, Ragged):
        found: Images = taken(images, rows).buffer.reshape(-1, images.shapes[0, -1])
        return found
    some: Images = images[rows]
    return some


@dataclass(frozen=True)
class Part:
    """Images and their targets, which a task knows how to read.

    Images are uint8 (count, height, width, channels), or `Ragged` of (height, width, channels). The
    targets of classification are class numbers, int64 (count,).
    """

    images: Arrays
    targets: Arrays
    names: Names = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over the images."""
        digest = hashlib.sha256(str(self.shape).encode())
        if self.is_ragged:
            digest.update(self.images.shapes.data)
        for images in self.chunks():
            digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels); of images of several shapes the largest of each."""
        shape: tuple[int, ...] = self.images.shape
        return shape

    @property
    def is_ragged(self) -> bool:
        """True if images are of several shapes."""
        return isinstance(self.images, Ragged)

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return int(self.images.nbytes if self.is_ragged else np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of all images and targets."""
        return self.size + int(self.targets.nbytes)

    def each(self) -> Iterator[Images]:
        """Yield each image, (height, width, channels)."""
        if self.is_ragged:
            yield from self.images
            return
        for images in self.chunks():
            yield from images

    def chunks(self) -> Iterator[Images]:
        """Yield all images (`pixels_of`), some at a time: no copy of them all is made."""
        count = max(1, CHUNK // max(1, self.size // max(1, len(self))))
        for first in range(0, len(self), count):
            yield self._some(slice(first, first + count))

    def _some(self, rows: slice) -> Images:
        return pixels_of(self.images, rows)

    def take(self, rows: NDArray[np.intp]) -> "Part":
        """Return a copy that holds only these rows."""
        return Part(
            taken(self.images, rows), taken(self.targets, rows), taken_names(self.names, rows)
        )


class Selected(Part):
    """Some rows of a part.

    Each use of `images` copies them; `whole` and `rows` are the way without a copy.
    """

    def __init__(self, whole: Part, rows: Rows) -> None:
        for name, value in (
            ("whole", whole),
            ("rows", rows),
            ("targets", taken(whole.targets, rows)),
        ):
            object.__setattr__(self, name, value)

    whole: Part
    rows: Rows

    @property
    def images(self) -> Arrays:
        """A copy of the selected images."""
        return taken(self.whole.images, self.rows)

    @cached_property
    def names(self) -> Names:
        """The file of each selected image."""
        return taken_names(self.whole.names, self.rows)

    def take(self, rows: Rows) -> Part:
        """Return a copy that holds only these rows, counted among the selected."""
        return self.whole.take(self.rows[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels); of images of several shapes the largest of each."""
        return len(self.rows), *self.whole.shape[1:]

    @property
    def is_ragged(self) -> bool:
        """True if images are of several shapes."""
        return self.whole.is_ragged

    def _some(self, rows: slice) -> Images:
        return pixels_of(self.whole.images, self.rows[rows])


class Joined(Part):
    """The images of two parts, those of `other` behind those of `first`.

    They are copied only into what `take` returns, or where all of them are asked for (`images`).
    """

    def __init__(self, first: Part, other: Part) -> None:
        targets = np.concatenate([first.targets, other.targets])
        for name, value in (("first", first), ("other", other), ("targets", targets)):
            object.__setattr__(self, name, value)

    first: Part
    other: Part

    @property
    def is_ragged(self) -> bool:
        """True if images are of several shapes; such parts are joined by `joined`."""
        return False

    @property
    def images(self) -> Arrays:
        """A copy of all images."""
        return self.take(np.arange(len(self))).images

    @cached_property
    def names(self) -> Names:
        """The file of each image."""
        return joined_names(self.first.names, self.other.names)

    def take(self, rows: Rows) -> Part:
        """Return a copy that holds only these rows."""
        made = np.empty((len(rows), *self.shape[1:]), np.uint8)
        count = max(1, CHUNK // max(1, self.size // max(1, len(self))))
        for start in range(0, len(rows), count):
            made[start : start + count] = self._some(rows[start : start + count])
        return Part(made, self.targets[rows], taken_names(self.names, rows))

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, height, width, channels)."""
        return len(self.targets), *self.first.shape[1:]

    def _some(self, rows: slice | Rows) -> Images:
        wanted = np.arange(len(self))[rows]
        is_first = wanted < len(self.first)
        found: Images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        found[is_first] = self.first.images[wanted[is_first]]
        found[~is_first] = self.other.images[wanted[~is_first] - len(self.first)]
        return found


def joined_names(first: Names, other: Names) -> Names:
    """Return the names of two parts; None if either has none."""
    return None if first is None or other is None else first + other


def joined(first: Part, other: Part) -> Part:
    """Return the images of two parts as one; those of one size are not copied for it."""
    each = (first.images, first.targets, other.images, other.targets)
    if not any(isinstance(values, Ragged) for values in each) and (
        first.shape[1:] == other.shape[1:]
    ):
        return Joined(first, other)

    def behind(one: Arrays, two: Arrays) -> Arrays:
        if isinstance(one, Ragged) or isinstance(two, Ragged) or one.shape[1:] != two.shape[1:]:
            return Ragged.of([*one, *two])
        return np.concatenate([one, two])

    return Part(
        behind(first.images, other.images),
        behind(first.targets, other.targets),
        joined_names(first.names, other.names),
    )


@dataclass(frozen=True)
class Decoded:
    """A whole data set as its files give it.

    `val` and `test` are None where the files have no such part of their own.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    skipped: int = 0
    """Unreadable images that were left out."""
    val: Part | None = None
    value_range: tuple[float, float] | None = None
    """The values that became 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines on how the images were read, for whoever begins a search."""
    left_out: tuple[LeftOut, ...] = ()
    """The unreadable images that were left out."""

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which their images are counted through."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in found.items() if part is not None}

    @property
    def numbers(self) -> dict[str, Rows]:
        """The numbers of each part's images, counted through the parts."""
        ends = np.cumsum([len(part) for part in self.parts.values()])
        return dict(zip(self.parts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 over pixels, targets and class names."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        if self.value_range not in (None, SIXTEEN_BITS):
            digest.update(repr(self.value_range).encode())
        for title, part in (("", self.train), ("val", self.val), ("", self.test)):
            if part is not None:
                digest.update(f"{title}{part.shape}".encode())
                for images in part.chunks():
                    digest.update(np.ascontiguousarray(images).data)
                for values in (part.images, part.targets):
                    if isinstance(values, Ragged):
                        digest.update(values.shapes.data)
                targets = part.targets
                flat = targets.buffer if isinstance(targets, Ragged) else targets
                digest.update(np.ascontiguousarray(flat).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A data set split for training.

    `test` is None in the copy that trials get, so that they cannot look at it.

    With `folds`, no network is trained on `train`: it holds every image that is not of the test
    part, and so does `val`, because each of them is validated by the one network that has not seen
    it. `fold` gives what a network is trained on and validated with.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part | None
    fingerprint: str
    skipped: int = 0
    """Unreadable images that were left out."""
    folds: int | None = None
    split_seed: int = 0
    value_range: tuple[float, float] | None = None
    """The values that became 0 and 255, for images of more than 8 bits."""
    remarks: tuple[str, ...] = ()
    """Lines on how the images were read and divided, for whoever begins a search."""
    side: int | None = None
    """The height and width, in pixels, that networks see in training of images of mixed sizes.

    None where all images have one size, which is then that.
    """

    strata: Labels | None = None
    """With folds the group of each training image, of which every fold has its share.

    None where the targets are class numbers, which are the groups, and without folds.
    """
    groups: Labels | None = None
    """With folds the group of each training image that no fold divides; None without groups."""
    left_out: tuple[LeftOut, ...] = ()
    """The files and folders that are not read, unreadable images too; `MAX_LEFT_OUT` of them."""
    left_out_count: int = 0
    """The number of all that is left out."""

    def fold(self, number: int, seed: int) -> "Dataset":
        """Return the data set of the network of one fold, numbered from 1.

        It has this fold's images to validate, and those of the others to train on. `seed` is the
        trial's: with another, the images are divided in another way.

        Raises:
            ValueError: there are no folds.
        """
        if self.folds is None:
            raise ValueError(f"the data set '{self.name}' is not in folds")
        if seed not in self._divided:
            self._divided.clear()  # trials of a search share their seed
            self._divided[seed] = [
                self._without(rows)
                for rows in in_folds(self._strata, self.folds, (self.split_seed, seed), self.groups)
            ]
        return self._divided[seed][number - 1]

    def of_one_network(self) -> "Dataset":
        """Return the data of one network: that of the first fold where there are folds."""
        return self if self.folds is None else self.fold(1, 0)

    @property
    def least_trained(self) -> int:
        """The smallest number of images that a network is trained on.

        With folds, one network may have an image less than others.
        """
        return len(self.train) - (0 if self.folds is None else -(-len(self.train) // self.folds))

    @property
    def _strata(self) -> Labels:
        found: Labels = self.train.targets if self.strata is None else self.strata
        return found

    @cached_property
    def _divided(self) -> "dict[int, list[Dataset]]":
        """The folds' data sets, by seed."""
        return {}

    def _without(self, rows: Rows) -> "Dataset":
        """Return the data set with these rows to validate, and all others to train on."""
        others = np.setdiff1d(np.arange(len(self.train)), rows)
        return dataclasses.replace(
            self,
            train=Selected(self.train, others),
            val=Selected(self.train, rows),
            folds=None,
            groups=None,
        )

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image, as networks see it in training."""
        _, height, width, channels = self.train.shape
        if self.side is not None:
            return channels, self.side, self.side
        return channels, height, width

    @property
    def sealed(self) -> "Dataset":
        """A copy without the test part."""
        return dataclasses.replace(self, test=None)

    @cached_property
    def channel_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and standard deviation of each channel over the training images.

        Pixels count from 0 to 1; both are float32 (channels,).
        """
        levels = np.arange(256) / 255
        counts = np.zeros((self.image[0], 256), np.int64)
        for images in self.train.chunks():
            for channel, count in enumerate(counts):
                count += np.bincount(images[..., channel].ravel(), minlength=256)
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        deviation = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
        return mean.astype(np.float32), np.maximum(deviation, 1e-3).astype(np.float32)
