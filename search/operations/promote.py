"""Registers the best network of a search in MLflow's model registry."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.facts.guessing import above_chance
from search.facts.summary import metric_facts
from search.facts.trials import primary_facts
from search.journal.events import PROMOTE, EventData, Opened, Registration
from search.journal.guessing import AgainstGuessing
from search.journal.journal import JournalError
from search.journal.lease import LeaseHeld
from search.journal.result import PAGE, SearchResult, TrialResult
from search.journal.store import Home, Storage, own_path
from search.operations.options import SearchRequest
from search.operations.report import ReportRequest, report
from search.operations.talk import SILENT, Talk
from search.process.guard import NoBetterThanGuessing
from search.process.versions import check_versions
from search.tracking.model_registry import Registered, Registry, check_name
from search.tracking.uri import check_tracking, uri_of
from search.trained.answer import against_guessing, find_answer
from search.trained.description import describe_model, tags
from search.trained.export import config_of, export_for_registry
from search.values.message import Message, Remedy
from search.values.objectives import value_of
from search.values.option import flag, option
from search.values.secrets import refuse, refuse_in_uri
from search.views.text.labels import with_article
from trainables.errors import counted
from trainables.progress import step
from trainables.reliability.promises import Promises, check_promises, fraction
from trainables.values import Json

if TYPE_CHECKING:
    from trainables.export.export import Exported


@dataclass(frozen=True, kw_only=True)
class PromoteRequest(SearchRequest):
    """A search whose model is registered, and the options of the registration."""

    trial: str | None = option(
        "another trial than the search's answer, for example a faster one of the Pareto front",
        metavar="TRIAL",
    )
    onnx: bool = flag(
        "also export the model to ONNX, check it on the validation images, and measure its speed "
        "in onnxruntime"
    )
    model: str | None = option(
        "the model's name in the registry (default: the search's)", metavar="REGISTERED_NAME"
    )
    tracking: str | None = option(
        "MLflow's tracking URI (default: the search's own)", metavar="URI"
    )
    data_root: Path | None = option(
        "where the data is now (default: as for the search)", metavar="DIR", parse=own_path
    )
    max_error: float | None = option(
        "let the model abstain from uncertain answers, so that with 95 % confidence at most this "
        "share of its answers is wrong, such as 1%",
        metavar="SHARE",
        parse=fraction,
    )
    coverage: float | None = option(
        "let the model also return sets of classes, so that this share of the sets contains the "
        "true class, such as 95%",
        metavar="SHARE",
        parse=fraction,
    )
    by_class: bool = flag("with --coverage: so that this holds for the images of each class")
    unlike: float | None = option(
        "let the model abstain from images that are unlike those of the training, at this rate of "
        "false alarms, such as 5%",
        metavar="SHARE",
        parse=fraction,
    )
    anyway: bool = flag("promote the model even if it is not better than guessing")

    @property
    def promises(self) -> Promises:
        """The promises about the model's answers."""
        return Promises(
            max_error=self.max_error,
            coverage=self.coverage,
            by_class=self.by_class,
            false_alarms=self.unlike,
        )


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The result of a promotion: the model of a search, and its version in the registry."""

    result: SearchResult
    trial: TrialResult
    """The trial whose model was registered."""
    exported: "Exported"
    registered: Registered
    tracking: str
    """MLflow's tracking URI."""
    page: Path | None = None
    """The search's report, which now shows the promotion; None if it has none here."""

    def to_json(self) -> Json:
        """Convert the promotion to JSON-compatible values."""
        return {
            "name": self.registered.name,
            "version": self.registered.version,
            "uri": self.registered.uri,
            "trial_id": self.trial.trial,
            **metric_facts(self.trial.metric),
            **primary_facts(self.trial),
            "value": self.trial.value,
            f"{value_of(self.trial.task.primary.name)}_as_promoted": self.exported.value,
            "difference": self.exported.difference,
            "inference": self.exported.inference,
            "onnx_inference": self.exported.onnx_inference,
            "onnx_difference": self.exported.onnx_difference,
            "reliability": self.exported.reliability,
            "earlier_promises": earlier_promises(self.result),
            "above_chance": above_chance(against_guessing(self.result, self.trial)),
        }


def promote(request: PromoteRequest, talk: Talk = SILENT) -> Promotion:
    """Export the best network of a search, and register it as the champion.

    All checks are made before the export.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: the trial has no model, or a name is not valid.
        NoBetterThanGuessing: the model is not better than guessing.
        LeaseHeld, Refused: the search runs or was cut off, its images have changed, or the
            checkpoint is damaged.
        NotReady, Unavailable: MLflow fails, or the data are missing.
    """
    home = request.home()
    name = request.model or request.name
    check_name(name)
    refuse("--model", name)
    refuse_in_uri(request.tracking or "")
    result = SearchResult.read(home.opened())
    chosen = find_answer(result, home, request.storage, request.trial)
    images = result.started.data
    check_promises(
        request.promises,
        config_of(result, chosen, request.data_root),
        images["val"],
        images.get("test") or 0,
    )
    if not request.anyway:
        refuse_at_chance(result, chosen, request.storage)
    uri = uri_of(result, request.tracking)
    check_versions()
    with step("checking MLflow"):
        check_tracking(uri)
    registry = Registry(uri, result, request.storage)
    talk.note(
        f"exporting the model of {chosen.trial} and comparing its predictions for the validation "
        "images with those of the checkpoint"
    )
    _note_earlier_promises(request.promises, result, talk)
    if "promises" in chosen.task.can and images.get("test"):
        options = request.promises.set_on_test_images
        _record(home, Opened(chosen.trial, chosen.best_epoch or 0, PROMOTE, options), talk)
    exported, version = _export_and_register(request, result, home, chosen, registry)
    event = Registration(
        chosen.trial, name, version, request.promises.to_json(), exported.reliability
    )
    with step("describing the model in MLflow"):
        registry.describe_registration(
            event, _pictures(exported.reliability), len(result.registrations) + 1
        )
    registered = registry.set_aliases(name, version)
    _record_registration(home, event, talk)
    return Promotion(
        result=result,
        trial=chosen,
        exported=exported,
        registered=registered,
        tracking=uri,
        page=_write_report(request, home, talk),
    )


def _export_and_register(
    request: PromoteRequest,
    result: SearchResult,
    home: Home,
    chosen: TrialResult,
    registry: Registry,
) -> tuple["Exported", str]:
    """Export a trial's model, register it without an alias, and return its version too."""
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = export_for_registry(
            result,
            home,
            chosen,
            request.data_root,
            Path(temporary) / "classifier",
            onnx=request.onnx,
            promises=request.promises,
        )
        with step("registering the model"):
            version = registry.register(
                request.model or request.name,
                exported,
                describe_model(result, chosen, exported),
                tags(result, chosen),
            )
    return exported, version


def _note_earlier_promises(promises: Promises, result: SearchResult, talk: Talk) -> None:
    """Note that thresholds were already chosen with the test images, if they are chosen again."""
    earlier = earlier_promises(result)
    if promises.set_on_test_images and earlier:
        talk.note(
            f"note: promises were already set on these test images ({counted(earlier, 'time')}, "
            f"last {[own for own in result.openings if own.promises][-1]}). A promise holds for "
            "one choice of its share; if you try several shares and keep the best, it is weaker"
        )


def earlier_promises(result: SearchResult) -> int:
    """Count the promotions that chose thresholds with the test images, also those refused."""
    return sum(bool(opening.promises) for opening in result.openings)


def _record(home: Home, event: EventData, talk: Talk) -> None:
    """Write an event to the journal of the search, or note why that is not possible.

    A promotion does not depend on it: the search may be in a folder that cannot be written to.

    Raises:
        LeaseHeld: a driver runs the search.
    """
    try:
        with home.lease() as lease:
            journal, _ = home.journal(new=False)
            journal.other_driver, journal.patient = lease.other_driver, False
            try:
                journal.append(event)
            finally:
                journal.close()
    except (JournalError, OSError) as error:
        talk.note(
            f"note: the journal of the search could not be written ({error}), so the report does "
            "not show this promotion"
        )


def _record_registration(home: Home, event: Registration, talk: Talk) -> None:
    """Write a registration to the journal, or note that the search was resumed during the export.

    The model is registered by then, so that nothing may fail.
    """
    try:
        _record(home, event, talk)
    except LeaseHeld as error:
        talk.note(f"note: {error} The report does not show this promotion")


def _pictures(reliability: Json) -> dict[str, bytes]:
    """Draw the reliability diagrams as PNG files, by their names."""
    if "calibration" not in reliability:
        return {}
    from search.views.page.page import of_calibration  # matplotlib is slow to import

    drawn = of_calibration(reliability["calibration"], as_file=True)
    return {f"{name}.png": picture.png for name, picture in drawn.items()}


def _write_report(request: PromoteRequest, home: Home, talk: Talk) -> Path | None:
    """Write the search's report again, if it is in a folder here; return its path, else None."""
    path = home.folder / PAGE
    if not isinstance(request.storage, Path) or not path.is_file():
        return None
    try:
        return report(ReportRequest(name=request.name, storage=request.storage))
    except OSError as error:
        talk.note(f"note: the report could not be written again ({error})")
        return None


def refuse_at_chance(result: SearchResult, chosen: TrialResult, storage: Storage) -> None:
    """Check that the model is better than guessing; do nothing if that is unknown.

    Raises:
        NoBetterThanGuessing: the model is not better.
    """
    against = against_guessing(result, chosen)
    if against is None or against.is_above:
        return
    luck = ", which may be luck" if against.difference > 0 else ""
    better = "not clearly better" if against.difference > 0 else "no better"
    raise NoBetterThanGuessing(
        Message(
            f"{chosen.trial} is {better} than {against.guess.doing}: the trial reaches "
            f"{against.value:.4g}{luck}, and guessing reaches "
            f"{_reached(against, against.guessed)}. To register the trial anyway: ",
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
