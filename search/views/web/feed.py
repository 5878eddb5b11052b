"""Searches as pages follow them: a journal is read once, and on, for all who look at it.

Nothing is kept for a reader: each takes what is new since what it had, from what is kept of the
last epochs for all. So a slow one costs no memory; one that is too far behind begins anew.
"""

import asyncio
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from cluster.errors import NotReady
from search.design.experiment import NAME
from search.journal.events import Ended, Epoch, SessionStart, Suggested
from search.journal.journal import Event, JournalError, Replaced, without_garbage_collection
from search.journal.result import FAILED, SearchResult, TrialResult
from search.journal.store import BucketHome, Storage, home
from search.views.live import Before
from search.views.web.course import Course
from search.views.web.listing import Row
from search.views.web.words import Told, told
from search.why import History

LOOK_S, BUCKET_LOOK_S = 0.2, 3.0
"""Seconds between two looks at a journal that is watched."""
FEW, MAX_LOOK_S = 5, 0.8
"""So many pages are told at every look; for more of them looks come less often, down to this."""
PASSED_S = 5.0
"""Seconds after which a running search is shown again although only its time has changed."""
HOLDER_S = 2.0
"""Seconds between two looks at who has the search."""
KEEP_S = 300.0
"""Seconds for which a search is kept in memory after the last look at it."""
MAX_POINTS, MAX_TOLD, MAX_VIEWS = 5000, 40, 32
VIEW_S, MAX_VIEW_S, VIEW_SHARE = 1.0, 5.0, 0.003
"""The least and the most seconds from one making of a view to the next, and the share of a
processor that it takes in between.
"""


class Behind(NotReady):
    """A page has so little, or what is gone, that it has to ask for everything anew."""


class Gone(JournalError):
    """There is no such search, or no longer."""


class Point(NamedTuple):
    """A finished epoch."""

    number: int
    """The number of its event."""
    trial: str
    epoch: int
    value: float
    seconds: float
    """As in `Record`."""
    epochs: int


class View:
    """A text that is made of a search for all who want the same.

    It is made anew at most as often as takes a small share of a processor: whoever looks at a
    search that trains on this machine is not to slow it down.
    """

    def __init__(self) -> None:
        self.version, self.text, self.again_at = -1, "", 0.0
        """The version of the search of which it was made; and when it may next be made anew."""
        self.lock = asyncio.Lock()

    async def renew(self, followed: "Followed", make: Callable[[SearchResult], str]) -> None:
        """Make it anew, where something has changed and it is time for that.

        Raises:
            Behind: the search was begun anew, and has no beginning yet.
        """
        async with self.lock:
            if self.version != followed.version and time.monotonic() >= self.again_at:
                self.version, self.text, cost_s = await run_in_threadpool(_made, followed, make)
                self.again_at = time.monotonic() + min(MAX_VIEW_S, max(VIEW_S, cost_s / VIEW_SHARE))


def _made(followed: "Followed", make: Callable[[SearchResult], str]) -> tuple[int, str, float]:
    """Return a version, what was made of it, and the seconds of a processor that it took."""
    with followed.reading() as result:
        if not result.sessions:
            raise Behind(f"'{followed.name}' was begun anew: look again in a moment.")
        begun = time.thread_time()
        return followed.version, make(result), time.thread_time() - begun


class Followed:
    """A search as its journal tells it now; to be looked at under its lock (`reading`)."""

    def __init__(self, place: Storage, name: str) -> None:
        """Begin before the first event; `look` reads."""
        self.name, self.home = name, home(place, name)
        self.lock = threading.RLock()
        self.version, self.used_at = time.time_ns() // 1_000_000, time.monotonic()
        """What grows with every change, also from one that was forgotten to the next; and when it
        was last wanted.
        """
        self.watchers: set[asyncio.Event] = set()
        """What is set when something is new, of each who waits for that."""
        self.task: asyncio.Task[None] | None = None
        self.trouble, self.is_gone = "", False
        """Why it cannot be read for now; and whether it has been deleted."""
        self.views: dict[object, View] = {}
        """What was made of it for all who want the same (`view`)."""
        self._begin()

    def _begin(self) -> None:
        self.tail, self.result, self.number = self.home.tail(), SearchResult(), 0
        self.before = Before(0, {})
        """What it had used when its last session began."""
        self.course: Course | None = None
        self.points: list[Point] = []
        """The last epochs. Like the next it only grows, or another list takes its place."""
        self.proposed: list[tuple[int, TrialResult]] = []
        """Its trials, with the numbers of the events that proposed them."""
        self.told: deque[Told] = deque(maxlen=MAX_TOLD)
        self.history = History()
        self.rows: dict[str, Row] = {}
        """The rows of a table of its trials, as far as they are made and have not changed."""
        self.holder, self._holder_at, self._is_cut_off = "", 0.0, False
        self._changed_at = 0.0

    def look(self) -> bool:
        """Read what is new in the journal, and return whether anything is.

        Raises:
            Gone: there is no such search.
            JournalError: it is damaged.
            NotReady: it is being prepared.
        """
        with self.lock:
            holder = self._holder()  # before the journal, whose last lines come before it
            with without_garbage_collection():
                events = self._events()
                for event in events:
                    self._apply(event)
            if not self.result.sessions:
                raise self._unbegun(holder)
            if not holder and not self._is_cut_off:
                self.result.cut_off()
                self.rows.clear()
            changed = bool(events) or holder != self.holder or bool(self.trouble)
            changed |= self._has_passed(holder, is_new=changed)
            self.holder, self._is_cut_off, self.trouble = holder, not holder, ""
            self.version += changed
            return changed

    def _has_passed(self, holder: str, *, is_new: bool) -> bool:
        """Check whether a running search is to be shown again because of its time only."""
        now = time.monotonic()
        runs = self.result.until_now(holder) is not self.result
        if is_new or (runs and now - self._changed_at >= PASSED_S):
            self._changed_at = now
            return True
        return False

    def _holder(self) -> str:
        now = time.monotonic()
        if now - self._holder_at < HOLDER_S and self.result.sessions:
            return self.holder
        self._holder_at = now
        return self.home.holder()

    def _events(self) -> list[Event]:
        """Return the events that are new, all if what was known of it no longer holds."""
        try:
            events = self._new()
            # Whoever goes on with a search that was cut off begins a session; else it was not.
            if not (self._is_cut_off and events and not isinstance(events[0].data, SessionStart)):
                return events
        except Replaced:
            pass
        self._begin()
        return self._new()

    def _new(self) -> list[Event]:
        try:
            return self.tail.new()
        except FileNotFoundError:
            raise Gone(f"there is no search '{self.name}' here.") from None

    def _unbegun(self, holder: str) -> Exception:
        if holder:
            return NotReady(f"'{self.name}' is being prepared: look again in a moment.")
        return Gone(f"there is no search '{self.name}' here, or it ended before it began.")

    def _apply(self, event: Event) -> None:
        data, result = event.data, self.result
        if isinstance(data, SessionStart):
            self.before = Before.of(result)
            self.rows.clear()
        result.apply(event)
        self.history.apply(event, result)
        self.number = event.number
        if self.rows:
            self.rows.pop(event.trial, None)
        if self.course is None:
            self.course = Course(result.metric)
        if isinstance(data, Epoch):
            return self._add(event, data, self.course)
        if isinstance(data, Ended) and data.outcome in FAILED:
            self.course.drop(data.trial)
        elif isinstance(data, Suggested) and data.trial in result.trials:
            self.proposed.append((event.number, result.trials[data.trial]))
        self.told.extend(told(event, result))

    def _add(self, event: Event, data: Epoch, course: Course) -> None:
        trial = self.result.trials.get(data.trial)
        if trial is None:  # of a selection
            return
        seconds = self.result.wall_s
        value = data.metrics[course.metric.key]
        is_own = not trial.inherited or data.epoch in trial.own_epochs
        course.add(data.trial, seconds, value, is_own=is_own)
        point = Point(event.number, data.trial, data.epoch, value, seconds, course.epochs)
        self.points.append(point)
        if len(self.points) >= 2 * MAX_POINTS:
            self.points = self.points[-MAX_POINTS:]

    def view(self, key: object) -> View:
        """Return what is made of it under this key for all who want the same."""
        if key not in self.views and len(self.views) >= MAX_VIEWS:
            del self.views[next(iter(self.views))]
        return self.views.setdefault(key, View())

    @contextmanager
    def reading(self) -> Iterator[SearchResult]:
        """Hold it still, to look at it in a thread."""
        with self.lock:
            yield self.result

    def since(self, number: int) -> tuple[list[Point], list[TrialResult]]:
        """Return the epochs and the new trials after the event of this number.

        Raises:
            Behind: not all of them are kept.
        """
        points, proposed = self.points, self.proposed
        is_cut = bool(points) and len(points) < (self.course.count if self.course else 0)
        if number > self.number or (is_cut and number < points[0].number - 1):
            raise Behind("more has happened since than is kept.")
        first = bisect_right(points, number, key=lambda point: point.number)
        new = bisect_right(proposed, number, key=lambda one: one[0])
        return points[first:], [trial for _, trial in proposed[new:]]


class Feed:
    """The searches of a place that are looked at."""

    def __init__(self, place: Storage) -> None:
        self.place = place
        self.is_over = False
        """True once the server ends: so do all who watch."""
        self._followed: dict[str, Followed] = {}

    async def follow(self, name: str) -> Followed:
        """Return a search as its journal tells it now.

        Raises:
            JournalError: there is no such search, or it is damaged.
            NotReady: it is being prepared.
        """
        if not NAME.fullmatch(name):
            raise JournalError("there is no search of that name.")
        self._drop_unused()
        if name not in self._followed:
            self._followed[name] = Followed(self.place, name)
        followed = self._followed[name]
        followed.used_at = time.monotonic()
        try:
            await run_in_threadpool(followed.look)
        except (JournalError, NotReady) as error:
            self._let_go(followed, is_gone=isinstance(error, Gone))
            raise
        return followed

    def _let_go(self, followed: Followed, *, is_gone: bool) -> None:
        """Forget a search that cannot be read, unless it is watched and may be read again."""
        if followed.watchers and not is_gone:
            return
        if self._followed.get(followed.name) is followed:
            del self._followed[followed.name]
        followed.is_gone = is_gone
        _wake(followed)

    def _drop_unused(self) -> None:
        now = time.monotonic()
        for name, one in list(self._followed.items()):
            if not one.watchers and now - one.used_at > KEEP_S:
                del self._followed[name]

    @asynccontextmanager
    async def watching(self, followed: Followed) -> AsyncIterator[asyncio.Event]:
        """Watch a search's journal; the event is set whenever something is new."""
        mine = asyncio.Event()
        followed.watchers.add(mine)
        if followed.task is None:
            followed.task = asyncio.create_task(self._watch(followed))
        try:
            yield mine
        finally:
            followed.watchers.discard(mine)
            followed.used_at = time.monotonic()
            if not followed.watchers and followed.task is not None:
                followed.task.cancel()
                followed.task = None
                asyncio.get_running_loop().call_later(KEEP_S + 1, self._drop_unused)

    async def _watch(self, followed: Followed) -> None:
        """Look at the journal again and again, and wake those who watch."""
        is_far, seen = isinstance(followed.home, BucketHome), followed.version
        while True:
            near_s = min(MAX_LOOK_S, LOOK_S * max(1, len(followed.watchers) / FEW))
            await asyncio.sleep(BUCKET_LOOK_S if is_far else near_s)
            try:
                await run_in_threadpool(followed.look)
            except Gone:
                return self._let_go(followed, is_gone=True)
            except (JournalError, NotReady, OSError) as error:
                followed.version += str(error) != followed.trouble
                followed.trouble = str(error)
                await asyncio.sleep(BUCKET_LOOK_S)
            if followed.version != seen:
                seen = followed.version
                _wake(followed)

    def end(self) -> None:
        """Let all who watch end."""
        self.is_over = True
        for followed in self._followed.values():
            _wake(followed)


def _wake(followed: Followed) -> None:
    """Wake all who watch a search."""
    for one in followed.watchers:
        one.set()
