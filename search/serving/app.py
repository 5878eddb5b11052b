"""The server as an ASGI application.

`POST /predict` and `POST /invocations` are answered here, all else by Starlette.
"""

import asyncio
import json
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from search.feedback.observer import Observer, ServedAnswer
from search.serving import inputs, protocol, routes
from search.serving.admission import Admission, Decoding, Ticket
from search.serving.answers import check_numbers, plain, table
from search.serving.batching import Batcher
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics
from search.serving.observing import Observing, Shadow
from search.serving.pages.guard import LOOPBACK, error, refusal
from search.serving.versions import Served, Versions
from trainables.datasets.images import TooManyPixels, open_image
from trainables.errors import ConfigError, counted
from trainables.processors import processors

if TYPE_CHECKING:  # it would take a fifth of a second of a server's start
    from search.feedback.recorder import Recorder

SMALL_BYTES, SMALL_PIXELS = 16_384, 128 * 128
"""The bytes of a file and the pixels of an image up to which it is decoded sooner than a thread
could be asked to.
"""
MEASURE_S = 1.0
"""Seconds between two notes of how much waits."""
LARGE_BODY = 262_144
"""Bytes of a body that a thread takes apart."""

Pixels = NDArray[np.uint8]
Answers = list[tuple[Any, Served]]
Made = TypeVar("Made")


class Gone(Exception):
    """The client has left."""


class App:
    """Answers requests with the version that is in use."""

    def __init__(
        self,
        name: str,
        versions: Versions,
        limits: Limits,
        metrics: Metrics,
        *,
        observers: Iterable[Observer] = (),
        more_routes: Sequence[BaseRoute] = (),
        shadow: Shadow | None = None,
        recorder: "Recorder | None" = None,
        hosts: Collection[str] | None = LOOPBACK,
    ) -> None:
        """Prepare to answer; it begins with ASGI's lifespan.

        Args:
            name: what the model is called.
            versions: which version answers.
            limits: what a request may ask for.
            metrics: what is told of all this.
            observers: hear of each answer after it was sent.
            more_routes: more that Starlette is to answer.
            shadow: asks a second model; it is an observer too.
            recorder: keeps what is answered, as an observer, and takes corrections.
            hosts: the names by which the server may be called; None allows any.
        """
        self.name, self.versions, self.limits, self.metrics = name, versions, limits, metrics
        self.shadow, self.recorder, self._hosts = shadow, recorder, hosts
        self._observers = [*observers, *(one for one in (recorder, shadow) if one is not None)]
        self._lost = 0
        """The answers of which the metrics know that the recorder has lost them."""
        self._watching: list[Observing] = []
        self._prefix, self._number = secrets.token_hex(6), count()
        self._hot: dict[str, Callable[[Scope, Receive, Ticket], Awaitable[str]]] = {
            "/predict": self._predict,
            "/invocations": self._invocations,
        }
        self._others = Starlette(
            routes=[*routes.routes(self), *more_routes],
            exception_handlers=routes.HANDLERS,
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._batcher = Batcher(lambda: self.versions.current, self.metrics.batch)
        self._decoding = Decoding(processors(), self.limits.pixels)
        self.admission = Admission(
            self.limits,
            self.metrics,
            lambda: self._batcher.seconds_per_image,
            self._decoding.wait_s,
        )
        self._threads = ThreadPoolExecutor(processors(), thread_name_prefix="decoding")
        measuring = asyncio.create_task(self._measure())
        self._watching = [Observing(one, self.metrics) for one in self._observers]
        yield
        measuring.cancel()
        self._batcher.close()
        self._decoding.close()
        self._threads.shutdown()
        for one in self._watching:
            one.close()

    async def _measure(self) -> None:
        """Measure often what is reserved: another process may be asked for the figures."""
        while True:
            self.measure()
            await asyncio.sleep(MEASURE_S)

    def measure(self) -> None:
        """Set the metrics of what is reserved, and of the recorder."""
        self.admission.measure()
        if self.recorder is not None:
            self.metrics.recording.set(not self.recorder.problem)
            lost = self.recorder.counts.lost
            self.metrics.unrecorded.inc(lost - self._lost)
            self._lost = lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        refused = refusal(scope, self._hosts) if scope["type"] == "http" else ""
        if refused:
            await error(403, refused)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._others(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in self._hot:
            await self._others(scope, receive, send)
            return
        began, ticket, status, headers = time.perf_counter(), Ticket(), 200, []
        try:
            text = await self._hot[path](scope, receive, ticket)
        except Gone:
            return
        except Refusal as raised:
            status, text = raised.status, protocol.error_text(raised.text)
            headers = protocol.headers_of(raised)
        except ConfigError as raised:  # of the images
            status = 413 if isinstance(raised, TooManyPixels) else 422
            text = protocol.error_text(str(raised))
        except Exception as raised:  # noqa: BLE001 - the batcher has logged it
            status, text = 500, protocol.error_text(f"the model failed ({type(raised).__name__})")
        finally:
            self.admission.release(ticket)
        if self.recorder is not None:
            # Before the client learns the id by which it may correct the answer.
            self.recorder.remember(ticket.answered)
        await _send(send, status, text.encode(), headers)
        self.metrics.request(path, status, time.perf_counter() - began)
        if ticket.answered:
            for one in self._watching:
                one.tell(ticket.answered)

    async def _predict(self, scope: Scope, receive: Receive, ticket: Ticket) -> str:
        began = time.perf_counter()
        top = _top(scope["query_string"])
        kind, body = await self._body(scope, receive, ticket)
        given = await self._in_thread(len(body) > LARGE_BODY, inputs.read, kind, body, self.limits)
        self.admission.take_images(ticket, len(given))
        answering = self._answers(given)
        is_long = len(given) > 1 or len(body) > SMALL_BYTES
        images, answers = await (_while_heard(receive, answering) if is_long else answering)
        if self.versions.current.is_classifier:
            check_numbers([found for found, _ in answers])
        names = [f"{self._prefix}{next(self._number):x}" for _ in answers]
        self._keep(ticket, given, images, answers, names)
        told = ",".join(
            served.encoder.image(found, name, top)
            for (found, served), name in zip(answers, names, strict=True)
        )
        took_ms = (time.perf_counter() - began) * 1000
        head = answers[0][1].encoder.head
        return f'{head}{told}],"time_ms":{time.time_ns() // 1_000_000},"took_ms":{took_ms:.2f}}}\n'

    async def _answers(self, given: inputs.Contents | Pixels) -> tuple[list[Pixels], Answers]:
        """Return the pixels of images, and the model's answers on them."""
        images = await self._pixels(given)
        return images, await self._batcher.answers(images)

    async def _invocations(self, scope: Scope, receive: Receive, ticket: Ticket) -> str:
        """Answer as MLflow's scoring server does."""
        kind, body = await self._body(scope, receive, ticket)
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "the Content-Type must be application/json")
        given = await self._in_thread(len(body) > LARGE_BODY, inputs.tensors, body, self.limits)
        self.admission.take_images(ticket, len(given))
        model = self.versions.current.model
        is_long = len(given) > 1 or len(body) > LARGE_BODY
        images = await self._in_thread(is_long, model.accepted, given)
        if not self.versions.current.is_classifier:
            rows = await self._in_thread(True, model.rows, images)
            return json.dumps({"predictions": plain(rows)}) + "\n"
        answers = await self._batcher.answers(images)
        check_numbers([found for found, _ in answers])
        names = [f"{self._prefix}{next(self._number):x}" for _ in answers]
        self._keep(ticket, [b""] * len(images), images, answers, names)
        rows = table([found for found, _ in answers], model.classes)
        return json.dumps({"predictions": rows}) + "\n"

    def _keep(
        self,
        ticket: Ticket,
        given: Iterable[Any],
        images: Sequence[Pixels],
        answers: Sequence[tuple[Any, Served]],
        names: Sequence[str],
    ) -> None:
        """Note what the observers are to hear of."""
        if not self._watching or not self.versions.current.is_classifier:
            return
        now = time.time_ns() // 1_000_000
        ticket.answered = [
            ServedAnswer(
                name,
                content if isinstance(content, bytes) else b"",
                pixels,
                served.version,
                np.asarray(found, dtype=np.float32),
                now,
            )
            for name, content, pixels, (found, served) in zip(
                names, given, images, answers, strict=True
            )
        ]

    async def _pixels(self, given: inputs.Contents | Pixels) -> list[Pixels]:
        """Return the pixels of images, in the form that the model takes."""
        model = self.versions.current.model
        if not isinstance(given, list):
            is_long = len(given) > 1 or given.nbytes > LARGE_BODY  # each of them is resized
            return await self._in_thread(is_long, model.accepted, given)
        if len(given) == 1:
            return [await self._decoded(given[0])]
        sizes = await self._in_thread(True, self._sizes, given)
        self.admission.check_pixels(sizes)
        places = asyncio.Semaphore(self._decoding.threads)

        async def made(number: int, content: bytes, pixels: int) -> Pixels:
            try:
                async with places:
                    return await self._decoding.decode(pixels, partial(self._decode, content))
            except ConfigError as error:
                raise _of_image(error, number, len(given)) from error

        pairs = enumerate(zip(given, sizes, strict=True), 1)
        tasks = [asyncio.ensure_future(made(number, *pair)) for number, pair in pairs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # after an error nobody waits for the others
                task.cancel()

    async def _decoded(self, content: bytes) -> Pixels:
        """Return the pixels of a file's content."""
        if len(content) > SMALL_BYTES:
            (pixels,) = await self._in_thread(True, self._sizes, [content])
        else:
            with open_image(content, self.limits.pixels) as image:
                pixels = image.width * image.height
                if pixels <= SMALL_PIXELS:
                    return self.versions.current.model.decoded(image)
        self.admission.check_pixels([pixels])
        return await self._decoding.decode(pixels, partial(self._decode, content))

    def _sizes(self, contents: inputs.Contents) -> list[int]:
        """Return the pixels of each of several files, by their headers.

        Raises:
            ConfigError: one is no image, or has too many.
        """
        found = []
        for number, content in enumerate(contents, 1):
            try:
                with open_image(content, self.limits.pixels) as image:
                    found.append(image.width * image.height)
            except ConfigError as error:
                raise _of_image(error, number, len(contents)) from error
        return found

    def _decode(self, content: bytes) -> Pixels:
        with open_image(content, self.limits.pixels) as image:
            return self.versions.current.model.decoded(image)

    async def _in_thread(self, is_wanted: bool, call: Callable[..., Made], *arguments: Any) -> Made:
        """Call at once, or by a thread that decodes."""
        if not is_wanted:
            return call(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _body(self, scope: Scope, receive: Receive, ticket: Ticket) -> tuple[str, bytes]:
        """Return a request's Content-Type and its body.

        Raises:
            Refusal: the body is too large, too slow or compressed.
            Gone: the client has left.
        """
        kind, length = _described(scope["headers"])
        if length > self.limits.body_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self.limits.receive_s):
                while (message := await receive())["type"] == "http.request":
                    pieces.append(self._piece(message, ticket))
                    if not message.get("more_body"):
                        return kind, pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except TimeoutError as error:
            raise Refusal(
                408, f"the body did not arrive within {self.limits.receive_s:g} s"
            ) from error
        raise Gone

    def _piece(self, message: Message, ticket: Ticket) -> bytes:
        """Return a piece of a body, for which room is reserved: what is only announced takes none.

        Raises:
            Refusal: the body is too large, or all requests together are.
        """
        piece: bytes = message.get("body", b"")
        if ticket.size + len(piece) > self.limits.body_bytes:
            raise self._too_large()
        self.admission.take_bytes(ticket, len(piece))
        return piece

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is too large (limit {self.limits.body_bytes:,} bytes)")


async def _while_heard(receive: Receive, work: Coroutine[Any, Any, Made]) -> Made:
    """Return the result of some work, which is cancelled if the client leaves before.

    Raises:
        Gone: the client has left.
        Exception: as the work.
    """

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _described(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int]:
    """Return a body's type and its length; 0 where that is not told."""
    kind, length = "", 0
    for name, value in headers:
        if name == b"content-type":
            kind = value.decode("latin-1")
        elif name == b"content-length":
            length = int(value)  # httptools has checked it
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Refusal(415, "a compressed body is not read: leave Content-Encoding out")
    return kind, length


def _top(query: bytes) -> int | None:
    """Return the number of classes that are to be told; None for all.

    Raises:
        Refusal: the address asks for something else.
    """
    if not query:
        return None
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if len(given) != 1 or given[0][0] != "top":
        raise Refusal(400, "the address may have ?top=NUMBER and nothing else")
    text = given[0][1]
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 6 and int(text)):
        raise Refusal(400, "?top= needs a whole number above 0")
    return int(text)


def _of_image(error: BaseException, number: int, total: int) -> BaseException:
    """Return an error that says which of several images it is about."""
    if not isinstance(error, ConfigError):
        return error
    return type(error)(f"image {number} of {counted(total, 'image')}: {error}")


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    size = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*protocol.JSON_HEADERS, (b"content-length", size), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
