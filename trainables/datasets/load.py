"""Loading: from a `DataConfig` to a split `Dataset`, each data set decoded once (see `cache`)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Joined, Part
from trainables.datasets.cache import cached
from trainables.datasets.memory import require_memory
from trainables.datasets.sources import decode, files, left_out
from trainables.datasets.splits import split_off
from trainables.errors import ConfigError, DataError, printable


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Decode (or find in the cache), check and split a data set.

    Raises:
        DataError: images or labels that cannot be used.
        Unavailable: files that are not there.
    """
    decoded = _decoded(config, download=download)
    _check_classes(decoded)
    if config.train_limit is None:
        require_memory(
            sum(len(part) for part in (decoded.train, decoded.val, decoded.test) if part),
            decoded.train.shape[1:],
        )
    dataset = split(decoded, config)
    _check_folds(dataset)
    return replace(dataset, remarks=(*left_out(config), *dataset.remarks))


def split(decoded: Decoded, config: DataConfig) -> Dataset:
    """Divide the images into the parts of a data set.

    First the test part is drawn (unless given), then the validation part (unless given, or there
    are folds), then `train_limit`; each from `config.split_seed`. With folds, a given validation
    part is divided among them like the training part.
    """
    generator = np.random.default_rng(config.split_seed)
    train, val, test, remarks = decoded.train, decoded.val, decoded.test, list(decoded.remarks)
    if val is not None and config.folds is not None:
        train, val = Joined(train, val), None
        remarks.append(
            "note: with folds, the images of the given validation part are divided among them too."
        )
    rows = np.arange(len(train))
    if test is None:
        rest, drawn = split_off(train.labels, round(config.test_fraction * len(train)), generator)
        rows, test = rest, train.take(drawn)
    if val is not None:
        val, told = _limited(val, decoded.classes, config.val_limit, generator)
        remarks += told
        if config.val_fraction != DataConfig().val_fraction:
            remarks.append("note: the validation part is given: data.val_fraction has no say.")
    elif config.folds is None:
        wanted = round(config.val_fraction * len(decoded.train))
        rest, drawn = split_off(train.labels[rows], min(wanted, config.val_limit), generator)
        rows, val = rows[rest], train.take(rows[drawn])
    if config.train_limit is not None and config.train_limit < len(rows):
        _, kept = split_off(train.labels[rows], config.train_limit, generator, left=0)
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
    )


def _limited(
    val: Part, classes: tuple[str, ...], limit: int, generator: np.random.Generator
) -> tuple[Part, list[str]]:
    """Return a given validation part, cut to the limit, and the remarks on it."""
    told, count = [], len(val)
    if limit < count:
        _, kept = split_off(val.labels, limit, generator, left=0)
        val = val.take(kept)
        told.append(
            f"note: {len(val):,} of the {count:,} given validation images are used "
            f"(--set data.val_limit={count} uses all)."
        )
    for number in np.setdiff1d(np.arange(len(classes)), val.labels):
        told.append(
            f"warning: the validation part has no image of class {printable(classes[number])!r}."
        )
    return val, told


def _check_classes(decoded: Decoded) -> None:
    """Check that every class reaches every part that is drawn from the training images.

    Raises:
        DataError: it does not, or images, labels and classes do not fit together.
    """
    if len(decoded.classes) < 2:
        raise DataError(
            f"only one class found ({decoded.classes[0]!r}). A classifier needs two or more."
        )
    drawn = [
        "a training",
        *(
            f"a {title}"
            for title, part in (("validation", decoded.val), ("test", decoded.test))
            if part is None
        ),
    ]
    parts = (
        f"{', '.join(drawn[:-1])} and {drawn[-1]} image" if len(drawn) > 1 else "a training image"
    )
    for part in (decoded.train, decoded.val, decoded.test):
        if part is not None and (
            len(part.images) != len(part.labels)
            or part.labels.max(initial=0) >= len(decoded.classes)
        ):
            raise DataError(
                f"{len(part.images)} images, {len(part.labels)} labels and {len(decoded.classes)} "
                "classes do not fit together. The files are damaged."
            )
    counts: list[int] = np.bincount(decoded.train.labels, minlength=len(decoded.classes)).tolist()
    for name, count in zip(decoded.classes, counts, strict=True):
        if count < len(drawn):
            raise DataError(
                f"class {name!r} has {count} image{'s' * (count != 1)}; each class needs {parts}. "
                "Add images or remove the class."
            )


def _check_folds(dataset: Dataset) -> None:
    """Check that every class is in every fold.

    Raises:
        DataError: it is not.
    """
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    name, count = dataset.classes[counts.argmin()], int(counts.min())
    if dataset.folds is not None and count < dataset.folds:
        remedy = f"Use --folds {count}" if count > 1 else "Leave --folds out"
        raise DataError(
            f"class {name!r} has {count} image{'s' * (count != 1)} to train on; "
            f"each of {dataset.folds} folds needs one. {remedy}, or add images."
        )


def _decoded(config: DataConfig, *, download: bool) -> Decoded:
    """Return the whole data set, from the cache where its files are known.

    Files that are there are not downloaded again.
    """
    try:
        if found := files(config):
            return cached(config, found, lambda allocate: decode(config, allocate=allocate))
        return decode(config)
    except DataError:
        if not download or DATASETS[config.name].from_folder:
            raise
        return decode(config, download=True)


def with_root(config: DataConfig, source: str, root: str) -> DataConfig:
    """Return the config for `--data SOURCE`.

    SOURCE is a data set's name, or `folder:PATH`, whose path becomes the root.
    """
    name, _, path = source.partition(":")
    if name == "folder":
        return replace(config, name="folder", root=str(_expand_home(path or ".")))
    return replace(config, name=source, root=str(_expand_home(root)) if root else "")


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
