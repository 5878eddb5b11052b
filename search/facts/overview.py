"""The overview of a search in one line, computed from a few events of its journal.

Most lines of a journal are epochs. From these, only the metric is read, with regular expressions.
So the overviews of hundreds of searches take only as long as parsing two of the journals.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Self

from search.journal.events import Tested
from search.journal.journal import FILE_NAME, Event, JournalError
from search.journal.requests import PAUSE
from search.journal.result import ENDED, FAILED, SearchResult
from search.journal.store import Storage, home
from search.values.statistics import interval_of
from trainables.disk import NotRegular, read_regular

LINE = re.compile(
    rb'\{"n": (?P<n>[0-9]+), "time_ms": (?P<time_ms>[0-9]+), "event": "(?P<kind>\w+)"'
    rb'(?:, "trial": "(?P<trial>[^"\n]+)")?[^\n]*\n'
)
PARSED = frozenset(
    b"started resumed refined requested tested finished selecting selected concluded".split()
)
"""The kinds of events that are parsed completely."""
BEGINNINGS = frozenset(b"started resumed selecting".split())
"""The kinds of events that start a session."""
OUTCOME = re.compile(rb'"outcome": "(\w+)"')
REPEAT = b'"repeat_of": "'
MAX_RISES = 40
"""The maximum number of improvements in `Overview.course`."""


@dataclass(frozen=True)
class Overview:
    """The overview of a search, as one line of a list."""

    name: str
    state: str
    """`running`, `ended`, `interrupted`, or `broken` if the search's journal cannot be read."""
    outcome: str = ""
    """The outcome, as in `SearchResult.outcome`."""
    ended: int = 0
    """The number of trials that have ended."""
    with_results: int = 0
    """The number of trials that have ended or reported an epoch.

    It differs from `ended` if a search was stopped before its trials had ended.
    """
    is_paused: bool = False
    """True if the search was interrupted by a request to pause."""
    planned: int = 0
    best: float | None = None
    """The metric of the best trial; None before the first epoch."""
    low: float | None = None
    """The lower end of the 95 % confidence interval of `best`; None if not known.

    `high` is the upper end. The interval is not corrected for the choice of the best trial.
    """
    high: float | None = None
    course: tuple[tuple[int, float], ...] = ()
    """The improvements of the best value, as (epochs of all trials so far, best value so far)."""
    metric: str = ""
    mode: str = ""
    """`max` or `min`."""
    task: str = ""
    space: str = ""
    data: str = ""
    """The name of the data set, or of the folder with the images."""
    began_ms: int = 0
    """The start of the search, as a Unix time in milliseconds; 0 if not known."""
    wall_s: float = 0
    """The total duration of all sessions in seconds, except those of a selection."""
    holder: str = ""
    """The driver that runs the search now; empty if there is none."""
    trouble: str = ""
    """The reason why the journal cannot be read; empty if it can be read."""

    @property
    def counted(self) -> int:
        """The number of trials to show next to `planned`."""
        return self.with_results if self.state == "ended" else self.ended


def is_paused(result: SearchResult) -> bool:
    """True if a search was interrupted by a request to pause."""
    return result.outcome == "interrupted" and result.reason.startswith(f"asked to {PAUSE} ")


class Overviews:
    """Computes the overviews of searches in a storage, and caches them until a journal changes."""

    def __init__(self, place: Storage) -> None:
        self.place = place
        self._cache: dict[str, tuple[str, Overview]] = {}
        """Maps searches to (stamp of the journal, overview as if no driver ran the search)."""

    def of(self, name: str) -> Overview:
        """Compute the overview of a search.

        If its journal cannot be read, the overview has the state `broken`, and the reason is in
        `trouble`.
        """
        search_home = home(self.place, name)
        try:
            holder, stamp = search_home.holder(), search_home.stamp()
            cached_stamp, line = self._cache.get(name, ("", None))
            if line is None or stamp != cached_stamp:
                line = _Totals.read(search_home.opened()).overview(name)
                self._cache[name] = stamp, line
        except (JournalError, OSError, ValueError) as error:
            return Overview(name, "broken", trouble=_first_line(error))
        except Exception as error:  # noqa: BLE001 - one faulty journal must not hide the others
            reason = f"its journal lacks data that this version needs ({_first_line(error)})"
            return Overview(name, "broken", trouble=reason)
        if holder:
            return replace(line, state="running", holder=holder)
        outcome = "interrupted" if line.outcome == "running" else line.outcome
        return replace(line, outcome=outcome)

    def keep(self, names: list[str]) -> None:
        """Remove all searches except these from the cache."""
        self._cache = {name: self._cache[name] for name in names if name in self._cache}


def _first_line(error: Exception) -> str:
    """Return the first line of an exception's text; unexpected types of exceptions are named."""
    text = (str(error).splitlines() or [""])[0]
    is_ours = isinstance(error, JournalError | OSError | ValueError)
    return text if text and is_ours else f"{type(error).__name__}: {text}".removesuffix(": ")


class _Totals:
    """The totals over the lines of one journal."""

    def __init__(self) -> None:
        self.result = SearchResult()
        self.trials: set[bytes] = set()
        self.outcomes: dict[bytes, str] = {}
        """The outcome of each trial that has ended."""
        self.epochs = 0
        """The number of epochs of all trials."""
        self.rises: dict[bytes, list[tuple[int, float, bytes]]] = {}
        """Each trial's improvements: (epochs of all trials so far, score, line of the journal)."""
        self.passed_over: set[bytes] = set()
        """Trials whose checkpoints are damaged."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the journal in a folder.

        Raises:
            JournalError: there is no journal, or it has no beginning.
            ValueError: a line is damaged, or missing.
        """
        totals = cls()
        # The last line of each session is parsed too, because its time is the end of the session.
        last: re.Match[bytes] | None = None
        for line in _whole_lines(folder / FILE_NAME):
            kind = line["kind"]
            if kind == b"epoch":
                totals._count_epoch(line)
            elif kind not in PARSED:
                totals._count(line)
            else:
                if last is not None and kind in BEGINNINGS:
                    totals._apply(last)
                totals._apply(line)
                last = None
                continue
            if kind != b"freed":  # `freed` belongs to no session
                totals._pass_time(line)
                last = line
        if last is not None:
            totals._apply(last)
        if not totals.result.sessions:
            raise JournalError("its journal is empty, or was cut off before the search started")
        return totals

    def _apply(self, line: re.Match[bytes]) -> None:
        event = Event.from_line(line[0].decode())
        self.result.apply(event)
        if event.kind == "started":
            self.metric = self.result.metric
            self.value = re.compile(rb'"%s": ([^,}]+)' % re.escape(self.metric.key).encode())
        if isinstance(event.data, Tested) and event.trial.encode() in self.trials:
            self.passed_over = {name.encode() for name in event.data.passed_over or {}}

    def _pass_time(self, line: re.Match[bytes]) -> None:
        """Count the time until a line, if the lines of its session have no elapsed times.

        Only earlier versions wrote such lines.
        """
        session = self.result.current_sessions[-1] if self.result.current_sessions else None
        if session is not None and session.is_dated:
            session.count_until(int(line["time_ms"]), None)

    def _count(self, line: re.Match[bytes]) -> None:
        kind, trial = line["kind"], line["trial"]
        if kind == b"suggested" and REPEAT not in line[0]:
            self.trials.add(trial)
        elif kind == b"ended" and (outcome := OUTCOME.search(line[0])):
            self.outcomes[trial] = outcome[1].decode()

    def _count_epoch(self, line: re.Match[bytes]) -> None:
        if (trial := line["trial"]) not in self.trials:
            return
        # The trial's metrics come before those of its folds, which have the same names.
        if value := self.value.search(line.string, line.end("trial"), line.end()):
            self.epochs += 1
            score, rises = self.metric.score(float(value[1])), self.rises.setdefault(trial, [])
            if not rises or score > rises[-1][1]:
                rises.append((self.epochs, score, line[0]))

    def overview(self, name: str) -> Overview:
        """Compute the overview of the search, as if no driver ran it."""
        result, metric = self.result, self.metric
        data: dict[str, Any] = result.started.data
        folder = Path(data["root"]).name if data["name"] == "folder" else ""
        line = Overview(
            name=name,
            state="ended" if result.outcome in ENDED else "interrupted",
            outcome=result.outcome,
            ended=len(self.outcomes.keys() & self.trials),
            with_results=len(self.outcomes.keys() & self.trials | self.rises.keys()),
            is_paused=is_paused(result),
            planned=int(result.started.experiment["trials"]),
            metric=metric.name,
            mode=metric.mode,
            task=result.task.title,
            space=result.started.experiment["space"]["name"],
            data=folder or data["name"],
            began_ms=result.started_ms,
            wall_s=result.wall_s,
        )
        return self._with_best(line)

    def _with_best(self, line: Overview) -> Overview:
        """Add the best value of the ranked trials, its interval and its course."""
        counted = [
            rise
            for trial, rises in self.rises.items()
            if self.outcomes.get(trial) not in FAILED and trial not in self.passed_over
            for rise in rises
        ]
        records: list[tuple[int, float, bytes]] = []
        for rise in sorted(counted):
            if not records or rise[1] > records[-1][1]:
                records.append(rise)
        if not records:
            return line
        metrics = json.loads(records[-1][2])["metrics"]
        low, high = interval_of(self.metric, metrics, self.result.images) or (None, None)
        # Thin out from the end: the last point, the best value, must stay.
        step = -(-len(records) // MAX_RISES)
        course = [(at, self.metric.score(score)) for at, score, _ in records[::-step][::-1]]
        best = course[-1][1]
        return replace(line, best=best, low=low, high=high, course=(*course, (self.epochs, best)))


def _whole_lines(path: Path) -> Iterator[re.Match[bytes]]:
    """Yield each line that ends in a newline; the last line may still be incomplete.

    Raises:
        JournalError: there is no journal.
        ValueError: a line is damaged, or missing.
    """
    try:
        text = read_regular(path)
    except FileNotFoundError as error:
        raise JournalError(f"it has no {FILE_NAME}") from error
    except NotRegular as error:
        raise JournalError(f"{FILE_NAME} is not a regular file") from error
    end, whole = 0, text.rfind(b"\n") + 1
    for number in count(1):
        if end == whole:
            return
        line = LINE.match(text, end)
        if line is None or int(line["n"]) != number:
            raise ValueError(f"{FILE_NAME}:{number} is damaged")
        yield line
        end = line.end()
