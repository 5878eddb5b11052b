"""MLflow's model registry.

`tracker` writes the journal to MLflow and repeats that after each failure. The registry is not part
of this: a promotion is requested by the user, and done once.
"""

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.errors import NotReady
from cluster.secrets import redact
from search.journal.events import Registration
from search.journal.result import SearchResult
from search.journal.store import Storage
from search.tracking.client import client_of, sqlite_path
from search.tracking.runs import experiment_title, find_experiment, write_registration
from search.tracking.tracker import troubles
from search.tracking.uri import check_tracking
from search.values.message import Blank, Message, Remedy, Start
from trainables.errors import ConfigError, unknown
from trainables.tasks import task_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from trainables.export.export import Exported

Value = TypeVar("Value")

ALIAS, CHALLENGER = "champion", "challenger"
ONNX = "search.onnx"
"""The tag of a version that also has an ONNX file."""
PROMISES = "search.promises"
"""The tag of a version with promises: their `trainables.reliability.promises.Promises`, as JSON."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
ADDRESS = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>[0-9]+))")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes for an unknown model name, version or alias."""
MAX_MODELS = 100
"""The maximum number of models that are listed, and of versions of each model."""
MAX_DESCRIPTION = 5000
"""The maximum length of a description in characters; some databases accept no more."""
PROMOTE = Message(
    "Promote a model first: ", Remedy("promote", Blank("NAME"), start=Start.ANYWHERE), "."
)
SERVED = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class Registered:
    """The result of a promotion: the new version of a registered model, and its aliases."""

    name: str
    version: str
    before: str
    """The version that was the champion before; empty if there was none."""
    aliases: tuple[str, ...] = (ALIAS,)
    """The aliases that were set."""

    @property
    def uri(self) -> str:
        """The address at which MLflow loads the champion."""
        return f"models:/{self.name}@{ALIAS}"


def check_name(name: str) -> None:
    """Check that a model name is valid in MLflow, and in `models:/NAME@champion`.

    Raises:
        ConfigError: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            "the name of a model must have 1 to 128 letters, digits, '.', '_', '-' or spaces, and "
            f"must start with a letter, a digit or '_' (got '{name[:80]}')."
        )


class Registry:
    """The registry at a tracking URI, for the model of one search."""

    def __init__(self, uri: str, result: SearchResult, storage: Storage) -> None:
        """Connect to MLflow, and find the parent run of the search.

        Raises:
            NotReady: MLflow fails, or has no run of this search.
        """
        self.uri, self.result = uri, result
        try:
            self.client = client_of(uri)
            run = self._parent()
        except troubles() as error:
            raise self._trouble(error) from error
        if run is None:
            raise NotReady(
                Message(
                    f"MLflow ({redact(uri)}) has no run of the search '{result.name}'. Write the "
                    "search to MLflow first: ",
                    Remedy("sync", result.name, storage),
                )
            )
        self.run = run

    def _parent(self) -> "Run | None":
        run = self._parent_in(
            self.client.get_experiment_by_name(experiment_title(self.result.started))
        )
        return run or self._parent_in(find_experiment(self.client, self.result.started.id))

    def _parent_in(self, experiment: Any) -> "Run | None":
        if experiment is None:
            return None
        condition = (
            f"tags.`search.id` = '{self.result.started.id}' and tags.`search.role` = 'search'"
        )
        return next(
            iter(self.client.search_runs([experiment.experiment_id], condition, max_results=1)),
            None,
        )

    def register(
        self,
        name: str,
        exported: "Exported",
        description: str,
        tags: dict[str, str],
    ) -> str:
        """Check that MLflow can load the model, register it with this name, and return its version.

        The version belongs to the parent run of the search, and has no alias yet.

        Raises:
            NotReady: MLflow fails.
        """
        from mlflow.entities import LoggedModelOutput

        try:
            run = self.run.info
            model = self.client.create_logged_model(
                run.experiment_id,
                name=name.replace(".", "-"),
                source_run_id=run.run_id,
                model_type="classifier",
            )
            with tempfile.TemporaryDirectory(prefix="promote-") as folder:
                save(Path(folder) / "model", exported, run_id=run.run_id, model_id=model.model_id)
                self.client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
            self.client.finalize_logged_model(model.model_id, "READY")
            self.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
            self._ensure_name(name)
            registered = self.client.create_model_version(
                name,
                model.artifact_location,
                run.run_id,
                tags={**tags, **_form_tags(exported)},
                description=description[:MAX_DESCRIPTION],
                model_id=model.model_id,
            )
        except troubles() as error:
            raise self._trouble(error) from error
        return str(registered.version)

    def describe_registration(
        self, event: Registration, pictures: Mapping[str, bytes], step: int
    ) -> None:
        """Add a registered version, its reliability and pictures of it to the search's run.

        Args:
            event: the registration.
            pictures: PNG files by their names.
            step: the number of the search's registrations, with this one.

        Raises:
            NotReady: MLflow fails.
        """
        run_id, place = self.run.info.run_id, f"registered/{event.model}-{event.version}"
        try:
            write_registration(self.client, run_id, event, step)
            if not event.reliability:
                return
            with tempfile.TemporaryDirectory(prefix="promote-") as folder:
                facts = json.dumps(event.to_json(), indent=1).encode()
                files = {**pictures, "reliability.json": facts}
                for name, content in files.items():
                    (Path(folder) / name).write_bytes(content)
                self.client.log_artifacts(run_id, folder, place)
        except troubles() as error:
            raise self._trouble(error) from error

    def version_with(self, name: str, tags: Mapping[str, str]) -> str:
        """Return a version of this model that has all of these tags; empty if there is none.

        Raises:
            NotReady: MLflow fails.
        """
        try:
            versions = self.client.search_model_versions(f"name = '{name}'")
        except troubles() as error:
            raise self._trouble(error) from error
        return next(
            (
                str(candidate.version)
                for candidate in versions
                if tags.items() <= candidate.tags.items()
            ),
            "",
        )

    def set_aliases(
        self,
        name: str,
        version: str,
        aliases: Sequence[str] = (ALIAS,),
        over: Mapping[str, str] | None = None,
    ) -> Registered:
        """Set the aliases of a version, as the last step of a promotion.

        Before this step, users load the previous champion; after it, they load the new one.

        Args:
            name: the name of the registered model.
            version: the version.
            aliases: the aliases, in the order in which they are set.
            over: the tags of the champion that this version may replace. If the champion is now a
                version without these tags, the alias `champion` is not set. With None, this version
                may replace any champion.

        Raises:
            NotReady: MLflow rejected an alias; the message names the last one that was set.
        """
        accepted: list[str] = []
        try:
            before = str(self.client.get_registered_model(name).aliases.get(ALIAS, ""))
            before = "" if before == version else before
            if over is not None and before:
                is_still = over.items() <= self.client.get_model_version(name, before).tags.items()
                aliases = [alias for alias in aliases if alias != ALIAS or is_still]
            for alias in aliases:
                self.client.set_registered_model_alias(name, alias, version)
                accepted.append(alias)
        except troubles() as error:
            so_far = f"as models:/{name}@{accepted[-1]}" if accepted else "without an alias"
            raise NotReady(
                f"MLflow ({redact(self.uri)}) did not accept an alias {_reason(error)} Version "
                f"{version} of {name} is registered {so_far}; the champion has not changed. Try "
                "again later."
            ) from error
        return Registered(name, version, before, tuple(accepted))

    def _ensure_name(self, name: str) -> None:
        """Create the registered model with this name, unless it exists."""
        from mlflow.exceptions import MlflowException

        if not self.client.search_registered_models(f"name = '{name}'"):
            try:
                self.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another client was faster
                    raise

    def _trouble(self, error: Exception) -> NotReady:
        return NotReady(
            f"MLflow ({redact(self.uri)}) did not accept the model {_reason(error)} Nothing was "
            "promoted. Try again later."
        )


def _reason(error: Exception) -> str:
    """Format the first line of an error in parentheses, with a full stop and without secrets."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"({redact(reason)[:300]})."


def version_at(uri: str, tracking: str) -> str:
    """Return the current version of the registered model at an address.

    Raises:
        ConfigError: the address is not valid, or there is no such model.
        NotReady: MLflow fails.
    """
    return _use_version(uri, tracking, lambda client, version: str(version.version))


@dataclass(frozen=True)
class Origin:
    """A version of a registered model, with its tags, which identify its search."""

    name: str
    version: str
    tags: dict[str, str]


def origin_of(uri: str, tracking: str) -> Origin:
    """Return the origin of the registered model at an address.

    Raises:
        ConfigError, NotReady: as in `version_at`.
    """
    return _use_version(
        uri,
        tracking,
        lambda client, version: Origin(version.name, str(version.version), dict(version.tags)),
    )


@dataclass(frozen=True)
class Version:
    """A version of a registered model, for display."""

    number: str
    aliases: tuple[str, ...]
    made_ms: int
    """The time of its registration, as Unix time in milliseconds."""
    description: str
    """Markdown with a table of its figures."""
    search: str
    """The search that the version was promoted from; empty if there is none."""
    trial: str
    task: str = task_name({})
    """The name of the task; versions of the default task have no tag for it."""


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model with its versions, for display."""

    name: str
    versions: tuple[Version, ...]
    """The versions, the newest first."""


def models_in(tracking: str, name: str = "") -> list[RegisteredModel]:
    """Return the registered models, sorted by name, or only the one with this name.

    Raises:
        ConfigError: the tracking URI is not valid.
        NotReady: MLflow fails.
    """
    check_tracking(tracking)
    # MLflow cannot escape quotes in a filter, and no model of this program has one in its name.
    if "'" in name or (tracking.startswith("sqlite:///") and not sqlite_path(tracking).exists()):
        return []
    client = client_of(tracking)
    try:
        registered = client.search_registered_models(_name_filter(name), max_results=MAX_MODELS)
        return [
            RegisteredModel(model.name, _versions(client, model))
            for model in sorted(registered, key=lambda model: str(model.name))
        ]
    except troubles() as error:
        raise NotReady(
            f"MLflow ({redact(tracking)}) did not list its registered models {_reason(error)}"
        ) from error


def _name_filter(name: str) -> str:
    """Return MLflow's filter for a model name without quotes; an empty name matches all."""
    return f"name = '{name}'" if name else ""


def _versions(client: "MlflowClient", model: Any) -> tuple[Version, ...]:
    if "'" in model.name:
        return ()
    aliases: dict[str, list[str]] = {}
    for alias, number in sorted(model.aliases.items()):
        aliases.setdefault(str(number), []).append(alias)
    versions = [
        Version(
            str(entry.version),
            tuple(aliases.get(str(entry.version), ())),
            int(entry.creation_timestamp),
            entry.description or "",
            entry.tags.get("search.name", ""),
            entry.tags.get("search.trial", ""),
            entry.tags.get("search.task", task_name({})),
        )
        for entry in client.search_model_versions(_name_filter(model.name), max_results=MAX_MODELS)
    ]
    return tuple(sorted(versions, key=lambda entry: -int(entry.number)))


def fetch(uri: str, tracking: str, folder: Path) -> Path:
    """Return the local folder of the registered model at an address.

    The model is downloaded into `folder` unless it is stored on this machine.

    Raises:
        ConfigError, NotReady: as in `version_at`.
    """

    def download(client: "MlflowClient", version: "ModelVersion") -> Path:
        from mlflow.artifacts import download_artifacts

        source = client.get_model_version_download_uri(version.name, version.version)
        return Path(
            download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking)
        )

    return _use_version(uri, tracking, download)


def _use_version(
    uri: str, tracking: str, use: "Callable[[MlflowClient, ModelVersion], Value]"
) -> Value:
    """Call `use` with the client and the version at an address, and return its result.

    Raises:
        ConfigError, NotReady: as in `version_at`.
    """
    address = ADDRESS.fullmatch(uri)
    if address is None:
        raise ConfigError(
            f"'{redact(uri)[:200]}' is not the address of a registered model. Use "
            f"models:/NAME@{ALIAS} or models:/NAME/VERSION."
        )
    check_tracking(tracking)
    if tracking.startswith("sqlite:///") and not sqlite_path(tracking).exists():
        raise ConfigError(
            Message(
                f"there is no MLflow database at '{sqlite_path(tracking)}'. If the model was "
                "promoted elsewhere, use --tracking URI. ",
                PROMOTE,
            )
        )
    client, name = client_of(tracking), address["name"]
    from mlflow.exceptions import MlflowException

    refused = f"MLflow ({redact(tracking)}) did not return '{uri}'"
    try:
        return use(
            client,
            client.get_model_version_by_alias(name, address["alias"])
            if address["alias"]
            else client.get_model_version(name, address["version"]),
        )
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise ConfigError(_absent_text(uri, name, client)) from error
        raise NotReady(f"{refused} {_reason(error)}") from error
    except troubles() as error:
        raise NotReady(f"{refused} {_reason(error)}") from error


def _absent_text(uri: str, name: str, client: "MlflowClient") -> str | Message:
    """Compose the error message for an address without a model; it lists the existing ones."""
    models = {
        model.name: model for model in client.search_registered_models(max_results=MAX_MODELS)
    }
    if name not in models:
        return (
            unknown("model", name, models)
            if models
            else Message(f"no model is registered, so '{uri}' does not exist. ", PROMOTE)
        )
    aliases = [f"models:/{name}@{alias}" for alias in sorted(models[name].aliases)]
    versions = sorted(
        int(version.version) for version in client.search_model_versions(f"name = '{name}'")
    )
    addresses = ", ".join([*aliases, *(f"models:/{name}/{number}" for number in versions)])
    return f"'{uri}' does not exist. Existing addresses: {addresses or 'none'}."


def save(path: Path, exported: "Exported", **of: Any) -> None:
    """Save a model in MLflow's format to a new folder, and test that MLflow can load and run it.

    `of` has arguments of `mlflow.models.Model`, such as `run_id`; `model_id` is required.
    """
    with warnings.catch_warnings(action="ignore"):  # MLflow's own code causes warnings
        from mlflow import pyfunc
        from mlflow.models import Model

        pyfunc.save_model(
            str(path),
            mlflow_model=Model(model_uuid=of["model_id"], **of),
            python_model=str(SERVED),
            artifacts={"classifier": str(exported.folder)},
            signature=signature(exported),
            input_example=exported.example,
            pip_requirements=[
                f"{name}=={version(name).partition('+')[0]}" for name in exported.requirements
            ],
        )
        pyfunc.load_model(str(path)).predict(exported.example)


def _form_tags(exported: "Exported") -> dict[str, str]:
    """Return the tags of a version that an improved model inherits: its form and its promises."""
    form_tags = {} if exported.onnx_inference is None else {ONNX: "true"}
    if exported.promises.options:
        form_tags[PROMISES] = json.dumps(asdict(exported.promises))
    return form_tags


def signature(exported: "Exported") -> "ModelSignature":
    """Create MLflow's signature of the model: the schema of its output, which is a table.

    The signature has no schema of the input. With one, MLflow would reject grey images and lists of
    images of different sizes, and its message about any other invalid input would contain every
    pixel. The classifier itself describes an invalid input in one line.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns: list[Any] = [ColSpec(kind, title) for title, kind in exported.columns.items()]
    return ModelSignature(outputs=Schema(columns))
