"""The messages between the processes of a server, as lines of JSON."""

import json
from dataclasses import asdict, dataclass, field

from search.serving.limits import Limits

DRAIN_S = 30
"""The seconds that requests that have arrived may take to be answered at the end."""
MAIN, SHADOW = "main", "shadow"
FIGURES = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder in which processes share their figures."""


@dataclass(frozen=True)
class Recording:
    """The place where a server keeps what it meets, and the bounds of how much."""

    place: str
    """A folder, or s3://BUCKET/PREFIX."""
    below: float
    share: float
    limit: int
    corrections: int | None = None
    """These four as `search.feedback.recorder.RecordingPolicy` has them."""


@dataclass(frozen=True)
class Settings:
    """The settings that a worker is started with."""

    name: str
    """The name of the model."""
    host: str
    """The address at which it is served."""
    descriptor: int
    """Of the socket."""
    threads: int
    delay_s: float
    shadow_share: float = 0.0
    """Of the images that a second model is asked too; 0 where there is none."""
    record: Recording | None = None
    open_corrections: bool = False
    """True if corrections are taken from other machines too."""
    is_restart: bool = False
    """True for a process that replaces another: it waits for a storage that refuses to record."""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(cls, text: str) -> "Settings":
        """Return the settings from JSON."""
        told = json.loads(text)
        record = None if told["record"] is None else Recording(**told["record"])
        return cls(**{**told, "limits": Limits(**told["limits"]), "record": record})

    @property
    def text(self) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Coming:
    """A version that a worker is to use."""

    version: str
    folder: str
    role: str = MAIN

    @property
    def line(self) -> bytes:
        """The same as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Came:
    """A worker's reply on a version: that it is used, or why not."""

    version: str
    role: str
    refused: str = ""
    """The reason why it is not used; empty if it is."""


@dataclass(frozen=True)
class Question:
    """The model that is wanted, and where it is put."""

    source: str
    """A search's name, or `models:/NAME@ALIAS`, or `models:/NAME/VERSION`."""
    into: str
    storage: str
    trial: str | None
    tracking: str | None
    data_root: str | None
    registered: str
    """The name of a registered model; empty if it is a search's."""
    moves: bool
    """True if it is an alias, which other versions may get."""
    poll_s: float
    """Seconds between two looks at where an alias is."""

    @property
    def text(self) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Fetched:
    """A version that lies in a folder now."""

    folder: str
    version: str = ""
    """Of a registered model; empty for others, which are told apart by their content."""
