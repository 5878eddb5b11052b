"""Run the processes of a server: workers, which share a socket, and processes that watch models.

A new version is sent to one worker first, and to the other workers as soon as the first one uses
it. If a worker exits, it is replaced by a new one, which loads the version in use.
"""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from cluster.cli import complain
from cluster.errors import Refused
from cluster.exit_codes import ExitCode
from search.serving.messages import (
    DRAIN_S,
    MAIN,
    METRICS_FOLDER_VARIABLE,
    SHADOW,
    FetchedModel,
    ModelVersion,
    VersionReply,
    WatchedModel,
    WorkerSettings,
)
from trainables.errors import ConfigError, counted, printable
from trainables.progress import step

FAILURES = 3
"""During the start, the server exits after this number of consecutive failures of a worker."""
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Before the first retry, the server waits for `PAUSE_S` seconds. With each consecutive failure,
the wait doubles, up to `LONGEST_PAUSE_S`.
"""

Work = Callable[[], Coroutine[Any, Any, None]]
"""A task of the supervisor, which can be restarted after an error."""


@dataclass(frozen=True)
class ServingPlan:
    """The model to serve, its settings, and the number of workers."""

    settings: WorkerSettings
    address: str
    """The address at which the model is served, for messages."""
    workers: int
    source: WatchedModel | Path
    """The model to fetch, or the folder of a model."""
    shadow: WatchedModel | None = None
    """The second model, which is compared with the first; None without one."""


@dataclass
class Slot:
    """One of the server's workers. When its process exits, another process takes its place."""

    process: Process | None = None
    candidate: ModelVersion | None = None
    """The version that the worker should use next; None after the worker has replied to it."""
    reply: "asyncio.Future[VersionReply] | None" = None
    """The future reply to the candidate; None without a candidate."""
    is_sent: bool = False
    """True if the running process has received the candidate. If the process then exits without a
    reply, the candidate counts as refused.
    """
    is_ready: bool = False
    """True if the process answers requests."""
    failures: int = 0
    """Number of consecutive processes that did not become ready. The running process is included
    until it is ready.
    """

    @property
    def unanswered(self) -> ModelVersion | None:
        """The candidate as long as there is no reply to it; otherwise None."""
        return None if self.reply is None or self.reply.done() else self.candidate

    def is_reply(self, reply: VersionReply) -> bool:
        """Check whether this is the reply to the candidate."""
        model = self.unanswered
        return model is not None and (reply.role, reply.version) == (model.role, model.version)

    def settle(self, reply: VersionReply) -> None:
        """Complete the future `reply`, if this is the reply to the candidate."""
        if self.reply is not None and self.is_reply(reply):
            self.reply.set_result(reply)


@dataclass
class Supervisor:
    """Starts processes, sends them versions, and stops them."""

    plan: ServingPlan
    folder: Path
    """The supervisor's own folder, for versions and metrics."""
    listening: socket.socket
    """The socket that the processes share."""
    _slots: list[Slot] = field(init=False)
    _accepted: dict[str, ModelVersion] = field(default_factory=dict)
    """Maps each role to the version in use."""
    _pending: dict[str, ModelVersion] = field(default_factory=dict)
    """Maps each role to the queued version, which no worker has received yet."""
    _is_serving: bool = False
    """True once all workers are ready: from then on, errors lead to retries, never to an exit."""

    def __post_init__(self) -> None:
        self._slots = [Slot() for _ in range(self.plan.workers)]

    async def run(self) -> int:
        """Serve until a signal arrives, and return the exit code."""
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._has_offer = asyncio.Event()
        self._starting = ExitStack()
        self._starting.enter_context(step("loading the model"))
        self._watchers: list[Process] = []
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, ExitCode.INTERRUPTED)):
            asyncio.get_running_loop().add_signal_handler(number, self._end, code)
        tasks = [asyncio.create_task(self._retry(work)) for work in self._works()]
        with self._starting:
            code = await self._ended
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drain()
        return code

    def _works(self) -> list[Work]:
        works: list[Work] = [self._roll_out]
        if isinstance(source := self.plan.source, Path):
            self._offer(name_version(FetchedModel(str(source)), MAIN))
        else:
            works.append(partial(self._watch, source, MAIN))
        if self.plan.shadow is not None:
            works.append(partial(self._watch, self.plan.shadow, SHADOW))
        return works

    async def _retry(self, work: Work) -> None:
        """Run a task. An error ends the server during its start; later, the task is retried."""
        failures, clock = 0, asyncio.get_running_loop().time
        while True:
            began_s = clock()
            try:
                return await work()
            except Exception as error:  # noqa: BLE001 - any error is reported
                if not self._is_serving:
                    self._end(_report_error(error))
                    return
                text = str(error) if isinstance(error, ConfigError | Refused) else repr(error)
                report(f"note: {text.rstrip('.')}; trying again")
            # After a task has run for a while, its next failure is not consecutive.
            failures = 1 if clock() - began_s > LONGEST_PAUSE_S else failures + 1
            await self._pause(failures)
            if self._ended.done():
                return

    async def _pause(self, failures: int) -> None:
        """Wait before a retry. The time doubles with each failure; a signal ends the wait."""
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(failures - 1, 10))
        await asyncio.wait([self._ended], timeout=pause_s)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)
            return
        for slot in self._slots:  # a second signal has arrived
            if slot.process is not None and slot.process.returncode is None:
                slot.process.kill()

    async def _watch(self, source: WatchedModel, role: str) -> None:
        """Keep a watching process running, and queue each version that it fetches."""
        Path(source.into).mkdir(exist_ok=True)
        while True:
            process = await _start_process("search.serving.watch", source.text)
            self._watchers.append(process)
            assert process.stdout is not None
            async for line in process.stdout:
                self._offer(name_version(FetchedModel(**json.loads(line)), role))
            code = await process.wait()
            if code > 0 and role not in self._accepted:
                self._end(code)  # the process has printed the reason
            if code == 0 and not source.moves:
                return
            await asyncio.sleep(PAUSE_S)

    def _offer(self, model: ModelVersion) -> None:
        """Queue a version; it replaces a queued one of the same role."""
        if (outdated := self._pending.get(model.role)) is not None:
            self._remove_folder(outdated)
        self._pending[model.role] = model
        self._has_offer.set()

    async def _roll_out(self) -> None:
        """Roll out each queued version; a second model waits until the first model is in use."""
        while True:
            await self._has_offer.wait()
            self._has_offer.clear()
            if MAIN in self._pending:
                await self._use_pending(MAIN)
            if MAIN in self._accepted and SHADOW in self._pending:
                await self._use_pending(SHADOW)

    async def _use_pending(self, role: str) -> None:
        """Roll out the queued version.

        After an error the version is queued again, unless a newer version is queued by then.
        """
        model = self._pending.pop(role)
        try:
            await self._use(model)
        except Exception:
            self._pending.setdefault(role, model)
            self._has_offer.set()
            raise

    async def _use(self, model: ModelVersion) -> None:
        """Roll out a version, unless it is already in use."""
        old = self._accepted.get(model.role)
        if old is not None and old.version == model.version:
            self._remove_folder(model)
        elif old is None and model.role == MAIN:
            await self._begin(model)
        else:
            await self._change(model)

    async def _begin(self, model: ModelVersion) -> None:
        """Start all workers with the first version."""
        self._accepted[MAIN] = model
        self._keepers = [
            asyncio.create_task(self._retry(partial(self._keep_running, slot)))
            for slot in self._slots
        ]
        while not all(slot.is_ready for slot in self._slots):
            await asyncio.sleep(0.01)
        self._is_serving = True
        self._starting.close()
        plan = self.plan
        workers = f" by {counted(plan.workers, 'process', 'processes')}" * (plan.workers > 1)
        report(f"serving {plan.settings.name}, version {model.version}, at {plan.address}{workers}")
        if (record := plan.settings.record) is not None:
            report(f"images and answers are recorded in {record.place}")

    async def _change(self, model: ModelVersion) -> None:
        """Replace a version by a new one, first in one worker and then in the others.

        If the first worker refuses the new version, the old one stays in use.
        """
        old, is_used = self._accepted.get(model.role), False
        for slot in self._slots:
            reply = await self._ask(slot, model)
            if reply.refused:
                stays = f"; version {old.version} stays in use" if old is not None else ""
                report(f"note: {_describe(model)} is not used: {reply.refused.rstrip('.')}{stays}")
                if not is_used:
                    self._remove_folder(model)
                    return
            elif not is_used:
                self._accepted[model.role], is_used = model, True
        report(f"{_describe(model)} is in use now")
        if old is not None:
            self._remove_folder(old)

    async def _ask(self, slot: Slot, model: ModelVersion) -> VersionReply:
        """Send a version to a worker, and wait for its reply.

        A worker that is starting loads the version in use first, so this method waits until the
        worker is ready. If processes of the worker repeatedly fail to start with the version in
        use, the next process starts with `model` instead.
        """
        while not slot.is_ready and not (model.role == MAIN and slot.failures > 1):
            await asyncio.sleep(0.01)
        slot.candidate, slot.reply = model, asyncio.get_running_loop().create_future()
        slot.is_sent = slot.is_ready
        if slot.is_sent:
            assert slot.process is not None
            assert slot.process.stdin is not None
            slot.process.stdin.write(model.line)
        reply = await slot.reply
        slot.candidate = slot.reply = None
        return reply

    async def _keep_running(self, slot: Slot) -> None:
        """Keep a worker running: whenever its process exits, start another one."""
        while not self._ended.done():
            try:
                await self._run_process(slot)
            finally:
                if (model := slot.unanswered) is not None and slot.is_sent:
                    slot.settle(
                        VersionReply(
                            model.version,
                            model.role,
                            "a process ended while it was loading the model",
                        )
                    )
            if slot.failures >= FAILURES and not self._is_serving:
                raise Refused(
                    f"the server did not start: a worker process exited {FAILURES} times in a "
                    "row before it was ready. See the lines above for the reason."
                )
            if slot.failures:
                await self._pause(slot.failures)

    async def _run_process(self, slot: Slot) -> None:
        """Start the process of a worker, and read its replies until it exits."""
        settings = replace(self.plan.settings, is_restart=self._is_serving)
        slot.failures += 1
        slot.process = process = await _start_process(
            "search.serving.worker",
            settings.text,
            stdin=PIPE,
            pass_fds=[settings.descriptor],
            env={**os.environ, METRICS_FOLDER_VARIABLE: str(self.folder / "metrics")},
        )
        try:
            if self._ended.done():  # the signal arrived before the process was in its slot
                process.terminate()
            await self._read_replies(slot, process)
        except ConfigError:  # the worker has refused its first version, and exits by itself
            raise
        except Exception:  # the process has printed a line that is not a valid reply
            with suppress(ProcessLookupError):
                process.terminate()
            raise
        finally:
            slot.is_ready = False
            code = await process.wait()
            mark_process_dead(process.pid, str(self.folder / "metrics"))  # type: ignore[no-untyped-call]
        if not self._ended.done():
            report(f"note: a process ended ({_describe_exit(code)}); another one replaces it")

    async def _read_replies(self, slot: Slot, process: Process) -> None:
        """Send the versions in use to a worker, and read its replies until it exits."""
        assert process.stdin is not None
        assert process.stdout is not None
        versions = dict(self._accepted)
        if (model := slot.unanswered) is not None and model.role == MAIN:
            versions[MAIN], slot.is_sent = model, True
        for role in (MAIN, SHADOW):
            if role in versions:
                process.stdin.write(versions[role].line)
        async for line in process.stdout:
            reply = VersionReply(**json.loads(line))
            is_start = reply.role == MAIN and not slot.is_ready
            if is_start and reply.refused and not slot.is_reply(reply):
                name = self.plan.settings.name
                raise ConfigError(f"'{name}' cannot be served: {reply.refused}")
            slot.settle(reply)
            if is_start and not reply.refused:
                slot.is_ready, slot.failures = True, 0
                if (model := slot.unanswered) is not None and not slot.is_sent:
                    slot.is_sent = True  # the worker could start with the version in use after all
                    process.stdin.write(model.line)

    async def _drain(self) -> None:
        """Let the workers finish the requests in progress, and stop all processes."""
        self.listening.close()
        for watcher in self._watchers:
            if watcher.returncode is None:
                watcher.kill()
        running = [
            slot.process
            for slot in self._slots
            if slot.process is not None and slot.process.returncode is None
        ]
        for process in running:
            process.terminate()
        waiting = [asyncio.create_task(process.wait()) for process in running]
        if waiting:
            # Workers exit by themselves within DRAIN_S, so only those that hang are killed.
            await asyncio.wait(waiting, timeout=DRAIN_S + 5)
        for process in running:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*getattr(self, "_keepers", []), return_exceptions=True)

    def _remove_folder(self, model: ModelVersion) -> None:
        """Remove the folder of a version, if the version was fetched by this server."""
        for source in (self.plan.source, self.plan.shadow):
            if isinstance(source, WatchedModel):
                remove_fetched(model, Path(source.into))


def remove_fetched(model: ModelVersion, into: Path) -> None:
    """Remove the folder of a version that was fetched into a subfolder of `into`.

    A version in another folder is not removed.
    """
    path = Path(model.folder)
    if path.is_relative_to(into):
        shutil.rmtree(into / path.relative_to(into).parts[0], ignore_errors=True)


async def _start_process(module: str, argument: str, **options: Any) -> Process:
    """Start a module as a process in a new session, so that Ctrl-C reaches only the supervisor."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, argument, stdout=PIPE, start_new_session=True, **options
    )


def name_version(fetched: FetchedModel, role: str) -> ModelVersion:
    """Name a fetched version by its number in the registry or, without one, by its fingerprint."""
    return ModelVersion(fetched.version or fingerprint(Path(fetched.folder)), fetched.folder, role)


def fingerprint(folder: Path) -> str:
    """Compute a hash of the names and contents of the files in a folder: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                part = hashlib.file_digest(file, "sha256")
            digest.update(path.name.encode() + part.digest())
    return digest.hexdigest()[:12]


def _describe(model: ModelVersion) -> str:
    second = " of the second model" if model.role == SHADOW else ""
    return f"version {model.version}{second}"


def _describe_exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def report(text: str) -> None:
    """Print a line; the server continues even if its output cannot be written."""
    try:
        print(printable(text), flush=True)
    except BrokenPipeError:
        # Otherwise Python would fail at its exit, when it flushes the rest of the buffer.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except OSError:  # such as a full disk; the line stays in the buffer until the next print
        pass


def _report_error(error: Exception) -> int:
    """Print an error that ends the server, and determine the exit code."""
    if not isinstance(error, ConfigError | Refused):
        error, code = RuntimeError(f"a bug in this program: {error!r}"), ExitCode.BUG
    else:
        code = ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.REFUSED
    with suppress(OSError):
        complain(error, code)
    return code


def bind_socket(host: str, port: int) -> socket.socket:
    """Bind a socket to an address; it refuses connections until a worker listens.

    Raises:
        OSError: the address is in use, or does not exist.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(True)
    return listening


def serve(plan: ServingPlan, folder: Path, listening: socket.socket) -> int:
    """Serve at a socket until a signal arrives, and return the exit code.

    `folder` has to exist; it is used for the fetched versions and the shared metrics.
    """
    (folder / "metrics").mkdir()
    return asyncio.run(Supervisor(plan, folder, listening).run())
