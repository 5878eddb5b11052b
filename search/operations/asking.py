"""Sends requests to the driver of a search, and waits for the replies."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cluster.storage.bucket import StorageError
from search.decisions.steering import is_selecting, preview_request
from search.journal.events import Requested
from search.journal.journal import Event
from search.journal.requests import ENDING, PAUSE, DriverRequest, withdraw
from search.journal.requests import ask as send
from search.journal.result import SearchResult
from search.journal.store import Home, Storage
from search.operations.options import SearchRequest
from search.operations.talk import Talk
from search.process.liveness import Liveness
from search.values.message import Message, Remedy
from search.values.option import flag
from trainables.errors import ConfigError

LOOK_S = 0.2
"""The minimum number of seconds between two checks for the reply.

If the driver checks for requests less often, as in a bucket, its interval is used
(`Home.asked_every_s`).
"""


@dataclass(frozen=True, kw_only=True)
class DriverAsk(SearchRequest):
    """The options of a verb that sends a request to the driver of a search."""

    no_wait: bool = flag("do not wait until the driver has answered")


@dataclass(frozen=True)
class DriverReply:
    """The reply to a request, or a note on what happens to a request without a reply."""

    text: str
    was_interrupted: bool = False
    """True if Ctrl-C ended the wait for the reply. The request is not withdrawn."""


def ask_driver(ask: DriverAsk, request: DriverRequest, talk: Talk) -> DriverReply:
    """Send a request to the driver of a search, and wait for its reply.

    This function does not wait if no driver runs, or if `ask.no_wait` is set.

    Args:
        ask: the search, and whether to wait.
        request: the request to send.
        talk: receives a note on the estimated cost of the request before it is sent.

    Raises:
        ConfigError: the request is refused, either before it is sent or by the driver.
        JournalError: there is no such search.
        StorageError: the storage fails.
    """
    home = ask.home()
    result, holder = SearchResult.kept_in(home)
    preview = preview_request(request, result, holder, ask.storage)
    if preview.is_refused:
        raise ConfigError(preview.message)
    if preview.cost:
        talk.note(f"it costs {preview.cost}")
    send(home, request)
    go_on = Remedy("select" if is_selecting(result) else "resume", ask.name, ask.storage)
    if not holder:
        return DriverReply(
            "the request was sent. The search is not running; when it continues, the request is "
            f"carried out first. To continue it: {go_on}"
        )
    if ask.no_wait:
        return DriverReply(f"the request was sent: {preview.text}")
    try:
        return DriverReply(wait_for_reply(home, request, ask.storage, go_on))
    except KeyboardInterrupt:
        return DriverReply(
            "the wait for the reply was interrupted; the request remains sent", was_interrupted=True
        )
    except StorageError as error:
        raise StorageError(
            f"{error.strerror}. The request was sent, but no reply could be read."
        ) from error


def wait_for_reply(
    home: Home,
    request: DriverRequest,
    place: Storage,
    go_on: Remedy,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Wait for the reply to a request, and return its text.

    If the driver ends or dies without a reply, the text says what happens to the request.

    Args:
        home: where the search is stored.
        request: the request, which has been sent.
        place: the storage of searches.
        go_on: the command that continues the search.
        wait: sleeps between two checks; its argument is the number of seconds.

    Raises:
        ConfigError: the request is refused, or the search has ended without a reply.
        StorageError: the storage has failed for longer than a living driver can stay silent.
    """
    liveness, every_s = Liveness(home, wait), max(LOOK_S, home.asked_every_s)
    journal, reply, is_there = home.tail(), None, True
    while reply is None and is_there and not liveness.is_lost:
        with suppress(StorageError):  # the storage may recover
            is_there = f"{request.id}{ENDING}" in home.requests() and bool(home.holder())
            events = journal.new()
            # Look for a reply even if the request remains: the driver may not be permitted to
            # delete it from a bucket.
            reply = _reply_among(events, request)
            liveness.look(events)
        if reply is None and is_there:
            liveness.wait(every_s)
    reply = reply or _reply_among(journal.new(), request)
    if reply is not None and reply.is_refused:
        raise ConfigError(reply.answer)
    return reply.answer if reply is not None else _text_without_reply(home, request, place, go_on)


def _reply_among(events: list[Event], request: DriverRequest) -> Requested | None:
    """Find the reply to a request among these events; None if there is none."""
    answers = (event.data for event in events if isinstance(event.data, Requested))
    return next((answer for answer in answers if answer.id == request.id), None)


def _text_without_reply(home: Home, request: DriverRequest, place: Storage, go_on: Remedy) -> str:
    """Describe the outcome of a request if the driver has ended without a reply.

    The request remains for the next session, unless the search has ended or the request asks for a
    pause. In these two cases it is withdrawn.

    Raises:
        ConfigError: the search has ended.
    """
    result, holder = SearchResult.kept_in(home)
    if result.has_ended:
        withdraw(home, request.id)
        preview = preview_request(request, result, holder, place)
        raise ConfigError(
            Message("the search ended before it replied to the request: ", preview.message)
        )
    if request.action == PAUSE:
        withdraw(home, request.id)
        return (
            "the driver ended before it replied to the request, and the search is no longer "
            f"running. To continue the search: {go_on}"
        )
    return (
        "the driver ended before it replied to the request. When the search continues, the request "
        f"is carried out first. To continue the search: {go_on}"
    )
