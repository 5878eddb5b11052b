"""Find the model to improve, by its address in MLflow's registry or the name of its search."""

from dataclasses import dataclass, replace
from pathlib import Path

from cluster.errors import Refused
from search.design.experiment import Experiment, absolute
from search.feedback.learning.challengers import ChampionData
from search.feedback.learning.joining import ChampionIdentity
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home, Storage, home
from search.preflight.overrides import Overrides, apply_overrides
from search.tracking.model_registry import origin_of
from search.tracking.uri import check_tracking, registry_uri, uri_of
from search.trained.answer import find_answer
from search.trained.export import config_of, dataset_of, local_checkpoint
from search.trained.source import REGISTERED, ModelSource, load_model
from trainables.catalog.entries import CAPABILITIES
from trainables.errors import ConfigError
from trainables.export.model import Model


@dataclass(frozen=True, kw_only=True)
class ChampionRequest:
    """The model to improve, with options that override those recorded in its search."""

    model: str
    """An address in MLflow's registry, or the name of a search."""
    storage: Storage
    overrides: Overrides
    register: str = ""
    """The name under which challengers are registered. If it is empty, they are registered under
    the champion's name or, if the champion is not registered, under the name of its search.
    """


@dataclass(frozen=True)
class ChampionModel:
    """The model to improve, with its search, config and data."""

    source: str
    """Name or address that `search.api.load` accepts."""
    champion: ChampionIdentity
    home: Home
    data: ChampionData
    tracking: str

    @property
    def checkpoint(self) -> Path:
        """Local folder of the champion's checkpoint; downloads it if necessary."""
        return local_checkpoint(self.home, self.data.trial)

    def load_model(self, data_root: Path | None) -> Model:
        """Load the exported model; `data_root` is the folder of its data, if that has moved."""
        source = ModelSource(
            name=self.source,
            storage=self.data.experiment.storage,
            tracking=self.tracking,
            data_root=data_root,
        )
        return load_model(source)


def find_champion(request: ChampionRequest) -> ChampionModel:
    """Find the model to improve, and load its search and data.

    Raises:
        ConfigError: there is no such model or search, or the model cannot be improved.
        Refused: the model was registered from a different search of the same name.
    """
    if not request.model.startswith(REGISTERED):
        return load_champion(request, ChampionIdentity("", "", request.model, "", ""))
    at = origin_of(request.model, registry_uri(request.overrides.tracking))
    if not at.tags.get("search.name"):
        raise ConfigError(
            f"{request.model} was not registered by search.promote. Pass a model that "
            "search.promote has registered, or the name of a search."
        )
    tags = (at.tags[f"search.{name}"] for name in ("name", "id", "trial"))
    return load_champion(request, ChampionIdentity(at.name, at.version, *tags))


def load_champion(request: ChampionRequest, identity: ChampionIdentity) -> ChampionModel:
    """Load the champion with this identity, and its search.

    If the identity names no trial, the champion is the trial that its search has chosen.

    Raises:
        ConfigError: its search is not in the storage, or the model cannot be improved.
        Refused: the model was registered from a different search of the same name.
    """
    name, source = identity.search, f"models:/{identity.model}/{identity.version}"
    search_home = home(request.storage, name)
    if not search_home.exists():
        raise ConfigError(
            f"{request.model} is from the search '{name}', but '{request.storage}' does not "
            "contain this search. Pass the storage of the search with --storage."
        )
    result = SearchResult.read(search_home.opened())
    if identity.id and identity.id != result.started.id:
        raise Refused(
            f"the search '{name}' in '{request.storage}' is not the search from which "
            f"{request.model} was registered. Pass the storage of the original search with "
            "--storage."
        )
    chosen = result.find(identity.trial) if identity.trial else None
    chosen = chosen or find_answer(result, search_home, request.storage)
    uri = request.overrides.tracking
    tracking = registry_uri(uri) if identity.version else absolute(uri_of(result, uri))
    champion = ChampionIdentity(
        request.register or identity.model or name,
        identity.version,
        name,
        result.started.id,
        chosen.trial,
    )
    data = champion_data(request, result, chosen, tracking)
    return ChampionModel(
        source if identity.version else name, champion, search_home, data, tracking
    )


def champion_data(
    request: ChampionRequest, result: SearchResult, chosen: TrialResult, tracking: str
) -> ChampionData:
    """Collect the champion's search, config and data.

    Raises:
        ConfigError: the task has no feedback, or the model has folds.
    """
    experiment = Experiment.from_description(
        result.name, result.started.experiment, request.storage
    )
    experiment = replace(apply_overrides(experiment, request.overrides, result), tracking=tracking)
    config = config_of(result, chosen, request.overrides.data_root)
    if "feedback" not in config.task.can:
        raise ConfigError(
            f"'{result.name}' cannot be improved, because its task is {config.task.title}: "
            f"{CAPABILITIES['feedback']}."
        )
    if config.data.folds is not None:
        raise ConfigError(
            f"'{result.name}' cannot be improved, because it is a search with --folds: its "
            "champion consists of several networks and has no validation set of its own. Use a "
            "search without --folds."
        )
    check_tracking(tracking)
    return ChampionData(experiment, result, chosen, config, dataset_of(result, config))
