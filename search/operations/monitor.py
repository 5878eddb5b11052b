"""Tests whether a model in use still behaves as it did when it was promoted."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cluster.storage.bucket import Bucket
from search.feedback.monitoring.findings import RATE, Findings, find_changes
from search.feedback.monitoring.groups import answers_of_groups
from search.feedback.monitoring.window import Window, load_window, require_records
from search.feedback.records import Records
from search.journal.store import Storage, own_path
from search.operations.model_options import ModelLocation
from search.operations.options import storage_option
from search.operations.records_options import records_option, since_option
from search.operations.talk import SILENT, Talk
from search.process.versions import check_versions
from search.tracking.uri import registry_uri
from search.values.option import group, option, positional
from trainables.errors import ConfigError
from trainables.export.reference import Reference, read
from trainables.fairness.groups import read_attributes


def rate(text: str) -> float:
    """Parse a false-alarm rate.

    Raises:
        ConfigError: the text is not a number from 0.01 to 0.5.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 0.5:
        raise ConfigError(f"expected a rate from 0.01 to 0.5 (got '{text[:80]}')")
    return value


@dataclass(frozen=True, kw_only=True)
class MonitorRequest:
    """A model in use, and the recorded predictions that are tested."""

    model: str = positional(
        "a search's name, models:/NAME@champion, models:/NAME/3, or a promoted model's folder",
        metavar="MODEL",
    )
    place: Storage = records_option("where the records are")
    since: int | None = since_option(
        "only use images received since then: 90m, 12h, 1d, or 2026-11-28 (default: all; of more "
        "than 10,000, the latest)"
    )
    version: str | None = option(
        "only use answers by this version (default: the one that MODEL refers to in the registry, "
        "else that of the latest answer)",
        metavar="V",
    )
    groups: Path | None = option(
        "a CSV file with the columns image (the SHA-256 of the image file, as in the records) and "
        "one for each attribute: also show the answers for groups of images",
        metavar="FILE",
        parse=own_path,
    )
    rate: float = option("the false-alarm rate of a call", metavar="P", parse=rate, default=RATE)
    storage: Storage = storage_option()
    location: ModelLocation = group(
        ModelLocation, mlflow="for a registered model: MLflow's", search="a search's"
    )


@dataclass(frozen=True)
class MonitoredModel:
    """A model in use, with the reference that was stored when it was promoted."""

    name: str
    """The model's name in messages."""
    reference: Reference
    version: str
    """The model's version in the registry; empty if it is not registered."""


@dataclass(frozen=True)
class MonitoringResult:
    """The findings about a model in use, and the data on which they are based."""

    findings: Findings
    reference: Reference
    window: Window

    def write_page(self, path: Path) -> None:
        """Write the HTML page atomically, so that a reader never sees a part of it."""
        from search.feedback.monitoring.page import render  # imported late: it imports Jinja

        partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
        partial.write_text(render(self.findings, self.reference, self.window), encoding="utf-8")
        partial.replace(path)

    def log(self, tracking: str | None) -> None:
        """Log the figures to MLflow, in the monitoring run of this version of the model.

        The run is in the MLflow experiment of the model's search.

        Args:
            tracking: MLflow's tracking URI; None for the default.

        Raises:
            ConfigError: the model is not registered.
            NotReady: MLflow fails.
        """
        from search.tracking.monitoring import log_monitoring

        log_monitoring(self.findings.model, registry_uri(tracking), figures(self.findings))


def monitor(request: MonitorRequest, talk: Talk = SILENT) -> MonitoringResult:
    """Test whether the recorded predictions of a model differ from those on its validation images.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: there is no such model, or there are no such records.
        DataError: the groups cannot be read.
        LeaseHeld, Refused: the search still runs or was cut off, its images have changed, or the
            checkpoint is damaged.
        NotReady, Unavailable: MLflow fails, or the data are missing.
    """
    attributes = None if request.groups is None else read_attributes(request.groups)
    if isinstance(request.place, Bucket):
        request.place.reach()
    check_versions()
    records = Records.at(request.place)
    require_records(records)
    model = monitored_model(request, talk)
    window = load_window(
        records, model.reference, request.since or 0, request.version or model.version
    )
    findings = find_changes(model.name, model.reference, window, request.rate)
    if attributes is not None:
        findings.groups = answers_of_groups(window, attributes)
        if not any(group.images for group in findings.groups):
            raise ConfigError(
                f"none of the {len(window.answers):,} answered images is in '{request.groups}' "
                "(--groups). Its column image must have the SHA-256 of each image file "
                "(`sha256sum FILE`), as in the records."
            )
    return MonitoringResult(findings, model.reference, window)


def monitored_model(request: MonitorRequest, talk: Talk) -> MonitoredModel:
    """Load the reference of the model that MODEL names, stored when the model was promoted.

    With --version, load the reference of that version of the registered model.

    Raises:
        ConfigError: the model has no reference, because it was promoted by an earlier version of
            this program.
    """
    source = request.location.source(request.model, request.storage)
    version = source.current_version()
    if source.is_registered:
        # Predictions of an earlier version are compared with that version's reference.
        version = request.version or version
        source = source.at_version(version)
    elif source.is_search:
        talk.note(f"preparing the model of the search '{source}'")
    with tempfile.TemporaryDirectory(prefix="monitor-") as temporary:
        reference = read(source.fetch(Path(temporary) / "classifier", watched=True))
    if reference is None:
        raise ConfigError(
            f"the model '{source}' was promoted by an earlier version of this program. It lacks "
            "the statistics of the validation images, which new images are compared with. "
            "Promote the model again."
        )
    return MonitoredModel(str(source), reference, version)


def figures(findings: Findings) -> dict[str, float]:
    """Return the measured figures of the findings, by their names in MLflow."""
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
