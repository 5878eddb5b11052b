"""The messages between the processes of a server, as lines of JSON."""

import json
from dataclasses import asdict, dataclass, field

from search.serving.limits import Limits

DRAIN_S = 30
"""Maximum seconds that a server waits for requests in progress when it shuts down."""
MAIN, SHADOW = "main", "shadow"
"""The roles of a version: MAIN answers requests, SHADOW is compared with it."""
METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Name of the environment variable for the folder in which processes share metrics."""


@dataclass(frozen=True)
class Recording:
    """The place where a server records answers and images, and the settings of the recording."""

    place: str
    """A folder, or s3://BUCKET/PREFIX."""
    below: float
    share: float
    limit: int
    corrections: int | None = None
    """`below`, `share`, `limit` and `corrections` are fields of `RecordingPolicy`, in
    `search.feedback.recorder`.
    """


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of a worker process."""

    name: str
    """The name of the model."""
    host: str
    """The host name or IP address at which the model is served."""
    descriptor: int
    """The file descriptor of the listening socket, which the worker inherits."""
    threads: int
    """The maximum number of threads that compute."""
    delay_s: float
    """The maximum time to compute a batch, in seconds, which limits the size of batches."""
    shadow_share: float = 0.0
    """The share of the images that a second model answers too; 0 without a second model."""
    record: Recording | None = None
    open_corrections: bool = False
    """True if corrections are accepted from other machines too."""
    is_restart: bool = False
    """True for a process that replaces another: it starts even if the records cannot be written."""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_text(cls, text: str) -> "WorkerSettings":
        """Parse the settings from JSON."""
        values = json.loads(text)
        record = None if values["record"] is None else Recording(**values["record"])
        return cls(**{**values, "limits": Limits(**values["limits"]), "record": record})

    @property
    def text(self) -> str:
        """The settings as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class ModelVersion:
    """A version of the model, its folder, and the role in which workers should use it."""

    version: str
    folder: str
    role: str = MAIN

    @property
    def line(self) -> bytes:
        """The version as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class VersionReply:
    """A worker's reply to a version: the version is in use, or it is refused."""

    version: str
    role: str
    refused: str = ""
    """The reason why the version is not used; empty if it is used."""


@dataclass(frozen=True)
class WatchedModel:
    """The model that a watching process fetches, and the folder for its versions."""

    source: str
    """A search's name, `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    into: str
    """The folder into which versions are fetched, each in its own subfolder."""
    storage: str
    trial: str | None
    tracking: str | None
    data_root: str | None
    registered: str
    """The name of a registered model; empty for the model of a search."""
    moves: bool
    """True for an alias, which may refer to another version while the model is served."""
    poll_s: float
    """Seconds between two queries of the alias."""

    @property
    def text(self) -> str:
        """The model as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class FetchedModel:
    """A version of a model that has been fetched into a folder."""

    folder: str
    version: str = ""
    """The number of a registered version; empty for other models, which have no number."""
