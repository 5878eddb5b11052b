"""What the verbs share: errors as one line each, and the exit codes.

0 all well · 2 the command, config or data is wrong, nothing started · 3 the search ended, some trials failed · 4 the environment is
not ready or was lost, safe to try again · 5 a journal is damaged, a person must look · 130 and 143 stopped by SIGINT and SIGTERM.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from cluster.errors import NotReady
from search.journal import DamagedJournal, JournalError
from search.terminal import error_line
from trainables.errors import ConfigError, Unavailable

USAGE, SOME_FAILED, NOT_READY, DAMAGED = 2, 3, 4, 5


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one that the text does not name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, [], False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Errors in one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        """Print `error: ...` and leave with 2."""
        self.exit(USAGE, error_line(f"{message}. See {self.prog} --help."))


def guarded(command: Callable[[], int]) -> int:
    """Run a verb; what it raises on purpose becomes lines on stderr and an exit code."""
    try:
        return command()
    except ConfigError as error:
        return complain(error, USAGE)
    except DamagedJournal as error:
        return complain(error, DAMAGED)
    except JournalError as error:
        return complain(error, USAGE)
    except (NotReady, Unavailable) as error:
        return complain(error, NOT_READY)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT


def complain(error: Exception, code: int) -> int:
    """Print `error: ...`, a line a problem."""
    for line in str(error).splitlines():
        sys.stderr.write(error_line(line))
    return code
