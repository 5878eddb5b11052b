"""Requests to the driver of a search: stop a trial or the search, pause it, extend it.

A request is an object in the search's own place, `requests/ID.json`. Whoever may write there may
ask, and needs no connection to the driver. The driver takes requests up between two events, one
after another in the order of time (`Driver.take_up`): first its answer is in the journal, as an
event with the request's id, then the object goes. So each is answered once, also if the driver is
killed in between. While no driver lives they wait for the next one.

What a request would come to is told before it is asked by `search.decisions.steering.foreseen`.
"""

import getpass
import json
import math
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self
from uuid import uuid4

from cluster.storage.bucket import StorageError
from search.journal.kinds import MAX_MS
from search.journal.store import Home
from trainables.errors import ConfigError
from trainables.values import Json

STOP, PAUSE, EXTEND = ACTIONS = ("stop", "pause", "extend")
ENDING = ".json"
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,79}\.json")
"""The names of the objects that are requests; a file that is being written has another."""
MAX_BYTES, MAX_AT_ONCE = 4096, 100
"""The largest request, and the number of them that is read at a time."""
MAX_BY, MAX_NAME, MAX_TEXT, MAX_LIMITS = 200, 64, 40, 8
"""The longest name of a person, trial and limit of a budget, and the most of these limits."""
MAX_COUNT = 10**9
COUNT = re.compile(r"\+?[0-9]{1,10}")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request.

    Raises:
        ConfigError: at construction, if a value is none that may be asked for.
    """

    OPTIONS: ClassVar = ("trials", "budget", "price", "concurrency")
    """What an extension may ask for."""

    id: str
    action: str
    by: str
    """The person, and the way: `user@host`, or `user@host (page)`."""
    asked_ms: int
    """Unix time in milliseconds."""
    trial: str = ""
    """The trial that is to stop; empty for the whole search."""
    trials: str = ""
    """The number of trials in all, as `60`, or how many more, as `+20`."""
    budget: tuple[str, ...] = ()
    """Limits that take the place of those of their kind, as `2h`, or are added to them, as `+1h`.
    """
    price: float | None = None
    """What an hour of one device costs."""
    concurrency: int | None = None
    """The number of trials that may run at once."""

    @classmethod
    def now(cls, action: str, *, by: str = "", **values: Any) -> Self:
        """Return a new request; by default the user of this process asks."""
        asked_ms = time.time_ns() // 1_000_000
        return cls(
            id=f"{asked_ms:013d}-{uuid4().hex[:8]}",
            action=action,
            by=by or asker(),
            asked_ms=asked_ms,
            **values,
        )

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("action", self.action), ("trial", self.trial)):
            _check(name, value, isinstance(value, str) and len(value) <= MAX_NAME, "a short text")
        _check("by", self.by, isinstance(self.by, str) and len(self.by) <= MAX_BY, "a short text")
        _check("action", self.action, self.action in ACTIONS, f"one of {', '.join(ACTIONS)}")
        _check("asked_ms", self.asked_ms, _is_count(self.asked_ms, MAX_MS), "a time")
        self._check_trials()
        self._check_budget()
        at_once = self.concurrency is None or _is_count(self.concurrency, MAX_COUNT)
        _check("--concurrency", self.concurrency, at_once, f"a number from 1 to {MAX_COUNT:,}")
        given = [name for name in self.OPTIONS if getattr(self, name) not in (None, "", ())]
        if (self.action == EXTEND) != bool(given) or (self.trial and self.action != STOP):
            raise ConfigError(
                f"a request to {self.action} with {', '.join(given) or 'no option'}"
                f"{' and a trial' * bool(self.trial)}: extend needs --trials, --budget, --price or "
                "--concurrency; stop takes a trial, and pause nothing."
            )

    def _check_trials(self) -> None:
        value = self.trials
        fits = isinstance(value, str) and (
            not value or (COUNT.fullmatch(value) is not None and 1 <= int(value) <= MAX_COUNT)
        )
        _check("--trials", value, fits, "so many in all (60), or so many more (+20)")

    def _check_budget(self) -> None:
        fits = (
            isinstance(self.budget, tuple)
            and len(self.budget) <= MAX_LIMITS
            and all(isinstance(one, str) and len(one) <= MAX_TEXT for one in self.budget)
        )
        _check("--budget", self.budget, fits, f"at most {MAX_LIMITS} limits, as 2h or +1h")
        price = self.price
        fits = price is None or (
            isinstance(price, int | float)
            and not isinstance(price, bool)
            and 0 < price <= MAX_COUNT
            and math.isfinite(price)
        )
        _check("--price", price, fits, "a price above 0")

    @property
    def options(self) -> Json:
        """The values that are asked for beside the action, as plain ones."""
        given = {name: getattr(self, name) for name in self.OPTIONS}
        plain = {name: list(value) if name == "budget" else value for name, value in given.items()}
        return {name: value for name, value in plain.items() if value not in (None, "", [])}

    def to_json(self) -> Json:
        """Return plain values."""
        told = {"id": self.id, "action": self.action, "by": self.by, "asked_ms": self.asked_ms}
        return {**told, **({"trial": self.trial} if self.trial else {}), **self.options}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the request with these values, of which nothing is taken for granted.

        Raises:
            ConfigError: it is none, or of another version.
        """
        if not isinstance(values, Mapping):
            raise ConfigError("it is no request")
        known = {one.name: one for one in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise ConfigError(f"this version does not know '{unknown[0][:MAX_NAME]}'")
        if missing := [
            name for name, one in known.items() if one.default is MISSING and name not in values
        ]:
            raise ConfigError(f"it has no '{missing[0]}'")
        budget = values.get("budget", [])
        return cls(**{**values, "budget": tuple(budget) if isinstance(budget, list) else budget})


@dataclass(frozen=True)
class Unreadable:
    """An object among the requests that is none."""

    id: str
    reason: str


def asker() -> str:
    """Return the user of this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:MAX_BY]


def ask(home: Home, asked: Asked) -> None:
    """Put a request where the search is kept: its driver answers in the journal.

    See before what would come of it (`search.decisions.steering.foreseen`).

    Raises:
        OSError: the storage refuses.
    """
    content = json.dumps(asked.to_json(), ensure_ascii=True).encode()
    home.ask(f"{asked.id}{ENDING}", content)


def waiting(home: Home, besides: Iterable[str] = ()) -> list[Asked | Unreadable]:
    """Return the requests that are there, in the order of time, without the ids in `besides`.

    Raises:
        OSError: the storage refuses.
    """
    return _fetched(home, _there(home), besides)


def withdraw(home: Home, request: str) -> None:
    """Take a request back that no driver has answered; it may be gone.

    Raises:
        OSError: the storage refuses.
    """
    home.drop_request(f"{request}{ENDING}")


def asked_before(home: Home) -> set[str] | None:
    """Return the ids of the requests that are there now; None if the storage refuses.

    A session looks before it takes the lease: from then on it is the one that is asked.
    """
    try:
        return set(_there(home))
    except OSError:
        return None


class Inbox:
    """The requests of one session, fetched aside by a thread; use it with `with`.

    What the storage refuses is tried again at the next look.
    """

    def __init__(
        self,
        home: Home,
        *,
        say: Callable[[str], None] = lambda text: None,
        before: set[str] | None = None,
    ) -> None:
        """Begin before the first look.

        Args:
            home: where the search is kept.
            say: prints, once, what no look gets past.
            before: the ids of the requests that were there before this session; None: those of the
                first look.
        """
        self.home, self.say = home, say
        self._new: deque[Asked | Unreadable] = deque()
        self._seen: set[str] = set()
        """The ids of all that was fetched."""
        self._before = before
        """The ids of those that were there before this session; None until that is known."""
        self._answered: deque[str] = deque()
        """Those whose objects are to go."""
        self._over, self._lock = threading.Event(), threading.Lock()
        self._is_told = False
        self._thread = threading.Thread(target=self._watch, name="inbox", daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._drop()

    def next(self) -> Asked | Unreadable | None:
        """Return the next request that was fetched and has not been given out; None if none."""
        return self._new.popleft() if self._new else None

    def was_before(self, request: str) -> bool:
        """Return whether a request was there before this session, also if it was read later."""
        return self._before is not None and request in self._before

    def answered(self, request: str) -> None:
        """Have the object of a request removed, as its answer is in the journal."""
        self._answered.append(request)

    def look(self) -> None:
        """Fetch what is there."""
        try:
            with self._lock:
                there = _there(self.home)
                if self._before is None:
                    self._before = set(there)
                found = _fetched(self.home, there, self._seen)
                self._seen |= {one.id for one in found}
                self._new.extend(found)
        except StorageError:
            pass  # whoever writes the journal tells of it
        except Exception as error:  # noqa: BLE001 - others write there, and the search goes on
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.say(
                f"note: what is asked of this search cannot be read ({reason}); it is tried again"
            )

    def _watch(self) -> None:
        while not self._over.wait(self.home.asked_every_s):
            self._drop()
            self.look()

    def _drop(self) -> None:
        for request in list(self._answered):
            # What may not be removed stays, and is known to be answered.
            with suppress(OSError):
                with suppress(IsADirectoryError, PermissionError):
                    withdraw(self.home, request)
                self._answered.remove(request)


def _there(home: Home) -> dict[str, int]:
    """Return the bytes of each object that is a request by its name, by id.

    Raises:
        OSError: the storage refuses.
    """
    return {
        name.removesuffix(ENDING): size
        for name, size in home.requests().items()
        if NAME.fullmatch(name)
    }


def _fetched(
    home: Home, there: Mapping[str, int], besides: Iterable[str]
) -> list[Asked | Unreadable]:
    """Return the first of the requests that are there, in the order of time, but for `besides`.

    Raises:
        OSError: the storage refuses.
    """
    names = sorted(there.keys() - set(besides))[:MAX_AT_ONCE]
    found = [_read(home, name, there[name]) for name in names]
    return [one for one in found if one is not None]


def _read(home: Home, request: str, size: int) -> Asked | Unreadable | None:
    """Return a request, or why it is none; None if it is gone by now.

    Raises:
        StorageError: the bucket refuses.
    """
    if size > MAX_BYTES:
        return Unreadable(request, f"it has {size:,} bytes, {MAX_BYTES:,} at most are allowed")
    try:
        content = home.request(f"{request}{ENDING}", MAX_BYTES + 1)
        if len(content) > MAX_BYTES:  # it has grown
            raise ConfigError(f"it has more than the {MAX_BYTES:,} bytes that are allowed")
        asked = Asked.from_json(json.loads(content.decode()))
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except (ConfigError, ValueError, RecursionError, OSError) as error:
        return Unreadable(request, (str(error).splitlines() or [type(error).__name__])[0][:MAX_BY])
    if asked.id != request:
        return Unreadable(request, "its id is another than its name")
    return asked


def _check(name: str, value: object, is_fine: bool, wanted: str) -> None:
    if not is_fine:
        raise ConfigError(f"{name} must be {wanted} (got {str(value)[:MAX_TEXT]!r}).")


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
