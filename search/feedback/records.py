"""The records of a model in use: images, the model's answers, and corrections.

A place, which is a folder or a prefix in a bucket, contains the records of one model:

| object | content |
|---|---|
| `about.json` | the model whose records these are (`RecordsInfo`) |
| `images/SHA256` | an image, stored once: the bytes of the file, or a PNG of an array |
| `seen/TIME-WRITER-NUMBER.jsonl` | a line for each answer (`RecordedAnswer`) |
| `corrections/PLACE-WRITER-NUMBER.json` | the class that an image shows (`Correction`) |
| `aside/USE/SHA256` | a copy of an image that is never trained on (see `set_aside`) |
| `decided/SEARCH.json` | the images that decided an improvement (see `note_deciding_images`) |

Several processes may write to a place at the same time. TIME and PLACE in names are Unix times in
milliseconds. If a clock was set back, they are increased: a new PLACE is always larger than that of
every existing correction, and a new TIME is larger than those of all answer objects that the writer
has listed or written. So names sort in the order of writing, even if a clock was set back.
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
from typing import Any

from cluster.storage.bucket import Bucket, WriteConflict
from cluster.storage.folder import ObjectFolder, Objects, objects
from search.values.message import Blank, Message, Remedy, Start
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, unknown

INFO_FILE, IMAGES, ANSWERS, CORRECTIONS = "about.json", "images", "seen", "corrections"
ASIDE, DECIDED = "aside", "decided"
EARLIER = "earlier"
"""Key in `decided/` for all improvements that were made by earlier versions of this program, which
did not note the images that decided them.
"""
VERSION = 1
DAMAGE_ERRORS = (ValueError, TypeError, KeyError)
"""Errors that are raised when a damaged object is read."""
IMAGE_NAME = re.compile("[0-9a-f]{64}")
ANSWERS_NAME = re.compile(r"\d+-[^/]*\.jsonl")
"""Match the names of the objects in `images/` and `seen/`."""
DECIMALS = 6
"""Decimals of recorded probabilities."""


class NotRecorded(ConfigError):
    """The image or the correction is not in the records, or was removed."""


@dataclass(frozen=True)
class RecordsInfo:
    """The model whose records a place contains."""

    model: str
    """The name under which the model is served, without a version, such as `models:/pets`."""
    classes: tuple[str, ...]
    version: int = VERSION


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer of the model on an image."""

    id: str
    time_ms: int
    image: str
    """SHA-256 of the image file: its name in `images/` if it is stored."""
    version: str
    """The version of the model."""
    probabilities: tuple[float, ...]
    kept: str = ""
    """The reason why the image was stored: `usual` (in the sample) or `uncertain`. Empty if it was
    not stored, or only later, when somebody corrected it.
    """
    abstained: str = ""
    """The reason for which the model abstained, `unlike` or `uncertain`; empty if it answered."""


@dataclass(frozen=True)
class Correction:
    """The class that an image shows, according to a person."""

    image: str
    label: str
    time_ms: int
    by: str
    """The source of the correction: `page`, `label` or `api`."""


@dataclass
class Records:
    """The records of one model in a place."""

    place: Objects
    _writer: str = field(default_factory=lambda: f"{os.getpid()}.{secrets.token_hex(4)}")
    _number: "count[int]" = field(default_factory=count)
    _corrections: dict[str, Correction] = field(default_factory=dict)
    """Cached corrections, by the name of the object."""
    _last_answer_place: int = 0
    """The largest TIME of the answer objects that this instance has listed or written."""
    _reported_damage: set[str] = field(default_factory=set)
    """Damaged objects that were reported already."""

    @classmethod
    def at(cls, place: Path | Bucket) -> "Records":
        """Open the records in this place, which may be empty."""
        return cls(objects(place))

    @property
    def info(self) -> RecordsInfo | None:
        """The model whose records these are; None if there are no records yet.

        Raises:
            ConfigError: `about.json` was written by a newer version, or is damaged.
        """
        if (stored := self.place.get(INFO_FILE)) is None:
            return None
        try:
            document = json.loads(stored.content)
            info = RecordsInfo(
                document["model"], tuple(document["classes"]), int(document["version"])
            )
        except DAMAGE_ERRORS as error:
            raise ConfigError(
                Message(
                    f"'{self.place / INFO_FILE}' is damaged. Remove this file, and create it "
                    "again with `",
                    serve_and_record(self.place),
                    "`.",
                )
            ) from error
        if info.version > VERSION:
            raise ConfigError(
                f"the records in '{self.place}' have format {info.version}, but this version of "
                f"the program reads formats up to {VERSION}. Update the program."
            )
        return info

    def begin(self, info: RecordsInfo) -> bool:
        """Write the model's info if the place has none yet; True if it was written.

        Raises:
            ConfigError: the place contains the records of another model, or of other classes.
        """
        if (existing := self.info) is None:
            try:
                self.place.put(json.dumps(asdict(info)).encode(), INFO_FILE, new=True)
            except WriteConflict:
                existing = self.info
            else:
                if isinstance(self.place, ObjectFolder):
                    _restrict_to_owner(self.place.path)
                return True
        if existing is not None and existing != info:
            what = f"'{existing.model}'" + " with other classes" * (existing.model == info.model)
            raise ConfigError(
                f"'{self.place}' contains the records of {what}. Choose another place for the "
                f"records of '{info.model}'."
            )
        return False

    def keep_image(self, content: bytes) -> str:
        """Store an image file under the hash of its content, and return that name."""
        name = image_name(content)
        self.place.put(content, f"{IMAGES}/{name}")
        return name

    def image(self, name: str) -> bytes | None:
        """Read an image file; None if it is not stored."""
        # Names come from requests: a path must not lead out of `images/`.
        if len(name) != 64 or not name.isalnum():
            return None
        stored = self.place.get(f"{IMAGES}/{name}")
        return None if stored is None else stored.content

    def image_sizes(self) -> dict[str, int]:
        """Size of each stored image in bytes, by its name."""
        sizes = (self.place / IMAGES).sizes()
        return {name: size for name, size in sizes.items() if IMAGE_NAME.fullmatch(name)}

    def remove_images(self, names: list[str]) -> None:
        """Remove images; their answers and corrections stay."""
        (self.place / IMAGES).remove(names)

    def write_answers(self, answers: Sequence[RecordedAnswer]) -> str:
        """Write answers, in the order in which they were sent, as one object; return its name."""
        return self.write_lines(json_lines(answers))

    def write_lines(self, lines: bytes, name: str = "") -> str:
        """Write encoded answers (see `json_lines`) as one object, and return the object's name.

        Args:
            lines: the answers, in the order in which they were sent.
            name: the object to overwrite, which must not be older than the answers; by default, a
                new object is created.
        """
        if not name:
            self._last_answer_place = max(now_ms(), self._last_answer_place + 1)
            name = f"{self._unique_name(self._last_answer_place)}.jsonl"
        self.place.put(lines, f"{ANSWERS}/{name}")
        return name

    def read_answers(self, since_ms: int = 0) -> Iterator[RecordedAnswer]:
        """Yield the answers that were given at or after `since_ms`, in the order of writing.

        `since_ms` is a Unix time in milliseconds.
        """
        for name in sorted(self.answer_objects()):
            # An object is written after the answers in it were given, so an object that is older
            # than `since_ms` has only older answers.
            if int(name.partition("-")[0]) >= since_ms:
                yield from (
                    answer for answer in self.read_answers_in(name) if answer.time_ms >= since_ms
                )

    def answer_objects(self) -> dict[str, int]:
        """Size of each answer object in bytes, by its name; sorted names are in order of time.

        Other objects in the same folder, such as a user's own file, are ignored.
        """
        sizes = (self.place / ANSWERS).sizes()
        sizes = {name: size for name, size in sizes.items() if ANSWERS_NAME.fullmatch(name)}
        places = (int(name.partition("-")[0]) for name in sizes)
        self._last_answer_place = max([self._last_answer_place, *places])
        return sizes

    @property
    def last_answer_place(self) -> int:
        """The largest TIME of the answer objects that this instance has listed or written."""
        return self._last_answer_place

    def read_answers_in(self, name: str) -> list[RecordedAnswer]:
        """Read the answers in an object; an empty list if it was removed or is damaged.

        Damage is reported once for each object.
        """
        if (stored := self.place.get(f"{ANSWERS}/{name}")) is None:
            return []
        try:
            entries = [json.loads(line) for line in stored.content.splitlines()]
            return [
                RecordedAnswer(**{**entry, "probabilities": tuple(entry["probabilities"])})
                for entry in entries
            ]
        except DAMAGE_ERRORS:
            self._report_damage(f"{ANSWERS}/{name}")
            return []

    def remove_answer_objects(self, names: list[str]) -> None:
        """Remove answer objects by their names."""
        (self.place / ANSWERS).remove(names)

    def correct(self, image: str, label: str, by: str) -> Correction:
        """Store the correct class of an image; the last correction of each image counts.

        Raises:
            ConfigError: the model has no such class.
            NotRecorded: the image is not stored.
        """
        info = self.info
        if info is None or label not in info.classes:
            raise ConfigError(unknown("class", label, info.classes if info is not None else ()))
        if self.image(image) is None:
            raise NotRecorded(
                f"there is no recorded image '{image[:80]}'. It may have been removed to make room."
            )
        correction = Correction(image, label, now_ms(), by)
        name = f"{self._unique_name(self._next_place())}.json"
        self.place.put(json.dumps(asdict(correction)).encode(), f"{CORRECTIONS}/{name}")
        self._corrections[name] = correction
        return correction

    def take_back(self, image: str) -> Correction | None:
        """Remove this writer's last correction of an image; those of other writers stay.

        Returns:
            The correction of the image that counts now; None if there is none.

        Raises:
            NotRecorded: this writer has stored no correction of the image.
        """
        image_corrections = {
            name: correction
            for name, correction in self._read_corrections().items()
            if correction.image == image
        }
        own_names = [name for name in image_corrections if f"-{self._writer}-" in name]
        if not own_names:
            raise NotRecorded(
                f"there is nothing to undo: image '{image[:80]}' was not corrected in this session."
            )
        (self.place / CORRECTIONS).remove(own_names[-1:])
        del image_corrections[own_names[-1]]
        return next(reversed(image_corrections.values()), None)

    def count_corrections(self) -> int:
        """Count all corrections, including repeated ones of the same image."""
        return len((self.place / CORRECTIONS).sizes())

    def corrections(self) -> dict[str, Correction]:
        """Read the last correction of each corrected image, by image name, the oldest first."""
        latest: dict[str, Correction] = {}
        for correction in self._read_corrections().values():
            # Setting an existing key would keep its position, so remove it to move it to the end.
            latest.pop(correction.image, None)
            latest[correction.image] = correction
        return latest

    def _read_corrections(self) -> dict[str, Correction]:
        """Read all corrections, by the name of the object, in the order in which they were stored.

        Damaged ones are left out and reported.
        """
        corrections = {}
        for name in sorted((self.place / CORRECTIONS).sizes()):
            if name not in self._corrections:
                if (stored := self.place.get(f"{CORRECTIONS}/{name}")) is None:
                    continue
                try:
                    self._corrections[name] = Correction(**json.loads(stored.content))
                except DAMAGE_ERRORS:
                    self._report_damage(f"{CORRECTIONS}/{name}")
                    continue
            corrections[name] = self._corrections[name]
        return corrections

    def _report_damage(self, part: str) -> None:
        """Report a damaged object, once."""
        if part not in self._reported_damage:
            self._reported_damage.add(part)
            damaged = f"'{self.place / part}' is damaged and left out. Remove it."
            say(Terminal(stderr=True), f"note: {damaged}")

    def set_aside(self, use: str, image: str, content: bytes) -> None:
        """Exclude an image from training permanently, by storing a copy of it in `aside/`.

        The copy remains if the image in `images/` is removed.

        Args:
            use: the use of the image, `HELD_OUT` or `SELECTION` (`search.feedback.learning`).
            image: the image's name, from `image_name`.
            content: the bytes of the file.
        """
        self.place.put(content, f"{ASIDE}/{use}/{image}")

    def set_aside_uses(self) -> dict[str, str]:
        """The use of each image that was set aside, by the name of the image."""
        names = (name.partition("/") for name in sorted((self.place / ASIDE).sizes()))
        return {image: use for use, _, image in names}

    def set_aside_image(self, use: str, image: str) -> bytes | None:
        """Read an image that was set aside; None if it was removed."""
        stored = self.place.get(f"{ASIDE}/{use}/{image}")
        return None if stored is None else stored.content

    def deciding_images(self) -> dict[str, Set[str]]:
        """Read the names of the held-out images that decided each improvement, by search id.

        Earlier versions of this program did not note these images. All images that were set aside
        by them may have decided an improvement, and are listed under `EARLIER`.
        """
        images_by_search: dict[str, Set[str]] = {}
        for name in sorted((self.place / DECIDED).sizes()):
            if (stored := self.place.get(f"{DECIDED}/{name}")) is None:
                continue
            try:
                images_by_search[name.removesuffix(".json")] = set(
                    json.loads(stored.content)["images"]
                )
            except DAMAGE_ERRORS:
                self._report_damage(f"{DECIDED}/{name}")
        return (
            images_by_search
            if EARLIER in images_by_search
            else {**images_by_search, EARLIER: self.set_aside_uses().keys()}
        )

    def note_deciding_images(
        self, search: str, images: Iterable[str], *, new: bool = False
    ) -> None:
        """Store the names of the held-out images that decided an improvement.

        Args:
            search: the id of the improvement's search.
            images: the names of the images.
            new: do nothing if names are already stored for this search.
        """
        content = json.dumps({"images": sorted(images)}).encode()
        with suppress(WriteConflict):
            self.place.put(content, f"{DECIDED}/{search}.json", new=new)

    def _next_place(self) -> int:
        """Compute a PLACE larger than those of all existing corrections."""
        # If only the clock were used and had been set back, a new correction would sort before an
        # older one of the same image, and the older one would count.
        names = (self.place / CORRECTIONS).sizes()
        places = [name.partition("-")[0] for name in names]
        last = max((int(place) for place in places if place.isdecimal()), default=0)
        return max(now_ms(), last + 1)

    def _unique_name(self, place: int) -> str:
        return f"{place:015d}-{self._writer}-{next(self._number):06d}"


def serve_and_record(place: Objects | Path | Bucket | Blank) -> Remedy:
    """The command that serves a model and records its answers in a place."""
    return Remedy(
        "serve",
        arguments=[Blank("MODEL")],
        options={"record": place if isinstance(place, Blank) else str(place)},
        start=Start.ANYWHERE,
    )


def now_ms() -> int:
    """The Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _restrict_to_owner(folder: Path) -> None:
    """Make a folder of records accessible only to its owner, unless it contains other files."""
    own = {INFO_FILE, IMAGES, ANSWERS, CORRECTIONS, ASIDE, DECIDED}
    with suppress(OSError):  # the folder belongs to another user
        if {path.name for path in folder.iterdir()} <= own:
            folder.chmod(0o700)


def json_lines(answers: Sequence[RecordedAnswer]) -> bytes:
    """Encode answers for storage: one line of JSON for each."""
    return "".join(json.dumps(_as_entry(answer)) + "\n" for answer in answers).encode()


def _as_entry(answer: RecordedAnswer) -> dict[str, Any]:
    """Convert an answer to JSON-compatible values.

    Answers from which the model did not abstain are written as before there were others, so that
    earlier versions can read them.
    """
    entry = asdict(answer)
    if not answer.abstained:
        del entry["abstained"]
    return entry


def image_name(content: bytes) -> str:
    """The name under which an image is stored: the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()
