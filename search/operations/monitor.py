"""python -m search.monitor MODEL --from PLACE: is a model in use still what it was?

MODEL is as for search.predict; PLACE has the records that python -m search.serve keeps (--record).
Three tests compare what it meets with the validation images: is it as sure of its answers, does it
name each class as often, and is it as often right on a random sample of images that people have
corrected? If nothing has changed, a call reports a change at most at the rate of --rate. The exit
code is 7 if something has changed, and 0 if not, or if there are too few images to tell.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from cluster.cli import Parser
from cluster.exit_codes import ExitCode
from cluster.storage.bucket import Bucket
from search.cli.model_source import model_source
from search.cli.options import json_option, place_option
from search.cli.parser import HelpFormatter
from search.feedback.monitoring.findings import RATE, Findings, find_changes
from search.feedback.monitoring.window import Window, load_window
from search.feedback.monitoring.words import facts, verdict
from search.feedback.records import Records
from search.journal.store import own_path, storage
from search.process.guard import guarded
from search.process.versions import check_versions
from search.tracking.uri import registry_uri
from search.trained.source import REGISTERED
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError
from trainables.export.reference import Reference, read

UNITS = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class MonitoredModel:
    """A model in use, with the reference that was stored when it was promoted."""

    name: str
    """Its name in messages."""
    reference: Reference
    version: str
    """Its version in the registry; empty if it is not registered."""


def since(text: str) -> int:
    """Parse a `type` for argparse: an age such as `90m` or `1d`, or a date, to Unix milliseconds.

    Raises:
        argparse.ArgumentTypeError: the text is not a time.
    """
    if match := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        return int((time.time() - int(match[1]) * UNITS[match[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"a time such as 90m, 12h, 1d, 2026-11-28 or 2026-11-28T14:00 is needed (got "
            f"'{text[:80]}')"
        ) from error


def rate(text: str) -> float:
    """Parse an option's value as a false-alarm rate.

    Raises:
        argparse.ArgumentTypeError: the text is not a number from 0.01 to 0.5.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"a rate from 0.01 to 0.5 is needed (got '{text[:80]}')")
    return value


def monitored_model(args: argparse.Namespace) -> MonitoredModel:
    """Load the model that MODEL names, with the reference that was stored when it was promoted.

    With --version, it is that version of the registered model.

    Raises:
        ConfigError: the model has no reference, because an earlier version of the program has
            promoted it.
    """
    source = model_source(args, args.model)
    version = source.current_version()
    if source.is_registered:
        # Predictions of an earlier version are compared with that version's reference.
        version = args.version or version
        source = source.at_version(version)
    elif source.is_search:
        say(Terminal(stderr=True), f"preparing the model of {source}")
    with tempfile.TemporaryDirectory(prefix="monitor-") as temporary:
        reference = read(source.fetch(Path(temporary) / "classifier", watched=True))
    if reference is None:
        raise ConfigError(
            f"'{source}' was promoted by an earlier version and says nothing of its validation "
            "images, with which new ones are compared. Promote it again."
        )
    return MonitoredModel(str(source), reference, version)


def figures(findings: Findings) -> dict[str, float]:
    """Collect the figures of the findings by their names in MLflow; unknown ones are left out."""
    numbers: dict[str, float | None] = {
        "images": findings.images,
        "changed": bool(findings.changed),
        "corrected": findings.corrected,
    }
    numbers |= {f"{check.name.replace(' ', '_')}_p": check.p for check in findings.checks}
    if findings.accuracy is not None:
        right = findings.accuracy
        numbers |= {"accuracy": right.value, "accuracy_low": right.low, "accuracy_high": right.high}
    return {f"monitor/{key}": float(value) for key, value in numbers.items() if value is not None}


def command(args: argparse.Namespace) -> int:
    """Test the records for changes, and print the findings.

    Returns:
        `ExitCode.CHANGED` if something has changed, or else 0.
    """
    if args.page is not None and (args.page.is_dir() or not args.page.parent.is_dir()):
        raise ConfigError(f"--page '{args.page}': name a file in a folder that is there.")
    if args.track and not args.model.startswith(REGISTERED):
        raise ConfigError("--track needs a registered model (models:/NAME@champion).")
    if isinstance(args.place, Bucket):
        args.place.reach()
    check_versions()
    records = Records.at(args.place)
    model = monitored_model(args)
    window = load_window(records, model.reference, args.since or 0, args.version or model.version)
    findings = find_changes(model.name, model.reference, window, args.rate)
    print_findings(findings, Terminal(stderr=args.json))
    if args.page is not None:
        write_page(args.page, findings, model.reference, window)
        say(Terminal(stderr=args.json), f"  page         {args.page}")
    if args.track:
        from search.tracking.monitoring import log_monitoring

        log_monitoring(model.name, registry_uri(args.tracking), figures(findings))
    if args.json:
        sys.stdout.write(json.dumps(findings.to_json()) + "\n")
    return ExitCode.CHANGED if findings.changed else 0


def write_page(path: Path, findings: Findings, reference: Reference, window: Window) -> None:
    """Write the HTML page atomically, so that a reader never sees a part of it."""
    from search.feedback.monitoring.page import render  # imported late: it imports Jinja

    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    partial.write_text(render(findings, reference, window), encoding="utf-8")
    partial.replace(path)


def print_findings(findings: Findings, terminal: Terminal) -> None:
    """Print the verdict, and one line for each fact that it is based on."""
    say(terminal, f"{findings.model}: {verdict(findings)}")
    for title, text in facts(findings):
        say(terminal, f"  {title:<12} {text}")


def parser() -> Parser:
    """Define the arguments of `python -m search.monitor`."""
    parser = Parser(
        prog="python -m search.monitor", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a search's name, models:/NAME@champion, models:/NAME/3, or a promoted model's folder",
    )
    parser.add_argument(
        "--from",
        dest="place",
        type=storage,
        required=True,
        metavar="PLACE",
        help="where the records are: a folder, or s3://BUCKET/PREFIX",
    )
    _answer_options(parser)
    parser.add_argument(
        "--rate", type=rate, default=RATE, metavar="P", help="the false-alarm rate of a call"
    )
    parser.add_argument("--page", type=own_path, metavar="FILE", help="write a page too (HTML)")
    parser.add_argument(
        "--track",
        action="store_true",
        help="add the figures (monitor/...) to a run of this version in its search's experiment "
        "in MLflow",
    )
    _model_options(parser)
    json_option(parser)
    return parser


def _answer_options(parser: Parser) -> None:
    """Add the options that select the recorded predictions to test."""
    parser.add_argument(
        "--since",
        type=since,
        metavar="TIME",
        help="only what was met since then: 90m, 12h, 1d, or 2026-11-28 (default: all; of more "
        "than 10,000 images the latest count)",
    )
    parser.add_argument(
        "--version",
        metavar="V",
        help="answers by this version (default: the one that MODEL names in the registry, else "
        "that of the latest answer)",
    )


def _model_options(parser: Parser) -> None:
    """Add the options that locate the model."""
    place_option(parser)
    parser.add_argument(
        "--trial", metavar="TRIAL", help="of a search, another trial than the chosen or best one"
    )
    parser.add_argument(
        "--tracking",
        metavar="URI",
        help="of a registered model, MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, "
        "else sqlite:///mlflow.db)",
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="where a search's data lies now (default: as the search)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, test the records, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
