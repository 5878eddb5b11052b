"""The same server as a deployment of Ray Serve, on a cluster that is up.

Ray Serve starts as many replicas as the load asks for, on any node, finds one for each request and
replaces those that are lost; what a replica is asked, `app` answers. This process stays: it looks
where an alias is, tries each new version here, and has the replicas replaced by such with it.
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
from cluster.runtime.resources import Resources
from cluster.runtime.session import check_address, session
from search.serving.app import App
from search.serving.messages import DRAIN_S, MAIN, Coming, Fetched, Question, Settings
from search.serving.metrics import Metrics
from search.serving.supervisor import forget, named, say
from search.serving.versions import Served, Versions, ready, why_not
from search.serving.watch import fetched, version_now
from search.serving.worker import app_of, check_task, recorder_of
from trainables.errors import ConfigError, printable

AT_ONCE = 512
"""Requests that a replica may have at once; what they may ask for is bounded by `Limits`."""
TARGET = 64
"""Requests at once to a replica above which another is started, if one may be."""
MOST_BYTES = 400_000_000
"""Of a model: it is handed to the replicas through Ray's own messages."""
PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""For Ray Serve's controller. By itself it kills a node's door that is not open after 5 s, as on a
busy machine, and the start that waits for this door fails; the start itself waits for 60 s.
"""


@dataclass(frozen=True)
class Wanted:
    """The model that is to be served on a cluster, with its settings and its place there."""

    settings: Settings
    """Of each replica."""
    address: str
    """The cluster's."""
    port: int
    prefix: str
    """The path below the port where the server stands, such as `/flowers`; `/` for all of it."""
    replicas: tuple[int, int]
    """The fewest and the most."""
    source: Question | Path
    """The model; a folder is there already."""


@dataclass(frozen=True)
class Given:
    """The settings and the model that a replica is started with."""

    settings: Settings
    version: str
    files: dict[str, bytes]
    """The content of the model's folder."""


class Replica:
    """One process that answers."""

    def __init__(self, given: Given) -> None:
        """Load the model; an error of it is Ray Serve's to tell."""
        with tempfile.TemporaryDirectory(prefix="serve-") as temporary:
            for name, content in given.files.items():
                (Path(temporary) / name).write_bytes(content)
            settings = given.settings
            served = ready(
                Path(temporary),
                settings.name,
                given.version,
                threads=settings.threads,
                delay_s=settings.delay_s,
            )
        metrics, recorder = Metrics(), recorder_of(settings.record, settings.name, served)
        metrics.version(served.version, served.runtime.engine, is_used=True)
        self._app = app_of(settings, Versions(served), metrics, recorder)

    def __serve_build_asgi_app__(self) -> App:
        return self._app


def serve_on_cluster(wanted: Wanted) -> int:
    """Serve on a cluster until a signal, and return the exit code.

    Raises:
        ConfigError: the model cannot be served.
        NotReady: Ray Serve is not installed, the cluster is not there, or no replica starts.
    """
    try:
        import ray.serve
    except ImportError as error:
        raise NotReady(
            f"--address needs Ray Serve ({error}). "
            "Install: pip install 'image-classifier-search[ray-serve]'"
        ) from error
    check_address(wanted.address)
    found = _find(wanted)
    current = _ready(wanted, found)
    check_task(wanted.settings, current)
    # The whole cluster is Ray Serve's to give: this process asks for nothing itself.
    with (
        session(wanted.address, local=Resources(cpus=1)),
        until_stopped() as stopped,
    ):
        _start(wanted)
        try:
            _deploy(wanted, found)
            say(
                f"serving {wanted.settings.name}, version {found.version}, on port "
                f"{wanted.port} of each node, at {wanted.prefix}"
            )
            _follow(wanted, found, current, stopped)
        finally:
            ray.serve.delete(_app_name(wanted))
            if not ray.serve.status().applications:
                ray.serve.shutdown()
    return 0 if stopped.number == signal.SIGTERM else 128 + signal.SIGINT


def _start(wanted: Wanted) -> None:
    """Start Ray Serve, if it is not there.

    Raises:
        ConfigError: it listens at another port.
        NotReady: it does not start.
    """
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.context import _get_global_client  # what else knows the port is a dashboard

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # One that is there already may have models of others.
    is_there = _get_global_client(raise_if_no_controller_running=False) is not None
    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": wanted.settings.host, "port": wanted.port},
            logging_config={"log_level": "ERROR", "enable_access_log": False},
            controller_options={"runtime_env": {"env_vars": PATIENT}},
        )
    except (RayActorError, TimeoutError) as error:
        if not is_there:  # what did start would be taken for a Ray Serve that is up
            with suppress(RayActorError, TimeoutError):
                serve.shutdown()
        text = printable(" ".join(str(error).split()))[:300]
        raise NotReady(f"Ray Serve does not start ({text}). Try again.") from error
    client = _get_global_client()
    assert client is not None
    port = client.http_config.port
    if port != wanted.port:
        raise ConfigError(
            f"--port {wanted.port}: Ray Serve listens on {port} of this cluster, for all that it "
            f"serves. Use --port {port}."
        )


def _follow(wanted: Wanted, found: Coming, current: Served, stopped: "Stopped") -> None:
    """Let the replicas use each version to which an alias moves, until a signal."""
    source, trouble = wanted.source, ""
    refused: str | None = None  # the version that was no good last
    while isinstance(source, Question) and source.moves and not stopped.wait(source.poll_s):
        coming = None
        try:
            if (version := version_now(source)) in (found.version, refused):
                continue
            coming = _find(wanted)
            if why := why_not(current.model, (new := _ready(wanted, coming)).model):
                raise ConfigError(f"{why}.")
            _deploy(wanted, coming)
            coming, found, current, trouble = found, coming, new, ""
            say(f"version {found.version} is in use now")
        except (ConfigError, NotReady, OSError) as error:
            # What passes is tried again; a version that is no good is not.
            refused = version if coming and isinstance(error, ConfigError) else refused
            if str(error) != trouble:
                text = str(error).rstrip(".")
                say(f"note: {text}; version {found.version} stays")
            trouble = str(error)
        finally:
            if coming is not None:  # the one before, or one that is not used
                forget(coming, Path(source.into))
    stopped.wait(None)


def _find(wanted: Wanted) -> Coming:
    """Return the version that is wanted now, in a folder."""
    source = wanted.source
    found = (
        Fetched(str(source)) if isinstance(source, Path) else fetched(source, version_now(source))
    )
    return named(found, MAIN)


def _ready(wanted: Wanted, found: Coming) -> Served:
    """Try a version here, before any replica is told of it."""
    name, delay_s = wanted.settings.name, wanted.settings.delay_s
    return ready(Path(found.folder), name, found.version, threads=1, delay_s=delay_s)


def _deploy(wanted: Wanted, found: Coming) -> None:
    """Start the replicas, or replace them one by one, and wait until they answer.

    Raises:
        ConfigError: the model is too large.
        NotReady: they do not start.
    """
    from ray import serve

    folder = Path(found.folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if (size := sum(map(len, files.values()))) > MOST_BYTES:
        raise ConfigError(
            f"the model has {size / 1e6:,.0f} MB; on a cluster at most {MOST_BYTES / 1e6:,.0f} MB "
            "are served."
        )
    fewest, most = wanted.replicas
    given = Given(wanted.settings, found.version, files)
    deployment: Any = serve.deployment(
        serve.ingress()(Replica),
        name="model",
        max_ongoing_requests=AT_ONCE,
        graceful_shutdown_timeout_s=DRAIN_S,
        autoscaling_config={
            "min_replicas": fewest,
            "max_replicas": most,
            "initial_replicas": fewest,
            "target_ongoing_requests": TARGET,
        },
    )
    try:
        serve.run(deployment.bind(given), name=_app_name(wanted), route_prefix=wanted.prefix)
    except (RuntimeError, TimeoutError) as error:
        raise NotReady(
            f"the replicas of {wanted.settings.name} do not start ({printable(str(error))[:300]})"
        ) from error


def _app_name(wanted: Wanted) -> str:
    """Return the application's name: one model stands at each place below the port."""
    return f"search{wanted.prefix.rstrip('/').replace('/', '.')}"


class Stopped:
    """The signal that came, and a way to wait for it."""

    def __init__(self) -> None:
        self.number = 0
        self._event = threading.Event()

    def hear(self, number: int, frame: object) -> None:
        """Handle a signal."""
        self.number = self.number or number
        self._event.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait for a signal, so long at most; return whether one came."""
        return self._event.wait(seconds)


@contextmanager
def until_stopped() -> Iterator[Stopped]:
    """Let SIGTERM and SIGINT end the wait within, and nothing else."""
    stopped = Stopped()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stopped.hear) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
