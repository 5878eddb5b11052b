"""MLflow's model registry.

Apart from `tracking`, which projects the journal and begins again after each failure: a promotion
is a step of its own, asked for by a person, and done once.
"""

import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.errors import NotReady
from cluster.secrets import redact
from search.journal.result import SearchResult
from search.journal.store import Storage
from search.tracking.client import client_of, sqlite_path
from search.tracking.runs import elsewhere, experiment_title
from search.tracking.tracker import troubles
from search.tracking.uri import check_tracking
from search.values.message import Blank, Message, Remedy, Start
from trainables.errors import ConfigError, unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from trainables.export.export import Exported

Answer = TypeVar("Answer")

ALIAS, CHALLENGER = "champion", "challenger"
ONNX = "search.onnx"
"""The tag of a version that is there as ONNX too."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
ADDRESS = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>[0-9]+))")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for a name, a version or an alias that it does not know."""
SHOWN = 100
"""The most registered models that are named."""
LONGEST = 5000
"""Letters of a description, for databases that take no more."""
PROMOTE = Message(
    "Promote one first: ", Remedy("promote", Blank("NAME"), start=Start.ANYWHERE), "."
)
SERVED = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    before: str
    """The version that was the champion until now; empty if there was none."""
    aliases: tuple[str, ...] = (ALIAS,)
    """Those that it was given."""

    @property
    def uri(self) -> str:
        """The address by which MLflow loads it."""
        return f"models:/{self.name}@{ALIAS}"


def check_name(name: str) -> None:
    """Check that MLflow takes such a name of a model, and that `models:/NAME@champion` finds it.

    Raises:
        ConfigError: it does not.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            "--model may use letters, digits, '.', '_', '-' and spaces, 1 to 128 (got "
            f"'{name[:80]}')"
        )


class Registry:
    """The registry at a tracking URI, for one search's model."""

    def __init__(self, uri: str, result: SearchResult, storage: Storage) -> None:
        """Find the search's parent run.

        Raises:
            NotReady: MLflow is in trouble, or has no such run.
        """
        self.uri, self.result = uri, result
        try:
            self.client = client_of(uri)
            found = self._parent()
        except troubles() as error:
            raise self._trouble(error) from error
        if found is None:
            raise NotReady(
                Message(
                    f"MLflow ({redact(uri)}) has no run of the search '{result.name}'. Write it "
                    "first: ",
                    Remedy("sync", result.name, storage),
                )
            )
        self.run = found

    def _parent(self) -> "Run | None":
        found = self._parent_in(
            self.client.get_experiment_by_name(experiment_title(self.result.started))
        )
        return found or self._parent_in(elsewhere(self.client, self.result.started.id))

    def _parent_in(self, experiment: Any) -> "Run | None":
        if experiment is None:
            return None
        wanted = f"tags.`search.id` = '{self.result.started.id}' and tags.`search.role` = 'search'"
        return next(
            iter(self.client.search_runs([experiment.experiment_id], wanted, max_results=1)), None
        )

    def register(
        self,
        name: str,
        exported: "Exported",
        description: str,
        tags: dict[str, str],
    ) -> str:
        """Try the model as MLflow loads it, store it under this name, and return its version.

        It is stored with the search's parent run, and has no alias yet.

        Raises:
            NotReady: MLflow did not take it.
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
            self._make_known(name)
            made = self.client.create_model_version(
                name,
                model.artifact_location,
                run.run_id,
                tags=tags if exported.onnx_inference is None else {**tags, ONNX: "true"},
                description=description[:LONGEST],
                model_id=model.model_id,
            )
        except troubles() as error:
            raise self._trouble(error) from error
        return str(made.version)

    def version_with(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the version of this name that has these tags; empty if none has.

        Raises:
            NotReady: MLflow does not answer.
        """
        try:
            found = self.client.search_model_versions(f"name = '{name}'")
        except troubles() as error:
            raise self._trouble(error) from error
        return next((str(one.version) for one in found if tags.items() <= one.tags.items()), "")

    def give(
        self,
        name: str,
        version: str,
        aliases: Sequence[str] = (ALIAS,),
        over: Mapping[str, str] | None = None,
    ) -> Registered:
        """Give a version these aliases, the last step: everybody gets the old one or it, whole.

        Args:
            name: the registered model.
            version: the version.
            aliases: in this order.
            over: the tags of the champion that it is to follow. Where another one is the champion
                by now, that stays.

        Raises:
            NotReady: MLflow did not take an alias; the error says which it has taken.
        """
        given: list[str] = []
        try:
            before = str(self.client.get_registered_model(name).aliases.get(ALIAS, ""))
            before = "" if before == version else before
            if over is not None and before:
                is_still = over.items() <= self.client.get_model_version(name, before).tags.items()
                aliases = [alias for alias in aliases if alias != ALIAS or is_still]
            for alias in aliases:
                self.client.set_registered_model_alias(name, alias, version)
                given.append(alias)
        except troubles() as error:
            so_far = f"it is models:/{name}@{given[-1]}" if given else "it has no alias yet"
            raise NotReady(
                f"MLflow ({redact(self.uri)}) did not take an alias {_reason(error)} Version "
                f"{version} of {name} is registered, {so_far}; the champion is as it was. Try "
                "again later."
            ) from error
        return Registered(name, version, before, tuple(given))

    def _make_known(self, name: str) -> None:
        """Make the name known to the registry if it is not."""
        from mlflow.exceptions import MlflowException

        if not self.client.search_registered_models(f"name = '{name}'"):
            try:
                self.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another was faster
                    raise

    def _trouble(self, error: Exception) -> NotReady:
        return NotReady(
            f"MLflow ({redact(self.uri)}) did not take the model {_reason(error)} Try "
            "again later; nothing was promoted."
        )


def _reason(error: Exception) -> str:
    """Return the first line of an error in brackets, without what it must not tell."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"({redact(reason)[:300]})."


def version_at(uri: str, tracking: str) -> str:
    """Return the version of the registered model that an address names now.

    Raises:
        ConfigError: there is no such model, or no such address.
        NotReady: MLflow does not answer.
    """
    return _asked(uri, tracking, lambda client, version: str(version.version))


@dataclass(frozen=True)
class Origin:
    """A version of a registered model, with its tags, which tell where it comes from."""

    name: str
    version: str
    tags: dict[str, str]


def origin_of(uri: str, tracking: str) -> Origin:
    """Return where the registered model at an address comes from.

    Raises:
        ConfigError: there is no such model, or no such address.
        NotReady: MLflow does not answer.
    """
    return _asked(
        uri,
        tracking,
        lambda client, found: Origin(found.name, str(found.version), dict(found.tags)),
    )


@dataclass(frozen=True)
class Version:
    """A version of a registered model, as it was promoted."""

    number: str
    aliases: tuple[str, ...]
    made_ms: int
    """Unix time in milliseconds."""
    description: str
    """In Markdown, with a table of its figures."""
    search: str
    """The search that it comes from; empty for one that was registered by other means."""
    trial: str


@dataclass(frozen=True)
class Model:
    """A registered model."""

    name: str
    versions: tuple[Version, ...]
    """The newest first."""


def models_in(tracking: str, name: str = "") -> list[Model]:
    """Return the registered models, or the one of this name, by their names.

    Raises:
        ConfigError: the tracking URI is none.
        NotReady: MLflow does not answer.
    """
    check_tracking(tracking)
    # A name of ours has no quote, and MLflow takes none into a filter.
    if "'" in name or (tracking.startswith("sqlite:///") and not sqlite_path(tracking).exists()):
        return []
    client = client_of(tracking)
    try:
        found = client.search_registered_models(_named(name), max_results=SHOWN)
        return [
            Model(one.name, _versions(client, one))
            for one in sorted(found, key=lambda one: str(one.name))
        ]
    except troubles() as error:
        raise NotReady(
            f"MLflow ({redact(tracking)}) did not tell its models {_reason(error)}"
        ) from error


def _named(name: str) -> str:
    """Return MLflow's filter for a name, which has no quote; that for all where it is empty."""
    return f"name = '{name}'" if name else ""


def _versions(client: "MlflowClient", model: Any) -> tuple[Version, ...]:
    if "'" in model.name:
        return ()
    aliases: dict[str, list[str]] = {}
    for alias, number in sorted(model.aliases.items()):
        aliases.setdefault(str(number), []).append(alias)
    found = [
        Version(
            str(one.version),
            tuple(aliases.get(str(one.version), ())),
            int(one.creation_timestamp),
            one.description or "",
            one.tags.get("search.name", ""),
            one.tags.get("search.trial", ""),
        )
        for one in client.search_model_versions(_named(model.name), max_results=SHOWN)
    ]
    return tuple(sorted(found, key=lambda one: -int(one.number)))


def fetch(uri: str, tracking: str, folder: Path) -> Path:
    """Return the folder of the registered model at an address, downloaded into `folder` if need be.

    Raises:
        ConfigError: there is no such model, or no such address.
        NotReady: MLflow does not answer.
    """

    def downloaded(client: "MlflowClient", version: "ModelVersion") -> Path:
        from mlflow.artifacts import download_artifacts

        source = client.get_model_version_download_uri(version.name, version.version)
        return Path(
            download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking)
        )

    return _asked(uri, tracking, downloaded)


def _asked(
    uri: str, tracking: str, ask: "Callable[[MlflowClient, ModelVersion], Answer]"
) -> Answer:
    """Return what `ask` makes of the version at an address.

    Raises:
        ConfigError, NotReady: as `fetch`.
    """
    asked = ADDRESS.fullmatch(uri)
    if asked is None:
        raise ConfigError(f"a model's address is models:/NAME@{ALIAS} or models:/NAME/VERSION.")
    check_tracking(tracking)
    if tracking.startswith("sqlite:///") and not sqlite_path(tracking).exists():
        raise ConfigError(
            Message(
                f"there is no MLflow database at '{sqlite_path(tracking)}' (tracking). ", PROMOTE
            )
        )
    client, name = client_of(tracking), asked["name"]
    from mlflow.exceptions import MlflowException

    refused = f"MLflow ({redact(tracking)}) did not give '{uri}'"
    try:
        return ask(
            client,
            client.get_model_version_by_alias(name, asked["alias"])
            if asked["alias"]
            else client.get_model_version(name, asked["version"]),
        )
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise ConfigError(_absent(uri, name, client)) from error
        raise NotReady(f"{refused} {_reason(error)}") from error
    except troubles() as error:
        raise NotReady(f"{refused} {_reason(error)}") from error


def _absent(uri: str, name: str, client: "MlflowClient") -> str | Message:
    """Return what to say of an address without a model."""
    known = {model.name: model for model in client.search_registered_models(max_results=SHOWN)}
    if name not in known:
        return (
            unknown("model", name, known)
            if known
            else Message(f"no model is registered ('{uri}'). ", PROMOTE)
        )
    aliases = [f"models:/{name}@{alias}" for alias in sorted(known[name].aliases)]
    versions = sorted(
        int(version.version) for version in client.search_model_versions(f"name = '{name}'")
    )
    there = ", ".join([*aliases, *(f"models:/{name}/{number}" for number in versions)])
    return f"there is no '{uri}'. There are: {there or 'no versions'}."


def save(path: Path, exported: "Exported", **of: Any) -> None:
    """Write MLflow's form of a model to a new folder, and check that it works there.

    MLflow has to load it, and it has to classify its example.
    """
    with warnings.catch_warnings(action="ignore"):  # MLflow warns of its own code
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


def signature(exported: "Exported") -> "ModelSignature":
    """Return the schema of the model's output, a table.

    The input has no schema: MLflow would refuse grey images and lists of several sizes, and would
    print every pixel in the message about any other mistake; the classifier itself says in a line
    what it takes.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns: list[Any] = [
        ColSpec("string" if title == "class" else "double", title) for title in exported.columns
    ]
    return ModelSignature(outputs=Schema(columns))
