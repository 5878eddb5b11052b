"""python -m search.predict NAME PATHS...: predict images with a model, one line per image.

NAME is a search (its chosen model), a promoted model (models:/NAME@champion, models:/NAME/3) or a
folder that contains one. Folders are read with all their sub-folders, and files in the order of
their names; - reads paths from stdin, one per line. If the sub-folders of a folder are named after
the model's classes, the accuracy on its images is reported too.
"""

from dataclasses import dataclass
from pathlib import Path

from cluster.exit_codes import ExitCode
from search.cli.face import Face
from search.cli.prompt import TerminalTalk
from search.operations.predict import Predictions, PredictRequest, predict
from search.values.option import flag, group
from search.views.csv_output import check_csv, csv_file_option
from search.views.predictions import (
    NOT_READ,
    Progress,
    abstained_text,
    accuracy_lines,
    answered_text,
    print_json,
    print_table,
    write_csv,
)
from search.views.terminal import say
from trainables.errors import ConfigError, counted


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of the command line."""

    request: PredictRequest = group(PredictRequest)
    csv: Path | None = csv_file_option(before="trial")
    json: bool = flag("print one JSON object per line, also for unreadable files", before="trial")


def command(options: PredictOptions) -> int:
    """Print the model's prediction for each image, and return the exit code.

    Raises:
        ConfigError: options contradict each other, or no image could be read.
    """
    if options.csv is not None and options.json:
        raise ConfigError("--csv and --json cannot be combined. Leave one of them out.")
    check_csv(options.csv)
    predictions = predict(options.request, TerminalTalk())
    with Progress(predictions) as progress:
        readable = (answer for answer in progress if not answer.error)
        if options.json:
            print_json(progress)
        elif options.csv is not None:
            write_csv(readable, options.csv)
        else:
            print_table(readable)
    print_summary(predictions, progress, options.csv)
    return ExitCode.SOME_FAILED if predictions.unread else 0


def print_summary(predictions: Predictions, progress: Progress, csv: Path | None) -> None:
    """Print what was not predicted, the number of images, and the accuracy if it is known.

    `csv` is the file with the predictions; None if they were printed.

    Raises:
        ConfigError: no image could be read.
    """
    console, files, accuracy = progress.console, predictions.files, predictions.accuracy
    for error in files.unread:
        say(console, f"{NOT_READ}{error.filename}: {error.strerror}")
    if files.skipped:
        more = f"skipped {counted(files.skipped, 'file')} with an unsupported suffix"
        say(console, f"note: {more} (first: {files.first_skipped})")
    predictions.check_any_image()
    say(console, progress.text if csv is None else f"{progress.text}; written to {csv}")
    if predictions.abstained:
        say(console, abstained_text(predictions.abstained, predictions.images))
    if accuracy.images and predictions.abstained and accuracy.answers:
        bounds = accuracy.answer_bounds
        say(console, answered_text(accuracy.answers, accuracy.right_answers, bounds))
    if accuracy.images:
        for line in accuracy_lines(accuracy.images, accuracy.right, accuracy.bounds):
            say(console, line)


FACE = Face("predict", PredictOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
