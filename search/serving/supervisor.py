"""The processes of a server: those that answer, which share a socket, and those that watch models.

A new version goes to one of the answering processes first, and to the others if that uses it. One
that ends is started again with the version that was last used.
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
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from cluster.cli import BUG, REFUSED, USAGE, complain
from cluster.errors import Refused
from search.serving.messages import (
    DRAIN_S,
    FIGURES,
    MAIN,
    SHADOW,
    Came,
    Coming,
    Fetched,
    Question,
    Settings,
)
from trainables.errors import ConfigError, counted, printable

FAILURES = 3
"""At the start, the times in a row that a process may end before it has answered."""
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Seconds before something is tried again; the pause doubles with each failure in a row."""

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Plan:
    """The model that is to be served, with the settings and the number of its processes."""

    settings: Settings
    address: str
    """The address where it is served, for people."""
    workers: int
    source: Question | Path
    """The model; a folder is there already."""
    shadow: Question | None = None


@dataclass
class Slot:
    """The place of one answering process, which one after another may have."""

    process: Process | None = None
    asked: Coming | None = None
    """The version that it was told of."""
    reply: "asyncio.Future[Came] | None" = None
    """The reply on that version, once it comes."""
    is_told: bool = False
    """True if the process that runs was told of `asked`: only then is its end a reply."""
    is_ready: bool = False
    failures: int = 0
    """Processes in a row that have not answered yet, the one that is running among them."""

    @property
    def awaited(self) -> Coming | None:
        """The version whose reply is waited for."""
        return None if self.reply is None or self.reply.done() else self.asked

    def is_awaited(self, came: Came) -> bool:
        """Check whether this is the reply that is waited for."""
        version = self.awaited
        return version is not None and (came.role, came.version) == (version.role, version.version)

    def hear(self, came: Came) -> None:
        """Settle the wait for this version, if there is one."""
        if self.reply is not None and self.is_awaited(came):
            self.reply.set_result(came)


@dataclass
class Supervisor:
    """Starts processes, tells them of versions, and ends them."""

    plan: Plan
    folder: Path
    """Its own, for versions and figures."""
    listening: socket.socket
    """The socket that the processes share."""
    _slots: list[Slot] = field(init=False)
    _used: dict[str, Coming] = field(default_factory=dict)
    """The version that is used, by its role."""
    _wishes: dict[str, Coming] = field(default_factory=dict)
    """The newest version that came and is not looked at yet, by its role."""
    _is_serving: bool = False
    """True once all processes have answered: from then on a failure is tried again."""

    def __post_init__(self) -> None:
        self._slots = [Slot() for _ in range(self.plan.workers)]

    async def run(self) -> int:
        """Serve until a signal, and return the exit code."""
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._wished = asyncio.Event()
        self._watchers: list[Process] = []
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 128 + signal.SIGINT)):
            asyncio.get_running_loop().add_signal_handler(number, self._end, code)
        tasks = [asyncio.create_task(self._guarded(one)) for one in self._all()]
        code = await self._ended
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drain()
        return code

    def _all(self) -> list[Work]:
        found: list[Work] = [self._roll_out]
        if isinstance(source := self.plan.source, Path):
            self._wish(named(Fetched(str(source)), MAIN))
        else:
            found.append(partial(self._watch, source, MAIN))
        if self.plan.shadow is not None:
            found.append(partial(self._watch, self.plan.shadow, SHADOW))
        return found

    async def _guarded(self, work: Work) -> None:
        """Do a part of the work. An error of it ends the server at its start, and never later."""
        failures, clock = 0, asyncio.get_running_loop().time
        while True:
            began_s = clock()
            try:
                return await work()
            except Exception as error:  # noqa: BLE001 - no task's error may be lost
                if not self._is_serving:
                    self._end(_complaint(error))
                    return
                text = str(error) if isinstance(error, ConfigError | Refused) else repr(error)
                say(f"note: {text.rstrip('.')}; it is tried again")
            # What has worked for a while has not failed in a row.
            failures = 1 if clock() - began_s > LONGEST_PAUSE_S else failures + 1
            await self._pause(failures)
            if self._ended.done():
                return

    async def _pause(self, failures: int) -> None:
        """Wait before the next try, the longer the more failed in a row; a signal ends the wait."""
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(failures - 1, 10))
        await asyncio.wait([self._ended], timeout=pause_s)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)
            return
        for slot in self._slots:  # a second signal
            if slot.process is not None and slot.process.returncode is None:
                slot.process.kill()

    async def _watch(self, question: Question, role: str) -> None:
        """Hear of the versions of a model."""
        Path(question.into).mkdir(exist_ok=True)
        while True:
            process = await _started("search.serving.watch", question.text)
            self._watchers.append(process)
            assert process.stdout is not None
            async for line in process.stdout:
                self._wish(named(Fetched(**json.loads(line)), role))
            code = await process.wait()
            if code > 0 and role not in self._used:
                self._end(code)  # it has said why
            if code == 0 and not question.moves:
                return
            await asyncio.sleep(PAUSE_S)

    def _wish(self, coming: Coming) -> None:
        """Note a version as the next; one that nobody has looked at is not wanted any more."""
        if (passed := self._wishes.get(coming.role)) is not None:
            self._forget(passed)
        self._wishes[coming.role] = coming
        self._wished.set()

    async def _roll_out(self) -> None:
        """Let the processes use each version that comes; a second model waits for the first."""
        while True:
            await self._wished.wait()
            self._wished.clear()
            if MAIN in self._wishes:
                await self._take_wish(MAIN)
            if MAIN in self._used and SHADOW in self._wishes:
                await self._take_wish(SHADOW)

    async def _take_wish(self, role: str) -> None:
        """Take the version that came; if that fails it stays, unless a newer one has come."""
        coming = self._wishes.pop(role)
        try:
            await self._take(coming)
        except Exception:
            self._wishes.setdefault(role, coming)
            self._wished.set()
            raise

    async def _take(self, coming: Coming) -> None:
        """Let the processes use a version, if they do not."""
        before = self._used.get(coming.role)
        if before is not None and before.version == coming.version:
            self._forget(coming)
        elif before is None and coming.role == MAIN:
            await self._begin(coming)
        else:
            await self._change(coming)

    async def _begin(self, coming: Coming) -> None:
        """Start all processes with the first version."""
        self._used[MAIN] = coming
        self._keepers = [
            asyncio.create_task(self._guarded(partial(self._keep, one))) for one in self._slots
        ]
        while not all(slot.is_ready for slot in self._slots):
            await asyncio.sleep(0.01)
        self._is_serving = True
        plan = self.plan
        workers = f" by {counted(plan.workers, 'process', 'processes')}" * (plan.workers > 1)
        say(f"serving {plan.settings.name}, version {coming.version}, at {plan.address}{workers}")
        if (record := plan.settings.record) is not None:
            say(f"what it meets is kept in {record.place}")

    async def _change(self, coming: Coming) -> None:
        """Let one process use a version, then the others."""
        before, is_used = self._used.get(coming.role), False
        for slot in self._slots:
            came = await self._asked(slot, coming)
            if came.refused:
                stays = f"; version {before.version} stays" if before is not None else ""
                say(f"note: {_words(coming)} is not used: {came.refused.rstrip('.')}{stays}")
                if not is_used:
                    self._forget(coming)
                    return
            elif not is_used:
                self._used[coming.role], is_used = coming, True
        say(f"{_words(coming)} is in use now")
        if before is not None:
            self._forget(before)

    async def _asked(self, slot: Slot, coming: Coming) -> Came:
        """Return what becomes of a version in a process.

        One that is just starting was told of the version in use, so it is waited for. Where none
        can start with that any more, the next one starts with this version.
        """
        while not slot.is_ready and not (coming.role == MAIN and slot.failures > 1):
            await asyncio.sleep(0.01)
        slot.asked, slot.reply = coming, asyncio.get_running_loop().create_future()
        slot.is_told = slot.is_ready
        if slot.is_told:
            assert slot.process is not None
            assert slot.process.stdin is not None
            slot.process.stdin.write(coming.line)
        came = await slot.reply
        slot.asked = slot.reply = None
        return came

    async def _keep(self, slot: Slot) -> None:
        """Have a process answer, and start another when it ends."""
        while not self._ended.done():
            try:
                await self._answer(slot)
            finally:
                if (asked := slot.awaited) is not None and slot.is_told:
                    slot.hear(Came(asked.version, asked.role, "a process ended while it loaded it"))
            if slot.failures >= FAILURES and not self._is_serving:
                raise Refused(f"a process ended {FAILURES} times before it could answer.")
            if slot.failures:
                await self._pause(slot.failures)

    async def _answer(self, slot: Slot) -> None:
        """Start a process and hear what it says, until it ends."""
        settings = replace(self.plan.settings, is_restart=self._is_serving)
        slot.failures += 1
        slot.process = process = await _started(
            "search.serving.worker",
            settings.text,
            stdin=PIPE,
            pass_fds=[settings.descriptor],
            env={**os.environ, FIGURES: str(self.folder / "metrics")},
        )
        try:
            if self._ended.done():  # the signal came meanwhile, and did not find it
                process.terminate()
            await self._hear(slot, process)
        except ConfigError:  # it ends by itself
            raise
        except Exception:  # what it said is not understood
            with suppress(ProcessLookupError):
                process.terminate()
            raise
        finally:
            slot.is_ready = False
            code = await process.wait()
            mark_process_dead(process.pid, str(self.folder / "metrics"))  # type: ignore[no-untyped-call]
        if not self._ended.done():
            say(f"note: a process ended ({_ending(code)}); another takes its place")

    async def _hear(self, slot: Slot, process: Process) -> None:
        """Tell a process which versions are in use, and hear what it says until its end."""
        assert process.stdin is not None
        assert process.stdout is not None
        versions = dict(self._used)
        if (asked := slot.awaited) is not None and asked.role == MAIN:
            versions[MAIN], slot.is_told = asked, True
        for role in (MAIN, SHADOW):
            if role in versions:
                process.stdin.write(versions[role].line)
        async for line in process.stdout:
            came = Came(**json.loads(line))
            is_start = came.role == MAIN and not slot.is_ready
            if is_start and came.refused and not slot.is_awaited(came):
                name = self.plan.settings.name
                raise ConfigError(f"'{name}' cannot be served: {came.refused}")
            slot.hear(came)
            if is_start and not came.refused:
                slot.is_ready, slot.failures = True, 0
                if (asked := slot.awaited) is not None and not slot.is_told:
                    slot.is_told = True  # it could start with the version in use after all
                    process.stdin.write(asked.line)

    async def _drain(self) -> None:
        """Let the processes answer what has arrived, and end all."""
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
            await asyncio.wait(waiting, timeout=DRAIN_S + 5)
        for process in running:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*getattr(self, "_keepers", []), return_exceptions=True)

    def _forget(self, coming: Coming) -> None:
        """Remove the folder of a version, if it is one of ours."""
        for source in (self.plan.source, self.plan.shadow):
            if isinstance(source, Question):
                forget(coming, Path(source.into))


def forget(coming: Coming, into: Path) -> None:
    """Remove what was fetched into a folder for a version, if that is where it is."""
    path = Path(coming.folder)
    if path.is_relative_to(into):
        shutil.rmtree(into / path.relative_to(into).parts[0], ignore_errors=True)


async def _started(module: str, argument: str, **how: Any) -> Process:
    """Start one of our modules, apart from the terminal, whose Ctrl-C is ours to handle."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, argument, stdout=PIPE, start_new_session=True, **how
    )


def named(fetched: Fetched, role: str) -> Coming:
    """Return a version with a name: the registry's, or one that its content gives."""
    return Coming(fetched.version or fingerprint(Path(fetched.folder)), fetched.folder, role)


def fingerprint(folder: Path) -> str:
    """Return a name for what a folder holds: the beginning of its SHA-256."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            whole.update(path.name.encode() + digest.digest())
    return whole.hexdigest()[:12]


def _words(coming: Coming) -> str:
    second = " of the second model" if coming.role == SHADOW else ""
    return f"version {coming.version}{second}"


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def say(text: str) -> None:
    """Print a line; a server whose output nobody can read continues."""
    try:
        print(printable(text), flush=True)
    except BrokenPipeError:
        # What is still in the buffer would fail again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except OSError:  # such as a full disk; the line is printed with the next one that can be
        pass


def _complaint(error: Exception) -> int:
    """Print an error that ends the server, and return the exit code."""
    if not isinstance(error, ConfigError | Refused):
        error, code = RuntimeError(f"a mistake in the program: {error!r}"), BUG
    else:
        code = USAGE if isinstance(error, ConfigError) else REFUSED
    with suppress(OSError):
        complain(error, code)
    return code


def bound(host: str, port: int) -> socket.socket:
    """Return a socket at an address, which nobody can reach before a process listens.

    Raises:
        OSError: it is taken, or there is no such address.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    made.set_inheritable(True)
    return made


def serve(plan: Plan, folder: Path, listening: socket.socket) -> int:
    """Serve at a socket until a signal, and return the exit code; versions are in `folder`."""
    (folder / "metrics").mkdir()
    return asyncio.run(Supervisor(plan, folder, listening).run())
