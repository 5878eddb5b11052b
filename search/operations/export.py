"""python -m search.export NAME: every trial as a row, its searched parameters as columns."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.cli import Parser
from search.cli.options import storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.journal.result import SearchResult, TrialResult
from search.process.guard import guarded
from search.views.csv_output import STDOUT, check_csv, csv_option, csv_rows
from trainables.errors import ConfigError, printable

COLUMNS = ("trial", "outcome", "epochs", "value", "val_{}", "val_loss", "train_s")
"""The first columns of the table of trials, before the searched parameters; `{}` stands for the
name of the task's primary metric.
"""


@dataclass(frozen=True)
class TrialTable:
    """A table of a search's trials, in the order in which they were suggested."""

    columns: list[str]
    rows: list[dict[str, Any]]
    """One dict per trial, by column; unknown values are None, or NaN in numeric columns."""


def trial_table(result: SearchResult) -> TrialTable:
    """Build the table of a search's trials.

    After `COLUMNS` it has a column for each searched parameter, by its dotted path. A parameter
    with the name of another column, such as `epochs`, is called `params.epochs`.
    """
    domains = result.started.experiment["space"]["domains"]
    # A search that was continued with another space had other parameters before.
    searched = (path for trial in result.trials.values() for path in trial.params)
    paths = list(dict.fromkeys([*domains, *searched]))
    columns = [column.format(result.task.primary.name) for column in COLUMNS]
    titles = {path: f"params.{path}" if path in columns else path for path in paths}
    rows = [
        dict(zip(columns, _figures(trial), strict=True))
        | {title: trial.params.get(path) for path, title in titles.items()}
        for trial in result.trials.values()
    ]
    return TrialTable([*columns, *titles.values()], rows)


def _figures(trial: TrialResult) -> tuple[Any, ...]:
    """The values of a trial for `COLUMNS`, in their order."""
    return (
        trial.trial,
        trial.outcome,
        len(trial.epochs),
        trial.value,
        trial.primary_value,
        trial.best.get("val/loss", math.nan),
        trial.train_s,
    )


def command(args: argparse.Namespace) -> int:
    """Write the table of trials as CSV or JSON lines, and return the exit code."""
    if args.csv is not None and args.json:
        raise ConfigError("--csv and --json: leave one of them out.")
    check_csv(args.csv)
    home = search_of(args)
    table = trial_table(SearchResult.kept_in(home)[0])
    if args.json:
        for row in table.rows:
            print(json.dumps({title: _plain(value) for title, value in row.items()}))
        return 0
    file = args.csv or STDOUT
    with csv_rows(file, table.columns) as rows:
        for row in table.rows:
            rows.write(row)
    if file != STDOUT:
        print(printable(str(file)))
    return 0


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON does not allow, with None."""
    return None if isinstance(value, float) and math.isnan(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the table, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.export", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    csv_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="write a JSON object a line instead of CSV"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
