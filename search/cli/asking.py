"""The verbs that ask a search's driver for something: how they ask, and wait for its answer."""

import argparse
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from cluster.storage.bucket import StorageError
from search.cli.options import storage_option
from search.cli.prompt import search_of
from search.decisions.steering import foreseen, is_selecting
from search.journal.events import Requested
from search.journal.journal import Event
from search.journal.requests import ENDING, PAUSE, Asked, ask, withdraw
from search.journal.result import SearchResult
from search.journal.store import Home, Storage
from search.values.wording import verb_for
from trainables.errors import ConfigError, printable

LOOK_S = 0.2
"""Seconds between two looks for the answer in a folder; of a bucket as often as its driver looks.
"""


def asking_options(parser: argparse.ArgumentParser) -> None:
    """Add NAME, --storage and --no-wait."""
    storage_option(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="do not wait until the driver has answered"
    )


def asked_and_told(args: argparse.Namespace, asked: Asked) -> int:
    """Ask for something, print what comes of it, and return the exit code.

    Raises:
        ConfigError: it is refused, before it is asked or by the driver.
        JournalError: there is no such search.
        StorageError: the storage refuses.
    """
    kept = search_of(args)
    result, holder = SearchResult.kept_in(kept)
    found = foreseen(asked, result, holder, args.storage)
    if found.is_refused:
        raise ConfigError(found.text)
    if found.cost:
        _tell(args, f"it costs {found.cost}")
    ask(kept, asked)
    go_on = verb_for("select" if is_selecting(result) else "resume", args.name, args.storage)
    if not holder:
        _tell(args, f"asked. It does not run now; once it goes on, this comes first: {go_on}")
        return 0
    if args.no_wait:
        _tell(args, f"asked. {found.text}")
        return 0
    try:
        _tell(args, answer_to(kept, asked, args.storage, go_on))
    except KeyboardInterrupt:
        _tell(args, "not waited for any longer; it stays asked")
        return 128 + signal.SIGINT
    except StorageError as error:
        raise StorageError(f"{error.strerror}. It stays asked.") from error
    return 0


def answer_to(
    kept: Home,
    asked: Asked,
    place: Storage,
    go_on: str,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until a request is answered, or nobody is left who could; return the answer.

    Args:
        kept: where the search is kept.
        asked: the request, which is there.
        place: where searches are kept.
        go_on: the command with which the search goes on.
        wait: waits so many seconds between two looks.

    Raises:
        ConfigError: it is refused, or the search has ended without it.
        StorageError: the storage has refused for as long as a driver would be waited for.
    """
    lock, quiet_s, every_s = b"", 0.0, max(LOOK_S, kept.asked_every_s)
    journal, told, is_there = kept.tail(), None, True
    while told is None and is_there and quiet_s <= kept.patience_s:
        with suppress(StorageError):  # which may pass
            is_there = f"{asked.id}{ENDING}" in kept.requests() and bool(kept.holder())
            # A driver that was killed on another machine has left its lock behind.
            before, lock = lock, kept.lock()
            quiet_s = quiet_s if lock == before else 0.0
            # The object may outlive its answer, where its driver may not remove it.
            told = _answered(journal.new(), asked)
        if told is None and is_there:
            wait(every_s)
            quiet_s += every_s
    told = told or _answered(journal.new(), asked)
    if told is not None and told.is_refused:
        raise ConfigError(told.answer)
    return told.answer if told is not None else _unanswered(kept, asked, place, go_on)


def _answered(events: list[Event], asked: Asked) -> Requested | None:
    """Return the answer to a request among new events; None if it is not there."""
    answers = (event.data for event in events if isinstance(event.data, Requested))
    return next((one for one in answers if one.id == asked.id), None)


def _unanswered(kept: Home, asked: Asked, place: Storage, go_on: str) -> str:
    """Return what becomes of a request that nobody is left to answer.

    What the next session would only refuse is taken back.

    Raises:
        ConfigError: the search has ended without it.
    """
    result, holder = SearchResult.kept_in(kept)
    if result.has_ended:
        withdraw(kept, asked.id)
        raise ConfigError(f"it ended before: {foreseen(asked, result, holder, place).text}")
    if asked.action == PAUSE:
        withdraw(kept, asked.id)
        return f"its driver ended before it answered: it does not run any more. Later: {go_on}"
    return f"its driver ended before it answered; once it goes on, this comes first: {go_on}"


def _tell(args: argparse.Namespace, text: str) -> None:
    print(printable(f"{args.name}: {text}"), flush=True)
