"""The records of what a model in use has met: images, what was said of them, and corrections.

A place, a folder or in a bucket, has for one model:

| object | what |
|---|---|
| `about.json` | whose records these are (`About`) |
| `images/SHA256` | an image as it came (one that came as an array: PNG), once |
| `seen/TIME-WRITER-NUMBER.jsonl` | a line for each answer (`Seen`); none is changed, some go |
| `corrections/PLACE-WRITER-NUMBER.json` | what an image really shows (`Correction`) |
| `aside/USE/SHA256` | an image that is never trained on, again (see `set_aside`) |
| `decided/SEARCH.json` | the images by which an improvement has decided (see `note_decided`) |

Several processes may write to it at once. Times are Unix times in milliseconds. A TIME or PLACE in
a name is one too, unless a clock was set back: it is above that of every correction that was there,
or of all answers that the writer knew of, so that the order of names needs no clock.
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from cluster.storage.bucket import Bucket, WriteConflict
from cluster.storage.folder import ObjectFolder, Objects, objects
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, unknown

ABOUT, IMAGES, SEEN, CORRECTIONS = "about.json", "images", "seen", "corrections"
ASIDE, DECIDED = "aside", "decided"
EARLIER = "earlier"
"""Stands for all improvements by versions that did not note when they had decided."""
VERSION = 1
DAMAGE = (ValueError, TypeError, KeyError)
"""The errors that reading a damaged object raises."""
IMAGE_NAME = re.compile("[0-9a-f]{64}")
SEEN_NAME = re.compile(r"\d+-[^/]*\.jsonl")
"""The names of the objects in `images/` and `seen/`."""
DECIMALS = 6
"""Of recorded probabilities."""


class NotKept(ConfigError):
    """An image that is not kept, or not any more."""


@dataclass(frozen=True)
class About:
    """The model whose records a place holds."""

    model: str
    """The name under which it is served, without a version: `models:/pets`, a search, a folder."""
    classes: tuple[str, ...]
    version: int = VERSION


@dataclass(frozen=True)
class Seen:
    """An answer that was given."""

    id: str
    time_ms: int
    image: str
    """The SHA-256 of the image as it came, by which it is found among `images/` if it was kept."""
    version: str
    """The version of the model."""
    probabilities: tuple[float, ...]
    kept: str = ""
    """The reason why the image was kept: `usual` (in the sample) or `uncertain`; empty if it was
    not, or only later, when somebody corrected it.
    """


@dataclass(frozen=True)
class Correction:
    """A person's word on what an image really shows."""

    image: str
    label: str
    time_ms: int
    by: str
    """The place where it was said: `page`, `label`, `api`."""


@dataclass
class Records:
    """The records of one model in a place."""

    place: Objects
    _writer: str = field(default_factory=lambda: f"{os.getpid()}.{secrets.token_hex(4)}")
    _number: "count[int]" = field(default_factory=count)
    _corrections: dict[str, Correction] = field(default_factory=dict)
    """Those that were read, by their objects' names."""
    _last_seen_place: int = 0
    """The latest place of answers that was found or written here."""
    _damaged: set[str] = field(default_factory=set)
    """The objects of which it was said that they are damaged."""

    @classmethod
    def at(cls, place: Path | Bucket) -> "Records":
        """Return the records in this place, of which there may be none yet."""
        return cls(objects(place))

    @property
    def about(self) -> About | None:
        """Whose records these are; None where there are none.

        Raises:
            ConfigError: a newer version has written them, or that is damaged.
        """
        if (found := self.place.get(ABOUT)) is None:
            return None
        try:
            told = json.loads(found.content)
            about = About(told["model"], tuple(told["classes"]), int(told["version"]))
        except DAMAGE as error:
            raise ConfigError(
                f"'{self.place / ABOUT}' is damaged. Remove it: "
                "`python -m search.serve MODEL --record` writes it again."
            ) from error
        if about.version > VERSION:
            raise ConfigError(
                f"the records in '{self.place}' were written by a newer version. Use that."
            )
        return about

    def begin(self, about: About) -> bool:
        """Write whose records these are, unless that is there; True if it was not.

        Raises:
            ConfigError: they are those of another model, or of one with other classes.
        """
        if (there := self.about) is None:
            try:
                self.place.put(json.dumps(asdict(about)).encode(), ABOUT, new=True)
            except WriteConflict:
                there = self.about
            else:
                if isinstance(self.place, ObjectFolder):
                    _close_to_others(self.place.path)
                return True
        if there is not None and there != about:
            what = "other classes" if there.model == about.model else f"'{there.model}'"
            raise ConfigError(
                f"'{self.place}' holds the records of {what}. Use another place for those of "
                f"'{about.model}'."
            )
        return False

    def keep_image(self, content: bytes) -> str:
        """Keep an image and return the name by which it is found; the same one is kept once."""
        name = image_name(content)
        self.place.put(content, f"{IMAGES}/{name}")
        return name

    def image(self, name: str) -> bytes | None:
        """Return an image as it came; None if it was not kept, or was removed."""
        if len(name) != 64 or not name.isalnum():
            return None
        found = self.place.get(f"{IMAGES}/{name}")
        return None if found is None else found.content

    def images(self) -> dict[str, int]:
        """Return the bytes of each image that is kept."""
        found = (self.place / IMAGES).sizes()
        return {name: size for name, size in found.items() if IMAGE_NAME.fullmatch(name)}

    def remove_images(self, names: list[str]) -> None:
        """Remove images; what was said of them stays."""
        (self.place / IMAGES).remove(names)

    def write_seen(self, answers: Sequence[Seen]) -> str:
        """Add answers, in the order in which they were given, in one object; return its name."""
        return self.write_lines(lines_of(answers))

    def write_lines(self, lines: bytes, name: str = "") -> str:
        """Add answers as `lines_of` gives them, in one object; return its name.

        Args:
            lines: of answers in the order in which they were given.
            name: the object in whose place they are, if not a new one; not older than the answers.
        """
        if not name:
            self._last_seen_place = max(now_ms(), self._last_seen_place + 1)
            name = f"{self._new_name(self._last_seen_place)}.jsonl"
        self.place.put(lines, f"{SEEN}/{name}")
        return name

    def seen(self, since_ms: int = 0) -> Iterator[Seen]:
        """Yield the answers since then, in the order in which they were written."""
        for name in sorted(self.seen_objects()):
            # An object is written after its last answer.
            if int(name.partition("-")[0]) >= since_ms:
                yield from (one for one in self.seen_in(name) if one.time_ms >= since_ms)

    def seen_objects(self) -> dict[str, int]:
        """Return the bytes of each object that holds answers; sorted, they are in order.

        Other objects there, such as a file that a person has left, are not looked at.
        """
        found = (self.place / SEEN).sizes()
        found = {name: size for name, size in found.items() if SEEN_NAME.fullmatch(name)}
        places = (int(name.partition("-")[0]) for name in found)
        self._last_seen_place = max([self._last_seen_place, *places])
        return found

    @property
    def last_seen_place(self) -> int:
        """The latest place of answers that was found or written here; no clock has set it back."""
        return self._last_seen_place

    def seen_in(self, name: str) -> list[Seen]:
        """Return the answers in an object; none if it was removed or is damaged, which is said."""
        if (found := self.place.get(f"{SEEN}/{name}")) is None:
            return []
        try:
            told = [json.loads(line) for line in found.content.splitlines()]
            return [Seen(**{**one, "probabilities": tuple(one["probabilities"])}) for one in told]
        except DAMAGE:
            self._leave_out(f"{SEEN}/{name}")
            return []

    def remove_seen(self, names: list[str]) -> None:
        """Remove objects that hold answers."""
        (self.place / SEEN).remove(names)

    def correct(self, image: str, label: str, by: str) -> Correction:
        """Keep what an image really shows; the last word on an image counts.

        Raises:
            ConfigError: the model has no such class.
            NotKept: the image is not kept.
        """
        about = self.about
        if about is None or label not in about.classes:
            raise ConfigError(unknown("class", label, about.classes if about is not None else ()))
        if self.image(image) is None:
            raise NotKept(f"no image '{image[:80]}' is kept.")
        correction = Correction(image, label, now_ms(), by)
        name = f"{self._new_name(self._next_place())}.json"
        self.place.put(json.dumps(asdict(correction)).encode(), f"{CORRECTIONS}/{name}")
        self._corrections[name] = correction
        return correction

    def take_back(self, image: str) -> Correction | None:
        """Remove the last correction of an image that was made here, not what others said of it.

        Returns:
            the one that counts now, if there is any.

        Raises:
            NotKept: none was made here.
        """
        all_of_it = {
            name: one for name, one in self._read_corrections().items() if one.image == image
        }
        own = [name for name in all_of_it if f"-{self._writer}-" in name]
        if not own:
            raise NotKept("nothing that was said of that image here is kept.")
        (self.place / CORRECTIONS).remove(own[-1:])
        del all_of_it[own[-1]]
        return next(reversed(all_of_it.values()), None)

    def count_corrections(self) -> int:
        """Return the number of corrections that are there, also of those on the same image."""
        return len((self.place / CORRECTIONS).sizes())

    def corrections(self) -> dict[str, Correction]:
        """Return the last correction of each corrected image, in the order of these."""
        found: dict[str, Correction] = {}
        for one in self._read_corrections().values():
            found.pop(one.image, None)  # so that the order is that of these last ones
            found[one.image] = one
        return found

    def _read_corrections(self) -> dict[str, Correction]:
        """Return all corrections by their objects' names, in the order in which they were made.

        Those that are damaged are left out, which is said.
        """
        found = {}
        for name in sorted((self.place / CORRECTIONS).sizes()):
            if name not in self._corrections:
                if (stored := self.place.get(f"{CORRECTIONS}/{name}")) is None:
                    continue
                try:
                    self._corrections[name] = Correction(**json.loads(stored.content))
                except DAMAGE:
                    self._leave_out(f"{CORRECTIONS}/{name}")
                    continue
            found[name] = self._corrections[name]
        return found

    def _leave_out(self, part: str) -> None:
        """Say of an object, once, that it is damaged."""
        if part not in self._damaged:
            self._damaged.add(part)
            damaged = f"'{self.place / part}' is damaged and left out. Remove it."
            say(Terminal(stderr=True), f"note: {damaged}")

    def set_aside(self, use: str, image: str, content: bytes) -> None:
        """Keep an image from training for good; it stays when those in `images/` are removed."""
        self.place.put(content, f"{ASIDE}/{use}/{image}")

    def aside(self) -> dict[str, str]:
        """Return the use for which each image was set aside."""
        names = (name.partition("/") for name in sorted((self.place / ASIDE).sizes()))
        return {image: use for use, _, image in names}

    def aside_image(self, use: str, image: str) -> bytes | None:
        """Return an image that was set aside; None if it is gone."""
        found = self.place.get(f"{ASIDE}/{use}/{image}")
        return None if found is None else found.content

    def decided(self) -> dict[str, Set[str]]:
        """Return the held-out images by which each improvement has decided, by its search's id.

        Images that were set aside before decisions were noted may have decided, and are those of
        `EARLIER`.
        """
        found: dict[str, Set[str]] = {}
        for name in sorted((self.place / DECIDED).sizes()):
            if (stored := self.place.get(f"{DECIDED}/{name}")) is None:
                continue
            try:
                found[name.removesuffix(".json")] = set(json.loads(stored.content)["images"])
            except DAMAGE:
                self._leave_out(f"{DECIDED}/{name}")
        return found if EARLIER in found else {**found, EARLIER: self.aside().keys()}

    def note_decided(self, search: str, images: Iterable[str], *, new: bool = False) -> None:
        """Note that the improvement of this id has decided by these images.

        If it is to be `new`, what was noted before stays.
        """
        content = json.dumps({"images": sorted(images)}).encode()
        with suppress(WriteConflict):
            self.place.put(content, f"{DECIDED}/{search}.json", new=new)

    def _next_place(self) -> int:
        """Return a place behind every correction that is there, whatever the clock says."""
        names = (self.place / CORRECTIONS).sizes()
        places = [name.partition("-")[0] for name in names]
        last = max((int(place) for place in places if place.isdecimal()), default=0)
        return max(now_ms(), last + 1)

    def _new_name(self, place: int) -> str:
        return f"{place:015d}-{self._writer}-{next(self._number):06d}"


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _close_to_others(folder: Path) -> None:
    """Let only its owner enter a folder of records; one that holds other things stays as it is."""
    own = {ABOUT, IMAGES, SEEN, CORRECTIONS, ASIDE, DECIDED}
    with suppress(OSError):  # it belongs to somebody else
        if {path.name for path in folder.iterdir()} <= own:
            folder.chmod(0o700)


def lines_of(answers: Sequence[Seen]) -> bytes:
    """Return answers as they are kept: a line of JSON each."""
    return "".join(json.dumps(asdict(one)) + "\n" for one in answers).encode()


def image_name(content: bytes) -> str:
    """Return the name by which an image's bytes are kept: their SHA-256."""
    return hashlib.sha256(content).hexdigest()
