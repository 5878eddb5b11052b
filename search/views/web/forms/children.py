"""Questions that take seconds, or torch, answered by a process apart from the server."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from cluster.errors import NotReady
from trainables.errors import ConfigError, printable

LIMIT_S = 300.0
"""The longest that an answer may take."""
MAX_BYTES = 32_000_000
"""The most bytes of an answer."""
NEWER = (
    "a page has asked something newer, and one question is answered at a time: load this page anew "
    "to ask again."
)


@dataclass(frozen=True)
class Told:
    """The output of a process that has answered."""

    code: int
    out: str
    err: str

    @property
    def notes(self) -> list[str]:
        """The lines on stderr, without the signs by which errors begin."""
        lines = [line.removeprefix("error: ").strip() for line in self.err.splitlines()]
        return [printable(line) for line in lines if line]

    def check(self) -> None:
        """Check that it has answered.

        Raises:
            ConfigError: it refused, and says why.
        """
        if self.code:
            last = self.notes[-1:] if "Traceback (most" in self.err else self.notes
            raise ConfigError("\n".join(last) or f"it ended with the code {self.code}.")


class Asker:
    """Asks one question at a time: a newer one ends the older, whose answer nobody waits for."""

    def __init__(self) -> None:
        self._running: Process | None = None
        self._latest = 0
        self._turn = asyncio.Lock()
        """Held while the older process is ended and the newer one starts."""

    @property
    def is_asking(self) -> bool:
        """True while a process is asked."""
        return self._running is not None

    async def ask(self, module: str, words: Sequence[str]) -> Told:
        """Return what a module of ours answers, called as a command.

        Raises:
            HTTPException: a newer question took the place of this one.
            NotReady: it took too long, or answered too much.
        """
        self._latest = number = self._latest + 1
        async with self._turn:
            await self._end_running()
            if number != self._latest:
                raise HTTPException(409, NEWER)
            self._running = process = await started(module, words)
        try:
            async with asyncio.timeout(LIMIT_S):
                assert process.stdout is not None
                assert process.stderr is not None
                out, err = await asyncio.gather(_all(process.stdout), _all(process.stderr))
                code = await process.wait()
        except TimeoutError:
            raise NotReady(f"there was no answer within {LIMIT_S:g} s.") from None
        finally:
            await end(process)
            if self._running is process:
                self._running = None
        if number != self._latest:
            raise HTTPException(409, NEWER)
        return Told(code, out, err)

    async def end(self) -> None:
        """End the process that is asked now, if there is one, and what is about to be asked."""
        self._latest += 1
        async with self._turn:
            await self._end_running()

    async def _end_running(self) -> None:
        process, self._running = self._running, None
        if process is not None:
            await end(process)


async def started(module: str, words: Sequence[str]) -> Process:
    """Return the process of a module of ours, called as a command, in a session of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *words),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )


async def end(process: Process) -> None:
    """Kill a process, with all that it has started, and wait until it is gone."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _all(stream: asyncio.StreamReader) -> str:
    """Return all text of a stream.

    Raises:
        NotReady: it is too much.
    """
    taken = bytearray()
    while piece := await stream.read(65_536):
        taken += piece
        if len(taken) > MAX_BYTES:
            raise NotReady("the answer is too large to be shown.")
    return taken.decode(errors="replace")
