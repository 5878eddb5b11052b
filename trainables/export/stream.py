"""Many files through a model: decoded by threads while the model computes, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import ConfigError
from trainables.export.model import Model
from trainables.processors import processors

AHEAD = 2
"""The number of batches that may wait, decoded, for the model."""
LARGEST = 64
"""The most images in a batch: the model takes larger ones where images are small, but decoding and
computing overlap only where there are several.
"""


@dataclass(frozen=True)
class Answer:
    """A file, with what a model says of it."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    """As `Model.rows` has them; empty where the file could not be read."""
    error: str = ""
    """The reason why it could not be read; empty if it could."""


def answers(model: Model, files: Iterable[str], threads: int | None = None) -> Iterator[Answer]:
    """Yield what a model says of each file, in their order.

    `files` is read as it is needed, so that there may be any number of them. What cannot be read is
    answered with its error.

    Args:
        model: the model.
        files: paths.
        threads: how many decode at once (default: as many as there are processors).
    """
    source, waiting = iter(files), deque[tuple[str, Future[Any]]]()
    size = min(model.batch, LARGEST)
    pool = ThreadPoolExecutor(threads or processors())

    def decode_ahead() -> None:
        while len(waiting) < AHEAD * size and (file := next(source, None)) is not None:
            waiting.append((file, pool.submit(model.pixels, file)))

    try:
        decode_ahead()
        while waiting:
            count = min(size, len(waiting))
            decoded = [_decoded(*waiting.popleft()) for _ in range(count)]
            decode_ahead()  # by the threads, while the model computes
            yield from _answered(model, decoded)
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(file: str, made: "Future[Any]") -> tuple[str, Any, str]:
    """Return a file, its pixels, and why there are none."""
    try:
        return file, made.result(), ""
    except (ConfigError, OSError) as error:
        # The file's name, with which the reason may begin, is told beside it.
        return file, None, str(error).removeprefix(f"'{file}'").lstrip(": ").rstrip(".")


def _answered(model: Model, decoded: list[tuple[str, Any, str]]) -> Iterator[Answer]:
    rows = iter(model.rows([pixels for _, pixels, error in decoded if not error]))
    for file, _, error in decoded:
        yield Answer(file, error=error) if error else Answer(file, next(rows))
