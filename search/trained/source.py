"""The source of a trained model: MLflow's registry, a folder, or a search."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from search.journal.journal import FILE_NAME
from search.journal.naming import read_search
from search.journal.store import Storage, home, searches_in
from search.tracking.model_registry import ADDRESS, fetch, version_at
from search.tracking.uri import registry_uri
from search.trained.answer import find_answer
from search.trained.export import export_for_use
from trainables.errors import ConfigError
from trainables.export.model import Model, folder_in, model_class
from trainables.export.reference import check_monitored
from trainables.progress import step

REGISTERED = "models:"
"""The prefix of the address of a registered model."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A trained model as the user names it, with the places where it is looked up."""

    name: str | Path
    """`models:/NAME@ALIAS`, `models:/NAME/VERSION`, a folder, or the name of a search."""
    storage: Storage
    """The storage of searches, for the name of a search."""
    trial: str | None = None
    """A trial of the search; None for the search's answer."""
    tracking: str | None = None
    """MLflow's tracking URI; None for the default."""
    data_root: Path | None = None
    """The current folder of the search's data, if it has moved."""

    def __str__(self) -> str:
        return str(self.name)

    @property
    def is_registered(self) -> bool:
        """True if the name is the address of a model in MLflow's registry."""
        return str(self).startswith(REGISTERED)

    @property
    def is_search(self) -> bool:
        """True if the name is taken as that of a search, whether or not that search exists.

        In a local storage, an existing search takes precedence over a model's folder of that name.
        """
        if self.is_registered or isinstance(self.name, Path) or "/" in self.name:
            return False
        if isinstance(self.storage, Path) and (self.storage / self.name / FILE_NAME).exists():
            return True
        return folder_in(Path(self.name)) is None

    @property
    def local_folder(self) -> Path | None:
        """The folder of the model; None unless the name is that of a folder with a model."""
        return folder_in(Path(self.name).expanduser())

    @property
    def registered_name(self) -> str:
        """The name of the registered model; empty unless its address is valid."""
        address = ADDRESS.fullmatch(str(self))
        return address["name"] if address is not None else ""

    @property
    def has_alias(self) -> bool:
        """True if the name contains an alias of a registered model, whose version may change."""
        address = ADDRESS.fullmatch(str(self))
        return address is not None and address["alias"] is not None

    def at_version(self, version: str) -> "ModelSource":
        """Return the source of the same registered model at this version."""
        return replace(self, name=f"{REGISTERED}/{self.registered_name}/{version}")

    def at_alias(self, alias: str) -> "ModelSource":
        """Return the source of the same registered model at this alias."""
        return replace(self, name=f"{REGISTERED}/{self.registered_name}@{alias}")

    def current_version(self) -> str:
        """Ask MLflow for the current version of a registered model; empty for any other model.

        Raises:
            ConfigError: there is no such model, or the address is invalid.
            NotReady: MLflow fails.
        """
        return version_at(str(self), registry_uri(self.tracking)) if self.is_registered else ""

    def download(self, folder: Path) -> Path:
        """Download a registered model into a new folder, unless it is stored on this machine.

        Returns:
            The folder in MLflow's format; the exported model is a folder in it.

        Raises:
            ConfigError: there is no such model, or the address is invalid.
            NotReady: MLflow fails.
        """
        folder.mkdir()
        return fetch(str(self), registry_uri(self.tracking), folder)

    def fetch(self, folder: Path, *, watched: bool = False) -> Path:
        """Return the local folder of the model, which is downloaded or exported if necessary.

        Args:
            folder: a path that does not exist, for a model that is downloaded or exported.
            watched: True to export the model of a search with a reference
                (`trainables.export.reference`).

        Raises:
            ConfigError: there is no such search, trial, model or folder.
            LeaseHeld, Refused: the search still runs or was cut off, its images have changed, or
                the checkpoint is damaged.
            NotReady, Unavailable: MLflow fails, or the data are missing.
        """
        if self.is_registered:
            path = self.download(folder)
        elif self.is_search:
            self._export(folder, watched=watched)
            path = folder
        else:
            path = Path(self.name).expanduser()
        if (model_folder := folder_in(path)) is None:
            raise ConfigError(
                f"'{path}' is not the folder of a model, because it contains no about.json. Pass "
                "the folder of a model, the name of a search (there are: "
                f"{', '.join(searches_in(self.storage)) or 'none'}), or models:/NAME@ALIAS."
            )
        return model_folder

    def _export(self, folder: Path, *, watched: bool) -> None:
        result, _ = read_search(str(self), self.storage)
        search_home = home(self.storage, result.name)
        trial = find_answer(result, search_home, self.storage, self.trial)
        if watched:
            check_monitored(trial.task.name)
        export_for_use(result, search_home, trial, self.data_root, folder, watched=watched)


def load_model(source: ModelSource) -> Model:
    """Load a trained model, ready to predict images.

    Raises:
        ConfigError, LeaseHeld, Refused, NotReady, Unavailable: as in `ModelSource.fetch`.
    """
    with step("loading the model"), tempfile.TemporaryDirectory(prefix="load-") as temporary:
        folder = source.fetch(Path(temporary) / "classifier")
        return model_class(folder)(folder, str(source))
