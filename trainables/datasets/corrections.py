"""Corrections of the labels of a folder of images: a CSV file next to the folder, never in it.

The file `FOLDER.corrections.csv` has a line for each image that a person has checked: the image's
path in the folder, its label, the correct class (the label itself if it is right, or `LEAVE_OUT`),
and when it was checked. If an image has several lines, the last one counts; a line with an empty
class takes back those before it. The reader of folders applies the file (`trainables.datasets`).
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainables.disk import read_regular, sync
from trainables.errors import DataError, printable, unknown

SUFFIX = ".corrections.csv"
COLUMNS = ("image", "label", "corrected", "when")
LEAVE_OUT = "leave out"
"""The value of `corrected` for an image that belongs to no class."""


@dataclass(frozen=True)
class LabelCorrection:
    """The decision of a person about the label of an image."""

    image: str
    """The path in the data set's folder, with `/` between folders."""
    label: str
    """The class that the folder gives the image."""
    corrected: str
    """The correct class, `LEAVE_OUT`, or empty for no decision."""
    when: str
    """ISO 8601, in UTC."""

    @property
    def is_change(self) -> bool:
        """True if the label is wrong, False if it was confirmed."""
        return self.corrected != self.label


def corrections_path(folder: Path) -> Path:
    """Return the path of the corrections of a folder, next to it."""
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}{SUFFIX}")


def read_corrections(path: Path) -> dict[str, LabelCorrection]:
    """Read the decisions that count, by image; empty if there is no file.

    Raises:
        DataError: the file cannot be read, or a line is not a correction.
    """
    try:
        text = read_regular(path).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(
            f"the corrections '{printable(str(path))}' cannot be read ({error.strerror}). "
            "Make the file readable, or move it away to use the labels as they are."
        ) from error
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    decisions: dict[str, LabelCorrection] = {}
    try:
        if (titles := next(rows, [])) != list(COLUMNS):
            raise _refusal(path, 1, f"has the columns '{','.join(titles)[:80]}'")
        for row in rows:
            if row and len(row) != len(COLUMNS):
                raise _refusal(path, rows.line_num, f"has {len(row)} values")
            if row:
                decisions[row[0]] = LabelCorrection(*row)
    except csv.Error as error:
        raise _refusal(path, rows.line_num, f"is no CSV ({error})") from error
    return {image: each for image, each in decisions.items() if each.corrected}


def _refusal(path: Path, line: int, problem: str) -> DataError:
    return DataError(
        f"line {line} of '{printable(str(path))}' {printable(problem)}, but must have "
        f"{','.join(COLUMNS)}. Correct or remove the line."
    )


def check_corrections(
    path: Path,
    corrections: Iterable[LabelCorrection],
    labels: Mapping[str, str],
    classes: Sequence[str],
) -> None:
    """Check that corrections fit the labels of a folder.

    Args:
        path: the file of the corrections, for messages.
        corrections: the corrections.
        labels: the class of each image, by its path in the folder.
        classes: the names of all classes.

    Raises:
        DataError: an image or a class does not exist, or an image has another label by now.
    """
    if LEAVE_OUT in classes:
        raise DataError(
            f"the class '{LEAVE_OUT}' has the name by which '{printable(str(path))}' leaves images "
            "out. Rename the class, or move the file away."
        )
    for correction in corrections:
        line = f"'{printable(str(path))}' has a line for '{printable(correction.image)}'"
        if (label := labels.get(correction.image)) is None:
            raise DataError(
                f"{line}, which is not an image of the data set. Remove the line, or restore the "
                "image."
            )
        if correction.label != label:
            raise DataError(
                f"{line} with the label '{printable(correction.label)}', but the image's label is "
                f"'{printable(label)}' now. Remove the line, or check the image again."
            )
        if correction.corrected not in (LEAVE_OUT, *classes):
            names = unknown("class", correction.corrected, [*classes, LEAVE_OUT])
            raise DataError(f"{line}: {names}")


def append_correction(path: Path, image: str, label: str, corrected: str) -> None:
    """Append a decision durably: it survives a power loss when this function returns.

    Args:
        path: the file, which is created if it does not exist.
        image, label, corrected: as in `LabelCorrection`.

    Raises:
        OSError: the file cannot be written.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        end = os.fstat(descriptor).st_size
        text = io.StringIO(newline="")
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            text.write("\n")  # an editor has left the last line without an end
        # With the usual quoting, a name with a carriage return could not be read again.
        is_odd = "\r" in image
        writer = csv.writer(
            text, lineterminator="\n", quoting=csv.QUOTE_ALL if is_odd else csv.QUOTE_MINIMAL
        )
        if not end:
            writer.writerow(COLUMNS)
        writer.writerow(astuple(LabelCorrection(image, label, corrected, when)))
        content = text.getvalue().encode("utf-8", "surrogateescape")
        # A single write with O_APPEND: lines of two processes are never mixed.
        if os.write(descriptor, content) < len(content):
            raise OSError("no space for the correction")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync(path.parent)
