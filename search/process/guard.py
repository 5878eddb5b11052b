"""The guard around every verb, which turns its errors into messages and exit codes.

The guard itself is in `cluster.guard`; this module adds the errors of `search`.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import guard
from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.secrets import redact
from cluster.signals import STOPPING
from cluster.storage.bucket import StorageError
from search.journal.journal import DamagedJournal, JournalError, TakenOver
from search.journal.lease import LeaseHeld
from search.values.message import message_of
from trainables.errors import ConfigError, Unavailable, printable


class NoBetterThanGuessing(Exception):
    """The model of a search is no better than guessing, so it is not promoted."""


EXIT_CODES = guard.EXIT_CODES | {
    ConfigError: ExitCode.USAGE,
    JournalError: ExitCode.USAGE,
    DamagedJournal: ExitCode.REFUSED,
    TakenOver: ExitCode.REFUSED,
    LeaseHeld: ExitCode.REFUSED,
    NoBetterThanGuessing: ExitCode.AT_CHANCE,
    Unavailable: ExitCode.NOT_READY,
}
"""Maps the types of expected errors to exit codes."""


OUTCOME_VARIABLE = "SEARCH_OUTCOME"
"""The environment variable that names a file for the error message (`Message.as_json`).

A process that starts a verb sets this variable, and reads the file afterwards. The file contains
the suggested commands as values, so that the process can show them in another form.
"""


def guarded(command: Callable[[], int]) -> int:
    """Run a verb, and return its exit code; expected errors become messages on stderr."""
    return guard.guarded(lambda: _with_outcome(command), EXIT_CODES, STOPPING)


def _with_outcome(command: Callable[[], int]) -> int:
    """Run a verb; if it fails, write the error message to the file named by `OUTCOME_VARIABLE`."""
    path = os.environ.pop(OUTCOME_VARIABLE, "")  # child processes must not inherit it
    try:
        return _with_advice(command)
    except Exception as error:
        if path:
            with suppress(OSError):  # the message is on stderr in any case
                parts = _printable(message_of(error).as_json())
                Path(path).write_text(json.dumps(parts), encoding="utf-8")
        raise


def _printable(value: Any) -> Any:
    """Escape control characters and mask credentials in JSON-compatible values, as on stderr."""
    if isinstance(value, str):
        return "\n".join(printable(redact(line)) for line in value.split("\n"))
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _with_advice(command: Callable[[], int]) -> int:
    try:
        return command()
    except StorageError as error:
        raise NotReady(f"{error.strerror}. Fix the problem, or use another --storage.") from error
