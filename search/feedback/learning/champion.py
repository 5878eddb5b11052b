"""The model that is to be improved: by its address in MLflow's registry, or by its search."""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.errors import Refused
from search.cli.overrides import apply_overrides
from search.cli.prompt import resolve_or_ask
from search.design.experiment import Experiment, absolute
from search.feedback.learning.challengers import Known
from search.feedback.learning.joining import Champion
from search.journal.result import SearchResult, TrialResult, checkpoint_of
from search.journal.store import Home, home
from search.promote import answer, config_of, dataset_of
from search.tracking.model_registry import origin_of
from search.tracking.uri import DEFAULT_TRACKING, check_tracking, uri_of
from trainables.catalog.tasks import CLASSIFICATION
from trainables.errors import ConfigError


@dataclass(frozen=True)
class Found:
    """The model that is to be improved."""

    source: str
    """The name or address by which `search.api.load` loads it."""
    champion: Champion
    home: Home
    known: Known
    tracking: str

    @property
    def checkpoint(self) -> Path:
        """The champion's checkpoint, fetched if need be."""
        return self.home.read(str(checkpoint_of(self.known.trial, Path())))


def found_model(args: argparse.Namespace) -> Found:
    """Return the model that is to be improved, with its search and its data.

    Raises:
        ConfigError: there is no such model or search, or it cannot be improved.
        Refused: its search is not the one that it was registered from.
    """
    if not args.model.startswith("models:"):
        return found_again(args, Champion("", "", resolve_or_ask(args.model, args.storage), "", ""))
    at = origin_of(args.model, tracking_of(args))
    if not at.tags.get("search.name"):
        raise ConfigError(f"{args.model} was not registered by search.promote.")
    tags = (at.tags[f"search.{name}"] for name in ("name", "id", "trial"))
    return found_again(args, Champion(at.name, at.version, *tags))


def found_again(args: argparse.Namespace, wanted: Champion) -> Found:
    """Return the model that is described; where no trial is named, its search's answer.

    Raises:
        ConfigError, Refused: as `found_model`.
    """
    name, source = wanted.search, f"models:/{wanted.model}/{wanted.version}"
    kept = home(args.storage, name)
    if not kept.exists():
        raise ConfigError(
            f"{args.model} is from the search '{name}', which is not in '{args.storage}'. Name its "
            "place with --storage."
        )
    result = SearchResult.read(kept.opened())
    if wanted.id and wanted.id != result.started.id:
        raise Refused(
            f"the search '{name}' in '{args.storage}' is another than the one that {args.model} "
            "was registered from."
        )
    chosen = result.find(wanted.trial) if wanted.trial else None
    chosen = chosen or answer(result, kept, args.storage)
    tracking = tracking_of(args) if wanted.version else absolute(uri_of(result, args.tracking))
    champion = Champion(
        args.register or wanted.model or name,
        wanted.version,
        name,
        result.started.id,
        chosen.trial,
    )
    known = known_of(args, result, chosen, tracking)
    return Found(source if wanted.version else name, champion, kept, known, tracking)


def tracking_of(args: argparse.Namespace) -> str:
    """Return the tracking URI of a registered model."""
    given = args.tracking or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING
    return absolute(given)


def known_of(
    args: argparse.Namespace, result: SearchResult, chosen: TrialResult, tracking: str
) -> Known:
    """Return what is known of the champion.

    Raises:
        ConfigError: it is of a kind that cannot be improved, or its images are not there.
        Refused: its images are not those of its search.
    """
    recorded = Experiment.from_description(result.name, result.started.experiment, args.storage)
    recorded = replace(apply_overrides(recorded, args, result), tracking=tracking)
    config = config_of(chosen, args.data_root or Path(result.started.data["root"]))
    if config.task is not CLASSIFICATION:
        raise ConfigError(
            f"'{result.name}' is of {config.task.title}: what is corrected are classes."
        )
    if config.data.folds is not None:
        raise ConfigError(
            f"'{result.name}' is a search with --folds: its champion is several networks, and it "
            "has no validation part that could stay as it is."
        )
    check_tracking(tracking)
    return Known(recorded, result, chosen, config, dataset_of(result, config))
