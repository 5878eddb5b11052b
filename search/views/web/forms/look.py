"""python -m search.views.web.forms.look DATA: a data set for a page, as JSON on stdout.

It takes the options of `search.data`, and runs apart from the server: images take memory.
"""

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from search.data import config_of, parser
from search.preflight.first_step import few_photographs
from search.process.guard import guarded
from trainables.catalog.tasks import TASKS
from trainables.inspection.leaks import load_inspected
from trainables.inspection.pictures import picture
from trainables.inspection.report import DataReport, report_of


@dataclass(frozen=True)
class Seen:
    """A data set that was looked at."""

    report: DataReport
    picture: str
    """Samples of each class: a PNG in base64."""
    few_photographs: bool
    """True if trained weights are a better beginning."""

    @classmethod
    def of(cls, text: str) -> "Seen":
        """Return what `command` has printed."""
        told = json.loads(text)
        report = DataReport.from_json(told["report"])
        return cls(report, told["picture"], told["few_photographs"])


def command(args: argparse.Namespace) -> int:
    """Look at the data, print what was seen, and return the exit code."""
    config = config_of(args)
    looked = load_inspected(config, download=args.download)
    report = report_of(looked, config)
    told = {
        "report": report.to_json(),
        "picture": base64.b64encode(picture(report, looked)).decode(),
        "few_photographs": few_photographs(TASKS[config.task], looked.dataset),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, look at the data, and return the exit code."""
    return guarded(lambda: command(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
