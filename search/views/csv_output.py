"""CSV output to stdout or to the file that --csv names."""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.journal.store import own_path
from search.values.option import option
from trainables.errors import ConfigError

STDOUT = Path("-")
"""The value of --csv if it is given without a file, which means stdout."""


def csv_file_option(*, before: str = "") -> Path | None:
    """Declare the option `--csv`.

    Its value is `STDOUT` if it is given without a file, and None if it is not given. `before` is
    the field of the option before which it is listed.
    """
    file: Path | None = option(
        "write CSV with a header row to this file, whose name ends in .csv, or to stdout",
        metavar="FILE",
        parse=own_path,
        nargs="?",
        const=STDOUT,
        before=before,
    )
    return file


def check_csv(file: Path | None) -> None:
    """Check that --csv names a file in an existing folder; None and `STDOUT` are accepted.

    The name must end in `.csv`, so that an image that was meant as input is not overwritten.

    Raises:
        ConfigError: the name has another suffix, or is a folder, or its folder does not exist.
    """
    if file is None or file == STDOUT:
        return
    if file.suffix.lower() != ".csv":
        raise ConfigError(
            f"--csv '{file}' must end in .csv. To write CSV to stdout, pass --csv without a "
            "file name as the last argument."
        )
    if file.is_dir():
        raise ConfigError(f"--csv '{file}' is a folder. Pass the path of a file.")
    if not file.parent.is_dir():
        raise ConfigError(
            f"--csv '{file}' is in '{file.parent}', which is not a folder. Create it first."
        )


@contextmanager
def csv_rows(file: Path, titles: Sequence[str]) -> Iterator["Rows"]:
    """Yield a writer of rows with these column titles, to a file or to `STDOUT`."""
    if file == STDOUT:
        yield Rows(sys.stdout, titles)
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        yield Rows(stream, titles)


class Rows:
    """Writes rows of CSV with the same columns.

    A text that a spreadsheet would run as a formula gets an apostrophe as a prefix, which marks it
    as text; `plain_text` removes the prefix.
    """

    def __init__(self, stream: Any, titles: Sequence[str]) -> None:
        self._writer = csv.DictWriter(stream, titles, restval="", lineterminator="\n")
        self._quoting = csv.DictWriter(
            stream, titles, restval="", lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        self.write({title: title for title in titles})

    def write(self, row: dict[str, Any]) -> None:
        """Write a row, given its values by title; missing values, None and NaN are left empty."""
        cells = {title: _cell(value) for title, value in row.items()}
        # Readers treat a bare CR as the end of a row, but Python's writer does not quote it.
        needs_quotes = any(isinstance(cell, str) and "\r" in cell for cell in cells.values())
        (self._quoting if needs_quotes else self._writer).writerow(cells)


FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The beginning of a text that a spreadsheet runs as a formula (OWASP, CSV injection).

It may be preceded by apostrophes, so that `plain_text` can reverse `Rows`.
"""


def _cell(value: Any) -> Any:
    if value is None or value != value:  # only NaN differs from itself
        return ""
    if not isinstance(value, str):
        return value
    # A file name that is not UTF-8 contains lone surrogates, which cannot be encoded.
    text = value.encode(errors="replace").decode()
    return f"'{text}" if FORMULA.match(text) and not _is_number(text) else text


def plain_text(cell: str) -> str:
    """Restore a text from its CSV cell, by removing the apostrophe that `Rows` has added."""
    is_marked = cell.startswith("'") and FORMULA.match(cell)
    return cell[1:] if is_marked else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
