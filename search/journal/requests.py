"""Requests to the driver of a search: stop a trial or the search, pause it, extend it.

A request is a file or object in the search's storage, `requests/ID.json`. Anyone who may write
there can send requests, without a connection to the driver. The driver answers them between two
events, the oldest first (`Driver.take_up`). It first writes its answer to the journal, as an event
with the request's id, and then removes the object. So each request is answered exactly once, even
if the driver is killed in between. While no driver runs, requests wait for the next driver.

`search.decisions.steering.preview_request` computes the answer before a request is sent.
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
"""Pattern of the names of requests. A file that is still being written has another name."""
MAX_BYTES, MAX_AT_ONCE = 4096, 100
"""The maximum size of a request in bytes, and the maximum number of requests read at once."""
MAX_BY, MAX_NAME, MAX_TEXT, MAX_LIMITS = 200, 64, 40, 8
"""The maximum lengths, in characters, of a sender, of a name or id, and of a budget limit; and the
maximum number of budget limits.
"""
MAX_COUNT = 10**9
COUNT = re.compile(r"\+?[0-9]{1,10}")


@dataclass(frozen=True, kw_only=True)
class DriverRequest:
    """A request to a driver.

    Raises:
        ConfigError: at construction, if a value is not allowed.
    """

    OPTIONS: ClassVar = ("trials", "budget", "price", "concurrency")
    """The options of an extension."""

    id: str
    action: str
    by: str
    """The sender: `user@host`, or `user@host (page)` for a request from a page."""
    asked_ms: int
    """Unix time in milliseconds at which the request was sent."""
    trial: str = ""
    """The trial to stop; empty for the whole search."""
    trials: str = ""
    """The total number of trials (`60`), or the number of additional ones (`+20`)."""
    budget: tuple[str, ...] = ()
    """Each limit replaces the present limits of its kind (`2h`), or increases them (`+1h`).
    """
    price: float | None = None
    """The price of one device per hour."""
    concurrency: int | None = None
    """The number of trials that may run at once."""

    @classmethod
    def now(cls, action: str, *, by: str = "", **values: Any) -> Self:
        """Create a request with a new id; `by` defaults to the user of this process."""
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
            _check(
                name,
                value,
                isinstance(value, str) and len(value) <= MAX_NAME,
                f"a text of at most {MAX_NAME} characters",
            )
        _check(
            "by",
            self.by,
            isinstance(self.by, str) and len(self.by) <= MAX_BY,
            f"a text of at most {MAX_BY} characters",
        )
        _check("action", self.action, self.action in ACTIONS, f"one of {', '.join(ACTIONS)}")
        _check(
            "asked_ms",
            self.asked_ms,
            _is_count(self.asked_ms, MAX_MS),
            "a Unix time in milliseconds",
        )
        self._check_trials()
        self._check_budget()
        at_once = self.concurrency is None or _is_count(self.concurrency, MAX_COUNT)
        _check("--concurrency", self.concurrency, at_once, f"a number from 1 to {MAX_COUNT:,}")
        options = [
            f"--{name}" for name in self.OPTIONS if getattr(self, name) not in (None, "", ())
        ]
        if self.action == EXTEND and not options:
            raise ConfigError(
                "a request to extend requires at least one of --trials, --budget, --price and "
                "--concurrency (got none)."
            )
        if self.action != EXTEND and options:
            raise ConfigError(
                f"a request to {self.action} accepts no options (got {', '.join(options)})."
            )
        if self.trial and self.action != STOP:
            raise ConfigError(
                f"a request to {self.action} cannot name a trial (got '{self.trial}'). Only a "
                "request to stop can."
            )

    def _check_trials(self) -> None:
        value = self.trials
        fits = isinstance(value, str) and (
            not value or (COUNT.fullmatch(value) is not None and 1 <= int(value) <= MAX_COUNT)
        )
        _check("--trials", value, fits, "a total such as 60, or an increase such as +20")

    def _check_budget(self) -> None:
        fits = (
            isinstance(self.budget, tuple)
            and len(self.budget) <= MAX_LIMITS
            and all(isinstance(limit, str) and len(limit) <= MAX_TEXT for limit in self.budget)
        )
        _check("--budget", self.budget, fits, f"at most {MAX_LIMITS} limits, for example 2h or +1h")
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
        """The options that are set, as JSON values."""
        values = {name: getattr(self, name) for name in self.OPTIONS}
        plain = {name: list(value) if name == "budget" else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value not in (None, "", [])}

    def to_json(self) -> Json:
        """Return the values that are set, as JSON values."""
        required = {"id": self.id, "action": self.action, "by": self.by, "asked_ms": self.asked_ms}
        return {**required, **({"trial": self.trial} if self.trial else {}), **self.options}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Create a request from untrusted JSON values.

        Raises:
            ConfigError: the values are not a valid request, or are from another version.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"it is not a JSON object (got {type(values).__name__})")
        known_fields = {request_field.name: request_field for request_field in fields(cls)}
        if unknown := [name for name in values if name not in known_fields]:
            raise ConfigError(
                f"it has the field '{unknown[0][:MAX_NAME]}', which this version of the program "
                "does not know"
            )
        if missing := [
            name
            for name, request_field in known_fields.items()
            if request_field.default is MISSING and name not in values
        ]:
            raise ConfigError(f"the field '{missing[0]}' is missing")
        budget = values.get("budget", [])
        return cls(**{**values, "budget": tuple(budget) if isinstance(budget, list) else budget})


@dataclass(frozen=True)
class Unreadable:
    """A file in `requests/` that is not a valid request."""

    id: str
    reason: str


def asker() -> str:
    """Return the user of this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:MAX_BY]


def ask(home: Home, request: DriverRequest) -> None:
    """Send a request to the driver of a search, which answers in the journal.

    `search.decisions.steering.preview_request` computes the answer beforehand.
    """
    content = json.dumps(request.to_json(), ensure_ascii=True).encode()
    home.ask(f"{request.id}{ENDING}", content)


def waiting_requests(
    home: Home, except_ids: Iterable[str] = ()
) -> list[DriverRequest | Unreadable]:
    """Read the requests that wait for an answer, the oldest first, except those in `except_ids`."""
    return _fetch(home, _sizes_by_id(home), except_ids)


def withdraw(home: Home, request_id: str) -> None:
    """Remove a request, if it is still there."""
    home.drop_request(f"{request_id}{ENDING}")


def waiting_request_ids(home: Home) -> set[str] | None:
    """Return the ids of the requests that wait now; None if the storage fails.

    A session calls this before it acquires the lease. Requests that are sent later are meant for
    this session.
    """
    try:
        return set(_sizes_by_id(home))
    except OSError:
        return None


class Inbox:
    """Context manager whose thread fetches the requests to one session.

    If the storage fails, the thread tries again at its next poll.
    """

    def __init__(
        self,
        home: Home,
        *,
        say: Callable[[str], None] = lambda text: None,
        earlier_ids: set[str] | None = None,
    ) -> None:
        """Create an inbox, which does not fetch anything yet.

        Args:
            home: the storage of the search.
            say: called once with the reason if requests cannot be read.
            earlier_ids: the ids of the requests that are older than this session. With None, all
                requests that the first poll finds count as older.
        """
        self.home, self.say = home, say
        self._new: deque[DriverRequest | Unreadable] = deque()
        self._fetched_ids: set[str] = set()
        """The ids of all requests that were fetched."""
        self._earlier_ids = earlier_ids
        """The ids of requests that are older than the session; None until known."""
        self._answered: deque[str] = deque()
        """The ids of the answered requests whose objects have not been removed yet."""
        self._over, self._lock = threading.Event(), threading.Lock()
        self._has_complained = False
        self._thread = threading.Thread(target=self._watch, name="inbox", daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._drop()

    def next(self) -> DriverRequest | Unreadable | None:
        """Return the next request that was fetched, or None. Each is returned once."""
        return self._new.popleft() if self._new else None

    def is_from_before(self, request_id: str) -> bool:
        """True for a request that is older than this session, even if it was fetched later."""
        return self._earlier_ids is not None and request_id in self._earlier_ids

    def mark_answered(self, request_id: str) -> None:
        """Let the thread remove a request, whose answer must already be in the journal."""
        self._answered.append(request_id)

    def look(self) -> None:
        """Fetch the requests that have arrived since the last call."""
        try:
            with self._lock:
                sizes = _sizes_by_id(self.home)
                if self._earlier_ids is None:
                    self._earlier_ids = set(sizes)
                fetched = _fetch(self.home, sizes, self._fetched_ids)
                self._fetched_ids |= {request.id for request in fetched}
                self._new.extend(fetched)
        except StorageError:
            pass  # the journal cannot be written either, and reports the error
        except Exception as error:  # noqa: BLE001 - others can write there; the search continues
            self._complain_once(error)

    def _complain_once(self, error: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.say(
                f"note: requests to stop, pause or extend this search cannot be read ({reason}). "
                "The search continues and tries again."
            )

    def _watch(self) -> None:
        while not self._over.wait(self.home.asked_every_s):
            self._drop()
            self.look()

    def _drop(self) -> None:
        for request_id in list(self._answered):
            # A file that cannot be removed stays, and is ignored, since its request is answered.
            with suppress(OSError):
                with suppress(IsADirectoryError, PermissionError):
                    withdraw(self.home, request_id)
                self._answered.remove(request_id)


def _sizes_by_id(home: Home) -> dict[str, int]:
    """Return the size in bytes of each object with a valid name of a request, by request id."""
    return {
        name.removesuffix(ENDING): size
        for name, size in home.requests().items()
        if NAME.fullmatch(name)
    }


def _fetch(
    home: Home, sizes: Mapping[str, int], except_ids: Iterable[str]
) -> list[DriverRequest | Unreadable]:
    """Read up to `MAX_AT_ONCE` of these requests, the oldest first, except `except_ids`."""
    names = sorted(sizes.keys() - set(except_ids))[:MAX_AT_ONCE]
    requests = [_read(home, name, sizes[name]) for name in names]
    return [request for request in requests if request is not None]


def _read(home: Home, request_id: str, size: int) -> DriverRequest | Unreadable | None:
    """Read a request; None if it was removed in the meantime."""
    if size > MAX_BYTES:
        return Unreadable(
            request_id, f"the request has {size:,} bytes, but at most {MAX_BYTES:,} are allowed"
        )
    try:
        content = home.request(f"{request_id}{ENDING}", MAX_BYTES + 1)
        if len(content) > MAX_BYTES:  # it has grown since its size was read
            raise ConfigError(f"the request has more than {MAX_BYTES:,} bytes, the allowed maximum")
        request = DriverRequest.from_json(json.loads(content.decode()))
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except (ConfigError, ValueError, RecursionError, OSError) as error:
        return Unreadable(
            request_id, (str(error).splitlines() or [type(error).__name__])[0][:MAX_BY]
        )
    if request.id != request_id:
        return Unreadable(request_id, "the request's id differs from its file name")
    return request


def _check(name: str, value: object, is_fine: bool, requirement: str) -> None:
    if not is_fine:
        raise ConfigError(f"{name} must be {requirement} (got {str(value)[:MAX_TEXT]!r}).")


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
