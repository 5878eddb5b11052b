"""python -m search.promote NAME: put a search's best network into MLflow's model registry.

From there it can be used without this project.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.cli import Parser
from cluster.secrets import redact
from search.cli.options import json_option, storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.design.experiment import absolute
from search.facts.guessing import above_chance
from search.facts.summary import metric_facts
from search.facts.trials import primary_facts
from search.journal.guessing import AgainstGuessing
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Storage, own_path
from search.process.guard import NoBetterThanGuessing, guarded
from search.process.versions import check_versions
from search.tracking.model_registry import Registered, Registry, check_name
from search.tracking.uri import check_tracking, uri_of
from search.trained.answer import against_guessing, find_answer
from search.trained.description import describe_model, model_figures, not_complete, tags
from search.trained.export import export_for_registry
from search.values.message import Message, Remedy
from search.values.objectives import value_of
from search.values.secrets import refuse, refuse_in_uri
from search.views.labels import with_article
from search.views.terminal import Terminal, say
from trainables.values import Json

if TYPE_CHECKING:
    from trainables.export.export import Exported


def command(args: argparse.Namespace) -> int:
    """Export the best network of a search and register it as the champion; return the exit code.

    All checks are made before the export.
    """
    home = search_of(args)
    name = args.model or args.name
    check_name(name)
    refuse("--model", name)
    refuse_in_uri(args.tracking or "")
    result = SearchResult.read(home.opened())
    chosen = find_answer(result, home, args.storage, args.trial)
    if not args.anyway:
        refuse_at_chance(result, chosen, args.storage)
    uri = uri_of(result, args.tracking)
    check_versions()
    check_tracking(uri)
    registry = Registry(uri, result, args.storage)
    say(
        Terminal(stderr=True),
        f"exporting {chosen.trial} and comparing what it says of the validation images",
    )
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = export_for_registry(
            result,
            home,
            chosen,
            args.data_root,
            Path(temporary) / "classifier",
            onnx=args.onnx,
        )
        version = registry.register(
            name, exported, describe_model(result, chosen, exported), tags(result, chosen)
        )
    registered = registry.set_aliases(name, version)
    console = Terminal()
    for line in lines(result, chosen, exported, registered, uri):
        say(console, line)
    if args.json:
        is_above_chance = above_chance(against_guessing(result, chosen))
        print(
            json.dumps({**as_json(chosen, exported, registered), "above_chance": is_above_chance})
        )
    return 0


def refuse_at_chance(result: SearchResult, chosen: TrialResult, storage: Storage) -> None:
    """Check that the model is better than guessing; passes if that is unknown.

    Raises:
        NoBetterThanGuessing: it is not better.
    """
    against = against_guessing(result, chosen)
    if against is None or against.is_above:
        return
    luck = ", which may be luck" if against.difference > 0 else ""
    raise NoBetterThanGuessing(
        Message(
            f"no better than {against.guess.doing} ({_reached(against, against.guessed)}): "
            f"{chosen.trial} has {against.value:.4g}{luck}. To register it all the same: ",
            Remedy(
                "promote",
                result.name,
                storage,
                options={"anyway": True}
                if chosen is result.chosen
                else {"trial": chosen.trial, "anyway": True},
            ),
        )
    )


def _reached(against: AgainstGuessing, value: float) -> str:
    """Describe a value: "0.952 of the 42 validation images" or "a macro F1 of 0.4878 on ..."."""
    images = f"the {against.images:,} {against.part} images"
    if against.metric.is_share:
        return f"{value:.4g} of {images}"
    return f"{with_article(against.metric)} of {value:.4g} on {images}"


def lines(
    result: SearchResult,
    chosen: TrialResult,
    exported: "Exported",
    registered: Registered,
    uri: str,
) -> list[str]:
    """Describe the registered model, and how to use and serve it, in lines."""
    was = (
        f"; version {registered.before}, the champion until now, stays" if registered.before else ""
    )
    serve = Remedy("serve", arguments=[registered.uri], options={"tracking": redact(absolute(uri))})
    now = f"version {registered.version} of {registered.name}{was}.{not_complete(result, chosen)}"
    return [
        (
            f"{chosen.trial} ({chosen.config['model']['name']}) of {result.name} is the champion: "
            f"{now}"
        ),
        *(f"  {title}: {text}" for title, text in model_figures(result, chosen, exported).items()),
        (
            f'  use it: import mlflow; mlflow.set_tracking_uri("{redact(absolute(uri))}"); '
            f'model = mlflow.pyfunc.load_model("{registered.uri}")'
        ),
        f"  serve it: {serve}",
    ]


def as_json(chosen: TrialResult, exported: "Exported", registered: Registered) -> Json:
    """Describe the registered model as JSON-compatible values."""
    return {
        "name": registered.name,
        "version": registered.version,
        "uri": registered.uri,
        "trial_id": chosen.trial,
        **metric_facts(chosen.metric),
        **primary_facts(chosen),
        "value": chosen.value,
        f"{value_of(chosen.task.primary.name)}_as_promoted": exported.value,
        "difference": exported.difference,
        "inference": exported.inference,
        "onnx_inference": exported.onnx_inference,
        "onnx_difference": exported.onnx_difference,
    }


def parser() -> Parser:
    """Define the arguments of `python -m search.promote`."""
    parser = Parser(
        prog="python -m search.promote", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--trial",
        metavar="TRIAL",
        help="another than the search's answer: a quicker one of the Pareto front, say",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="also as ONNX, checked on the validation images and timed in onnxruntime",
    )
    parser.add_argument(
        "--model",
        metavar="REGISTERED_NAME",
        help="the model's name in the registry (default: the search's)",
    )
    parser.add_argument(
        "--tracking", metavar="URI", help="MLflow's tracking URI (default: the search's own)"
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="where the data lies now (default: as the search)",
    )
    parser.add_argument(
        "--anyway", action="store_true", help="promote a model that is no better than guessing"
    )
    json_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, promote, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
