"""Which version each process is told of, with processes that are played."""

import asyncio
import errno
import io
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from search.serving import supervisor
from search.serving.messages import (
    MAIN,
    SHADOW,
    ModelVersion,
    VersionReply,
    WatchedModel,
    WorkerSettings,
)
from search.serving.supervisor import ServingPlan, Supervisor

Work = Callable[["Server"], Awaitable[None]]


class Process:
    """A process that says what it is told to say."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None
        self.told = list[ModelVersion]()
        self.stdin, self.stdout = self, asyncio.StreamReader()
        self.ended = asyncio.Event()

    def write(self, line: bytes) -> None:
        """Hear a line of the supervisor's."""
        self.told.append(ModelVersion(**json.loads(line)))

    def says(self, version: str, role: str = MAIN, refused: str = "") -> None:
        self.stdout.feed_data(
            json.dumps(asdict(VersionReply(version, role, refused))).encode() + b"\n"
        )

    def terminate(self) -> None:
        self.stdout.feed_eof()
        self.ended.set()

    kill = terminate

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    @property
    def last(self) -> str:
        return self.told[-1].version if self.told else ""


class Server:
    """A supervisor and its processes, by when they were started."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.processes = folder, list[Process]()
        self.lines = list[str]()
        """What is said; the first is that it serves."""
        self.settings = list[WorkerSettings]()
        """Those that the processes were started with."""
        question = WatchedModel("m", str(folder / "main"), "", None, None, None, "m", True, 1.0)
        Path(question.into).mkdir()
        listening = socket.socket()
        plan = ServingPlan(
            WorkerSettings("m", "", listening.fileno(), 1, 0.1), "", workers, question
        )
        self.supervisor = Supervisor(plan, folder, listening)

    async def started(self, *words: Any, **__: Any) -> Process:
        self.settings.append(WorkerSettings.from_text(words[1]))
        self.processes.append(Process(len(self.processes)))
        return self.processes[-1]

    def wish(self, version: str, role: str = MAIN) -> Path:
        """Have a version come; return its folder."""
        folder = self.folder / "main" / f"{version}-{len(list(self.folder.rglob('*')))}"
        folder.mkdir()
        self.supervisor._offer(ModelVersion(version, str(folder), role))
        return folder


async def until(condition: Callable[[], bool]) -> None:
    """Let the supervisor work until something holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def serving(server: Server, version: str) -> Process:
    """Have the one process serve a version, and return it."""
    server.wish(version)
    await until(lambda: len(server.processes) == 1)
    (process,) = server.processes
    process.says(version)
    await until(lambda: bool(server.lines))
    return process


def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, work: Work) -> None:
    """Do some work with a supervisor that is running."""
    monkeypatch.setattr(supervisor, "PAUSE_S", 0)

    async def main() -> None:
        server = Server(tmp_path, workers)
        monkeypatch.setattr(supervisor, "_start_process", server.started)
        monkeypatch.setattr(supervisor, "report", server.lines.append)
        monkeypatch.setattr(supervisor, "mark_process_dead", lambda *_: None)
        monkeypatch.setattr(Supervisor, "_watch", lambda *_: asyncio.sleep(0))
        running = asyncio.create_task(server.supervisor.run())
        await until(lambda: hasattr(server.supervisor, "_watchers"))
        try:
            await work(server)
        finally:
            server.supervisor._end(0)
            await running

    asyncio.run(main())


def test_a_process_that_starts_is_told_of_a_new_version_once_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        old = server.wish("3")
        await until(lambda: len(server.processes) == 1)
        server.processes[0].says("3")
        await until(lambda: bool(server.lines))
        server.processes[0].terminate()
        await until(lambda: len(server.processes) == 2 and server.processes[1].last == "3")
        server.wish("4")
        await until(lambda: not server.supervisor._pending)
        assert server.supervisor._accepted[MAIN].version == "3"
        assert old.is_dir()
        server.processes[1].says("3")
        await until(lambda: server.processes[1].last == "4")
        server.processes[1].says("4")
        await until(lambda: not old.is_dir())
        assert server.supervisor._accepted[MAIN].version == "4"

    supervised(tmp_path, monkeypatch, 1, work)


def test_an_alias_that_comes_back_while_a_version_loads_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        process = await serving(server, "3")
        server.wish("4")
        await until(lambda: process.last == "4")
        passed, again = server.wish("5"), server.wish("3")
        process.says("4")
        await until(lambda: process.last == "3")
        process.says("3")
        await until(lambda: server.supervisor._accepted[MAIN].version == "3")
        assert [one.version for one in process.told] == ["3", "4", "3"]
        assert (passed.is_dir(), again.is_dir()) == (False, True)

    supervised(tmp_path, monkeypatch, 1, work)


def test_what_came_of_the_second_model_says_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        process = await serving(server, "3")
        server.wish("4")
        await until(lambda: process.last == "4")
        process.says("4", SHADOW)
        process.says("4", MAIN, "its classes differ")
        await until(lambda: server.supervisor._slots[0].candidate is None)
        assert server.supervisor._accepted[MAIN].version == "3"

    supervised(tmp_path, monkeypatch, 1, work)


def test_a_process_that_starts_as_the_signal_comes_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        came, started = asyncio.Event(), server.started

        async def slowly(*_: Any, **__: Any) -> Process:
            came.set()
            await server.supervisor._ended
            for _number in range(20):  # the drain has looked for processes by then
                await asyncio.sleep(0)
            return await started("", server.supervisor.plan.settings.text)

        monkeypatch.setattr(supervisor, "_start_process", slowly)
        server.wish("3")
        await came.wait()
        server.supervisor._end(0)
        await until(lambda: bool(server.processes) and server.processes[0].ended.is_set())

    supervised(tmp_path, monkeypatch, 1, work)


def test_what_fails_at_a_restart_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal, a process that cannot be started and words of a library end no server."""

    async def work(server: Server) -> None:
        first = await serving(server, "3")
        first.terminate()
        await until(lambda: len(server.processes) == 2)
        server.processes[1].says("3", refused="'met' cannot be written")
        server.processes[1].terminate()  # as it does by itself
        await until(lambda: len(server.processes) == 3)
        server.processes[2].stdout.feed_data(b"a library greets\n")
        started, failures = server.started, iter([OSError("out of memory"), OSError("too many")])

        async def refuse(*words: Any, **how: Any) -> Process:
            for error in failures:
                raise error
            return await started(*words, **how)

        monkeypatch.setattr(supervisor, "_start_process", refuse)
        await until(lambda: len(server.processes) == 4)
        for _ in range(2 * supervisor.FAILURES):  # they end before they have answered
            last, count = server.processes[-1], len(server.processes)
            last.terminate()
            await until(lambda before=count: len(server.processes) > before)  # type: ignore[misc]
        server.processes[-1].says("3")
        await until(lambda: server.supervisor._slots[0].is_ready)
        assert [one.is_restart for one in server.settings] == [False] + [True] * 9
        text = "\n".join(server.lines)
        for words in ("'met' cannot be written", "JSONDecodeError", "out of memory", "too many"):
            assert words in text
        assert not server.supervisor._ended.done()

    supervised(tmp_path, monkeypatch, 1, work)


@pytest.mark.parametrize("is_first_well", [True, False])
def test_where_none_can_start_with_the_version_in_use_the_next_version_is_started(
    is_first_well: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        first = await serving(server, "3")
        first.terminate()
        for count in (2, 3):
            await until(lambda count=count: len(server.processes) == count)  # type: ignore[misc]
            server.processes[-1].says("3", refused="its folder is gone")
            server.processes[-1].terminate()  # as it does by itself
        slot = server.supervisor._slots[0]
        for version in ("4", "5"):
            server.wish(version)
            await until(lambda: slot.unanswered is not None and not slot.is_sent)
            server.processes[-1].terminate()
            await until(lambda version=version: server.processes[-1].last == version)  # type: ignore[misc]
            if version == "4" and not is_first_well:
                server.processes[-1].says("4", refused="its classes differ")
                server.processes[-1].terminate()
                await until(lambda: server.processes[-1].last == "3")
                server.processes[-1].terminate()
                continue
            server.processes[-1].says(version)
            await until(lambda: slot.is_ready)
            break
        await until(lambda: server.supervisor._accepted[MAIN].version == version)
        assert version == ("4" if is_first_well else "5")
        assert ("its classes differ" in "\n".join(server.lines)) is not is_first_well

    supervised(tmp_path, monkeypatch, 1, work)


def test_one_that_can_start_with_the_version_in_use_after_all_is_told_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        first = await serving(server, "3")
        first.terminate()
        await until(lambda: len(server.processes) == 2)
        server.processes[1].terminate()
        await until(lambda: len(server.processes) == 3 and server.processes[2].last == "3")
        server.wish("4")
        await until(lambda: server.supervisor._slots[0].unanswered is not None)
        server.processes[2].says("3")
        await until(lambda: server.processes[2].last == "4")
        server.processes[2].says("4")
        await until(lambda: server.supervisor._accepted[MAIN].version == "4")

    supervised(tmp_path, monkeypatch, 1, work)


def test_a_version_whose_taking_failed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(server: Server) -> None:
        process = await serving(server, "3")
        take, failures = server.supervisor._ask, iter([OSError("out of memory")])

        async def fail(*args: Any) -> VersionReply:
            for error in failures:
                raise error
            return await take(*args)

        monkeypatch.setattr(server.supervisor, "_ask", fail)
        server.wish("4")
        await until(lambda: process.last == "4")
        process.says("4")
        await until(lambda: server.supervisor._accepted[MAIN].version == "4")
        assert any("out of memory" in line for line in server.lines)

    supervised(tmp_path, monkeypatch, 1, work)


def test_what_fails_at_the_start_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(server: Server) -> None:
        server.wish("3")
        await until(lambda: len(server.processes) == 1)
        server.processes[0].says("3", refused="'met' cannot be written")
        server.processes[0].terminate()
        await until(server.supervisor._ended.done)
        assert server.supervisor._ended.result() == 2

    supervised(tmp_path, monkeypatch, 1, work)
    assert "'m' cannot be served: 'met' cannot be written" in capsys.readouterr().err


class Unreadable(io.StringIO):
    """An output that cannot be written."""

    def __init__(self, error: OSError, descriptor: int) -> None:
        super().__init__()
        self._error, self._descriptor = error, descriptor

    def write(self, text: str) -> int:
        raise self._error

    def fileno(self) -> int:
        return self._descriptor


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left")])
def test_a_line_that_nobody_can_read_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdout", Unreadable(error, writing))
    supervisor.report("note: a process ended")
    os.write(writing, b"x")
    os.close(writing)
    found = os.read(reading, 1)  # of a pipe that is broken nothing is left
    os.close(reading)
    assert found == (b"" if isinstance(error, BrokenPipeError) else b"x")
