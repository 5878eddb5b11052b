"""python -m search.data DATA: look at a data set before a search trains on it.

It prints the classes by part, what the files are and how they are read, what is left out, copies
and leaks, and what the parts are large enough for. Nothing is trained or changed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.cli import Parser
from search.cli.options import json_option, seed
from search.cli.parser import HelpFormatter
from search.journal.store import own_path
from search.operations.run import data_config, data_options
from search.process.guard import guarded
from search.views.terminal import Terminal, say
from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig, parse_setting
from trainables.errors import ConfigError
from trainables.inspection.leaks import load_inspected
from trainables.inspection.pictures import picture
from trainables.inspection.report import report_of
from trainables.inspection.words import lines


def parser() -> Parser:
    """Define the arguments of `python -m search.data`."""
    parser = Parser(
        prog="python -m search.data", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "data", metavar="DATA", help="as --data of search.run takes it, or a folder's path"
    )
    data_options(parser)
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="as for search.run: decides which images are in which part",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="settings",
        help="set a value of how the data are read and divided, as for search.run",
    )
    parser.add_argument(
        "--out",
        type=own_path,
        metavar="FILE",
        help="write a page too (HTML), with a row of samples a class",
    )
    json_option(parser)
    return parser


def config_of(args: argparse.Namespace) -> DataConfig:
    """Build the config of the data set that the command line names.

    Raises:
        ConfigError: a key of --set does not begin with `data.`.
    """
    data = f"folder:{args.data}" if is_path(args.data) else args.data
    settings = dict(parse_setting(text) for text in args.settings)
    if foreign_keys := [path for path in settings if not path.startswith("data.")]:
        raise ConfigError(f"--set {foreign_keys[0]}: only data.KEY says something about the data.")
    return data_config(args, data).override(settings).data


def is_path(data: str) -> bool:
    """True if DATA is the path of a folder, and not the name of a data set."""
    name = data.partition(":")[0]
    return name not in DATASETS and (os.sep in name or Path(data).is_dir())


def command(args: argparse.Namespace) -> int:
    """Print the report, write the page if --out is given, and return the exit code."""
    from search.views.page.data import write_alone  # imported late, because it imports Jinja

    if args.out is not None and (args.out.is_dir() or not args.out.parent.is_dir()):
        raise ConfigError(f"--out '{args.out}': name a file in a folder that is there.")
    config = config_of(args)
    inspected = load_inspected(config, download=args.download)
    report = report_of(inspected, config)
    terminal = Terminal(stderr=args.json)
    for line in lines(report):
        say(terminal, line)
    if args.out is not None:
        write_alone(report, picture(report, inspected), args.out)
        say(terminal, f"  page: {args.out}")
    if args.json:
        sys.stdout.write(json.dumps({"data": report.to_json()}) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, inspect the data, and return the exit code (see `ExitCode`)."""
    return guarded(lambda: command(parser().parse_args(argv)))
