"""A search in a line, read from the few events of its journal that tell it.

Most of a journal are epochs, of which only the metric is looked at: a list of hundreds of searches
takes as long as two of them read whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

from search.journal.events import Tested
from search.journal.journal import FILE_NAME, Event, JournalError
from search.journal.result import ENDED, FAILED, SearchResult
from search.journal.store import Storage, home

HEAD = re.compile(
    rb'\{"n": (?P<n>\d+), "time_ms": \d+, "event": "(?P<kind>\w+)"'
    rb'(?:, "trial": "(?P<trial>[^"]+)")?'
)
TELLING = frozenset(b"started resumed refined tested finished selecting selected concluded".split())
"""The events that are read whole."""
BEGINNINGS = frozenset(b"started resumed selecting".split())
"""Those among them that begin a session."""
OUTCOME = re.compile(rb'"outcome": "(\w+)"')
REPEAT = b'"repeat_of": "'


@dataclass(frozen=True)
class Overview:
    """A search in a line."""

    name: str
    state: str
    """`running`, `ended`, `interrupted`, or `broken` if its journal cannot be read."""
    outcome: str = ""
    """The way in which it ended, as `SearchResult.outcome`."""
    ended: int = 0
    """The number of trials that have ended."""
    planned: int = 0
    best: float | None = None
    """The metric of the best trial; None before the first epoch."""
    metric: str = ""
    mode: str = ""
    """`max` or `min`."""
    space: str = ""
    data: str = ""
    """The data set's name, or its folder."""
    began_ms: int = 0
    """Unix time in milliseconds; 0 where it is not known."""
    wall_s: float = 0
    """Seconds of all sessions, those of a selection left out."""
    holder: str = ""
    """The driver that has it now."""
    trouble: str = ""
    """The reason why it is broken."""


def overview_of(place: Storage, name: str) -> Overview:
    """Return a search's line; of one that cannot be read it says why."""
    kept = home(place, name)
    try:
        holder = kept.holder()
        return _Lines.read(kept.opened()).overview(name, holder)
    except (JournalError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Overview(name, "broken", trouble=reason)


class _Lines:
    """A sum over the lines of one journal."""

    def __init__(self) -> None:
        self.result = SearchResult()
        self.trials: set[bytes] = set()
        self.outcomes: dict[bytes, str] = {}
        """The outcome of each trial that has ended."""
        self.best: dict[bytes, float] = {}
        """The highest score of each trial."""
        self.passed_over: set[bytes] = set()
        """Trials whose checkpoints are damaged."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the journal in a folder.

        Raises:
            JournalError: there is none, or it has no beginning.
            ValueError: a line is damaged, or missing.
        """
        found = cls()
        lines = list(_whole_lines(folder / FILE_NAME))
        for (head, line), following in zip_longest(lines, lines[1:]):
            found._count(head, line)
            # The last of each session too, since its time is that of the session's end.
            if head["kind"] in TELLING or following is None or following[0]["kind"] in BEGINNINGS:
                found._apply(Event.from_line(line.decode()))
        if not found.result.sessions:
            raise JournalError("it was cut off before it began")
        return found

    def _apply(self, event: Event) -> None:
        self.result.apply(event)
        if event.kind == "started":
            self.metric = self.result.metric
            self.value = re.compile(rb'"%s": ([^,}]+)' % re.escape(self.metric.key).encode())
        if isinstance(event.data, Tested) and event.trial.encode() in self.trials:
            self.passed_over = {name.encode() for name in event.data.passed_over or {}}

    def _count(self, head: re.Match[bytes], line: bytes) -> None:
        kind, trial = head["kind"], head["trial"]
        if kind == b"suggested" and REPEAT not in line:
            self.trials.add(trial)
        elif kind == b"ended" and (outcome := OUTCOME.search(line)):
            self.outcomes[trial] = outcome[1].decode()
        # Metrics stand before those of the folds, which have the same names.
        elif kind == b"epoch" and trial in self.trials and (value := self.value.search(line)):
            score = self.metric.score(float(value[1]))
            self.best[trial] = max(score, self.best.get(trial, score))

    def overview(self, name: str, holder: str) -> Overview:
        """Return the search's line."""
        result, metric = self.result, self.metric
        scores = [
            score
            for trial, score in self.best.items()
            if self.outcomes.get(trial) not in FAILED and trial not in self.passed_over
        ]
        data: dict[str, Any] = result.started.data
        folder = Path(data["root"]).name if data["name"] == "folder" else ""
        return Overview(
            name=name,
            state="running" if holder else "ended" if result.outcome in ENDED else "interrupted",
            outcome=result.outcome if holder or result.outcome != "running" else "interrupted",
            ended=len(self.outcomes.keys() & self.trials),
            planned=int(result.started.experiment["trials"]),
            best=metric.score(max(scores)) if scores else None,
            metric=metric.name,
            mode=metric.mode,
            space=result.started.experiment["space"]["name"],
            data=folder or data["name"],
            began_ms=result.started_ms,
            wall_s=result.wall_s,
            holder=holder,
        )


def _whole_lines(path: Path) -> Iterator[tuple[re.Match[bytes], bytes]]:
    """Yield how each line begins, and its text.

    Raises:
        JournalError: there is no journal.
        ValueError: a line is damaged, or missing.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise JournalError(f"it has no {FILE_NAME}") from error
    for number, line in enumerate(lines, 1):
        head = HEAD.match(line)
        if head is None or int(head["n"]) != number:
            raise ValueError(f"{FILE_NAME}:{number} is damaged")
        yield head, line
