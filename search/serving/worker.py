"""A process that answers requests at a socket, which others may share.

    python -m search.serving.worker SETTINGS

It is started by `supervisor`, which tells it on stdin what to serve, a `Coming` a line, and hears
on stdout what came of that, a `Came` a line. At the end of stdin, and at SIGTERM, it answers what
has arrived and ends.
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
from search.serving.limits import within_open_files
from search.serving.messages import DRAIN_S, MAIN, SHADOW, Came, Coming, Recording, Settings
from search.serving.metrics import Metrics
from search.serving.observing import Shadow
from search.serving.pages import drop
from search.serving.pages.guard import allowed_hosts
from search.serving.versions import Served, Versions
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from search.feedback.recorder import Recorder

KEEP_ALIVE_S = 75


def check_task(settings: Settings, first: Served) -> None:
    """Check that what the settings ask for can be done with this model.

    Raises:
        ConfigError: it is no classifier, and is to be recorded or compared.
    """
    asked = ["--record"] * (settings.record is not None) + ["--shadow"] * bool(
        settings.shadow_share
    )
    if asked and not first.is_classifier:
        raise ConfigError(
            f"{' and '.join(asked)} take classifiers alone, and this model is for "
            f"{first.model.task.title}. Leave {'them' if len(asked) > 1 else 'it'} out."
        )


def recorder_of(
    record: Recording | None, name: str, first: Served, *, is_restart: bool = False
) -> "Recorder | None":
    """Begin to keep what is met, if that is asked for; after a restart also where it is refused.

    Raises:
        ConfigError: the place holds the records of another model.
        OSError: it cannot be written.
    """
    if record is None:
        return None
    from search.feedback.recorder import Recorder, RecordingPolicy
    from search.feedback.records import RecordsInfo
    from search.journal.store import storage

    about = RecordsInfo(name, tuple(first.model.classes))
    keeping = RecordingPolicy(record.below, record.share, record.limit, record.corrections)
    return Recorder(storage(record.place), about, keeping, is_restart=is_restart)


def app_of(
    settings: Settings,
    versions: Versions,
    metrics: Metrics,
    recorder: "Recorder | None",
    shadow: Shadow | None = None,
) -> App:
    """Return the application with its page."""
    hosts = allowed_hosts(settings.host)
    page = drop.Context(
        settings.name,
        tuple(versions.current.model.classes),
        lambda: versions.current.version,
        recorder,
        hosts,
        is_open=hosts is not None or settings.open_corrections,
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
    """Serves one model, and a second one beside it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._metrics = Metrics()
        self._shadow = (
            Shadow(settings.shadow_share, self._metrics) if settings.shadow_share else None
        )

    def run(self) -> int:
        """Load the first version, serve until SIGTERM, and return the exit code."""
        for coming in _told():
            if coming.role == MAIN:
                break
        else:
            return 0
        try:
            first = self._ready(coming)
            check_task(self.settings, first)
            settings = self.settings
            recorder = recorder_of(
                settings.record, settings.name, first, is_restart=settings.is_restart
            )
        except (ConfigError, OSError) as error:
            _say(Came(coming.version, MAIN, str(error)))
            return 0
        self.settings = replace(self.settings, limits=within_open_files(self.settings.limits))
        self._versions = Versions(first)
        self._metrics.version(first.version, first.runtime.engine, is_used=True)
        server = self._made(recorder)
        threading.Thread(target=self._listen, name="versions", daemon=True).start()
        # What is there now stays; looking through it would hold answers up.
        gc.collect()
        gc.freeze()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises them again at its end
        server.run(sockets=[socket.socket(fileno=self.settings.descriptor)])
        return 0

    def _made(self, recorder: "Recorder | None") -> uvicorn.Server:
        app = app_of(self.settings, self._versions, self._metrics, recorder, self._shadow)
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
        return _Server(config, lambda: _say(Came(self._versions.current.version, MAIN)))

    def _ready(self, coming: Coming) -> Served:
        return versions.ready(
            Path(coming.folder),
            self.settings.name,
            coming.version,
            threads=self.settings.threads,
            delay_s=self.settings.delay_s,
        )

    def _listen(self) -> None:
        """Use the versions that come, until stdin ends."""
        for coming in _told():
            try:
                came = self._used(coming)
            except Exception as error:  # noqa: BLE001 - later versions have to be heard of
                came = Came(coming.version, coming.role, versions.reason(error))
            with suppress(OSError):
                _say(came)
        os.kill(os.getpid(), signal.SIGTERM)

    def _used(self, coming: Coming) -> Came:
        """Load a version beside the one in use, and let it take its place."""
        try:
            new = self._ready(coming)
            if coming.role == SHADOW:
                self._use_shadow(new)
            else:
                self._use(new)
        except ConfigError as error:
            if coming.role == MAIN:
                self._versions.refused = (coming.version, str(error))
            self._metrics.swapped("refused")
            return Came(coming.version, coming.role, str(error))
        return Came(coming.version, coming.role)

    def _use(self, new: Served) -> None:
        before = self._versions.current
        self._versions.swap(new)
        self._metrics.swapped("swapped")
        self._metrics.version(before.version, before.runtime.engine, is_used=False)
        self._metrics.version(new.version, new.runtime.engine, is_used=True)

    def _use_shadow(self, new: Served) -> None:
        if text := versions.why_not(self._versions.current.model, new.model):
            raise ConfigError(text)
        if self._shadow is not None:
            self._shadow.served = new


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Any) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._listening()


def _told() -> Iterator[Coming]:
    """Yield what the supervisor tells."""
    while line := sys.stdin.readline():
        yield Coming(**json.loads(line))


def _say(came: Came) -> None:
    sys.stdout.write(json.dumps(asdict(came)) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> NoReturn:
    """Serve, and end this process."""
    logging.basicConfig(level=logging.ERROR, format="error: %(message)s")
    (text,) = sys.argv[1:] if argv is None else argv
    code = Worker(Settings.of(text)).run()
    sys.stdout.flush()
    # A thread still reads stdin, which Python's own end does not bear.
    os._exit(code)


if __name__ == "__main__":
    main()
