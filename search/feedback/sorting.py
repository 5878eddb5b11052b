"""Queue the images of a folder for people to sort them by their class, the most useful first.

Images are shown in turn from the training images that are the most useful (`usefulness`), and from
those that are set apart for the validation and the test set (`sorted_folder`), in random order.
Each is copied to the folder of its class at once, so that nothing is lost and nothing in the
unsorted folder changes.
"""

import hashlib
import os
import shlex
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import numpy as np

from search.feedback.pictures import pixels
from search.feedback.queue import LabellingItem, LabellingProgress, LabellingPurpose
from search.feedback.records import NotRecorded
from search.feedback.sorted_folder import (
    TEST_SHARE,
    TRAIN,
    VAL_SHARE,
    SortedFolder,
    check_class,
    file_name,
    planned_part,
)
from search.feedback.usefulness import Shares, Usefulness
from search.views.terminal import Terminal, say
from trainables.baselines.base import Beat
from trainables.baselines.features import Values
from trainables.errors import ConfigError, DataError, counted, printable, unknown
from trainables.machine import processors
from trainables.probes.probe import HAND_MADE, SIDE, FileFeatures, model_for_files
from trainables.probes.unlabelled import UnlabelledFolder

TYPICAL, SAMPLE, REST = "typical", "sample", "rest"
"""The reasons why an image is shown."""
MOST_AT_ONCE = 8
"""The maximum number of images that are listed at once, so that each label counts soon."""
MEASURED_SHARE = TEST_SHARE + VAL_SHARE
"""The share of images for the validation and the test set among those that are shown."""
BATCH = 50
"""The number of images whose features are computed at once."""


def sort_folder(
    folder: Path, out: Path, classes: Sequence[str], weights: Path | None
) -> "SortingQueue":
    """Open the queue of the images in a folder.

    Args:
        folder: the images, at any depth.
        out: where they are sorted to.
        classes: the first classes, beside those that `out` already has.
        weights: pretrained weights, by whose features images are compared (`model_for_files`).

    Raises:
        ConfigError: an argument cannot be used.
    """
    inner, outer = out.resolve(), folder.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise ConfigError(
            f"--out '{out}' and '{folder}' must not be one in the other. Choose another --out."
        )
    target, model = SortedFolder(out), model_for_files(weights)
    has_weights = model.name != HAND_MADE
    if not has_weights:
        say(
            Terminal(stderr=True),
            "note: no pretrained weights are available, so images are compared by simple features. "
            "--weights FOLDER uses better ones.",
        )
    options = f" --weights {shlex.quote(str(weights))}" if weights is not None else ""
    if has_weights:  # without them, a search cannot learn from images without labels
        options += f" --unlabelled {shlex.quote(str(folder))}"
    return SortingQueue(folder, target, classes, FileFeatures(model), options)


class _ComparisonEnded(Exception):
    """The comparison of the images is told to end."""


class SortingQueue:
    """The images of a folder that have no class yet, and the folder to which they are sorted."""

    def __init__(
        self,
        folder: Path,
        target: SortedFolder,
        classes: Sequence[str],
        features: FileFeatures,
        options: str,
    ) -> None:
        """List the images.

        Args:
            folder: the unsorted folder, with sub-folders at any depth.
            target: the folder to which images are copied.
            classes: further classes, beside those of the sorted folder.
            features: the features by which images are compared.
            options: the options of a search that also learns from the images that are left.

        Raises:
            ConfigError: the folder has no images, or a class's name cannot be used.
        """
        self.folder, self.target, self._features = folder, target, features
        self._options = options
        self._lock = threading.RLock()
        names = {file_name(path, folder): path for path in UnlabelledFolder(folder).paths}
        ids = {hashlib.sha256(os.fsencode(name)).hexdigest(): name for name in names}
        # The first half of the id decides the part, which must not decide the order.
        self._names = dict(sorted(ids.items(), key=lambda item: item[0][32:]))
        """The file names of the images, by their ids, in random order."""
        self._paths = {image: names[name] for image, name in self._names.items()}
        self._is_training = {
            image: planned_part(name) == TRAIN for image, name in self._names.items()
        }
        self._classes = list(target.classes)
        for name in classes:
            self.add_class(name)
        self._usefulness: Usefulness | None = None
        self._spread: tuple[object, Shares | None] = (None, None)
        """What the shares of the classes depend on, and these shares."""
        self._unreadable, self._skipped = set[str](), dict[str, None]()
        self._here: dict[str, None] = {}

    @property
    def purpose(self) -> LabellingPurpose:
        """The words for what people do."""
        data = shlex.quote(f"folder:{self.target.path}")
        step = f"To train on the sorted images: python -m search.run --data {data}"
        options = self._options if self.progress.left else ""
        return LabellingPurpose(
            "Label", "labelled", step, can_add_classes=True, next_step=f"{step}{options}"
        )

    @property
    def subject(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes to choose from, new ones at the end."""
        return tuple(self._classes)

    @property
    def progress(self) -> LabellingProgress:
        """The current numbers of images."""
        with self._lock:
            labelled = sum(name in self.target for name in self._names.values())
            unread = sum(self._names[image] not in self.target for image in self._unreadable)
            remaining = len(self._names) - labelled - unread
            return LabellingProgress(labelled, len(self._here), remaining)

    def next_items(self, count: int, excluded: Collection[str] = ()) -> list[LabellingItem]:
        """List the images to show next, the most useful first; at most `MOST_AT_ONCE`."""
        with self._lock:
            waiting = [
                image
                for image, name in self._names.items()
                if not (name in self.target or image in excluded or image in self._unreadable)
            ]
            shares = self._shares()
            in_order = self._in_order(waiting, excluded)
            return [
                LabellingItem(image, why, self._shares_of(image, shares), {})
                for image, why in islice(in_order, min(count, MOST_AT_ONCE))
            ]

    def correct(self, image: str, label: str) -> None:
        """Copy an image to the folder of its class."""
        with self._lock:
            if label not in self._classes:
                raise ConfigError(unknown("class", label, self._classes))
            self.target.put(self.content(image), self._names[image], label)
            self._here[image] = None
            self._skipped.pop(image, None)

    def take_back(self, image: str) -> None:
        """Remove the copy of an image that this process has sorted."""
        with self._lock:
            if image not in self._here:
                raise NotRecorded("there is nothing to undo: this image was not labelled here.")
            self.target.remove(self._names[image])
            del self._here[image]
            self._skipped.pop(image, None)

    def skip(self, image: str) -> None:
        """Move an image to the end of the queue."""
        with self._lock:
            self._skipped.pop(image, None)
            self._skipped[image] = None

    def add_class(self, name: str) -> None:
        """Add a class at the end, unless there is one of this name."""
        with self._lock:
            name = check_class(name, self._classes)
            if name not in self._classes:
                self._classes.append(name)

    def content(self, image: str) -> Path:
        """Return the path of an image file."""
        if image not in self._paths:
            raise NotRecorded(f"there is no image '{printable(image[:80])}' in this folder.")
        return self._paths[image]

    def compare_images(self, stop: threading.Event) -> None:
        """Compute the features of all images, on which the order then depends."""

        def beat() -> None:
            if stop.is_set():
                raise _ComparisonEnded

        try:
            self._compare(beat)
        except _ComparisonEnded:
            return
        except Exception as error:  # noqa: BLE001 - it would end the thread silently
            say(
                Terminal(stderr=True),
                f"note: the images could not be compared ({type(error).__name__}: "
                f"{printable(str(error))}). They are shown in random order.",
            )

    def _compare(self, beat: Beat) -> None:
        names, values = [], []
        images = list(self._paths)
        for first in range(0, len(images), BATCH):
            batch = images[first : first + BATCH]
            try:
                values.append(self._features_of(batch, beat))
            except ConfigError:
                if not (batch := self._whole_images(batch, beat)):
                    continue
                values.append(self._features_of(batch, beat))
            names += batch
        if len(names) > 1:
            usefulness = Usefulness(names, np.concatenate(values), beat)
            with self._lock:
                self._usefulness = usefulness
            say(
                Terminal(stderr=True),
                f"{counted(len(names), 'image')} compared: the most useful now come first",
            )

    def _features_of(self, images: list[str], beat: Beat) -> Values:
        return self._features.of([self._paths[image] for image in images], beat)

    def _whole_images(self, images: list[str], beat: Beat) -> list[str]:
        """Return the images that can be decoded; leave the others out of the queue."""
        with ThreadPoolExecutor(processors()) as pool:
            are_whole = list(pool.map(_can_decode, [self._paths[image] for image in images]))
        beat()
        whole = [image for image, is_whole in zip(images, are_whole, strict=True) if is_whole]
        with self._lock:
            self._unreadable |= {*images} - {*whole}
        return whole

    def _shares(self) -> Shares | None:
        """Return the shares of the classes for each image; None while nothing is known."""
        if self._usefulness is None:
            return None
        # What is measured must not depend on the images by which it is measured.
        labels = self.target.labels(TRAIN)
        own = {image: labels[name] for image, name in self._names.items() if name in labels}
        if self._spread[0] != (facts := (own, self.classes)):
            self._spread = facts, self._usefulness.shares(own, self._classes)
        return self._spread[1]

    def _shares_of(self, image: str, shares: Shares | None) -> tuple[float, ...]:
        row = None if self._usefulness is None else self._usefulness.row(image)
        return () if shares is None or row is None else tuple(shares[row].tolist())

    def _in_order(self, waiting: list[str], excluded: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (image, reason) for each waiting image, the most useful first."""
        fresh = [image for image in waiting if image not in self._skipped]
        training = [image for image in fresh if self._is_training[image]]
        useful: Iterator[str] = iter(())
        labelled = [image for image, name in self._names.items() if name in self.target]
        labelled += [image for image in excluded if image in self._names]
        if self._usefulness is not None:
            taught_by = [image for image in labelled if self._is_training[image]]
            useful = islice(self._usefulness.order(taught_by, training), MOST_AT_ONCE)
        teaching = dict.fromkeys(useful, TYPICAL)
        teaching |= {image: REST for image in training if image not in teaching}
        measuring = {image: SAMPLE for image in fresh if not self._is_training[image]}
        taught = sum(self._is_training[image] for image in labelled)
        yield from _in_turn(
            list(teaching.items()),
            list(measuring.items()),
            taught=taught,
            measured=len(labelled) - taught,
        )
        still = set(waiting)
        yield from ((image, REST) for image in self._skipped if image in still)


def _can_decode(path: Path) -> bool:
    """True if an image can be shown, and its features computed."""
    try:
        pixels(path, SIDE)
    except DataError:
        return False
    return True


def _in_turn(
    teaching: list[tuple[str, str]], measuring: list[tuple[str, str]], *, taught: int, measured: int
) -> Iterator[tuple[str, str]]:
    """Yield from both such that `MEASURED_SHARE` of all are measuring ones; what is left follows.

    Args:
        teaching: the training images, each with its reason.
        measuring: the other images.
        taught: the number of training images that were shown before.
        measured: the number of others.
    """
    while teaching and measuring:
        is_measuring = measured < MEASURED_SHARE * (taught + measured)
        yield (measuring if is_measuring else teaching).pop(0)
        measured += is_measuring
        taught += not is_measuring
    yield from chain(teaching, measuring)
