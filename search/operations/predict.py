"""python -m search.predict NAME PATHS...: what a model says of images, a line each.

NAME is a search (its chosen model), a promoted model (models:/NAME@champion, models:/NAME/3) or a
folder that holds one. Folders are read with all that is below them, files in the order of their
names; - reads paths from stdin, one a line. Where the sub-folders of a folder are named after the
model's classes, the accuracy on its images is reported too.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.cli import Parser
from cluster.exit_codes import ExitCode
from search.cli.model_source import model_source
from search.cli.options import storage_option
from search.cli.parser import HelpFormatter
from search.journal.store import own_path
from search.process.guard import guarded
from search.process.versions import check_versions
from search.trained.source import load_model
from search.values.statistics import share_interval
from search.views.csv_output import check_csv, csv_option, csv_rows
from search.views.terminal import Terminal, say
from trainables.catalog.tasks import CLASSIFICATION
from trainables.datasets.images import SUFFIXES
from trainables.datasets.names import is_hidden
from trainables.errors import ConfigError, counted, printable

if TYPE_CHECKING:
    from trainables.export.model import Model
    from trainables.export.stream import FileAnswer

STDIN = "-"
NOT_READ = "not read: "
"""The beginning of a line about a file or folder that could not be read."""
TELL_S = 15.0
"""Seconds between two lines of progress if stderr is not a terminal."""
TRUE_CLASS = "true_class"
"""The column with the true class of an image, after which its folder is named."""
MAX_CLASSES = 30
"""The maximum number of classes whose accuracy is printed, the worst ones first."""
FIRST = 64
"""The number of first rows from which the widths of the table's columns are computed."""


@dataclass
class Files:
    """The image files that paths name; folders are searched lazily during the iteration."""

    paths: Sequence[str]
    skipped: int = 0
    """The number of files so far, below folders, whose suffix is not that of an image."""
    first_skipped: str = ""
    """The path of the first of them; empty if there is none."""
    unread: list[OSError] = field(default_factory=list)
    """The errors so far for folders that could not be read."""

    def __iter__(self) -> Iterator[str]:
        """Yield each file: in the order of the paths, and below a folder sorted by name."""
        for path in self.paths:
            for entry in _lines(sys.stdin) if path == STDIN else [path]:
                yield from self._below(entry) if Path(entry).is_dir() else [entry]

    def _below(self, folder: str) -> Iterator[str]:
        visited = {os.path.realpath(folder)}  # a link may lead to a folder above
        for parent, folders, names in os.walk(folder, onerror=self.unread.append, followlinks=True):
            folders[:] = sorted(
                name
                for name in folders
                if not is_hidden(name) and _is_new(os.path.realpath(Path(parent, name)), visited)
            )
            for path in (Path(parent, name) for name in sorted(names) if not is_hidden(name)):
                if path.suffix.lower() in SUFFIXES:
                    yield str(path)
                else:
                    self.skipped += 1
                    self.first_skipped = self.first_skipped or str(path)


def _lines(stream: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\n") for line in stream if line.strip())


def _is_new(path: str, visited: set[str]) -> bool:
    """True if a path has not been visited. Side effect: adds it to `visited`."""
    is_new = path not in visited
    visited.add(path)
    return is_new


@dataclass
class FolderAccuracy:
    """The model's accuracy on folders whose sub-folders are named after its classes."""

    roots: Sequence[Path]
    """These folders; if it is empty, no true classes are known."""
    images: dict[str, int] = field(default_factory=dict)
    """The number of images so far, by true class."""
    right: dict[str, int] = field(default_factory=dict)
    """The number of correct predictions so far, by true class."""

    @classmethod
    def over(cls, paths: Sequence[str], classes: Sequence[str]) -> "FolderAccuracy":
        """Create it for those of the paths whose sub-folders are all named after classes."""
        return cls([Path(path) for path in paths if _has_class_folders(Path(path), set(classes))])

    def true_class(self, file: str) -> str | None:
        """The true class of a file, from the sub-folder that contains it; None if unknown."""
        for root in self.roots:
            if Path(file).is_relative_to(root):
                first, *rest = Path(file).relative_to(root).parts
                return first if rest else None
        return None

    def take(self, answer: "FileAnswer") -> "FileAnswer":
        """Count a prediction, and return it with the column `TRUE_CLASS` if there are `roots`."""
        if not self.roots or answer.error:
            return answer
        true = self.true_class(answer.file)
        if true is not None:
            self.images[true] = self.images.get(true, 0) + 1
            self.right[true] = self.right.get(true, 0) + (answer.values["class"] == true)
        return replace(answer, values={**answer.values, TRUE_CLASS: true})

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Clopper and Pearson 1934).

        It assumes independent images, of which there must be at least one.
        """
        images = sum(self.images.values())
        return share_interval(sum(self.right.values()) / images, images)

    def lines(self) -> Iterator[str]:
        """Yield a line with the accuracy, and one per class, worst first; none without images."""
        if not (images := sum(self.images.values())):
            return
        right, (low, high) = sum(self.right.values()), self.bounds
        yield (
            f"accuracy {right / images:.4f} (95 % interval {low:.4f} to {high:.4f}): {right:,} of "
            f"{counted(images, 'image')} as their folders say"
        )
        shares = {name: self.right[name] / count for name, count in self.images.items()}
        for name in sorted(shares, key=lambda name: (shares[name], name))[:MAX_CLASSES]:
            of = f"{self.right[name]:,} of {self.images[name]:,}"
            yield f"  {printable(name)}: {shares[name]:.4f} ({of})"
        if (more := len(shares) - MAX_CLASSES) > 0:
            yield f"  and {counted(more, 'more class', 'more classes')}, no worse"
        yield "note: on images that it has learned from, a model is better than on others"


def _has_class_folders(folder: Path, classes: set[str]) -> bool:
    """True if a folder has sub-folders, each named after a class; hidden ones are ignored."""
    try:
        names = {
            child.name for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name)
        }
    except OSError:  # not a folder, or an unreadable one, which `Files` reports
        return False
    return bool(names) and names <= classes


def predictions(model: "Model", files: Iterable[str]) -> "Iterator[FileAnswer]":
    """Yield the model's prediction for each file, in order; see `trainables.export.stream`."""
    from trainables.export.stream import answers

    return answers(model, files)


def load_named(args: argparse.Namespace) -> "Model":
    """Load the model that NAME names; for a search's model, first print that it is prepared."""
    source = model_source(args, args.name)
    if source.is_search:
        # It is exported and compared with its checkpoint, which takes seconds.
        say(Terminal(stderr=True), f"preparing the model of {source}")
    return load_model(source)


class Progress:
    """Progress on stderr: a status line on a terminal, or else a line every `TELL_S` seconds."""

    def __init__(self) -> None:
        self.console = Terminal(stderr=True)
        self.began = self.last_report = time.monotonic()
        self.images = self.unread = 0

    def __enter__(self) -> "Progress":
        """Show the status line, unless stdout is a terminal, where predictions show progress."""
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

    def take(self, answer: "FileAnswer") -> None:
        """Count a file, report it if it could not be read, and update the progress."""
        if answer.error:
            self.unread += 1
            say(self.console, f"{NOT_READ}{answer.file}: {answer.error}")
        else:
            self.images += 1
        now = time.monotonic()
        if self._status is not None:
            self._status.update(self.text)
        elif now - self.last_report >= TELL_S and not sys.stdout.isatty():
            self.last_report = now
            say(self.console, self.text)

    @property
    def text(self) -> str:
        """The number of images, the images per second, and the number of unreadable files."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        unread = f"; {self.unread:,} not read" if self.unread else ""
        plural = "s" * (self.images != 1)
        return f"{self.images:,} image{plural}, {self.images / seconds:,.0f} a second{unread}"

    def counted(self, answers: "Iterator[FileAnswer]") -> "Iterator[FileAnswer]":
        """Yield these predictions unchanged, and pass each to `take`."""
        for answer in answers:
            self.take(answer)
            yield answer


def print_json(answers: "Iterable[FileAnswer]") -> None:
    """Print one JSON object per file; for an unreadable file, it contains the error."""
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
    """Print a table with one row per prediction, as they arrive; nothing without predictions."""
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


def class_names(model: "Model") -> Sequence[str]:
    """Names of the model's classes; empty unless its task is classification."""
    return model.classes if model.task is CLASSIFICATION else ()


def command(args: argparse.Namespace) -> int:
    """Print the model's prediction for each image, and return the exit code.

    Raises:
        ConfigError: options contradict each other, or no image could be read.
    """
    if args.csv is not None and args.json:
        raise ConfigError("--csv and --json: leave one of them out.")
    check_csv(args.csv)
    check_versions()
    model = load_named(args)
    files = Files(args.paths)
    accuracy = FolderAccuracy.over(args.paths, class_names(model))
    with Progress() as progress:
        answers = map(accuracy.take, progress.counted(predictions(model, files)))
        readable = (answer for answer in answers if not answer.error)
        if args.json:
            print_json(answers)
        elif args.csv is not None:
            write_csv(readable, args.csv)
        else:
            print_table(readable)
    for error in files.unread:
        say(progress.console, f"{NOT_READ}{error.filename}: {error.strerror}")
    progress.unread += len(files.unread)
    if files.skipped:
        more = f"{files.skipped:,} other file{'s' * (files.skipped != 1)} left out"
        say(progress.console, f"note: {more} (first: {files.first_skipped})")
    if not progress.images:
        raise ConfigError(f"no image was found that can be read: {', '.join(args.paths)[:200]}")
    say(progress.console, progress.text)
    for line in accuracy.lines():
        say(progress.console, line)
    return ExitCode.SOME_FAILED if progress.unread else 0


def parser() -> Parser:
    """Define the arguments of `python -m search.predict`."""
    parser = Parser(
        prog="python -m search.predict", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="an image, a folder, or - for paths on stdin"
    )
    csv_option(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object a line, also for files that cannot be read",
    )
    parser.add_argument(
        "--trial", metavar="TRIAL", help="of a search, another trial than the chosen or best one"
    )
    parser.add_argument(
        "--tracking",
        metavar="URI",
        help="of a promoted model, MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, "
        "else sqlite:///mlflow.db)",
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="where the search's data lies now (default: as the search)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, predict, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
