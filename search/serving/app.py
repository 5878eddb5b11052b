"""The server as an ASGI application.

`App` answers `POST /predict`, `POST /invocations` and `POST /explain` itself, and passes all other
requests to Starlette.
"""

import asyncio
import json
import secrets
import threading
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
from search.serving.admission import Admission, DecodingPool, Ticket
from search.serving.answers import check_numbers, table, to_plain
from search.serving.batching import Batcher, ComputedAnswer
from search.serving.explaining import Explainer
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics
from search.serving.observing import ObserverQueue, Shadow
from search.serving.pages.guard import LOOPBACK, error_response, refusal
from search.serving.versions import Versions
from trainables.datasets.images import TooManyPixels, open_image
from trainables.errors import ConfigError, counted
from trainables.machine import processors

if TYPE_CHECKING:  # the import would add a fifth of a second to a server's start
    from search.feedback.recorder import Recorder

SMALL_BYTES, SMALL_PIXELS = 16_384, 128 * 128
"""Files up to this size in bytes, with images up to this number of pixels, are decoded in the event
loop, which takes less time than a handover to a thread.
"""
MEASURE_S = 1.0
"""Seconds between two updates of the metrics in `App.measure`."""
LARGE_BODY = 262_144
"""A body with more bytes than this is parsed in a thread."""

Pixels = NDArray[np.uint8]
Answers = list[ComputedAnswer]
Result = TypeVar("Result")


class ClientLeft(Exception):
    """The client disconnected before it received its answer."""


class App:
    """The ASGI application, which answers requests with the version in use."""

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
        """Prepare the application; its threads start with ASGI's lifespan.

        Args:
            name: the name of the model.
            versions: holds the version in use, which may change at any time.
            limits: the limits of requests.
            metrics: the metrics to update.
            observers: further observers, which receive each answer after it was sent.
            more_routes: further routes for Starlette.
            shadow: the observer that compares a second model with the version in use.
            recorder: the observer that records answers; it also stores corrections.
            hosts: the host names by which the server may be addressed; None allows any.
        """
        self.name, self.versions, self.limits, self.metrics = name, versions, limits, metrics
        self.shadow, self.recorder, self._hosts = shadow, recorder, hosts
        self._observers = [
            *observers,
            *(observer for observer in (recorder, shadow) if observer is not None),
        ]
        self._counted_lost = 0
        """Number of the recorder's lost answers that the metrics already include."""
        self._queues: list[ObserverQueue] = []
        self._id_prefix, self._id_numbers = secrets.token_hex(6), count()
        self._hot_paths: dict[str, Callable[[Scope, Receive, Ticket], Awaitable[str]]] = {
            "/predict": self._predict,
            "/invocations": self._invocations,
            "/explain": self._explain,
        }
        self._starlette = Starlette(
            routes=[*routes.routes(self), *more_routes],
            exception_handlers=routes.HANDLERS,
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._batcher = Batcher(lambda: self.versions.current, self.metrics.count_batch)
        self._explainer = Explainer(lambda: self._batcher.is_busy)
        self._decoding = DecodingPool(processors(), self.limits.pixels)
        self.admission = Admission(
            self.limits,
            self.metrics,
            lambda: self._batcher.seconds_per_image,
            self._decoding.wait_s,
        )
        self._threads = ThreadPoolExecutor(processors(), thread_name_prefix="decoding")
        measuring = asyncio.create_task(self._measure())
        self._queues = [ObserverQueue(observer, self.metrics) for observer in self._observers]
        yield
        measuring.cancel()
        self._explainer.close()
        self._batcher.close()
        self._decoding.close()
        self._threads.shutdown()
        for queue in self._queues:
            queue.close()

    async def _measure(self) -> None:
        """Update the metrics regularly.

        This is necessary because a request for the metrics may reach another process.
        """
        while True:
            self.measure()
            await asyncio.sleep(MEASURE_S)

    def measure(self) -> None:
        """Update the metrics of the queue and of the recorder."""
        self.admission.measure()
        if self.recorder is not None:
            self.metrics.recording.set(not self.recorder.problem)
            lost = self.recorder.counts.lost
            self.metrics.unrecorded.inc(lost - self._counted_lost)
            self._counted_lost = lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (the entry point that ASGI defines)."""
        reason = refusal(scope, self._hosts) if scope["type"] == "http" else ""
        if reason:
            await error_response(403, reason)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._starlette(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in self._hot_paths:
            await self._starlette(scope, receive, send)
            return
        began, ticket, status, headers = time.perf_counter(), Ticket(), 200, []
        try:
            text = await self._hot_paths[path](scope, receive, ticket)
        except ClientLeft:
            return
        except Refusal as raised:
            status, text = raised.status, protocol.error_text(raised.text)
            headers = protocol.refusal_headers(raised)
        except ConfigError as raised:  # an image cannot be decoded
            status = 413 if isinstance(raised, TooManyPixels) else 422
            text = protocol.error_text(str(raised))
        except Exception as raised:  # noqa: BLE001 - the batcher has logged it
            status, text = 500, protocol.error_text(f"the model failed ({type(raised).__name__})")
        finally:
            self.admission.release(ticket)
        if self.recorder is not None:
            self.recorder.remember(ticket.answers)  # before the client can send a correction
        await _send(send, status, text.encode(), headers)
        self.metrics.count_request(path, status, time.perf_counter() - began)
        if ticket.answers:
            for queue in self._queues:
                queue.put(ticket.answers)

    async def _predict(self, scope: Scope, receive: Receive, ticket: Ticket) -> str:
        began = time.perf_counter()
        top = _parse_top(scope["query_string"])
        kind, body = await self._read_body(scope, receive, ticket)
        raw_images = await self._run(
            len(body) > LARGE_BODY, inputs.read_images, kind, body, self.limits
        )
        self.admission.take_images(ticket, len(raw_images))
        answering = self._compute_answers(raw_images)
        is_long = len(raw_images) > 1 or len(body) > SMALL_BYTES
        images, answers = await (_run_while_connected(receive, answering) if is_long else answering)
        if self.versions.current.image_classes:
            check_numbers([answer.prediction for answer in answers])
        names = [f"{self._id_prefix}{next(self._id_numbers):x}" for _ in answers]
        self._note_answers(ticket, raw_images, images, answers, names)
        # Answers of other tasks, such as the PNG of a mask, take long to encode.
        has_classes = bool(self.versions.current.image_classes)
        predictions = await self._run(not has_classes, _encode_images, answers, names, top)
        took_ms = (time.perf_counter() - began) * 1000
        head = answers[0].served.encoder.head
        return (
            f'{head}{predictions}],"time_ms":{time.time_ns() // 1_000_000},'
            f'"took_ms":{took_ms:.2f}}}\n'
        )

    async def _compute_answers(
        self, raw_images: inputs.Contents | Pixels
    ) -> tuple[list[Pixels], Answers]:
        images = await self._decode_images(raw_images)
        return images, await self._batcher.answers(images)

    async def _invocations(self, scope: Scope, receive: Receive, ticket: Ticket) -> str:
        """Answer in the format of MLflow's scoring server."""
        kind, body = await self._read_body(scope, receive, ticket)
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, f"the Content-Type must be application/json (got {kind[:80]!r})")
        raw_images = await self._run(len(body) > LARGE_BODY, inputs.read_tensors, body, self.limits)
        self.admission.take_images(ticket, len(raw_images))
        model = self.versions.current.model
        is_long = len(raw_images) > 1 or len(body) > LARGE_BODY
        images = await self._run(is_long, model.accepted, raw_images)
        if not self.versions.current.image_classes:
            rows = await self._run(True, model.rows, images)
            return json.dumps({"predictions": to_plain(rows)}) + "\n"
        answers = await self._batcher.answers(images)
        check_numbers([answer.prediction for answer in answers])
        names = [f"{self._id_prefix}{next(self._id_numbers):x}" for _ in answers]
        self._note_answers(ticket, [b""] * len(images), images, answers, names)
        rows = table(answers, model.classes)
        return json.dumps({"predictions": rows}) + "\n"

    async def _explain(self, scope: Scope, receive: Receive, ticket: Ticket) -> str:
        """Explain the answer on an image by a map of the pixels that support the class."""
        if not self.versions.current.image_classes:
            raise Refusal(400, "this model does not classify images, so it cannot explain answers")
        kind, body = await self._read_body(scope, receive, ticket)
        raw_images = await self._run(
            len(body) > LARGE_BODY, inputs.read_images, kind, body, self.limits
        )
        if len(raw_images) != 1:
            raise Refusal(413, f"send one image to explain its answer (got {len(raw_images)})")
        self.admission.take_images(ticket, 1)
        self._explainer.admit()
        is_cancelled = threading.Event()
        try:
            (pixels,) = await self._decode_images(raw_images)
            work = asyncio.get_running_loop().run_in_executor(
                self._explainer.pool,
                self._explainer.explain,
                self.versions.current,
                pixels,
                is_cancelled,
            )
            return await _run_while_connected(receive, _wait_for(work))
        finally:
            is_cancelled.set()
            self._explainer.release()

    def _note_answers(
        self,
        ticket: Ticket,
        raw_images: Iterable[Any],
        images: Sequence[Pixels],
        answers: Answers,
        names: Sequence[str],
    ) -> None:
        """Store a classifier's answers in the ticket, for the observers.

        Args:
            ticket: the ticket of the request.
            raw_images: the contents of the files, or arrays.
            images: the decoded pixels of each image.
            answers: the answer on each image.
            names: the unique id of each answer.
        """
        if not self._queues or not self.versions.current.image_classes:
            return
        now = time.time_ns() // 1_000_000
        ticket.answers = [
            ServedAnswer(
                name,
                content if isinstance(content, bytes) else b"",
                pixels,
                answer.served.version,
                np.asarray(answer.prediction, dtype=np.float32),
                now,
                answer.judgement.reason if answer.judgement is not None else "",
            )
            for name, content, pixels, answer in zip(
                names, raw_images, images, answers, strict=True
            )
        ]

    async def _decode_images(self, raw_images: inputs.Contents | Pixels) -> list[Pixels]:
        """Convert files or arrays to pixels in the form that the model accepts."""
        model = self.versions.current.model
        if not isinstance(raw_images, list):
            is_long = (
                len(raw_images) > 1 or raw_images.nbytes > LARGE_BODY
            )  # the model resizes each image
            return await self._run(is_long, model.accepted, raw_images)
        if len(raw_images) == 1:
            return [await self._decode_file(raw_images[0])]
        pixel_counts = await self._run(True, self._count_pixels, raw_images)
        self.admission.check_pixels(pixel_counts)
        places = asyncio.Semaphore(self._decoding.threads)

        async def decode(number: int, content: bytes, pixels: int) -> Pixels:
            try:
                async with places:
                    return await self._decoding.decode(pixels, partial(self._decode, content))
            except ConfigError as error:
                raise _name_image(error, number, len(raw_images)) from error

        pairs = enumerate(zip(raw_images, pixel_counts, strict=True), 1)
        tasks = [asyncio.ensure_future(decode(number, *pair)) for number, pair in pairs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # after an error, the other images are not needed
                task.cancel()

    async def _decode_file(self, content: bytes) -> Pixels:
        """Decode a file, in the event loop if the image is small, otherwise in a thread."""
        if len(content) > SMALL_BYTES:
            (pixels,) = await self._run(True, self._count_pixels, [content])
        else:
            with open_image(content, self.limits.pixels) as image:
                pixels = image.width * image.height
                if pixels <= SMALL_PIXELS:
                    return self.versions.current.model.decoded(image)
        self.admission.check_pixels([pixels])
        return await self._decoding.decode(pixels, partial(self._decode, content))

    def _count_pixels(self, contents: inputs.Contents) -> list[int]:
        """Read the number of pixels of each file from its header, without decoding it.

        Raises:
            ConfigError: a file is not an image, or has too many pixels.
        """
        pixel_counts = []
        for number, content in enumerate(contents, 1):
            try:
                with open_image(content, self.limits.pixels) as image:
                    pixel_counts.append(image.width * image.height)
            except ConfigError as error:
                raise _name_image(error, number, len(contents)) from error
        return pixel_counts

    def _decode(self, content: bytes) -> Pixels:
        with open_image(content, self.limits.pixels) as image:
            return self.versions.current.model.decoded(image)

    async def _run(self, is_long: bool, call: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread if it `is_long`, otherwise directly."""
        if not is_long:
            return call(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _read_body(self, scope: Scope, receive: Receive, ticket: Ticket) -> tuple[str, bytes]:
        """Read a request's Content-Type and its body.

        Raises:
            Refusal: the body is too large, too slow or compressed.
            ClientLeft: the client has disconnected.
        """
        kind, length = _parse_headers(scope["headers"])
        if length > self.limits.body_bytes:
            raise self._body_refusal()
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self.limits.receive_s):
                while (message := await receive())["type"] == "http.request":
                    pieces.append(self._reserve_piece(message, ticket))
                    if not message.get("more_body"):
                        return kind, pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except TimeoutError as error:
            raise Refusal(
                408, f"the body of the request did not arrive within {self.limits.receive_s:g} s"
            ) from error
        raise ClientLeft

    def _reserve_piece(self, message: Message, ticket: Ticket) -> bytes:
        """Reserve memory for a piece of a body that has arrived, and return the piece.

        Memory is not reserved according to the Content-Length: a client could announce a large body
        and never send it.

        Raises:
            Refusal: the body is too large, or all requests together are too large.
        """
        piece: bytes = message.get("body", b"")
        if ticket.size_bytes + len(piece) > self.limits.body_bytes:
            raise self._body_refusal()
        self.admission.take_bytes(ticket, len(piece))
        return piece

    def _body_refusal(self) -> Refusal:
        return Refusal(413, f"the body is too large (limit {self.limits.body_bytes:,} bytes)")


async def _wait_for(work: Awaitable[Result]) -> Result:
    return await work


async def _run_while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Await a coroutine, and cancel it if the client disconnects first.

    Raises:
        ClientLeft: the client has disconnected.
    """

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(wait_for_disconnect())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _parse_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int]:
    """Parse the Content-Type and the Content-Length of a request; 0 if the length is missing.

    Raises:
        Refusal: the body is compressed.
    """
    kind, length = "", 0
    for name, value in headers:
        if name == b"content-type":
            kind = value.decode("latin-1")
        elif name == b"content-length":
            length = int(value)  # httptools has validated it
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Refusal(
                415,
                "compressed bodies are not supported: send the body uncompressed, without "
                "Content-Encoding",
            )
    return kind, length


def _encode_images(answers: Answers, names: Sequence[str], top: int | None) -> str:
    """Encode answers on images as the elements of a JSON array (`Encoder.encode_image`)."""
    return ",".join(
        answer.served.encoder.encode_image(answer.prediction, name, top, answer.judgement)
        for answer, name in zip(answers, names, strict=True)
    )


def _parse_top(query: bytes) -> int | None:
    """Parse the query string, which sets the number of classes in the answer; None for all.

    Raises:
        Refusal: the query string is not `top=NUMBER`.
    """
    if not query:
        return None
    options = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if len(options) != 1 or options[0][0] != "top":
        text = query.decode("latin-1")[:80]
        raise Refusal(400, f"the only allowed query parameter is ?top=NUMBER (got {'?' + text!r})")
    text = options[0][1]
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 6 and int(text)):
        raise Refusal(400, f"?top= must be a whole number from 1 to 999999 (got {text[:80]!r})")
    return int(text)


def _name_image(error: BaseException, number: int, total: int) -> BaseException:
    """Add the number of the image to a ConfigError; return any other error unchanged."""
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
