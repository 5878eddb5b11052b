"""A process that answers requests at a socket, which it may share with other processes.

    python -m search.serving.worker SETTINGS

SETTINGS are `WorkerSettings` as JSON. `search.serving.supervisor` starts the process, and writes a
`ModelVersion` to its stdin, as a line of JSON, for each version that the process should use. The
process replies on stdout with a `VersionReply`, as a line of JSON. When stdin ends, or after
SIGTERM, the process finishes the requests in progress and exits.
"""

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from search.serving import protocol, versions
from search.serving.app import App
from search.serving.limits import fit_to_open_files
from search.serving.messages import (
    DRAIN_S,
    MAIN,
    SHADOW,
    ModelVersion,
    Recording,
    VersionReply,
    WorkerSettings,
)
from search.serving.metrics import Metrics
from search.serving.observing import Shadow
from search.serving.pages import drop
from search.serving.pages.guard import allowed_hosts
from search.serving.versions import ServedVersion, Versions
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from search.feedback.recorder import Recorder

KEEP_ALIVE_S = 75
"""Seconds after which an idle connection is closed."""


def check_task(settings: WorkerSettings, first: ServedVersion) -> None:
    """Check that the settings can be applied to this model.

    Raises:
        ConfigError: the model is not a classifier, but its answers should be recorded, or compared
            with those of a second model.
    """
    options = ["--record"] * (settings.record is not None) + ["--shadow"] * bool(
        settings.shadow_share
    )
    for option in options:
        first.model.task.require("feedback", option)


def open_recorder(
    record: Recording | None, name: str, first: ServedVersion, *, is_restart: bool = False
) -> "Recorder | None":
    """Open the recorder of answers; return None if nothing should be recorded.

    Args:
        record: the place and the settings; None to record nothing.
        name: the name of the model.
        first: the first version, whose classes are recorded.
        is_restart: start even if the place cannot be used, and retry (see `Recorder`).
    """
    if record is None:
        return None
    from search.feedback.recorder import Recorder, RecordingPolicy
    from search.feedback.records import RecordsInfo
    from search.journal.store import storage

    about = RecordsInfo(name, tuple(first.model.classes))
    keeping = RecordingPolicy(record.below, record.share, record.limit, record.corrections)
    return Recorder(storage(record.place), about, keeping, is_restart=is_restart)


def build_app(
    settings: WorkerSettings,
    versions: Versions,
    metrics: Metrics,
    recorder: "Recorder | None",
    shadow: Shadow | None = None,
) -> App:
    """Build the ASGI application, including the page on which people can drop images."""
    hosts = allowed_hosts(settings.host)
    page = drop.DropContext(
        settings.name,
        tuple(versions.current.model.classes),
        lambda: versions.current.version,
        recorder,
        hosts,
        is_open=hosts is not None or settings.open_corrections,
        corrects=bool(versions.current.image_classes),
    )
    return App(
        settings.name,
        versions,
        settings.limits,
        metrics,
        more_routes=drop.routes(page),
        shadow=shadow,
        recorder=recorder,
        hosts=hosts,
    )


class Worker:
    """Serves a model, and optionally compares a second model with it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._metrics = Metrics()
        self._shadow = (
            Shadow(settings.shadow_share, self._metrics) if settings.shadow_share else None
        )

    def run(self) -> int:
        """Load the first version, serve until SIGTERM, and return the exit code."""
        for model in _read_versions():
            if model.role == MAIN:
                break
        else:
            return 0
        try:
            first = self._load_version(model)
            check_task(self.settings, first)
            settings = self.settings
            recorder = open_recorder(
                settings.record, settings.name, first, is_restart=settings.is_restart
            )
        except (ConfigError, OSError) as error:
            _send_reply(VersionReply(model.version, MAIN, str(error)))
            return 0
        self.settings = replace(self.settings, limits=fit_to_open_files(self.settings.limits))
        self._versions = Versions(first)
        self._metrics.set_version(first.version, first.runtime.engine, is_used=True)
        server = self._build_server(recorder)
        threading.Thread(target=self._follow_versions, name="versions", daemon=True).start()
        # The objects that exist now are never freed. Without the freeze, each garbage collection
        # would scan them, which delays answers.
        gc.collect()
        gc.freeze()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises the signals again when it ends
        server.run(sockets=[socket.socket(fileno=self.settings.descriptor)])
        return 0

    def _build_server(self, recorder: "Recorder | None") -> uvicorn.Server:
        app = build_app(self.settings, self._versions, self._metrics, recorder, self._shadow)
        config = uvicorn.Config(
            app,
            http=protocol.protocol(self.settings.limits),
            loop="uvloop",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        return _WorkerServer(
            config, lambda: _send_reply(VersionReply(self._versions.current.version, MAIN))
        )

    def _load_version(self, model: ModelVersion) -> ServedVersion:
        return versions.load_version(
            Path(model.folder),
            self.settings.name,
            model.version,
            threads=self.settings.threads,
            delay_s=self.settings.delay_s,
        )

    def _follow_versions(self) -> None:
        """Load and use each version that the supervisor sends, until stdin ends."""
        for model in _read_versions():
            try:
                reply = self._load_and_swap(model)
            except Exception as error:  # noqa: BLE001 - the loop must continue
                reply = VersionReply(model.version, model.role, versions.describe_error(error))
            with suppress(OSError):
                _send_reply(reply)
        os.kill(os.getpid(), signal.SIGTERM)

    def _load_and_swap(self, model: ModelVersion) -> VersionReply:
        """Load a version while the old one stays in use, swap them, and build the reply."""
        try:
            new = self._load_version(model)
            if model.role == SHADOW:
                self._use_shadow(new)
            else:
                self._use(new)
        except ConfigError as error:
            if model.role == MAIN:
                self._versions.refused = (model.version, str(error))
            self._metrics.count_swap("refused")
            return VersionReply(model.version, model.role, str(error))
        return VersionReply(model.version, model.role)

    def _use(self, new: ServedVersion) -> None:
        old = self._versions.current
        self._versions.swap(new)
        self._metrics.count_swap("swapped")
        self._metrics.set_version(old.version, old.runtime.engine, is_used=False)
        self._metrics.set_version(new.version, new.runtime.engine, is_used=True)

    def _use_shadow(self, new: ServedVersion) -> None:
        if text := versions.mismatch(self._versions.current.model, new.model):
            raise ConfigError(text)
        if self._shadow is not None:
            self._shadow.served = new


class _WorkerServer(uvicorn.Server):
    """A uvicorn server that calls a function as soon as it listens."""

    def __init__(self, config: uvicorn.Config, on_listening: Any) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then call the function."""
        await super().startup(sockets)
        self._on_listening()


def _read_versions() -> Iterator[ModelVersion]:
    while line := sys.stdin.readline():
        yield ModelVersion(**json.loads(line))


def _send_reply(reply: VersionReply) -> None:
    sys.stdout.write(json.dumps(asdict(reply)) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> NoReturn:
    """Serve until the worker is done, then exit the process."""
    logging.basicConfig(level=logging.ERROR, format="error: %(message)s")
    (text,) = sys.argv[1:] if argv is None else argv
    code = Worker(WorkerSettings.from_text(text)).run()
    sys.stdout.flush()
    # `sys.exit` cannot be used: Python's own shutdown would fail while a thread reads stdin.
    os._exit(code)


if __name__ == "__main__":
    main()
