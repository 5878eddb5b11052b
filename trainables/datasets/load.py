"""Loading: from a `DataConfig` to a split `Dataset`, each data set decoded once (see `cache`)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.catalog.datasets import DATASETS
from trainables.catalog.tasks import DEFAULT_TASK, TASKS
from trainables.config import DataConfig
from trainables.datasets.arrays import MAX_LEFT_OUT, Dataset, Decoded, Joined, Part, joined
from trainables.datasets.cache import cached
from trainables.datasets.layout import Layout, refused
from trainables.datasets.memory import require_memory
from trainables.datasets.sources import decode, files, find
from trainables.datasets.splits import split_off
from trainables.datasets.targets import Targets
from trainables.errors import ConfigError, DataError

MAX_SIDE = 224
"""The largest side that networks see of images of mixed sizes, unless asked otherwise."""


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Decode (or find in the cache), check and split a data set.

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
        require_memory(
            sum(len(part) for part in (decoded.train, decoded.val, decoded.test) if part),
            decoded.train.shape[1:],
        )
    dataset = split(decoded, config)
    targets.check_split(dataset)
    if found is None:
        return dataset
    left_out = (*found.left_out, *decoded.left_out)
    return replace(
        dataset,
        remarks=(*found.remarks, *dataset.remarks),
        left_out=left_out[:MAX_LEFT_OUT],
        left_out_count=len(left_out),
    )


def split(decoded: Decoded, config: DataConfig) -> Dataset:
    """Divide the images into the parts of a data set.

    First the test part is drawn (unless given), then the validation part (unless given, or there
    are folds), then `train_limit`; each from `config.split_seed`. With folds, a given validation
    part is divided among them like the training part.
    """
    targets: Targets = TASKS[config.task].load_targets()
    strata = targets.strata(decoded.train.targets)
    generator = np.random.default_rng(config.split_seed)
    train, val, test, remarks = decoded.train, decoded.val, decoded.test, list(decoded.remarks)
    if val is not None and config.folds is not None:
        train, val = joined(train, val), None
        strata = targets.strata(train.targets)
        remarks.append(
            "note: with folds, the images of the given validation part are divided among them too."
        )
    rows = np.arange(len(train))
    if test is None:
        rest, drawn = split_off(strata, round(config.test_fraction * len(train)), generator)
        rows, test = rest, train.take(drawn)
    if val is not None:
        val, told = _limited(val, config.val_limit, generator, targets)
        remarks += told
        if config.val_fraction != DataConfig().val_fraction:
            remarks.append("note: the validation part is given: data.val_fraction has no say.")
    elif config.folds is None:
        wanted = round(config.val_fraction * len(decoded.train))
        rest, drawn = split_off(strata[rows], min(wanted, config.val_limit), generator)
        rows, val = rows[rest], train.take(rows[drawn])
    if config.train_limit is not None and config.train_limit < len(rows):
        _, kept = split_off(strata[rows], config.train_limit, generator, left=0)
        rows = rows[kept]
    train = train.take(rows) if len(rows) < len(train) or isinstance(train, Joined) else train
    return Dataset(
        config.name,
        decoded.classes,
        train,
        train if val is None else val,
        test,
        decoded.fingerprint,
        decoded.skipped,
        config.folds,
        config.split_seed,
        decoded.value_range,
        tuple(remarks),
        _side(decoded, config),
        None if config.folds is None or strata is decoded.train.targets else strata[rows],
    )


def _limited(
    val: Part, limit: int, generator: np.random.Generator, targets: Targets
) -> tuple[Part, list[str]]:
    """Return a given validation part, cut to the limit, and the remarks on it."""
    if (count := len(val)) <= limit:
        return val, []
    _, kept = split_off(targets.strata(val.targets), limit, generator, left=0)
    told = (
        f"note: {len(kept):,} of the {count:,} given validation images are used "
        f"(--set data.val_limit={count} uses all)."
    )
    return val.take(kept), [told]


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
        return replace(config, name=name, root=str(_expand_home(path or ".")), task=task)
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
