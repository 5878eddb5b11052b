"""Requests to the driver of a search: verbs send one, and wait for the reply."""

import argparse
import time
from collections.abc import Callable
from contextlib import suppress

from cluster.exit_codes import ExitCode
from cluster.storage.bucket import StorageError
from search.cli.options import storage_option
from search.cli.prompt import search_of
from search.decisions.steering import is_selecting, preview_request
from search.journal.events import Requested
from search.journal.journal import Event
from search.journal.requests import ENDING, PAUSE, DriverRequest, ask, withdraw
from search.journal.result import SearchResult
from search.journal.store import Home, Storage
from search.process.liveness import Liveness
from search.values.message import Message, Remedy
from trainables.errors import ConfigError, printable

LOOK_S = 0.2
"""Seconds between two checks for the reply in a folder. A bucket is checked as often as the driver
checks it (`Home.asked_every_s`).
"""


def asking_options(parser: argparse.ArgumentParser) -> None:
    """Add NAME, --storage and --no-wait, for a verb that sends a request."""
    storage_option(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="do not wait until the driver has answered"
    )


def request_and_wait(args: argparse.Namespace, request: DriverRequest) -> int:
    """Send a request, print the reply, and return the exit code.

    If no driver runs, or with --no-wait, it does not wait for a reply. After Ctrl-C, the request
    stays and the exit code is `INTERRUPTED`.

    Raises:
        ConfigError: the request is refused, before it is sent or by the driver.
        JournalError: there is no such search.
        StorageError: the storage fails.
    """
    home = search_of(args)
    result, holder = SearchResult.kept_in(home)
    preview = preview_request(request, result, holder, args.storage)
    if preview.is_refused:
        raise ConfigError(preview.message)
    if preview.cost:
        _print_line(args, f"it costs {preview.cost}")
    ask(home, request)
    go_on = Remedy("select" if is_selecting(result) else "resume", args.name, args.storage)
    if not holder:
        _print_line(args, f"asked. It does not run now; once it goes on, this comes first: {go_on}")
        return 0
    if args.no_wait:
        _print_line(args, f"asked. {preview.text}")
        return 0
    try:
        _print_line(args, wait_for_reply(home, request, args.storage, go_on))
    except KeyboardInterrupt:
        _print_line(args, "not waited for any longer; it stays asked")
        return ExitCode.INTERRUPTED
    except StorageError as error:
        raise StorageError(f"{error.strerror}. It stays asked.") from error
    return 0


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
        place: where searches are stored.
        go_on: the command that continues the search.
        wait: sleeps for this number of seconds between two checks.

    Raises:
        ConfigError: the request is refused, or the search has ended without it.
        StorageError: the storage has failed for longer than a living driver can stay silent.
    """
    liveness, every_s = Liveness(home, wait), max(LOOK_S, home.asked_every_s)
    journal, reply, is_there = home.tail(), None, True
    while reply is None and is_there and not liveness.is_lost:
        with suppress(StorageError):  # the storage may recover
            is_there = f"{request.id}{ENDING}" in home.requests() and bool(home.holder())
            events = journal.new()
            # The request's object may remain after the reply, if the driver may not delete it.
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
    """Describe the outcome of a request whose driver has ended without a reply.

    The request stays for the next session. It is withdrawn if the search has ended, or if it asks
    for a pause.

    Raises:
        ConfigError: the search has ended without it.
    """
    result, holder = SearchResult.kept_in(home)
    if result.has_ended:
        withdraw(home, request.id)
        preview = preview_request(request, result, holder, place)
        raise ConfigError(Message("it ended before: ", preview.message))
    if request.action == PAUSE:
        withdraw(home, request.id)
        return f"its driver ended before it answered: it does not run any more. Later: {go_on}"
    return f"its driver ended before it answered; once it goes on, this comes first: {go_on}"


def _print_line(args: argparse.Namespace, text: str) -> None:
    print(printable(f"{args.name}: {text}"), flush=True)
