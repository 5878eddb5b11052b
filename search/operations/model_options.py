"""Options of the requests that use a trained model: where the model is."""

from dataclasses import dataclass
from pathlib import Path

from search.journal.naming import resolve_name
from search.journal.store import Storage, own_path
from search.trained.source import ModelSource
from search.values.option import option


@dataclass(frozen=True, kw_only=True)
class ModelLocation:
    """The options that determine where a trained model is looked up.

    In their help texts, `group` replaces `{mlflow}` with words such as "MLflow's", and `{search}`
    with words such as "the search's".
    """

    trial: str | None = option(
        "another trial of the search than the chosen or best one", metavar="TRIAL"
    )
    tracking: str | None = option(
        "{mlflow} tracking URI (default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)",
        metavar="URI",
    )
    data_root: Path | None = option(
        "where {search} data is now (default: as for the search)", metavar="DIR", parse=own_path
    )

    def source(self, name: str, storage: Storage) -> ModelSource:
        """Build the source of the model with this name.

        Args:
            name: the name of a search, the address of a registered model, or a folder.
            storage: the storage of searches.

        Raises:
            NoSuchSearch: `name` has the form of a search's name, but there is no such search.
        """
        source = ModelSource(
            name=name,
            storage=storage,
            trial=self.trial,
            tracking=self.tracking,
            data_root=self.data_root,
        )
        if source.is_search:
            resolve_name(name, storage)
        return source
