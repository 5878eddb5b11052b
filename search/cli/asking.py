"""The verbs that ask a search's driver for something: how they ask, and wait for its answer."""

import argparse
import signal
import time
from collections.abc import Callable

from search.cli.main import storage_option
from search.cli.names import search_of
from search.decisions.steering import foreseen, is_selecting
from search.journal.requests import ENDING, Asked, ask, withdraw
from search.journal.result import ENDED, SearchResult
from search.journal.store import Home, Storage
from search.phrases import verb_for
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
    """
    kept = search_of(args)
    result, holder = SearchResult.kept_in(kept)
    found = foreseen(asked, result, holder, args.storage)
    if found.is_refused:
        raise ConfigError(found.text)
    ask(kept, asked)
    if found.cost:
        _tell(args, f"it costs {found.cost}")
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
    """
    lock, quiet_s, every_s = b"", 0.0, max(LOOK_S, kept.asked_every_s)
    while f"{asked.id}{ENDING}" in kept.requests() and kept.holder():
        # A driver that was killed on another machine has left its lock behind.
        before, lock = lock, kept.lock()
        quiet_s = quiet_s if lock == before else 0.0
        if quiet_s > kept.patience_s:
            break
        wait(every_s)
        quiet_s += every_s
    result, holder = SearchResult.kept_in(kept)
    if (answered := result.requests.get(asked.id)) is not None:
        if answered.request.is_refused:
            raise ConfigError(answered.request.answer)
        return answered.request.answer
    if result.outcome in ENDED:
        withdraw(kept, asked.id)
        raise ConfigError(f"it ended before: {foreseen(asked, result, holder, place).text}")
    return f"its driver ended before it answered; once it goes on, this comes first: {go_on}"


def _tell(args: argparse.Namespace, text: str) -> None:
    print(printable(f"{args.name}: {text}"), flush=True)
