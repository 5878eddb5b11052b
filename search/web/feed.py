"""The current state of the searches that open pages show.

The journal of a search is read incrementally, once for all readers (open pages). The server stores
no state of a reader: each reader requests the changes since the last event that it has, and a
shared list of recent epochs provides them. So a slow reader needs no memory; if it is too far
behind, it has to reload everything.
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
from search.facts.history import History
from search.facts.series import Course
from search.facts.standing import SearchStanding
from search.journal.events import Ended, Epoch, SessionStart, Suggested
from search.journal.journal import Event, JournalError, Replaced, without_garbage_collection
from search.journal.result import FAILED, SearchResult, TrialResult
from search.journal.store import BucketHome, Storage, home
from search.views.live import Before
from search.web.listing import Row
from search.web.news import NewsLine, news_lines

LOOK_S, BUCKET_LOOK_S = 0.2, 3.0
"""Seconds between two reads of a journal while pages of the search are open: `LOOK_S` if the
journal is in a folder, `BUCKET_LOOK_S` if it is in a bucket.
"""
FEW, MAX_LOOK_S = 5, 0.8
"""If more than `FEW` pages of a search are open, `LOOK_S` is multiplied by their number divided by
`FEW`; the result is at most `MAX_LOOK_S`.
"""
PASSED_S = 5.0
"""Seconds after which the page of a running search is rendered again even without new events, since
it shows elapsed times.
"""
HOLDER_S = 2.0
"""Seconds between two reads of a search's lease, which names the driver that runs it."""
KEEP_S = 300.0
"""Seconds for which a search is kept in memory after its last use."""
MAX_POINTS, MAX_NEWS, MAX_VIEWS = 5000, 40, 32
"""Maximum numbers of epochs, news lines and rendered texts that are stored for each search. The
list of epochs may grow to twice `MAX_POINTS` before the oldest ones are removed.
"""
VIEW_S, MAX_VIEW_S, VIEW_SHARE = 1.0, 5.0, 0.003
"""The time between two renderings of a text is chosen so that rendering takes the share
`VIEW_SHARE` of a processor, but it is at least `VIEW_S` and at most `MAX_VIEW_S` seconds.
"""


class Behind(NotReady):
    """A page must reload everything: it is too far behind, or its search was replaced."""


class SearchGone(JournalError):
    """The search does not exist, or was deleted."""


class Point(NamedTuple):
    """A finished epoch of a trial, for the charts."""

    number: int
    """Number of the epoch's event in the journal."""
    trial: str
    epoch: int
    value: float
    """The metric on the validation set after the epoch."""
    seconds: float
    """Seconds since the search began, without the time between its sessions."""
    epochs: int
    """Total number of epochs that had been trained by then, in all trials together."""


class SharedText:
    """A text about a search that is rendered once for all readers.

    Rendering is limited to a small share of a processor (`VIEW_SHARE`), so that open pages do not
    slow down a search that trains on this machine.
    """

    def __init__(self) -> None:
        self.version, self.text, self.again_at = -1, "", 0.0
        """Version of the search that `text` shows, and the earliest time of the next rendering."""
        self.lock = asyncio.Lock()

    async def renew(self, followed: "Followed", make: Callable[[SearchResult], str]) -> None:
        """Render the text again, if the search has changed and the next rendering is due.

        Args:
            followed: the search.
            make: renders the text; it is called in a thread while the search is locked.

        Raises:
            Behind: the journal was replaced, and its first event is not written yet.
        """
        async with self.lock:
            if self.version != followed.version and time.monotonic() >= self.again_at:
                self.version, self.text, cost_s = await run_in_threadpool(
                    _make_text, followed, make
                )
                self.again_at = time.monotonic() + min(MAX_VIEW_S, max(VIEW_S, cost_s / VIEW_SHARE))


def _make_text(followed: "Followed", make: Callable[[SearchResult], str]) -> tuple[int, str, float]:
    """Render a text; return the search's version, the text, and the processor time in seconds."""
    with followed.reading() as result:
        if not result.sessions:
            raise Behind(
                f"the search '{followed.name}' was started again. Reload the page in a moment."
            )
        start_s = time.thread_time()
        return followed.version, make(result), time.thread_time() - start_s


class Followed:
    """The current state of a search, read from its journal.

    Threads that read the result must lock the search with `reading`.
    """

    def __init__(self, place: Storage, name: str) -> None:
        """Start without events; `look` reads them from the journal."""
        self.name, self.home = name, home(place, name)
        self.lock = threading.RLock()
        self.version, self.used_at = time.time_ns() // 1_000_000, time.monotonic()
        """A version number that increases with every change, and the time of the last use. The
        first version is the current time, so that it exceeds the versions of an earlier object for
        the same search.
        """
        self.watchers: set[asyncio.Event] = set()
        """An event for each waiting reader; all are set when the search changes."""
        self.task: asyncio.Task[None] | None = None
        """The task that reads the journal periodically; None while no reader waits."""
        self.trouble, self.is_gone = "", False
        """The reason why the journal cannot be read now (empty if it can be read), and True once
        the search has been deleted.
        """
        self.views: dict[object, SharedText] = {}
        """The rendered texts by key; see `view`."""
        self._begin()

    def _begin(self) -> None:
        self.tail, self.result, self.number = self.home.tail(), SearchResult(), 0
        self.before = Before(0, {})
        """The resources that the search had used before its current session."""
        self.course: Course | None = None
        """The best value so far over time; None before the first event."""
        self.points: list[Point] = []
        """The latest epochs. This list and `proposed` are only appended to or replaced, so they can
        be read without the lock.
        """
        self.proposed: list[tuple[int, TrialResult]] = []
        """The trials, each with the number of the event that proposed it."""
        self.news_lines: deque[NewsLine] = deque(maxlen=MAX_NEWS)
        """The latest decisions and events, as texts."""
        self.history = History()
        """Facts about all trials from which the course of a single one is described."""
        self.rows: dict[str, Row] = {}
        """Cached rows of the table of trials; a row is removed when its trial changes."""
        self.holder, self._holder_at, self._is_cut_off = "", 0.0, False
        self._changed_at = 0.0

    def look(self) -> bool:
        """Read the new events of the journal; return True if anything has changed.

        Raises:
            SearchGone: the search does not exist.
            JournalError: the journal is damaged.
            NotReady: the search is being prepared, and its journal has no event yet.
        """
        with self.lock:
            # The lease is read before the events, since a driver releases it after its last event.
            holder = self._holder()
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
        """True if the search should be rendered again.

        That is the case if it has changed (`is_new`), or if it runs and was not rendered for
        `PASSED_S`.
        """
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
        """Read the new events, or all events if the journal was replaced."""
        try:
            events = self._new()
            # Without a driver, the search was assumed to be cut off. If that was right, the next
            # event starts a session. Any other event shows that it was wrong: read all again.
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
            raise SearchGone(
                f"there is no search '{self.name}' in the storage of this server."
            ) from None

    def _unbegun(self, holder: str) -> Exception:
        if holder:
            return NotReady(f"'{self.name}' is being prepared: reload the page in a moment.")
        return SearchGone(
            f"there is no search '{self.name}' in the storage of this server, or it ended before "
            "its first event was written."
        )

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
        self.news_lines.extend(news_lines(event, result))

    def _add(self, event: Event, data: Epoch, course: Course) -> None:
        trial = self.result.trials.get(data.trial)
        if trial is None:  # it belongs to a selection, whose trainings are not plotted
            return
        seconds = self.result.wall_s
        value = data.metrics[course.metric.key]
        is_own = not trial.inherited or data.epoch in trial.own_epochs
        course.add(data.trial, seconds, value, is_own=is_own)
        point = Point(event.number, data.trial, data.epoch, value, seconds, course.epochs)
        self.points.append(point)
        if len(self.points) >= 2 * MAX_POINTS:
            self.points = self.points[-MAX_POINTS:]

    def view(self, key: object) -> SharedText:
        """Return the shared text with this key, and create it if necessary.

        At most `MAX_VIEWS` texts are stored; the oldest one is removed.
        """
        if key not in self.views and len(self.views) >= MAX_VIEWS:
            del self.views[next(iter(self.views))]
        return self.views.setdefault(key, SharedText())

    @property
    def standing(self) -> SearchStanding:
        """The current state of the search, which includes the time since its last event."""
        return SearchStanding(self.name, self.result.until_now(self.holder), self.holder)

    @contextmanager
    def reading(self) -> Iterator[SearchResult]:
        """Lock the search, and yield its result. This may block, so call it in a thread."""
        with self.lock:
            yield self.result

    def since(self, number: int) -> tuple[list[Point], list[TrialResult]]:
        """Return the epochs and the trials that are newer than the event with this number.

        Raises:
            Behind: some of the epochs are no longer stored, or there is no such event.
        """
        points, proposed = self.points, self.proposed
        is_cut = bool(points) and len(points) < (self.course.count if self.course else 0)
        if number > self.number or (is_cut and number < points[0].number - 1):
            raise Behind(
                "this page is too far behind to be updated, or the search was started again. "
                "Reload the page."
            )
        first = bisect_right(points, number, key=lambda point: point.number)
        new = bisect_right(proposed, number, key=lambda pair: pair[0])
        return points[first:], [trial for _, trial in proposed[new:]]


class Feed:
    """The searches of a storage that open pages show, with their current state."""

    def __init__(self, place: Storage) -> None:
        self.place = place
        self.is_over = False
        """True once the server shuts down; all streams of events then end."""
        self._followed: dict[str, Followed] = {}

    async def follow(self, name: str) -> Followed:
        """Read the current state of a search.

        Raises:
            JournalError: there is no such search, or its journal is damaged.
            NotReady: the search is being prepared, and its journal has no event yet.
        """
        if not NAME.fullmatch(name):
            raise JournalError(
                f"'{name[:80]}' is not a valid name of a search, which has at most 64 letters, "
                "digits, '_', '.' and '-'."
            )
        self._drop_unused()
        if name not in self._followed:
            self._followed[name] = Followed(self.place, name)
        followed = self._followed[name]
        followed.used_at = time.monotonic()
        try:
            await run_in_threadpool(followed.look)
        except (JournalError, NotReady) as error:
            self._let_go(followed, is_gone=isinstance(error, SearchGone))
            raise
        return followed

    def _let_go(self, followed: Followed, *, is_gone: bool) -> None:
        """Drop a search that cannot be read, unless it still exists and readers wait for it."""
        if followed.watchers and not is_gone:
            return
        if self._followed.get(followed.name) is followed:
            del self._followed[followed.name]
        followed.is_gone = is_gone
        _wake(followed)

    def _drop_unused(self) -> None:
        now = time.monotonic()
        for name, followed in list(self._followed.items()):
            if not followed.watchers and now - followed.used_at > KEEP_S:
                del self._followed[name]

    @asynccontextmanager
    async def watching(self, followed: Followed) -> AsyncIterator[asyncio.Event]:
        """Read the journal of a search periodically while the context is open.

        Yields an event that is set at every change.
        """
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
        """Read the journal periodically, and wake the waiting readers at every change."""
        is_far, seen_version = isinstance(followed.home, BucketHome), followed.version
        while True:
            near_s = min(MAX_LOOK_S, LOOK_S * max(1, len(followed.watchers) / FEW))
            await asyncio.sleep(BUCKET_LOOK_S if is_far else near_s)
            try:
                await run_in_threadpool(followed.look)
            except SearchGone:
                return self._let_go(followed, is_gone=True)
            except (JournalError, NotReady, OSError) as error:
                followed.version += str(error) != followed.trouble
                followed.trouble = str(error)
                await asyncio.sleep(BUCKET_LOOK_S)
            if followed.version != seen_version:
                seen_version = followed.version
                _wake(followed)

    def end(self) -> None:
        """Wake all waiting readers so that they end, because the server shuts down."""
        self.is_over = True
        for followed in self._followed.values():
            _wake(followed)


def _wake(followed: Followed) -> None:
    """Wake all readers that wait for a change of a search."""
    for watcher in followed.watchers:
        watcher.set()
