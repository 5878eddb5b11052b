"""Prints the predictions for image files as a table, CSV or JSON, with the progress on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from search.views.csv_output import csv_rows
from search.views.terminal import Terminal, say
from trainables.errors import counted, printable

if TYPE_CHECKING:
    from trainables.export.model import FileAnswer

NOT_READ = "not read: "
"""The beginning of a line about a file or folder that could not be read."""
TELL_S = 15.0
"""Seconds between two lines of progress if stderr is not a terminal."""
MAX_CLASSES = 30
"""The maximum number of classes whose accuracy is printed, the worst ones first."""
FIRST = 64
"""The widths of the table's columns are computed from the first `FIRST` rows."""


class CountedAnswers(Protocol):
    """Predictions that are counted while they are iterated over."""

    @property
    def images(self) -> int:
        """The number of predicted images so far."""

    @property
    def unread(self) -> int:
        """The number of files and folders that could not be read so far."""

    def __iter__(self) -> "Iterator[FileAnswer]":
        """Yield the predictions."""


class Progress:
    """Progress on stderr: a status line on a terminal, or else a line every `TELL_S` seconds."""

    def __init__(self, predictions: CountedAnswers) -> None:
        self.predictions, self.console = predictions, Terminal(stderr=True)
        self.began = self.last_report = time.monotonic()

    def __enter__(self) -> "Progress":
        """Show the status line, unless stdout is a terminal: there, the predictions themselves are
        the progress.
        """
        self._stack = ExitStack()
        self._status = (
            self._stack.enter_context(self.console.status("reading"))
            if self.console.is_terminal and not sys.stdout.isatty()
            else None
        )
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the status line."""
        self._stack.close()

    def __iter__(self) -> "Iterator[FileAnswer]":
        """Yield the predictions; update the progress, and report files that cannot be read."""
        for answer in self.predictions:
            if answer.error:
                say(self.console, f"{NOT_READ}{answer.file}: {answer.error}")
            self._update()
            yield answer

    def _update(self) -> None:
        now = time.monotonic()
        if self._status is not None:
            self._status.update(self.text)
        elif now - self.last_report >= TELL_S and not sys.stdout.isatty():
            self.last_report = now
            say(self.console, self.text)

    @property
    def text(self) -> str:
        """A text with the number of images, their rate, and the number of unreadable files."""
        images, unread = self.predictions.images, self.predictions.unread
        seconds = max(time.monotonic() - self.began, 1e-9)
        unread_text = f"; {unread:,} not read" if unread else ""
        rate = f", {images / seconds:,.0f} a second"
        if images < seconds:
            rate = f", {seconds / images:,.1f} s an image" if images else ""
        return f"{counted(images, 'image')}{rate}{unread_text}"


def print_json(answers: "Iterable[FileAnswer]") -> None:
    """Print one JSON object per file; the object of an unreadable file contains the error."""
    for answer in answers:
        values = {"error": answer.error} if answer.error else answer.values
        print(json.dumps({"file": answer.file, **values}))


def write_csv(answers: "Iterator[FileAnswer]", file: Path) -> None:
    """Write a CSV file with one row per prediction; without predictions, no file is created."""
    if (first := next(answers, None)) is None:
        return
    with csv_rows(file, ["file", *first.values]) as rows:
        for answer in chain([first], answers):
            rows.write({"file": answer.file, **answer.values})


def print_table(answers: "Iterator[FileAnswer]") -> None:
    """Print a table with one row per prediction; without predictions, nothing is printed.

    After the first `FIRST` rows, each row is printed as soon as its prediction arrives.
    """
    first_answers = list(islice(answers, FIRST))
    if not first_answers:
        return
    titles = ("file", *first_answers[0].values)
    cells = [titles, *(_cells(answer) for answer in first_answers)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in chain(cells, map(_cells, answers)):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())


def _cells(answer: "FileAnswer") -> tuple[str, ...]:
    texts = (
        "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        for value in answer.values.values()
    )
    return tuple(printable(text) for text in (answer.file, *texts))


def abstained_text(abstained: Mapping[str, int], images: int) -> str:
    """Describe from how many images a model abstained, such as `7 uncertain, 5 unlike`.

    Args:
        abstained: the number of these images, by reason.
        images: the number of all images.
    """
    count = sum(abstained.values())
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(abstained.items()))
    return f"abstained from {count:,} of {counted(images, 'image')}: {reasons}"


def answered_text(answers: int, right: int, interval: tuple[float, float]) -> str:
    """Describe the accuracy on the images from which a model did not abstain.

    Args:
        answers: the number of these images of known class; at least one.
        right: the number of correct predictions among them.
        interval: the 95 % confidence interval of the accuracy.
    """
    low, high = interval
    return (
        f"accuracy of the answers {right / answers:.4f} (95 % interval {low:.4f} to {high:.4f}): "
        f"{right:,} of {counted(answers, 'image')} from which the model did not abstain"
    )


def accuracy_lines(
    images: Mapping[str, int], right: Mapping[str, int], interval: tuple[float, float]
) -> Iterator[str]:
    """Yield a line with a model's accuracy, and one for each class, the worst classes first.

    Args:
        images: the number of images, by true class; at least one.
        right: the number of correct predictions, by true class.
        interval: the 95 % confidence interval of the accuracy.
    """
    count, right_count, (low, high) = sum(images.values()), sum(right.values()), interval
    yield (
        f"accuracy {right_count / count:.4f} (95 % interval {low:.4f} to {high:.4f}): "
        f"{right_count:,} of {counted(count, 'image')} according to their folders"
    )
    shares = {name: right[name] / images[name] for name in images}
    for name in sorted(shares, key=lambda name: (shares[name], name))[:MAX_CLASSES]:
        of = f"{right[name]:,} of {images[name]:,}"
        yield f"  {printable(name)}: {shares[name]:.4f} ({of})"
    if (more := len(shares) - MAX_CLASSES) > 0:
        yield f"  and {counted(more, 'more class', 'more classes')}, which are not worse"
    yield "note: a model is better on images that it was trained on than on others"
