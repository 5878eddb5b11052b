"""python -m search.run --space table3: search for the best network and its training.

It runs on this machine or on a cluster.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.cli import config_file
from search.cli.face import Face
from search.cli.parser import parse_request
from search.cli.unfit_text import refuse_unfit_texts
from search.journal.store import own_path
from search.operations.run import estimate, run
from search.operations.run_request import RunRequest
from search.process.guard import guarded
from search.process.lifetime import leave
from search.values.option import flag, group, option
from search.views.terminal import Terminal, say


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of the command line, and of `search.api.run`."""

    config: Path | None = option(
        "a YAML file of these options, and of settings under 'set:'; options on the command line "
        "take precedence",
        metavar="FILE",
        parse=own_path,
    )
    request: RunRequest = group(RunRequest)
    dry_run: bool = flag("print the plan and an estimate of the time; start nothing")
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: RunOptions) -> int:
    """Print the plan, or run the search and print the result; return the exit code."""
    if options.dry_run:
        print_estimate(options.request, as_json=options.json)
        return 0
    return run(options.request, as_json=options.json).exit_code


def print_estimate(request: RunRequest, *, as_json: bool) -> None:
    """Print the plan of a search and an estimate of its time; with `as_json`, print JSON, too."""
    experiment, expected = estimate(request)
    terminal = Terminal(stderr=as_json)
    for line in expected.lines(experiment):
        say(terminal, line)
    if as_json:
        sys.stdout.write(json.dumps(expected.to_json()) + "\n")


FACE = Face("run", RunOptions, command, __doc__)
parser = FACE.parser


def parse_options(words: Sequence[str]) -> RunOptions:
    """Parse a command line and its config file.

    Options of the command line take precedence over those of the config file, and these over the
    defaults.

    Raises:
        ConfigError: the config file is invalid, or a text cannot or may not be stored.
    """
    options = parse_request(parser(), RunOptions, words)
    refuse_unfit_texts(options)
    if options.config is None:
        return options
    file_words = config_file.words(RunOptions, options.config)
    # The file's words come first, so --set on the command line adds to the settings in the file.
    # But --budget on the command line must replace the limits in the file.
    if options.request.limits.budget:
        file_words = [word for word in file_words if not word.startswith("--budget=")]
    options = parse_request(parser(), RunOptions, [*file_words, *words])
    refuse_unfit_texts(options)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the search, and return the exit code (see `ExitCode`)."""
    return guarded(lambda: command(parse_options(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    leave(main())
