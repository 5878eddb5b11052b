"""The append-only log of a search: the source of truth. Tune, MLflow, the live table and the report are projections of it.

One JSON object a line, fsynced before anybody else hears of it, written by the driver alone:

    started    the experiment, the data set's facts, versions
    suggested  trial, params, config
    running    trial, the host that trains it
    epoch      trial, epoch (1-based), metrics
    stopped    trial, epoch, by, reason, and what the decision rests on
    ended      trial, outcome (completed, stopped, diverged, failed), reason
    tested     trial, epoch, test (the evaluation on the test part)
    finished   outcome (completed, time_budget, interrupted, lost), reason
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FILE_NAME = "journal.jsonl"
VERSION = 1


class JournalError(RuntimeError):
    """A journal that is not there, or is there already."""


class DamagedJournal(JournalError):
    """A journal that is not as it was written; a person must look."""


@dataclass(frozen=True)
class Event:
    """One line. `time_ms` is Unix time; `number` counts from 1."""

    number: int
    time_ms: int
    kind: str
    data: dict[str, Any]

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read one line.

        Raises:
            ValueError: it is not a whole event.
        """
        values = json.loads(line)
        try:
            return cls(values.pop("n"), values.pop("time_ms"), values.pop("event"), values)
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"not an event: {line[:80]!r}") from error

    def to_line(self) -> str:
        """The line, newline included. Infinities and NaN are refused: no metric that reaches the journal is one."""
        return json.dumps({"n": self.number, "time_ms": self.time_ms, "event": self.kind, **self.data}, allow_nan=False, ensure_ascii=False) + "\n"


Listener = Callable[[Event], None]


class Journal:
    """Writes a new journal and tells its listeners of each event once it is on disk."""

    def __init__(self, folder: Path) -> None:
        """Create the folder (mode 0700) and the file (0600).

        Raises:
            JournalError: a search of this name is there already.
        """
        self.path = folder / FILE_NAME
        self.listeners: list[Listener] = []
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise JournalError(f"a search named '{folder.name}' is in '{folder.parent}' already. Use another --name.") from None
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")

    def append(self, kind: str, **data: Any) -> Event:
        """Write an event, wait until it is on disk, tell the listeners: what they hear is what a reader will read."""
        line = Event(self._number + 1, time.time_ns() // 1_000_000, kind, data).to_line()
        event = Event.from_line(line)
        self._number += 1
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        for listener in self.listeners:
            listener(event)
        return event

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Event]:
    """Every event of a journal. What stands after the last whole line was cut off by a crash, was never told to anybody, and is left out.

    Raises:
        JournalError: no such journal.
        DamagedJournal: a line is damaged or missing.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise JournalError(f"no search at '{path.parent}'. Check the name and --storage; 'python -m search.run' starts one.") from None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(Event.from_line(line.decode()))
        except ValueError as error:
            raise DamagedJournal(f"{path}:{number} is damaged ({error}).") from error
        if events[-1].number != number:
            raise DamagedJournal(f"{path}:{number} is damaged (event {events[-1].number} stands where {number} should).")
    return events
