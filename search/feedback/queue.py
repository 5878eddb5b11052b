"""Images that wait for people to give them their class, as the page of `search.label` shows them.

An image has a name, which is unique in its queue. There are three queues: `labelling` has the
images that a served model has received, `sorting` those of a folder without classes, and `checking`
those of a folder with classes whose label is probably wrong.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class LabellingItem:
    """An image to show to a person, with what is known about its class."""

    image: str
    why: str
    """The reason why it is shown now: a key of `REASONS` in `label.js`."""
    probabilities: tuple[float, ...]
    """The probability of each class; empty if they are not known."""
    versions: dict[str, str]
    """The predicted class, by the version of the model; empty without a model."""
    label: str = ""
    """The label that is checked; empty if the image has none yet."""
    suggested: str = ""
    """The class that is probably correct if the label is wrong; empty without a label."""
    chance: float = 0.0
    """The probability that the label is wrong."""


@dataclass(frozen=True)
class LabellingProgress:
    """Numbers of images that have got their class from a person, and of remaining ones."""

    corrected: int
    here: int
    """Number of images that have got it through this process."""
    left: int
    """Number of readable images that have not got it yet."""


@dataclass(frozen=True)
class LabellingPurpose:
    """The words of the page for what people do there."""

    verb: str
    participle: str
    """The word for an image that has got its class."""
    end: str
    """What is shown when no image is left."""
    can_add_classes: bool = False
    next_step: str = ""
    """What to do afterwards, which the command prints at its end; empty if `end` says it."""
    leave_out: str = ""
    """What `correct` receives instead of a class for an image that belongs to none; empty if images
    cannot be left out.
    """


class ImageQueue(Protocol):
    """Images in the order in which people should give them their class; thread-safe."""

    @property
    def purpose(self) -> LabellingPurpose:
        """The words for what people do."""

    @property
    def subject(self) -> str:
        """The model that has received the images, or the folder that they are in."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes to choose from. New ones are added at the end."""

    @property
    def progress(self) -> LabellingProgress:
        """The current numbers of images."""

    def next_items(self, count: int, excluded: Collection[str] = ()) -> list[LabellingItem]:
        """List the images to show next, the most useful first.

        Args:
            count: the maximum number of images.
            excluded: names of images to leave out.
        """

    def correct(self, image: str, label: str) -> None:
        """Store the class of an image.

        Raises:
            ConfigError: there is no such class, or no such image.
            OSError: it cannot be written.
        """

    def take_back(self, image: str) -> None:
        """Undo what this process has stored last about an image.

        Raises:
            NotRecorded: this process has stored nothing about it.
            OSError: it cannot be removed.
        """

    def skip(self, image: str) -> None:
        """Move an image to the end of the queue."""

    def add_class(self, name: str) -> None:
        """Add a class.

        Raises:
            ConfigError: the name cannot be used, or the classes are those of a model.
        """

    def content(self, image: str) -> bytes | Path:
        """Return an image file: its bytes or its path.

        Raises:
            NotRecorded: there is no such image.
        """

    def compare_images(self, stop: threading.Event) -> None:
        """Compare images with each other, which the order needs, until `stop` is set.

        This blocks, so call it in a thread of its own.
        """
