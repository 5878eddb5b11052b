"""The guard around every verb: its errors become lines and exit codes (`exit_codes`)."""

import os
import signal
import sys
from collections.abc import Callable

from cluster.cli import (
    BUG,
    NOT_READY,
    REFUSED,
    USAGE,
    Terminated,
    complain,
    write_traceback,
)
from cluster.errors import NotReady, Refused
from cluster.storage.bucket import StorageError
from search.journal.journal import DamagedJournal, JournalError, TakenOver
from search.journal.lease import LeaseHeld
from search.process.exit_codes import AT_CHANCE
from search.process.signals import stop_on_signals
from trainables.errors import ConfigError, Unavailable


class NoBetterThanGuessing(Exception):
    """The model that users would get is no better than guessing."""


def guarded(command: Callable[[], int]) -> int:
    """Run a verb; its exceptions become lines on stderr and an exit code."""
    with stop_on_signals():
        return _run_to_exit_code(command)


def _run_to_exit_code(command: Callable[[], int]) -> int:
    """Run a verb, turning its exceptions into lines and exit codes."""
    try:
        code = command()
        if sys.stdout is not None:  # as it is after `>&-`
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has closed it
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ConfigError as error:
        return complain(error, USAGE)
    except (DamagedJournal, TakenOver, LeaseHeld, Refused) as error:
        return complain(error, REFUSED)
    except JournalError as error:
        return complain(error, USAGE)
    except NoBetterThanGuessing as error:
        return complain(error, AT_CHANCE)
    except (NotReady, Unavailable) as error:
        return complain(error, NOT_READY)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        return 128 + signal.SIGTERM
    except StorageError as error:
        return complain(
            RuntimeError(f"{error.strerror}. Mend that, or use another --storage."), NOT_READY
        )
    except OSError as error:
        return complain(
            RuntimeError(f"the system refused: {error}. The details are in {write_traceback()}"),
            NOT_READY,
        )
    except Exception as error:  # noqa: BLE001 - a mistake of ours: the user gets a line, and the details in a file
        return complain(
            RuntimeError(
                f"a mistake in the program ({type(error).__name__}: {error}). The details are in "
                f"{write_traceback()}"
            ),
            BUG,
        )
