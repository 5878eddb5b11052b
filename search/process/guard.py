"""The guard around every verb, which turns its errors into messages and exit codes.

The guard itself is in `cluster.guard`; this module adds the errors of `search`.
"""

from collections.abc import Callable

from cluster import guard
from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.signals import STOPPING
from cluster.storage.bucket import StorageError
from search.journal.journal import DamagedJournal, JournalError, TakenOver
from search.journal.lease import LeaseHeld
from trainables.errors import ConfigError, Unavailable


class NoBetterThanGuessing(Exception):
    """The answer of the search is no better than guessing, so it is not promoted."""


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


def guarded(command: Callable[[], int]) -> int:
    """Run a verb, and return its exit code; expected errors become messages on stderr."""
    return guard.guarded(lambda: _with_advice(command), EXIT_CODES, STOPPING)


def _with_advice(command: Callable[[], int]) -> int:
    try:
        return command()
    except StorageError as error:
        raise NotReady(f"{error.strerror}. Fix this, or use another --storage.") from error
