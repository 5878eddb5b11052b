"""Loading: from a `DataConfig` to a split `Dataset`; decoded images are cached (see `cache`)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import (
    MAX_LEFT_OUT,
    TITLES,
    Dataset,
    Decoded,
    JoinedPart,
    LeftOut,
    Part,
    derive_fingerprint,
    join_parts,
)
from trainables.datasets.cache import read_or_decode
from trainables.datasets.corrections import (
    LEAVE_OUT,
    LabelCorrection,
    check_corrections,
    corrections_path,
    read_corrections,
)
from trainables.datasets.layout import Layout, layout_error
from trainables.datasets.sources import decode, files, find, recognise_task
from trainables.datasets.splits import Labels, Rows, divisible, split_off, split_off_groups
from trainables.datasets.targets import Targets
from trainables.errors import ConfigError, DataError, counted, printable
from trainables.fairness.groups import Attributes, check_images, read_attributes
from trainables.machine import require_memory
from trainables.on_disk import ImagesOnDisk
from trainables.tasks import TASKS, task_name

TOLERATED = 0.1
"""The relative deviation of a part's size from the requested one above which a note is shown."""


@dataclass(frozen=True)
class Whole:
    """A data set that is decoded and checked, but not split yet."""

    decoded: Decoded
    layout: Layout | None
    """The layout of a user's folder; None for any other data set."""
    attributes: Attributes | None = None
    """The content of `data.groups`."""


def load(config: DataConfig, *, download: bool = False) -> Dataset:
    """Decode a data set (or read it from the cache), check it, and split it.

    Raises:
        DataError: images or labels cannot be used.
        Unavailable: files are missing.
    """
    return divide(read(config, download=download), config)[0]


def read(config: DataConfig, *, download: bool = False) -> Whole:
    """Decode a data set (or read it from the cache), and check it.

    Raises:
        DataError: images or labels cannot be used.
        Unavailable: files are missing.
    """
    layout = find(config)
    targets: Targets = TASKS[config.task].load_targets()
    try:
        decoded = _decode(config, layout, download=download)
    except DataError as error:
        if layout is None:
            raise
        more = targets.about_sizes(layout.sizes, layout.parts)
        raise layout_error([*str(error).splitlines(), *more]) from error
    attributes = None
    if config.groups:
        attributes, decoded = _with_groups(config, layout, decoded)
    if layout is not None and targets.are_classes and not config.bucket:
        decoded = _with_corrections(decoded, corrections_path(layout.root))
    targets.check(decoded, config)
    are_joined = config.folds is not None and decoded.val is not None
    stay_in_files = isinstance(decoded.train.images, ImagesOnDisk) and not are_joined
    if config.train_limit is None and not (decoded.train.is_ragged or stay_in_files):
        require_memory(sum(map(len, decoded.parts.values())), decoded.train.shape[1:])
    return Whole(decoded, layout, attributes)


def _with_groups(
    config: DataConfig, layout: Layout | None, decoded: Decoded
) -> tuple[Attributes, Decoded]:
    """Read the groups of images (`data.groups`).

    Returns:
        The groups, and the data with a remark on them. Its fingerprint depends on them, so that a
        search notices if they change.

    Raises:
        DataError: the file cannot be used, or does not fit the images.
    """
    path = Path(config.groups)
    names = [name for part in decoded.parts.values() for name in part.names or ()]
    if not names:
        raise DataError(
            f"--groups {printable(config.groups)} cannot be used for '{config.name}', whose images "
            "are not files. Use --data folder:PATH, or leave it out."
        )
    attributes = read_attributes(path)
    if layout is not None:  # images that `search.improve` joined with them have no attributes
        check_images(path, attributes, names, {each.path for each in decoded.left_out})
    numbers = attributes.numbers(names)
    sizes = np.bincount(numbers[numbers >= 0], minlength=len(attributes.groups))
    smallest = int(sizes.argmin())
    remark = (
        f"note: {counted(len(attributes.groups), 'group')} by {', '.join(attributes.titles)}; the "
        f"smallest, {attributes.name(smallest)}, has {counted(int(sizes[smallest]), 'image')}."
    )
    changed = replace(decoded, remarks=(*decoded.remarks, printable(remark)))
    changed.__dict__["fingerprint"] = derive_fingerprint(decoded.fingerprint, numbers)
    return attributes, changed


def _with_corrections(decoded: Decoded, path: Path) -> Decoded:
    """Apply the corrections of a folder's labels, if there are any.

    The fingerprint changes with each label that is changed or left out, so that a search notices.

    Raises:
        DataError: the corrections cannot be read, or do not fit the images.
    """
    unreadable = {omitted.path for omitted in decoded.left_out}
    corrections = {
        image: each
        for image, each in read_corrections(path).items()
        if printable(image) not in unreadable
    }
    if not corrections:
        return decoded
    labels = {
        name: decoded.classes[number]
        for part in decoded.parts.values()
        for name, number in zip(part.names or (), part.targets.tolist(), strict=True)
    }
    check_corrections(path, corrections.values(), labels, decoded.classes)
    changes = {image: each for image, each in corrections.items() if each.is_change}
    removed = [image for image, each in changes.items() if each.corrected == LEAVE_OUT]
    corrected, confirmed = len(changes) - len(removed), len(corrections) - len(changes)
    parts = {
        title: _corrected_part(part, title, changes, decoded.classes)
        for title, part in decoded.parts.items()
    }
    changed = replace(
        decoded,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        remarks=(
            *decoded.remarks,
            f"note: '{printable(str(path))}' corrects {counted(corrected, 'label')}, leaves "
            f"{counted(len(removed), 'image')} out, and confirms {counted(confirmed, 'label')}.",
        ),
        left_out=(
            *decoded.left_out,
            *(LeftOut(printable(image), f"left out by {path.name}") for image in sorted(removed)),
        ),
    )
    changed.__dict__["fingerprint"] = decoded.fingerprint  # a `cached_property`, set by groups
    if changes:
        rows = "".join(f"{each.image}\0{each.corrected}\0" for _, each in sorted(changes.items()))
        change = np.frombuffer(rows.encode("utf-8", "surrogateescape"), np.uint8)
        changed.__dict__["fingerprint"] = derive_fingerprint(
            decoded.fingerprint, change.astype(np.int64)
        )
    return changed


def _corrected_part(
    part: Part, title: str, changes: dict[str, LabelCorrection], classes: tuple[str, ...]
) -> Part:
    """Return a part with corrected labels, and without the images that are left out.

    Raises:
        DataError: all images are left out.
    """
    numbers, targets = {name: number for number, name in enumerate(classes)}, part.targets.copy()
    is_used = np.ones(len(part), bool)
    for row, name in enumerate(part.names or ()):
        if (correction := changes.get(name)) is None:
            continue
        is_used[row] = correction.corrected != LEAVE_OUT
        targets[row] = numbers.get(correction.corrected, targets[row])
    if not is_used.any():
        raise DataError(
            f"every image of the {TITLES[title]} set is left out by the corrections next to the "
            "data. Remove some of their lines."
        )
    corrected = replace(part, targets=targets)
    return corrected if is_used.all() else corrected.take(np.flatnonzero(is_used))


def divide(whole: Whole, config: DataConfig, groups: Labels | None = None) -> tuple[Dataset, Rows]:
    """Split a data set; return it, and the number that each of its images had before the split.

    First the test set is drawn (unless the data has one), then the validation set (unless the data
    has one, or there are folds), then `train_limit` images; all with `config.split_seed`. With
    folds, the data set's own validation set is divided among them like the training set.

    Before and after the split, images are numbered consecutively across the parts
    (`Decoded.parts`). `groups` has the group of each image, in the order before the split; None for
    those of the data set itself. If possible, no group is divided.

    Raises:
        DataError: there are too few images.
    """
    dataset, numbers = _split(whole.decoded, config, groups)
    dataset = replace(dataset, attributes=whole.attributes)
    targets: Targets = TASKS[config.task].load_targets()
    targets.check_split(dataset)
    dataset = replace(dataset, remarks=(*dataset.remarks, *targets.remarks(dataset)))
    if whole.layout is not None:
        left_out = (*whole.layout.left_out, *whole.decoded.left_out)
        dataset = replace(
            dataset,
            remarks=(*whole.layout.remarks, *dataset.remarks),
            left_out=left_out[:MAX_LEFT_OUT],
            left_out_count=len(left_out),
        )
    return dataset, numbers


def _split(decoded: Decoded, config: DataConfig, groups: Labels | None) -> tuple[Dataset, Rows]:
    """Split like `divide`, but without checks, and without the remarks on a folder's layout."""
    if groups is None and (config.folds is not None or None in (decoded.val, decoded.test)):
        groups = decoded.groups
    train, val, test, numbers = decoded.train, decoded.val, decoded.test, decoded.numbers
    remarks = list(decoded.remarks)
    if val is not None and config.folds is not None:
        train, val = join_parts(train, val), None
        numbers["train"] = np.concatenate([numbers["train"], numbers.pop("val")])
        remarks.append(
            "note: the images of the data set's own validation set are divided among the folds too."
        )
    draw = _Draw(train, numbers["train"], groups, config, has_own_groups=decoded.groups is not None)
    behind = config.folds or 1 + (val is None)  # groups per class for the other sets
    remarks += draw.keep_together(behind + (test is None))
    rows = np.arange(len(train))
    if test is None:
        count = round(config.test_fraction * len(train))
        rows, test, numbers["test"] = draw.part(rows, count, min_left=behind)
        remarks += draw.off("test", len(test), count)
    if val is not None:
        val, val_rows, val_remarks = _limit_validation(val, config, draw)
        remarks, numbers["val"] = [*remarks, *val_remarks], numbers["val"][val_rows]
    elif config.folds is None:
        count = min(round(config.val_fraction * len(decoded.train)), config.val_limit)
        rows, val, numbers["val"] = draw.part(rows, count)
        remarks += draw.off("validation", len(val), count)
    if config.train_limit is not None and config.train_limit < len(rows):
        _, limit_rows = split_off(draw.strata[rows], config.train_limit, draw.generator, min_left=0)
        rows = rows[limit_rows]
    train = train.take(rows) if len(rows) < len(train) or isinstance(train, JoinedPart) else train
    in_folds = config.folds is not None
    dataset = Dataset(
        config.name,
        decoded.classes,
        train,
        train if val is None else val,
        test,
        decoded.fingerprint
        if draw.groups is None
        else derive_fingerprint(decoded.fingerprint, draw.groups),
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
        self,
        train: Part,
        numbers: Rows,
        groups: Labels | None,
        config: DataConfig,
        *,
        has_own_groups: bool = False,
    ) -> None:
        """Prepare the drawing of parts with the config's seed.

        Args:
            train: the images from which parts are drawn.
            numbers: the numbers of these images among all images.
            groups: the group of each image of the data set, in any part; None for no groups.
            config: the data set's config.
            has_own_groups: True if the data itself has groups. Their images are of several strata,
                which are then ignored, because a group is kept together only within a stratum.
        """
        targets: Targets = TASKS[config.task].load_targets()
        self.train, self.numbers = train, numbers
        self.has_own_groups = has_own_groups
        self.strata = (
            np.zeros(len(train), np.int64) if has_own_groups else targets.strata(train.targets)
        )
        self.groups = None if groups is None else groups[numbers]
        self.generator = np.random.default_rng(config.split_seed)

    def keep_together(self, needed: int) -> list[str]:
        """Dissolve the groups of each class with fewer than `needed` groups.

        If no group of several images remains, parts are drawn without groups.

        Returns:
            A note on the remaining groups; empty if there are none.
        """
        if self.groups is None:
            return []
        if self.has_own_groups and (count := len(np.unique(self.groups))) < needed:
            self.groups = None
            return [
                f"warning: {counted(count, 'group')} cannot be divided into {needed} sets, so "
                "images of one group are in several sets. Add groups, or put the images of each "
                "set into train/, val/ and test/."
            ]
        self.groups = divisible(self.strata, self.groups, needed)
        sizes = np.bincount(self.groups)
        several = sizes[sizes > 1]
        if not len(several):
            self.groups = None
            return []
        kind = (
            "belong together or are copies of each other"
            if self.has_own_groups
            else "are copies or near copies of each other"
        )
        return [
            f"note: {several.sum():,} images, in {counted(len(several), 'group')}, {kind}. Each "
            "group is in only one of the drawn sets."
        ]

    def part(self, rows: Rows, count: int, *, min_left: int = 1) -> tuple[Rows, Part, Rows]:
        """Draw a part of `count` of these rows.

        With groups, at least `min_left` groups of each class are not drawn.

        Returns:
            The rows that were not drawn, the part, and the numbers of its images.
        """
        if self.groups is None:
            rest, drawn = split_off(self.strata[rows], count, self.generator)
        else:
            rest, drawn = split_off_groups(
                self.strata[rows], self.groups[rows], count, self.generator, min_left=min_left
            )
        return rows[rest], self.train.take(rows[drawn]), self.numbers[rows[drawn]]

    def off(self, part: str, drawn: int, count: int) -> list[str]:
        """Return a note if a part is much larger or smaller than requested, because of groups."""
        if self.groups is None or abs(drawn - count) <= TOLERATED * count:
            return []
        reason = (
            "no group is divided"
            if self.has_own_groups
            else "it contains every class and no group of copies is divided"
        )
        return [
            f"note: the {part} set has {counted(drawn, 'image')} instead of {count:,}, because "
            f"{reason}."
        ]


def _limit_validation(val: Part, config: DataConfig, draw: _Draw) -> tuple[Part, Rows, list[str]]:
    """Reduce the data set's own validation set to `config.val_limit` images.

    Returns:
        The reduced validation set, the rows of its images, and remarks on it.
    """
    remarks = (
        ["note: data.val_fraction is ignored, because the data set has its own validation set."]
        if config.val_fraction != DataConfig().val_fraction
        else []
    )
    if (count := len(val)) <= config.val_limit:
        return val, np.arange(count), remarks
    targets: Targets = TASKS[config.task].load_targets()
    _, rows = split_off(targets.strata(val.targets), config.val_limit, draw.generator, min_left=0)
    cut = (
        f"note: only {len(rows):,} of the {count:,} validation images are used "
        f"(--set data.val_limit={count} uses all of them)."
    )
    return val.take(rows), rows, [cut, *remarks]


def _side(decoded: Decoded, config: DataConfig) -> int | None:
    """Return the side of training inputs, in pixels, if they are squares cut out of the images.

    None if networks are trained on whole images, which then all have the same size. For a task
    that pads images, it is the longer side to which they were resized; None if they were only
    reduced.

    Raises:
        DataError: `data.image_size` is larger than the smaller side of some image, and the task
            does not fill up images.
    """
    targets: Targets = TASKS[config.task].load_targets()
    if targets.pads:
        return config.image_size
    parts = [part for part in (decoded.train, decoded.val) if part is not None]
    if targets.fills_up:
        return _filled_side(parts, config.image_size, targets)
    parts = [part for part in parts if part.is_ragged]
    if not parts:
        return None
    least = int(min(part.images.shapes[:, :2].min() for part in parts))
    if config.image_size is not None and config.image_size > least:
        raise DataError(
            f"data.image_size {config.image_size} is larger than the smallest image, whose shorter "
            f"side has {least} pixels. Use at most {least}, or remove the smaller images."
        )
    return config.image_size or min(targets.most_side, least)


def _filled_side(parts: list[Part], image_size: int | None, targets: Targets) -> int | None:
    """Return the side of training inputs for which smaller images are filled up.

    Whole images are used only if all of them have the same size, of at most `targets.most_side` and
    a multiple of `targets.side_step`. Otherwise the default side is the median of the images'
    smaller sides, so that at most half of the images are filled up, and no single small image
    decides.
    """
    if image_size is not None:
        return image_size
    step, most = targets.side_step, targets.most_side
    sizes = np.concatenate(
        [
            part.images.shapes[:, :2]
            if part.is_ragged
            else np.tile(part.shape[1:3], (len(part), 1))
            for part in parts
        ]
    )
    if (sizes == sizes[0]).all() and sizes.max() <= most and not (sizes[0] % step).any():
        return None
    return min(most, -(-int(np.median(sizes.min(axis=1))) // step) * step)


def _decode(config: DataConfig, layout: Layout | None, *, download: bool) -> Decoded:
    """Return the whole data set, if possible from the cache.

    With `download`, files that are missing or damaged are downloaded.
    """
    try:
        # Not from the cache: its keys cover only images, but problems may concern other files.
        if layout is not None and layout.problems:
            return decode(config, layout=layout)
        if paths := files(config) if layout is None else layout.files:
            is_resized = layout is None or layout.resizes
            return read_or_decode(
                config if is_resized else replace(config, image_size=None),
                paths,
                lambda allocate: decode(config, layout=layout, allocate=allocate),
            )
        return decode(config)
    except DataError:
        if not download or layout is not None:
            raise
        return decode(config, download=True)


def with_root(config: DataConfig, source: str, root: str, task: str = "") -> DataConfig:
    """Return the config for `--data SOURCE`.

    Args:
        config: provides all other settings.
        source: a data set's name, or `folder:PATH`.
        root: the folder of the data set's files; not used for `folder:PATH`.
        task: the name of the task; if empty, the one that the content of a folder suggests, or
            the first of the data set's tasks.

    Raises:
        ConfigError: the name is unknown, or `~` cannot be expanded.
    """
    name, _, path = source.partition(":")
    if name == "folder":
        folder = str(_expand_home(path)) if path else ""  # Path("") would be the current folder
        task = task or recognise_task(name, folder)
        return replace(config, name=name, root=folder, task=task)
    task = task or (DATASETS[name].tasks[0] if name in DATASETS else task_name({}))
    return replace(config, name=source, root=str(_expand_home(root)) if root else "", task=task)


def _expand_home(path: str) -> Path:
    """Expand `~` and `~user` at the start of a path.

    Raises:
        ConfigError: the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"the home folder of '{path.partition('/')[0][:80]}' is unknown (--data). "
            "Use the full path of the folder."
        ) from error
