"""The append-only log of a search: the source of truth.

Tune, MLflow, the live table and the report are projections of it. Each line is a JSON object with
its own checksum. Only the driver writes, and it calls fsync before anyone else receives an event,
once for all events that arrive together.
The classes of events are in `search.journal.events`.
"""

import gc
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, Self

from cluster.storage.bucket import Bucket, WriteConflict
from search.journal.events import EventData, from_json, kind_of
from search.journal.kinds import MAX_MS, Kinds, UnixMs
from search.values.message import Message, Remedy, Start
from trainables.disk import NotRegular, open_regular, read_regular, sync

FILE_NAME = "journal.jsonl"
VERSION = 1
AT_ONCE = 1000
"""The number of lines that are parsed together."""
LINE = Kinds(time_ms=UnixMs, event=str)
"""The types of the values that every line has, except `n`, which must be the number of the line."""
SURROGATE = re.compile("[\ud800-\udfff]")
RETRY_S = (1, 2, 5, 10)
"""Seconds to wait before each retry of a write; the last value repeats."""


class JournalError(RuntimeError):
    """A journal does not exist, or exists already; also the base of more specific errors."""


class TakenOver(JournalError):
    """Another driver writes to this journal now."""


class Replaced(JournalError):
    """The journal that was read has been replaced by another one."""


class Unwritten(JournalError):
    """An event could not be written, because the disk failed and the search has to end at once."""


class DamagedJournal(JournalError):
    """A journal was changed or truncated after it was written; a person must repair it."""


@dataclass(frozen=True)
class Event:
    """One line of a journal. `number` counts from 1; `time_ms` is Unix time, for dates only."""

    number: int
    time_ms: int
    data: EventData
    elapsed_ms: int | None = None
    """Milliseconds since the session's command started, by a monotonic clock.

    That clock is not affected when the date is set, and stops while the machine is suspended. None
    in journals of earlier versions, and for events outside a session.
    """

    @property
    def kind(self) -> str:
        """The name of the event's kind in the journal."""
        return kind_of(self.data)

    @property
    def trial(self) -> str:
        """The trial, or the training of a selection, that the event concerns; empty if none."""
        return str(getattr(self.data, "trial", ""))

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Parse one line.

        Raises:
            ValueError: the line is not an event, or its checksum is wrong.
        """
        return cls._of(json.loads(line), line.encode())

    @classmethod
    def _of(cls, values: Any, line: bytes) -> Self:
        """Create an event from the parsed values of `line`."""
        try:
            checksum = values.pop("crc")
            number, time_ms, kind = values.pop("n"), values.pop("time_ms"), values.pop("event")
            elapsed_ms = values.pop("elapsed_ms", None)
            if type(time_ms) is not int or not 0 <= time_ms <= MAX_MS or type(kind) is not str:
                LINE.check({"time_ms": time_ms, "event": kind})
            if type(elapsed_ms) not in (int, type(None)) or not 0 <= (elapsed_ms or 0) <= MAX_MS:
                raise TypeError(
                    f"elapsed_ms must be a whole number from 0 to {MAX_MS} (got {elapsed_ms!r:.80})"
                )
            event = cls(number, time_ms, from_json(kind, values), elapsed_ms)
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"the line is not a valid event: {line[:80].decode(errors='replace')!r}"
            ) from error
        if checksum != _checksum(line.rpartition(b', "crc"')[0]):
            raise ValueError("the line's checksum does not match its text")
        return event

    def to_line(self) -> str:
        """Return the line of the journal, including the newline.

        A lone surrogate, which comes from a file name that is not UTF-8, is written as U+FFFD.

        Raises:
            ValueError: a value is infinite or NaN. Metrics with such values are handled before they
                reach the journal.
        """
        # `elapsed_ms` comes last, since earlier versions ignore it there.
        elapsed = {} if self.elapsed_ms is None else {"elapsed_ms": self.elapsed_ms}
        head = {"n": self.number, "time_ms": self.time_ms, "event": self.kind}
        text = json.dumps(
            {**head, **self.data.to_json(), **elapsed},
            allow_nan=False,
            ensure_ascii=False,
        )[:-1]
        text = SURROGATE.sub("\ufffd", text)
        return f'{text}, "crc": "{_checksum(text.encode())}"}}\n'


Listener = Callable[[Event], None]


class Journal:
    """Writes a journal, and calls its listeners with each event once it is on disk."""

    def __init__(
        self, folder: Path, *, complain: Callable[[str], None] = lambda text: None
    ) -> None:
        """Create the folder (mode 0700) and the file (0600).

        Args:
            folder: the search's folder.
            complain: called with a message when the journal cannot be written, and when it can be
                written again.

        Raises:
            JournalError: there is already a search of this name.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(folder / FILE_NAME, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileExistsError:
            raise JournalError(
                f"a search named '{folder.name}' already exists in '{folder.parent}'. Use another "
                "--name."
            ) from None
        # A new file survives a power cut only if the folders that contain it are synced, too.
        for place in (folder, folder.parent):
            sync(place)
        self._open(folder, descriptor, complain)

    def _open(self, folder: Path, descriptor: int, complain: Callable[[str], None]) -> None:
        self.path, self.complain = folder / FILE_NAME, complain
        self.owner: Listener = lambda event: None
        """Receives each event before the listeners, and in a `group` before the event is on disk:
        the driver, whose next decisions depend on it.
        """
        self.listeners: list[Listener] = []
        self.other_driver: Callable[[], str] = lambda: ""
        """A function that returns the name of another driver that has taken over the search, or "".

        It is called before each attempt to write a line.
        """
        self.copy: Callable[[bytes], None] = lambda line: None
        """A function that appends lines to a copy of the journal, for example in a bucket.

        By default it does nothing. Listeners are called only after it has returned.
        """
        self.patient = True
        """True to wait while the disk cannot be written to; False once the search has to end."""
        self._lock = threading.RLock()
        self._busy = self._interrupted = False
        self._grouping_thread: int | None = None
        self._added: list[tuple[Event, bytes]] = []
        """The events of the group that are not on disk yet, with their lines."""
        self._calls: list[Callable[[], object]] = []
        """What is called when these events are on disk."""
        self._partial_line = b""
        """The lines that are being written; a part of them may be in the file."""
        self._clock: Callable[[], float] | None = None
        self._began_s = 0.0
        self._descriptor, self.number, self._size = descriptor, 0, 0
        self.cut_off = 0
        """The size in bytes of an incomplete last line, left by a crash, that was removed when
        the journal was opened.
        """

    @classmethod
    def reopen(
        cls, folder: Path, *, complain: Callable[[str], None] = lambda text: None
    ) -> tuple[Self, list[Event]]:
        """Open an existing journal, and return it with its events.

        An incomplete last line, left by a crash, is removed (`cut_off`).
        """
        events = read(folder / FILE_NAME)
        journal = cls.__new__(cls)
        journal._open(folder, os.open(folder / FILE_NAME, os.O_RDWR), complain)
        journal.number = len(events)
        content = read_regular(folder / FILE_NAME)
        journal._size = content.rfind(b"\n") + 1
        journal.cut_off = len(content) - journal._size
        os.ftruncate(journal._descriptor, journal._size)
        return journal, events

    def count_time(self, clock: Callable[[], float], began_s: float) -> None:
        """Write the elapsed time of the session into each line from now on.

        Args:
            clock: a monotonic clock in seconds, such as `time.monotonic`.
            began_s: the reading of this clock when the session's command started.
        """
        self._clock, self._began_s = clock, began_s

    @property
    def elapsed_ms(self) -> int | None:
        """Milliseconds since the session's command started; None outside a session."""
        return None if self._clock is None else round(1000 * (self._clock() - self._began_s))

    def append(self, data: EventData) -> Event:
        """Write an event, wait until it is on disk, and call the listeners.

        Listeners receive exactly the event that a reader will read. While the disk is full or
        fails, the call waits. Earlier events of a `group` are written first.

        Raises:
            TakenOver: another driver has taken over the search.
            Unwritten: the disk cannot be written to, and `break_off` was called.
            KeyboardInterrupt: `break_off` was called during the call. The event is written, and the
                listeners have received it.
        """
        with self._unbroken():
            self._write_added()
            event, line = self._event_of(data)
            self._write(line)
            self.number += 1
            for listener in (self.owner, *self.listeners):
                listener(event)
            return event

    def add(self, data: EventData) -> Event:
        """Write an event as `append` does or, in a `group`, together with others.

        Raises:
            TakenOver, Unwritten, KeyboardInterrupt: as for `append`.
        """
        if not self._is_grouping:
            return self.append(data)
        with self._unbroken():
            event, line = self._event_of(data)
            self.number += 1
            self._added.append((event, line))
            self.owner(event)
            return event

    @contextmanager
    def group(self) -> Iterator[None]:
        """Write the events that this thread adds in the `with` block at once.

        That takes a single fsync, or a single request to a bucket. They are written by `commit`, by
        `append`, or at the end of the block. Nobody may act on an event before it is on disk
        (`when_on_disk`); only the driver goes on deciding.
        """
        if self._is_grouping:
            yield
            return
        self._grouping_thread = threading.get_ident()
        try:
            yield
        except BaseException:
            self._calls.clear()
            raise
        finally:
            self._grouping_thread = None
            self.commit()

    def commit(self) -> None:
        """Write the events of a group so far, and do what waits for them.

        Raises:
            TakenOver, Unwritten, KeyboardInterrupt: as for `append`.
        """
        try:
            if self._added:
                with self._unbroken():
                    self._write_added()
        except BaseException:
            self._calls.clear()
            raise
        calls, self._calls = self._calls, []
        with ExitStack() as all_of_them:  # also if one of them raises an error
            for call in reversed(calls):
                all_of_them.callback(call)

    def when_on_disk(self, call: Callable[[], object]) -> None:
        """Call a function when all events so far are on disk: at once, except in a `group`."""
        if self._is_grouping and self._added:
            self._calls.append(call)
        else:
            call()

    @property
    def _is_grouping(self) -> bool:
        return self._grouping_thread == threading.get_ident()

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Let `break_off` wait until the end of the `with` block."""
        with self._lock:
            self._busy = True
            try:
                yield
            finally:
                self._busy = False
            if self._interrupted:
                self._interrupted = False
                raise KeyboardInterrupt

    def _event_of(self, data: EventData) -> tuple[Event, bytes]:
        """Return the next event, as a reader will read it, and its line."""
        now_ms = time.time_ns() // 1_000_000
        line = Event(self.number + 1, now_ms, data, self.elapsed_ms).to_line()
        return Event.from_line(line), line.encode()

    def _write_added(self) -> None:
        """Write the events of a group, and call the listeners."""
        if self._added:
            self._write(b"".join(line for _, line in self._added))
            added, self._added = self._added, []
            for event, _ in added:
                for listener in self.listeners:
                    listener(event)

    def events(self) -> list[Event]:
        """Read all events that were appended or added so far.

        Raises:
            TakenOver, Unwritten, KeyboardInterrupt: as for `append`.
        """
        if self._added:
            with self._unbroken():
                self._write_added()
        return read(self.path)

    def break_off(self) -> None:
        """Raise KeyboardInterrupt now or, if an event is being written, as soon as it is written.

        This is meant for a signal handler. From then on, `append` does not wait for a disk that
        fails.
        """
        self.patient = False
        if not self._busy:
            raise KeyboardInterrupt
        self._interrupted = True

    @property
    def size(self) -> int:
        """The number of bytes that are safely on disk, and in the copy if there is one."""
        return self._size

    def _write(self, lines: bytes) -> None:
        tries = 0
        while True:
            try:
                self._write_once(lines)
                break
            except OSError as error:
                if not self.patient:
                    raise Unwritten(f"{self.path} cannot be written ({error.strerror})") from error
                if tries == 0:
                    self.complain(
                        f"{self.path} cannot be written ({error.strerror}). The search waits, "
                        "and continues when the file can be written again."
                    )
                self._pause(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        self._size += len(lines)
        if tries:
            self.complain(f"{self.path} can be written again. The search continues.")

    def _write_once(self, lines: bytes) -> None:
        """Write lines after the last whole line.

        If a failed attempt has left a part of them, it is overwritten. Lines that another
        driver wrote are never overwritten.

        Raises:
            TakenOver: another driver has the search, or has written to the file or its copy.
        """
        if other_driver := self.other_driver():
            raise TakenOver(
                f"{other_driver} has taken over this search, so this process no longer runs it."
            )
        if not self._partial_line.startswith(
            os.pread(self._descriptor, len(self._partial_line) + 1, self._size)
        ):
            raise TakenOver(
                f"{self.path} has lines that this process did not write. Another process has "
                "taken over this search, so this process no longer runs it."
            )
        if self._partial_line:
            os.ftruncate(self._descriptor, self._size)
        self._partial_line, written = lines, 0
        while written < len(lines):
            written += os.pwrite(self._descriptor, lines[written:], self._size + written)
        os.fsync(self._descriptor)
        try:
            self.copy(lines)
        except WriteConflict as error:
            raise TakenOver(
                f"another process has taken over this search, so this process no longer runs it "
                f"({error})."
            ) from error
        self._partial_line = b""

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.patient and (remaining_s := end - time.monotonic()) > 0:
            time.sleep(min(remaining_s, 0.1))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read(path: Path) -> list[Event]:
    """Read all events of a journal.

    An incomplete last line, left by a crash, is ignored: nobody has received its event.

    Raises:
        JournalError: there is no such journal.
        DamagedJournal: a line is damaged or missing.
    """
    with without_garbage_collection():
        return list(events_of(path))


def events_of(path: Path) -> Iterator[Event]:
    """Yield the events of a journal one by one, with the errors of `read`.

    A caller that does not keep the events needs about half the memory of `read`.
    """
    try:
        file = open_regular(path)
    except NotRegular:
        raise _irregular(path) from None
    except FileNotFoundError:
        if (path.parent / "trials").exists():
            raise DamagedJournal(
                f"'{path.parent}' contains trials, but no {FILE_NAME}. Restore {FILE_NAME} from "
                "a backup."
            ) from None
        raise JournalError(
            Message(
                f"there is no search at '{path.parent.absolute()}'. Check the name and --storage, "
                "or start a search with '",
                Remedy("run", start=Start.ANYWHERE),
                "'.",
            )
        ) from None
    with file:
        # The end of a line that is being written must not be read as a line of its own.
        whole_lines = takewhile(lambda line: line.endswith(b"\n"), file)
        yield from parse_lines((line[:-1] for line in whole_lines), path, 1)


def read_about(path: Path, trial: str) -> list[Event]:
    """Read the events of a journal that concern this trial, or no particular trial.

    Lines whose beginning names another trial are neither parsed nor checked. With 5,000 trials,
    this takes a twentieth of the time of `read`.

    Raises:
        ValueError: a line is damaged.
    """
    of_another_trial = rb'\{"n": [0-9]+, "time_ms": [0-9]+, "event": "\w+", "trial": "(?!%s")'
    pattern = re.compile(
        rb"^(?!%s)[^\n]+\n" % (of_another_trial % re.escape(trial).encode()), re.MULTILINE
    )
    lines = pattern.findall(read_regular(path))
    return [Event.from_line(line.decode()) for line in lines]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection while many objects are created that all stay in use.

    Otherwise the collector scans all new objects again and again. With a hundred thousand events,
    that takes as long as reading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_lines(lines: Iterable[bytes], path: Path | Bucket, first: int) -> Iterator[Event]:
    """Yield the events of whole lines; `first` is the number of the first line.

    Raises:
        DamagedJournal: a line is damaged or missing.
    """
    numbers, remaining = count(first), iter(lines)
    while batch := list(islice(remaining, AT_ONCE)):
        for line, values in zip(batch, _parse_together(batch), strict=True):
            yield _checked_event(line, values, path, next(numbers))


def _parse_together(lines: list[bytes]) -> Sequence[Any]:
    """Parse lines as one JSON list; return None for each of them if any is damaged.

    This takes half as long as parsing each line separately, and the dicts share their keys.
    """
    try:
        values = json.loads(f"[{b','.join(lines).decode()}]")
    except (ValueError, RecursionError):
        values = []
    return values if len(values) == len(lines) else [None] * len(lines)


def _checked_event(line: bytes, values: Any, path: Path | Bucket, number: int) -> Event:
    """Create the event of a line, and check its number.

    `values` is the parsed line; None to parse it here.

    Raises:
        DamagedJournal: the line is not an event, or has another number.
    """
    try:
        event = Event.from_line(line.decode()) if values is None else Event._of(values, line)
        if event.number != number:
            raise ValueError(f"it is event {event.number} instead of event {number}")
    except (ValueError, RecursionError) as error:
        remedy = (
            f", or keep only the lines before line {number} ('head -n {number - 1}'). A resume "
            "then repeats the trainings that followed."
            if number > 1
            else ". Without its first line, the journal cannot be used."
        )
        raise DamagedJournal(
            f"{path}:{number} is damaged ({error}). Restore the file from a backup{remedy}"
        ) from error
    return event


class Tail:
    """Reader of a growing journal: each call of `new` returns the events since the last call."""

    def __init__(self, path: Path, *, until: Callable[[], int | None] = lambda: None) -> None:
        """Start before the first line.

        `until` returns the size in bytes up to which the file may be read, such as `Journal.size`,
        since later bytes may not be safely on disk yet. None means the whole file.
        """
        self.path, self.until = path, until
        self._offset, self._number, self._inode = 0, 0, 0

    def new(self) -> list[Event]:
        """Return the events that were appended since the last call.

        Raises:
            DamagedJournal: a line is damaged or missing.
            Replaced: the file has been replaced by another one.
        """
        end = self.until()
        try:
            opened = open_regular(self.path)
        except NotRegular:
            raise _irregular(self.path) from None
        with opened as file:
            status = os.fstat(file.fileno())
            if self._offset and (status.st_ino != self._inode or status.st_size < self._offset):
                raise Replaced(f"{self.path} was replaced by another journal. Try again.")
            self._inode = status.st_ino
            file.seek(self._offset)
            *lines, _ = file.read(-1 if end is None else max(0, end - self._offset)).split(b"\n")
        events = list(parse_lines(lines, self.path, self._number + 1))
        self._offset += sum(len(line) + 1 for line in lines)
        self._number += len(lines)
        return events


def _irregular(path: Path) -> DamagedJournal:
    return DamagedJournal(f"'{path}' is not a regular file. Restore it from a backup.")


def _checksum(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"
