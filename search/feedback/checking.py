"""Queue the images of a data set whose label is probably wrong, the most suspicious first.

Each decision of a person is appended at once to the corrections next to the data set's folder
(`trainables.datasets.corrections`), which is never changed itself.
"""

import hashlib
import os
import shlex
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from search.feedback.queue import LabellingItem, LabellingProgress, LabellingPurpose
from search.feedback.records import NotRecorded
from trainables.datasets.corrections import LEAVE_OUT, append_correction, corrections_path
from trainables.errors import ConfigError, printable, unknown

SUSPICIOUS = "suspicious"
"""The reason why an image is shown."""


@dataclass(frozen=True)
class SuspiciousImage:
    """An image whose label may be wrong, and the classes that it may belong to."""

    name: str
    """The path in the data set's folder."""
    label: str
    suggested: str
    """The most probable other class."""
    chance: float
    """The probability that the label is wrong."""
    probabilities: tuple[float, ...]
    """The probability of each class."""


class CheckingQueue:
    """The suspicious images of a folder, which wait for a person to check their label."""

    def __init__(
        self, folder: Path, classes: tuple[str, ...], images: Collection[SuspiciousImage]
    ) -> None:
        """List the images, the most suspicious first.

        Raises:
            ConfigError: a class has the name that leaves images out.
        """
        if LEAVE_OUT in classes:
            raise ConfigError(
                f"the class '{LEAVE_OUT}' has the name by which corrections leave images out. "
                "Rename the class."
            )
        self.folder, self._classes = folder, classes
        self.corrections = corrections_path(folder)
        self._images = {
            hashlib.sha256(os.fsencode(image.name)).hexdigest(): image for image in images
        }
        self._lock = threading.RLock()
        self._decided, self._skipped = set[str](), dict[str, None]()

    @property
    def purpose(self) -> LabellingPurpose:
        """The words for what people do."""
        data = shlex.quote(f"folder:{self.folder}")
        step = (
            f"The decisions are in {self.corrections}. Searches of the folder use them: "
            f"python -m search.run --data {data}"
        )
        return LabellingPurpose("Check", "checked", step, next_step=step, leave_out=LEAVE_OUT)

    @property
    def subject(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the data set."""
        return self._classes

    @property
    def progress(self) -> LabellingProgress:
        """The current numbers of images."""
        with self._lock:
            count = len(self._decided)
            return LabellingProgress(count, count, len(self._images) - count)

    def next_items(self, count: int, excluded: Collection[str] = ()) -> list[LabellingItem]:
        """List the images to check next, the most suspicious first."""
        with self._lock:
            waiting = [
                image
                for image in self._images
                if not (image in self._decided or image in self._skipped or image in excluded)
            ]
            waiting += [
                image
                for image in self._skipped
                if not (image in self._decided or image in excluded)
            ]
        return [self._build_item(image) for image in waiting[:count]]

    def _build_item(self, image: str) -> LabellingItem:
        suspect = self._images[image]
        return LabellingItem(
            image,
            SUSPICIOUS,
            suspect.probabilities,
            {},
            label=suspect.label,
            suggested=suspect.suggested,
            chance=suspect.chance,
        )

    def correct(self, image: str, label: str) -> None:
        """Store the correct class of an image, or `LEAVE_OUT`; its own label confirms it."""
        suspect = self._suspect(image)
        if label not in (*self._classes, LEAVE_OUT):
            raise ConfigError(unknown("class", label, self._classes))
        with self._lock:
            append_correction(self.corrections, suspect.name, suspect.label, label)
            self._decided.add(image)
            self._skipped.pop(image, None)

    def take_back(self, image: str) -> None:
        """Undo the decision on an image that this process has stored."""
        suspect = self._suspect(image)
        with self._lock:
            if image not in self._decided:
                raise NotRecorded("there is nothing to undo: this image was not checked here.")
            append_correction(self.corrections, suspect.name, suspect.label, "")
            self._decided.discard(image)

    def skip(self, image: str) -> None:
        """Move an image to the end of the queue."""
        with self._lock:
            self._skipped.pop(image, None)
            self._skipped[image] = None

    def add_class(self, name: str) -> None:
        """Refuse the class.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("the classes are those of the data set, and none can be added.")

    def content(self, image: str) -> Path:
        """Return the path of an image file."""
        return self.folder / self._suspect(image).name

    def compare_images(self, stop: threading.Event) -> None:
        """Do nothing: the images were compared before."""

    def _suspect(self, image: str) -> SuspiciousImage:
        if image not in self._images:
            raise NotRecorded(
                f"there is no image '{printable(image[:80])}' among the suspicious ones."
            )
        return self._images[image]
