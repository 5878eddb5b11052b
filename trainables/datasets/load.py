"""Loading: from a `DataConfig` to a split `Dataset`, each data set decoded once (see `cache`)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.catalog.datasets import DATASETS
from trainables.catalog.tasks import DEFAULT_TASK, TASKS
from trainables.config import DataConfig
from trainables.datasets.arrays import (
    MAX_LEFT_OUT,
    TITLES,
    Dataset,
    Decoded,
    Joined,
    Part,
    derived,
    joined,
)
from trainables.datasets.cache import cached
from trainables.datasets.layout import Layout, refused
from trainables.datasets.sources import decode, files, find
from trainables.datasets.splits import Labels, Rows, divisible, split_off, split_off_groups
from trainables.datasets.targets import Targets
from trainables.errors import ConfigError, DataError, counted
from trainables.memory import require_memory

MAX_SIDE = 224
"""The largest side that networks see of images of mixed sizes, unless asked otherwise."""


TOLERATED = 0.1
"""The share by which a part's size may be off without a word."""


@dataclass(frozen=True)
class Whole:
    """A data set that is decoded and checked, and not divided yet."""

    decoded: Decoded
    layout: Layout | None
    """The layout that was found of a folder of the user's; None for another data set."""


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Decode (or find in the cache), check and split a data set.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: files that are not there.
    """
    return divide(read(config, download=download), config)[0]


def read(config: DataConfig, *, download: bool = False) -> Whole:
    """Decode (or find in the cache) and check a data set.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: files that are not there.
    """
    found = find(config)
    targets: Targets = TASKS[config.task].load_targets()
    try:
        decoded = _decoded(config, found, download=download)
    except DataError as error:
        if found is None:
            raise
        more = targets.about_sizes(found.sizes, found.parts)
        raise refused([*str(error).splitlines(), *more]) from error
    targets.check(decoded, config)
    if config.train_limit is None and not decoded.train.is_ragged:
        require_memory(sum(map(len, decoded.parts.values())), decoded.train.shape[1:])
    return Whole(decoded, found)


def divide(whole: Whole, config: DataConfig, groups: Labels | None = None) -> tuple[Dataset, Rows]:
    """Split a data set; return it, and for each of its images the number that it had before.

    First the test part is drawn (unless given), then the validation part (unless given, or there
    are folds), then `train_limit`; each from `config.split_seed`. With folds, a given validation
    part is divided among them like the training part.

    Images are counted through `parts`, before and after. `groups` are those of all images before:
    none is divided wherever that can be.

    Raises:
        DataError: the images do not suffice.
    """
    dataset, numbers = _divided(whole.decoded, config, groups)
    TASKS[config.task].load_targets().check_split(dataset)
    if whole.layout is not None:
        left_out = (*whole.layout.left_out, *whole.decoded.left_out)
        dataset = replace(
            dataset,
            remarks=(*whole.layout.remarks, *dataset.remarks),
            left_out=left_out[:MAX_LEFT_OUT],
            left_out_count=len(left_out),
        )
    return dataset, numbers


def _divided(decoded: Decoded, config: DataConfig, groups: Labels | None) -> tuple[Dataset, Rows]:
    """Return the same as `divide`, without the words on what was found of a folder."""
    train, val, test, numbers = decoded.train, decoded.val, decoded.test, decoded.numbers
    remarks = list(decoded.remarks)
    if val is not None and config.folds is not None:
        train, val = joined(train, val), None
        numbers["train"] = np.concatenate([numbers["train"], numbers.pop("val")])
        remarks.append(
            "note: with folds, the images of the given validation part are divided among them too."
        )
    draw = _Draw(train, numbers["train"], groups, config)
    behind = config.folds or 1 + (val is None)  # the groups that are needed once a test is drawn
    remarks += draw.keep_together(behind + (test is None))
    rows = np.arange(len(train))
    if test is None:
        count = round(config.test_fraction * len(train))
        rows, test, numbers["test"] = draw.part(rows, count, left=behind)
        remarks += draw.off("test", len(test), count)
    if val is not None:
        val, kept, told = _limited(val, config, draw)
        remarks, numbers["val"] = [*remarks, *told], numbers["val"][kept]
    elif config.folds is None:
        count = min(round(config.val_fraction * len(decoded.train)), config.val_limit)
        rows, val, numbers["val"] = draw.part(rows, count)
        remarks += draw.off("validation", len(val), count)
    if config.train_limit is not None and config.train_limit < len(rows):
        _, kept = split_off(draw.strata[rows], config.train_limit, draw.generator, left=0)
        rows = rows[kept]
    train = train.take(rows) if len(rows) < len(train) or isinstance(train, Joined) else train
    in_folds = config.folds is not None
    dataset = Dataset(
        config.name,
        decoded.classes,
        train,
        train if val is None else val,
        test,
        decoded.fingerprint if draw.groups is None else derived(decoded.fingerprint, draw.groups),
        decoded.skipped,
        config.folds,
        config.split_seed,
        decoded.value_range,
        tuple(remarks),
        _side(decoded, config),
        draw.strata[rows] if in_folds and draw.strata is not decoded.train.targets else None,
        draw.groups[rows] if in_folds and draw.groups is not None else None,
    )
    numbers["train"] = numbers["train"][rows]
    return dataset, np.concatenate([numbers[name] for name in TITLES if name in numbers])


class _Draw:
    """Draws parts from the training images of a data set."""

    def __init__(
        self, train: Part, numbers: Rows, groups: Labels | None, config: DataConfig
    ) -> None:
        """`groups` are those of all images, of which the training images have these numbers."""
        targets: Targets = TASKS[config.task].load_targets()
        self.train, self.numbers = train, numbers
        self.strata = targets.strata(train.targets)
        self.groups = None if groups is None else groups[numbers]
        self.generator = np.random.default_rng(config.split_seed)

    def keep_together(self, needed: int) -> list[str]:
        """Dissolve groups of classes that have fewer than are needed; return a line on the others.

        Without any, parts are drawn as if there never were groups.
        """
        if self.groups is None:
            return []
        self.groups = divisible(self.strata, self.groups, needed)
        sizes = np.bincount(self.groups)
        several = sizes[sizes > 1]
        if not len(several):
            self.groups = None
            return []
        return [
            f"note: {several.sum():,} images are copies or near copies of one another, in "
            f"{counted(len(several), 'group')}: the parts were drawn so that none is divided."
        ]

    def part(self, rows: Rows, count: int, *, left: int = 1) -> tuple[Rows, Part, Rows]:
        """Draw a part of `count` of these rows; return the others, the part and its numbers.

        Of groups, `left` of each class stay among the others.
        """
        if self.groups is None:
            rest, drawn = split_off(self.strata[rows], count, self.generator)
        else:
            rest, drawn = split_off_groups(
                self.strata[rows], self.groups[rows], count, self.generator, left=left
            )
        return rows[rest], self.train.take(rows[drawn]), self.numbers[rows[drawn]]

    def off(self, part: str, drawn: int, count: int) -> list[str]:
        """Return a line if groups made a part much larger or smaller than was asked for."""
        if self.groups is None or abs(drawn - count) <= TOLERATED * count:
            return []
        return [
            f"note: the {part} part has {counted(drawn, 'image')}, where {count:,} were asked for: "
            "each class is in it, and no group of copies is divided."
        ]


def _limited(val: Part, config: DataConfig, draw: _Draw) -> tuple[Part, Rows, list[str]]:
    """Return a given validation part, cut to the limit, its rows, and the remarks on it."""
    told = (
        ["note: the validation part is given: data.val_fraction has no say."]
        if config.val_fraction != DataConfig().val_fraction
        else []
    )
    if (count := len(val)) <= config.val_limit:
        return val, np.arange(count), told
    targets: Targets = TASKS[config.task].load_targets()
    _, kept = split_off(targets.strata(val.targets), config.val_limit, draw.generator, left=0)
    cut = (
        f"note: {len(kept):,} of the {count:,} given validation images are used "
        f"(--set data.val_limit={count} uses all)."
    )
    return val.take(kept), kept, [cut, *told]


def _side(decoded: Decoded, config: DataConfig) -> int | None:
    """Return the side of what networks see in training of images of mixed sizes.

    Raises:
        DataError: `data.image_size` is larger than some of them.
    """
    parts = [part for part in (decoded.train, decoded.val) if part is not None and part.is_ragged]
    if not parts:
        return None
    least = int(min(part.images.shapes[:, :2].min() for part in parts))
    if config.image_size is not None and config.image_size > least:
        raise DataError(
            f"data.image_size {config.image_size} is larger than some images, whose smaller side "
            f"is {least} pixels. Use at most {least}, or leave such images out."
        )
    return config.image_size or min(MAX_SIDE, least)


def _decoded(config: DataConfig, found: Layout | None, *, download: bool) -> Decoded:
    """Return the whole data set, from the cache where its files are known.

    Files that are there are not downloaded again.
    """
    try:
        # What is wrong with a folder may lie in files that are no images, and tell no entry apart.
        if found is not None and found.problems:
            return decode(config, layout=found)
        if paths := files(config) if found is None else found.paths:
            return cached(
                config, paths, lambda allocate: decode(config, layout=found, allocate=allocate)
            )
        return decode(config)
    except DataError:
        if not download or found is not None:
            raise
        return decode(config, download=True)


def with_root(config: DataConfig, source: str, root: str, task: str = "") -> DataConfig:
    """Return the config for `--data SOURCE`.

    SOURCE is a data set's name, or `folder:PATH`, whose path becomes the root. Where no task is
    given it is the first that the data set serves.
    """
    name, _, path = source.partition(":")
    task = task or (DATASETS[name].tasks[0] if name in DATASETS else DEFAULT_TASK)
    if name == "folder":
        folder = str(_expand_home(path)) if path else ""  # Path("") would be where we happen to be
        return replace(config, name=name, root=folder, task=task)
    return replace(config, name=source, root=str(_expand_home(root)) if root else "", task=task)


def _expand_home(path: str) -> Path:
    """Return the path with `~` read as a shell reads it.

    Raises:
        ConfigError: no home folder is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"no home folder is known of '{path.partition('/')[0][:80]}' (--data). "
            "Write the folder in full."
        ) from error
