"""Child processes for commands that are slow or need torch, while a page waits for their output."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.exceptions import HTTPException

from cluster.errors import NotReady
from search.process.guard import OUTCOME_VARIABLE
from search.values.message import Message, message_from_json
from trainables.errors import ConfigError, printable

LIMIT_S = 300.0
"""Seconds after which a command is killed."""
MAX_BYTES = 32_000_000
"""Maximum size in bytes of an output that a page accepts."""
NEWER = (
    "a newer request has replaced this one, because only one is answered at a time. Reload this "
    "page to ask again."
)


NO_MESSAGE = Message()


@dataclass(frozen=True)
class ProcessOutput:
    """The exit code and the output of a finished process."""

    code: int
    out: str
    err: str
    message: Message = NO_MESSAGE
    """The error message that the process has written to a file; empty without one."""

    @property
    def notes(self) -> list[str]:
        """The lines on stderr, without the prefix `error: `."""
        lines = [line.removeprefix("error: ").strip() for line in self.err.splitlines()]
        return [printable(line) for line in lines if line]

    def check(self) -> None:
        """Check that the exit code is 0.

        Raises:
            ConfigError: the process failed. The error contains the message of the process or,
                without one, the text that the process wrote to stderr.
        """
        if self.code and self.message:
            raise ConfigError(self.message)
        if self.code:
            last = self.notes[-1:] if "Traceback (most" in self.err else self.notes
            raise ConfigError("\n".join(last) or f"it ended with exit code {self.code}.")


class Asker:
    """Runs one command at a time: a new command replaces a running one, which is killed."""

    def __init__(self) -> None:
        self._running: Process | None = None
        self._latest = 0
        self._turn = asyncio.Lock()
        """The lock under which a running process is killed and the next one starts."""

    @property
    def is_asking(self) -> bool:
        """True while a process runs."""
        return self._running is not None

    async def ask(self, module: str, words: Sequence[str]) -> ProcessOutput:
        """Run a module of this project as a command, and return its output.

        Raises:
            HTTPException: a newer command has replaced this one.
            NotReady: the command took longer than `LIMIT_S`, or printed more than `MAX_BYTES`.
        """
        self._latest = number = self._latest + 1
        with TemporaryDirectory() as folder:
            return await self._output_of(module, words, number, Path(folder, "outcome.json"))

    async def _output_of(
        self, module: str, words: Sequence[str], number: int, outcome: Path
    ) -> ProcessOutput:
        """Run a command, and return its output.

        Args:
            module: the module to run.
            words: the arguments of the command.
            number: the command's number; a command with a higher number replaces it.
            outcome: the file to which the command writes an error message.
        """
        async with self._turn:
            await self._end_running()
            if number != self._latest:
                raise HTTPException(409, NEWER)
            self._running = process = await start_process(module, words, outcome)
        try:
            async with asyncio.timeout(LIMIT_S):
                assert process.stdout is not None
                assert process.stderr is not None
                out, err = await asyncio.gather(
                    _read_all(process.stdout), _read_all(process.stderr)
                )
                code = await process.wait()
        except TimeoutError:
            raise NotReady(
                f"the check (python -m {module}) took more than {LIMIT_S:g} s and was stopped. "
                "Run the command in a terminal."
            ) from None
        finally:
            await end(process)
            if self._running is process:
                self._running = None
        if number != self._latest:
            raise HTTPException(409, NEWER)
        return ProcessOutput(code, out, err, _message_in(outcome))

    async def end(self) -> None:
        """Kill the running command, if there is one, and cancel one that is about to start."""
        self._latest += 1
        async with self._turn:
            await self._end_running()

    async def _end_running(self) -> None:
        process, self._running = self._running, None
        if process is not None:
            await end(process)


def _message_in(outcome: Path) -> Message:
    try:
        return message_from_json(json.loads(outcome.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return NO_MESSAGE


async def start_process(module: str, words: Sequence[str], outcome: Path | None = None) -> Process:
    """Start a module of this project as a command, in a process session of its own.

    Args:
        module: the module.
        words: the arguments of the command.
        outcome: the file to which the command writes an error message; None for no file.
    """
    variables = {} if outcome is None else {OUTCOME_VARIABLE: str(outcome)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *words),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        env={**os.environ, **variables},
    )


async def end(process: Process) -> None:
    """Kill a process and its children, and wait until the process has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _read_all(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end, as text.

    Raises:
        NotReady: the stream has more than `MAX_BYTES`.
    """
    content = bytearray()
    while piece := await stream.read(65_536):
        content += piece
        if len(content) > MAX_BYTES:
            raise NotReady(
                f"the output of the command is larger than {MAX_BYTES:,} bytes, so it cannot be "
                "shown. Run the command in a terminal."
            )
    return content.decode(errors="replace")
