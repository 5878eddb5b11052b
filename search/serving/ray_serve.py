"""Serve a model as a deployment of Ray Serve, on a running cluster.

Ray Serve adapts the number of replicas to the load, sends each request to one of them, and replaces
replicas that were lost. Each replica runs the application of `search.serving.app`. This process
keeps running: it watches the alias, checks each new version by loading it, and lets Ray Serve
replace the replicas.
"""

import logging
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.runtime.resources import Resources
from cluster.runtime.session import check_address, session
from search.serving.app import App
from search.serving.messages import (
    DRAIN_S,
    MAIN,
    FetchedModel,
    ModelVersion,
    WatchedModel,
    WorkerSettings,
)
from search.serving.metrics import Metrics
from search.serving.supervisor import name_version, remove_fetched, report
from search.serving.versions import ServedVersion, Versions, load_version, mismatch
from search.serving.watch import current_version, fetch_version
from search.serving.worker import build_app, check_task, open_recorder
from trainables.errors import ConfigError, printable

MAX_ONGOING = 512
"""Maximum number of concurrent requests in a replica. Their memory and waiting times have further
limits (`Limits`).
"""
TARGET_ONGOING = 64
"""If each replica has more requests than this on average, Ray Serve starts another replica, up to
the maximum number of replicas.
"""
MAX_BYTES = 400_000_000
"""Maximum size of a model in bytes. It is limited because Ray's own messages contain the model."""
CONTROLLER_ENVIRONMENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""Environment variables of Ray Serve's controller. By default, the controller kills a proxy that is
not ready within 5 s. On a busy machine, a proxy may take longer, and Ray Serve would not start,
although it waits 60 s for the proxy.
"""


@dataclass(frozen=True)
class ClusterDeployment:
    """The model to serve on a cluster, with its settings, and the cluster's address."""

    settings: WorkerSettings
    """The settings of each replica."""
    address: str
    """The address of the cluster."""
    port: int
    prefix: str
    """The path at which the model is served, such as `/flowers`; `/` for all paths."""
    replicas: tuple[int, int]
    """The smallest and the largest number of replicas."""
    source: WatchedModel | Path
    """The model to fetch, or the folder of a model."""


@dataclass(frozen=True)
class ReplicaSetup:
    """The settings and the model with which a replica is started."""

    settings: WorkerSettings
    version: str
    files: dict[str, bytes]
    """The contents of the files in the model's folder, by name."""


class Replica:
    """A process of Ray Serve that answers requests."""

    def __init__(self, setup: ReplicaSetup) -> None:
        """Load the model. If this raises an error, Ray Serve reports it."""
        with tempfile.TemporaryDirectory(prefix="serve-") as temporary:
            for name, content in setup.files.items():
                (Path(temporary) / name).write_bytes(content)
            settings = setup.settings
            served = load_version(
                Path(temporary),
                settings.name,
                setup.version,
                threads=settings.threads,
                delay_s=settings.delay_s,
            )
        metrics, recorder = Metrics(), open_recorder(settings.record, settings.name, served)
        metrics.set_version(served.version, served.runtime.engine, is_used=True)
        self._app = build_app(settings, Versions(served), metrics, recorder)

    def __serve_build_asgi_app__(self) -> App:
        return self._app


def serve_on_cluster(deployment: ClusterDeployment) -> int:
    """Serve a model on a cluster until a signal arrives, and return the exit code.

    Raises:
        ConfigError: the model cannot be served.
        NotReady: Ray Serve is not installed, the cluster cannot be reached, or no replica starts.
    """
    try:
        import ray.serve
    except ImportError as error:
        raise NotReady(
            f"--address requires Ray Serve ({error}). "
            "Install it with: pip install 'image-classifier-search[ray-serve]'"
        ) from error
    check_address(deployment.address)
    model = _fetch_current(deployment)
    current = _load(deployment, model)
    check_task(deployment.settings, current)
    # Ray Serve allocates the resources of the cluster; this process requests none of them.
    with (
        session(deployment.address, local=Resources(cpus=1)),
        catch_stop_signals() as stop_signal,
    ):
        _start(deployment)
        try:
            _deploy(deployment, model)
            report(
                f"serving {deployment.settings.name}, version {model.version}, on port "
                f"{deployment.port} of each node, at {deployment.prefix}"
            )
            _follow_alias(deployment, model, current, stop_signal)
        finally:
            ray.serve.delete(_app_name(deployment))
            if not ray.serve.status().applications:
                ray.serve.shutdown()
    return 0 if stop_signal.number == signal.SIGTERM else ExitCode.INTERRUPTED


def _start(deployment: ClusterDeployment) -> None:
    """Start Ray Serve unless it is already running.

    Raises:
        ConfigError: Ray Serve is already running, but listens on another port.
        NotReady: Ray Serve does not start.
    """
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.context import _get_global_client  # no public API returns the port

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # A Ray Serve that is running may serve other models, and must not be shut down.
    is_running = _get_global_client(raise_if_no_controller_running=False) is not None
    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": deployment.settings.host, "port": deployment.port},
            logging_config={"log_level": "ERROR", "enable_access_log": False},
            controller_options={"runtime_env": {"env_vars": CONTROLLER_ENVIRONMENT}},
        )
    except (RayActorError, TimeoutError) as error:
        if not is_running:  # otherwise the next start would find a half-started Ray Serve
            with suppress(RayActorError, TimeoutError):
                serve.shutdown()
        text = printable(" ".join(str(error).split()))[:300]
        raise NotReady(f"Ray Serve did not start ({text}). Try again.") from error
    client = _get_global_client()
    assert client is not None
    port = client.http_config.port
    if port != deployment.port:
        raise ConfigError(
            f"--port {deployment.port} cannot be used, because Ray Serve already listens on port "
            f"{port} of this cluster for all its applications. Use --port {port}."
        )


def _follow_alias(
    deployment: ClusterDeployment,
    model: ModelVersion,
    current: ServedVersion,
    stop_signal: "StopSignal",
) -> None:
    """Deploy each new version of an alias until a signal arrives.

    Without an alias, only wait for the signal.
    """
    source, trouble = deployment.source, ""
    refused_version: str | None = None  # the last version that cannot be served
    while isinstance(source, WatchedModel) and source.moves and not stop_signal.wait(source.poll_s):
        candidate = None
        try:
            if (version := current_version(source)) in (model.version, refused_version):
                continue
            candidate = _fetch_current(deployment)
            if reason := mismatch(current.model, (new := _load(deployment, candidate)).model):
                raise ConfigError(f"{reason}.")
            _deploy(deployment, candidate)
            candidate, model, current, trouble = model, candidate, new, ""
            report(f"version {model.version} is in use now")
        except (ConfigError, NotReady, OSError) as error:
            # Temporary errors are retried; a version that cannot be served is not.
            refused_version = (
                version if candidate and isinstance(error, ConfigError) else refused_version
            )
            if str(error) != trouble:
                text = str(error).rstrip(".")
                report(f"note: {text}; version {model.version} stays in use")
            trouble = str(error)
        finally:
            if candidate is not None:  # the replaced version, or one that is not used
                remove_fetched(candidate, Path(source.into))
    stop_signal.wait(None)


def _fetch_current(deployment: ClusterDeployment) -> ModelVersion:
    """Fetch the current version of the source, and determine its name."""
    source = deployment.source
    model = (
        FetchedModel(str(source))
        if isinstance(source, Path)
        else fetch_version(source, current_version(source))
    )
    return name_version(model, MAIN)


def _load(deployment: ClusterDeployment, model: ModelVersion) -> ServedVersion:
    """Load a version in this process, to check it before it is deployed."""
    name, delay_s = deployment.settings.name, deployment.settings.delay_s
    return load_version(Path(model.folder), name, model.version, threads=1, delay_s=delay_s)


def _deploy(deployment: ClusterDeployment, model: ModelVersion) -> None:
    """Start the replicas, or replace them one by one, and wait until they are ready.

    Raises:
        ConfigError: the model is too large.
        NotReady: the replicas do not start.
    """
    from ray import serve

    folder = Path(model.folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if (size := sum(map(len, files.values()))) > MAX_BYTES:
        raise ConfigError(
            f"the model is too large for a cluster ({size / 1e6:,.0f} MB, at most "
            f"{MAX_BYTES / 1e6:,.0f} MB). Serve it on one machine, without --address."
        )
    fewest, most = deployment.replicas
    setup = ReplicaSetup(deployment.settings, model.version, files)
    ingress: Any = serve.deployment(
        serve.ingress()(Replica),
        name="model",
        max_ongoing_requests=MAX_ONGOING,
        graceful_shutdown_timeout_s=DRAIN_S,
        autoscaling_config={
            "min_replicas": fewest,
            "max_replicas": most,
            "initial_replicas": fewest,
            "target_ongoing_requests": TARGET_ONGOING,
        },
    )
    try:
        serve.run(ingress.bind(setup), name=_app_name(deployment), route_prefix=deployment.prefix)
    except (RuntimeError, TimeoutError) as error:
        raise NotReady(
            f"the replicas of the model '{deployment.settings.name}' did not start "
            f"({printable(str(error))[:300]}). For details, see Ray's logs."
        ) from error


def _app_name(deployment: ClusterDeployment) -> str:
    """The name of the application in Ray Serve, which is unique for each prefix."""
    return f"search{deployment.prefix.rstrip('/').replace('/', '.')}"


class StopSignal:
    """Stores the first signal to stop, and waits for it."""

    def __init__(self) -> None:
        self.number = 0
        """The number of the first signal; 0 if none has arrived."""
        self._event = threading.Event()

    def handle(self, number: int, frame: object) -> None:
        """Store a signal; this is a handler for `signal.signal`."""
        self.number = self.number or number
        self._event.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait for a signal, and return True if one has arrived.

        Args:
            seconds: the maximum time to wait; None waits without a limit.
        """
        return self._event.wait(seconds)


@contextmanager
def catch_stop_signals() -> Iterator[StopSignal]:
    """Catch SIGTERM and SIGINT, and store them in the yielded object.

    The previous signal handlers are restored on exit.
    """
    stop_signal = StopSignal()
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, stop_signal.handle) for number in numbers}
    try:
        yield stop_signal
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
