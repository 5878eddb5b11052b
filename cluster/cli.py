"""The parts of the command lines that all verbs share: the parser, options and one-line errors."""

import argparse
import difflib
import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.secrets import redact

if sys.platform == "win32":  # Windows has no fcntl, SIGHUP or killpg
    sys.stderr.write("error: this program runs on Linux; on Windows use WSL.\n")
    raise SystemExit(ExitCode.USAGE)
LONGEST_S = 10**9
"""The longest time in seconds that an option accepts, about 30 years."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line, without the usage text."""

    def parse_args(  # type: ignore[override]  # Python's is overloaded; no caller has a namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Parse as `argparse` does, and suggest the closest option for an unknown one."""
        arguments: argparse.Namespace
        arguments, unrecognized = self.parse_known_args(args, namespace)
        if not unrecognized:
            return arguments
        if option := next((word for word in unrecognized if word.startswith("-")), ""):
            self.error(self._no_option(option.partition("=")[0]))
        self.error(f"unrecognized arguments: {' '.join(unrecognized)}")

    def _no_option(self, option: str) -> str:
        options = {
            text.lstrip("-"): text
            for text, action in self._option_string_actions.items()
            if action.help != argparse.SUPPRESS
        }
        closest = difflib.get_close_matches(option.lstrip("-"), options, n=1, cutoff=0.72)
        suggestion = f"; did you mean '{options[closest[0]]}'?" if closest else "."
        return f"there is no option '{option}'{suggestion}"

    def error(self, message: str) -> NoReturn:
        """Print `error: ...` and exit with code 2."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(ExitCode.USAGE, error_line(f"{message}{end} See {self.prog} --help."))


def file_argument(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument FILE, the cluster's file, which all verbs share."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the cluster's file, for example cluster/onprem.yaml",
    )


def expand_path(text: str) -> Path:
    """Expand `~` and `~user` in a path; if the user is unknown, leave the path unchanged."""
    with suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


LAST_PORT = 65_535


def is_whole(text: str) -> bool:
    """True if a text consists of at most 18 ASCII digits, so that the number fits into 64 bits.

    `str.isdigit` also accepts characters such as ², which `int` refuses.
    """
    return text.isascii() and text.isdecimal() and len(text) <= 18


def whole_number(least: int, most: int, what: str) -> Callable[[str], int]:
    """Build a `type` function for argparse that parses whole numbers from `least` to `most`.

    Args:
        least: the smallest number that is accepted.
        most: the largest number that is accepted.
        what: the subject of the error message, such as "a port".
    """

    def parse(text: str) -> int:
        if not is_whole(text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{what} must be a whole number from {least:,} to {most:,} (got '{text[:80]}')"
            )
        return int(text)

    return parse


def port(text: str) -> int:
    """Parse an option's value as a port number; 0 stands for any free port.

    Raises:
        argparse.ArgumentTypeError: the text is not a port.
    """
    return whole_number(0, LAST_PORT, "a port")(text)


def cannot_listen(host: str, port: int, error: OSError) -> NotReady:
    """Build the error for a server that cannot listen at its address."""
    return NotReady(
        f"the server cannot listen on {host}, port {port} ({error.strerror or error}). "
        "Choose another --port or --host."
    )


def seconds(text: str) -> float:
    """Parse an option's value as a positive duration in seconds.

    Raises:
        argparse.ArgumentTypeError: the text is not a number above 0 and up to `LONGEST_S`.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"the number of seconds must be above 0 and at most {LONGEST_S:,} (got '{text[:80]}')"
        )
    return value


def say(text: str) -> None:
    """Print a line with its credentials masked, and flush stdout."""
    print(redact(text), flush=True)


def error_line(text: str) -> str:
    """Build the line `error: ...`, with control characters escaped and credentials masked."""
    printable_text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in redact(text)
    )
    return f"error: {printable_text}\n"


def complain(error: Exception, code: int) -> int:
    """Print one `error: ...` line for each line of the error's text; return `code`."""
    for line in str(error).splitlines():
        sys.stderr.write(error_line(line))
    return code


def write_traceback() -> str:
    """Write the current traceback, with credentials masked, to a file in the temporary folder.

    Returns:
        A clause for the end of a message. It states where the file is, or why it could not be
        written.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="image-classifier-search-", suffix=".log", delete=False
        ) as file:
            file.write(redact(traceback.format_exc()))
    except OSError as error:
        return f"the details could not be written to a file ({error.strerror or error})"
    return f"the details are in {file.name}"
