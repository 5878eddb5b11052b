"""python -m search.data DATA: inspect a data set before a search trains on it.

It prints the classes of each set, the file types and how they are read, what is left out, copies
and leaks, and which differences the sets are large enough to show. With --labels, it ranks the
images by the probability that their label is wrong. Nothing is trained or changed.
"""

import json
import shlex
import sys
from dataclasses import dataclass

from search.cli.face import Face
from search.operations.data import DataRequest, inspect_data, is_folder
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from trainables.inspection.words import lines


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options of the command line."""

    request: DataRequest = group(DataRequest)
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: DataOptions) -> int:
    """Print the report on the data, and return the exit code."""
    report = inspect_data(options.request)
    terminal = Terminal(stderr=options.json)
    for line in lines(report):
        say(terminal, line)
    if report.labels is not None and report.labels.suspicious and is_folder(report):
        weights = options.request.weights
        more = "" if weights is None else f" --weights {shlex.quote(str(weights))}"
        say(
            terminal,
            "  to confirm or correct them with keys: python -m search.label "
            f"{shlex.quote(report.root)} --suspicious{more}",
        )
    if options.request.out is not None:
        say(terminal, f"  the HTML page was written to {options.request.out}")
    if options.json:
        sys.stdout.write(json.dumps({"data": report.to_json()}) + "\n")
    return 0


FACE = Face("data", DataOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
