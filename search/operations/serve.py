"""Serves a trained model over HTTP."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.cli import cannot_listen, is_whole, port, seconds, whole_number
from cluster.runtime.session import LOCAL
from search.journal.store import Storage, storage
from search.operations.model_options import ModelLocation
from search.operations.options import storage_option
from search.serving.messages import Recording, WatchedModel, WorkerSettings
from search.serving.supervisor import ServingPlan, bind_socket
from search.serving.supervisor import serve as supervise
from search.trained.source import REGISTERED, ModelSource
from search.values.option import flag, group, option, positional
from trainables.errors import ConfigError
from trainables.machine import processors

MOST_WORKERS = 256
BYTES_OF_CORRECTION = 10_000
"""With --open-corrections, the maximum number of corrections is --record-bytes divided by this.

A correction is a small file, which needs one block of 4 KiB on a disk, so all corrections together
need less than half of --record-bytes.
"""


def share(text: str) -> float:
    """Parse a share: a number above 0 and at most 1.

    Raises:
        ConfigError: the text is not a number in this range.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"expected a share above 0 and at most 1 (got '{text[:80]}')")
    return value


def replicas(text: str) -> tuple[int, int]:
    """Parse the minimum and maximum number of replicas, such as "1:4".

    A single number stands for both.

    Raises:
        ConfigError: the text is not a range within 1 to 1000.
    """
    fewest, colon, most = text.partition(":")
    numbers = [fewest, most] if colon else [fewest, fewest]
    if not all(map(is_whole, numbers)) or not 1 <= int(numbers[0]) <= int(numbers[1]) <= 1000:
        raise ConfigError(
            "expected a number of replicas from 1 to 1000, or a range MIN:MAX such as 1:4 (got "
            f"'{text[:80]}')"
        )
    return int(numbers[0]), int(numbers[1])


def prefix(text: str) -> str:
    """Parse the URL path of a model on the server, such as "/flowers".

    Raises:
        ConfigError: the text is not a path of letters, digits, _ and -.
    """
    if not re.fullmatch("/|(/[A-Za-z0-9_-]+)+", text):
        raise ConfigError(
            "expected a path that begins with / and has only letters, digits, _ and -, such as "
            f"/flowers (got '{text[:80]}')"
        )
    return text


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """The options for recording predictions and images."""

    record: Storage | None = option(
        "store answers and images there, for search.label, search.monitor and search.improve: a "
        "folder, or s3://BUCKET/PREFIX (default: nothing is stored)",
        metavar="PLACE",
        parse=storage,
    )
    record_bytes: int = option(
        "limit on everything that is stored; the oldest is removed first",
        metavar="N",
        parse=whole_number(1_000_000, 10**15, "the limit in bytes"),
        default=1_000_000_000,
    )
    record_below: float = option(
        "store the images whose predicted class has a lower probability than this",
        metavar="P",
        parse=share,
        default=0.7,
    )
    record_share: float = option(
        "share of the other images that is stored", metavar="SHARE", parse=share, default=0.05
    )
    open_corrections: bool = flag(
        "with a --host that other machines can reach, accept corrections from all of them, at "
        f"most one for each {BYTES_OF_CORRECTION:,} of --record-bytes; they are stored "
        "permanently, and search.improve learns from them"
    )

    def recording(self) -> Recording | None:
        """Return the place and the limits of the records; None without --record.

        Raises:
            ConfigError: the place is a file.
        """
        if self.record is None:
            return None
        if isinstance(self.record, Path) and self.record.exists() and not self.record.is_dir():
            raise ConfigError(
                f"--record '{self.record}' is a file. Pass a folder, or s3://BUCKET/PREFIX."
            )
        most = self.record_bytes // BYTES_OF_CORRECTION if self.open_corrections else None
        return Recording(
            str(self.record), self.record_below, self.record_share, self.record_bytes, most
        )


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """A trained model, and the options for serving it."""

    model: str = positional("models:/NAME@champion, a folder, or a search's name", metavar="MODEL")
    storage: Storage = storage_option()
    port: int = option(
        "port to listen on; 0 chooses a free one", metavar="N", parse=port, default=8000
    )
    host: str = option(
        "address to listen on; 0.0.0.0 accepts requests from other machines", default="127.0.0.1"
    )
    workers: int = option(
        "number of processes that answer",
        metavar="N",
        parse=whole_number(1, MOST_WORKERS, "the number of processes"),
        default=1,
    )
    max_delay: int = option(
        "the longest time that a batch of images may take, for which the next images wait",
        metavar="MS",
        parse=whole_number(1, 10_000, "a delay in milliseconds"),
        default=50,
    )
    poll: float = option(
        "seconds between two checks which version an alias refers to",
        metavar="S",
        parse=seconds,
        default=5.0,
    )
    shadow: str | None = option(
        "another alias of the model, which answers a share of the images only for comparison",
        metavar="ALIAS",
    )
    shadow_share: float = option("of the images", metavar="SHARE", parse=share, default=0.1)
    location: ModelLocation = group(ModelLocation, mlflow="MLflow's", search="a search's")
    recording: RecordingOptions = group(RecordingOptions)
    address: str | None = option(
        "serve on this Ray cluster, by Ray Serve: auto, or HOST:PORT", metavar="ADDRESS"
    )
    replicas: tuple[int, int] = option(
        "on a cluster, number of processes that answer, by the load",
        metavar="MIN:MAX",
        parse=replicas,
        text=lambda numbers: ":".join(map(str, numbers)),
        default="1:4",
    )
    prefix: str = option(
        "on a cluster, the path of this model, such as /flowers",
        metavar="PATH",
        parse=prefix,
        default="/",
    )


def serve(request: ServeRequest) -> int:
    """Serve the model until the process is stopped, and return the exit code.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: there is no such model, or options contradict each other.
        NotReady: nothing can be served at this address, or MLflow fails.
    """
    with tempfile.TemporaryDirectory(prefix="serve-") as temporary:
        folder = Path(temporary)
        source = request.location.source(request.model, request.storage)
        name, model = served_name(source), served_model(source, folder / "model", request.poll)
        shadow = shadow_model(request, source, folder / "shadow")
        if request.address is not None:
            return serve_on_cluster(request, request.address, name, model)
        try:
            listening = bind_socket(request.host, request.port)
        except OSError as error:
            raise cannot_listen(request.host, request.port, error) from error
        with listening:
            settings = WorkerSettings(
                name=name,
                host=request.host,
                descriptor=listening.fileno(),
                threads=max(1, processors() // request.workers),
                delay_s=request.max_delay / 1000,
                shadow_share=request.shadow_share if shadow is not None else 0.0,
                record=request.recording.recording(),
                open_corrections=request.recording.open_corrections,
            )
            host, number = listening.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{number}"
            plan = ServingPlan(settings, address, request.workers, model, shadow)
            return supervise(plan, folder, listening)


def served_model(source: ModelSource, folder: Path, poll_s: float) -> WatchedModel | Path:
    """Return the local folder of the model to serve, or describe a model to fetch into `folder`.

    Args:
        source: the model that the user names.
        folder: the folder for a fetched model.
        poll_s: the interval between checks of an alias, in seconds.

    Raises:
        ConfigError: the named folder contains no model.
    """
    if source.is_registered or source.is_search:
        return watched_model(source, folder, poll_s)
    if (model_folder := source.local_folder) is None:
        raise ConfigError(
            f"'{source}' is not the folder of a model, which contains about.json. Pass the folder "
            "of a model, the name of a search, or models:/NAME@champion."
        )
    return model_folder


def watched_model(source: ModelSource, folder: Path, poll_s: float) -> WatchedModel:
    """Describe a model that is fetched into `folder`, and watched if its version may change."""
    return WatchedModel(
        source=str(source),
        into=str(folder),
        storage=str(source.storage),
        trial=source.trial,
        tracking=source.tracking,
        data_root=None if source.data_root is None else str(source.data_root),
        registered=source.registered_name,
        moves=source.has_alias,
        poll_s=poll_s,
    )


def shadow_model(request: ServeRequest, source: ModelSource, folder: Path) -> WatchedModel | None:
    """Describe the shadow model, another alias of the served model; None without --shadow.

    Raises:
        ConfigError: the served model is not a registered one, and so has no aliases.
    """
    if request.shadow is None:
        return None
    if not source.registered_name:
        raise ConfigError(
            f"--shadow requires a registered model, but '{request.model}' is not registered. "
            "Serve models:/NAME@champion instead."
        )
    return watched_model(source.at_alias(request.shadow), folder, request.poll)


def served_name(source: ModelSource) -> str:
    """Return the model's name in responses; for a registered model, without version or alias."""
    return f"{REGISTERED}/{source.registered_name}" if source.registered_name else str(source)


def serve_on_cluster(
    request: ServeRequest, address: str, name: str, model: WatchedModel | Path
) -> int:
    """Serve on the running Ray cluster at an address, and return the exit code.

    Raises:
        ConfigError: the address is `LOCAL`, or an option applies only to serving on one machine.
    """
    from search.serving import ray_serve

    if address == LOCAL:
        raise ConfigError(
            f"--address {LOCAL} is not allowed. To serve on this machine, leave --address out."
        )
    if request.shadow is not None or request.workers != 1:
        refused = "--shadow" if request.shadow is not None else "--workers"
        remedy = (
            "Use --replicas instead"
            if request.shadow is None
            else "Leave --shadow or --address out"
        )
        raise ConfigError(f"{refused} cannot be used on a cluster (--address). {remedy}.")
    settings = WorkerSettings(
        name=name,
        host=request.host,
        descriptor=-1,  # Ray Serve listens
        threads=1,
        delay_s=request.max_delay / 1000,
        record=request.recording.recording(),
        open_corrections=request.recording.open_corrections,
    )
    deployment = ray_serve.ClusterDeployment(
        settings, address, request.port, request.prefix, request.replicas, model
    )
    return ray_serve.serve_on_cluster(deployment)
