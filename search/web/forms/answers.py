"""Predictions of registered models. Each model runs in a child process, which ends when idle."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cluster.errors import NotReady
from search.web.forms.children import end
from trainables.errors import ConfigError
from trainables.values import Json

MODULE = "search.web.forms.answering"
MAX_MODELS = 2
"""Maximum number of models that are loaded at the same time. To load another one, the process of
the idle model that was least recently used is ended.
"""
IDLE_S = 300.0
"""Seconds after which an idle process is ended."""
START_S, ANSWER_S = 120.0, 60.0
"""Maximum seconds for loading a model, and for a prediction."""
MAX_LINE = 4_000_000
"""Maximum size of a reply in bytes."""
POLL_S = 0.05
"""Seconds between two checks whether another model may be loaded."""
Room = Callable[[], Awaitable[None]]
"""A function that waits until another model may be loaded."""


@dataclass
class _Model:
    """A child process that serves one model, one image at a time."""

    uri: str
    tracking: str
    process: Process | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    idle: asyncio.Task[None] | None = None
    has_room: bool = False
    """True while the model counts towards `MAX_MODELS`: from just before its process starts until
    the process has ended.
    """
    waiting_images: int = 0
    """Number of images that wait for a prediction."""

    @property
    def is_waiting(self) -> bool:
        """True while the model is loaded and idle."""
        return self.process is not None and not self.turn.locked()

    async def ask(self, content: bytes, room: Room) -> Json:
        async with self.turn:
            if self.idle is not None:
                self.idle.cancel()
            try:
                if self.process is None or self.process.returncode is not None:
                    await self.end()
                    await room()
                    self.has_room = True
                    await self._begin()
                reply = await self._request(content)
            except BaseException:
                await self.end()
                raise
            self.idle = asyncio.create_task(self._idle())
            return reply

    async def _idle(self) -> None:
        await asyncio.sleep(IDLE_S)
        async with self.turn:
            self.idle = None  # this task, which `end` would cancel
            await self.end()

    async def _begin(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", MODULE, self.uri, self.tracking),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=MAX_LINE,
            start_new_session=True,
        )
        reply = await self._line(START_S)
        if "error" in reply:
            raise ConfigError(reply["error"])

    async def _request(self, content: bytes) -> Json:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % len(content) + content)
        return await self._line(ANSWER_S)

    async def _line(self, limit_s: float) -> Json:
        """Read and parse the next line that the process prints.

        Raises:
            NotReady: no line arrived within `limit_s`, or the process has ended.
        """
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(limit_s):
                line = await self.process.stdout.readline()
            reply: Json = json.loads(line)
        except TimeoutError:
            raise NotReady(
                f"the model did not answer within {limit_s:g} s. Try again later."
            ) from None
        except ValueError:
            raise NotReady("the model's process ended before it answered. Try again.") from None
        return reply

    async def end(self) -> None:
        if self.idle is not None:
            self.idle.cancel()
        process, self.process = self.process, None
        if process is not None:
            await end(process)
        self.has_room = False


class Models:
    """The models of a registry that were recently used, with their processes."""

    def __init__(self, tracking: str) -> None:
        """Use the registry at a tracking URI; no model is loaded yet."""
        self._tracking = tracking
        self._models: dict[str, _Model] = {}
        """The models by their URI; the most recently used one is the last."""
        self._is_over = False

    async def ask(self, uri: str, content: bytes) -> Json:
        """Predict an image with a model, which is loaded if necessary.

        Args:
            uri: the URI of the model's version, such as `models:/flowers/3`.
            content: the bytes of an image file.

        Returns:
            The reply of `search.serve`, or a dict with an `error`.

        Raises:
            ConfigError: there is no such model, or it cannot be loaded.
            NotReady: the model does not respond, or other models are in use for too long.
        """
        model = self._models.pop(uri, None) or _Model(uri, self._tracking)
        self._models = {
            address: loaded
            for address, loaded in self._models.items()
            if loaded.waiting_images or loaded.has_room
        }
        self._models[uri] = model
        model.waiting_images += 1
        try:
            return await model.ask(content, self._room)
        finally:
            model.waiting_images -= 1

    async def _room(self) -> None:
        """Wait until another model may be loaded; end the process of an idle one if necessary.

        Raises:
            NotReady: this takes longer than `START_S`, or the server shuts down.
        """
        until = time.monotonic() + START_S
        while sum(model.has_room for model in self._models.values()) >= MAX_MODELS:
            waiting = [model for model in self._models.values() if model.is_waiting]
            if waiting:
                async with waiting[0].turn:
                    await waiting[0].end()
            elif time.monotonic() < until:
                await asyncio.sleep(POLL_S)
            else:
                raise NotReady(
                    "the server is busy with predictions of other models. Try again later."
                )
        if self._is_over:
            raise NotReady("the server is shutting down.")

    @property
    def loaded(self) -> list[str]:
        """The URIs of the models that are loaded now."""
        return [model.uri for model in self._models.values() if model.process is not None]

    async def end(self) -> None:
        """End all processes, because the server shuts down; no model can be loaded afterwards."""
        self._is_over = True
        for model in list(self._models.values()):
            await model.end()
