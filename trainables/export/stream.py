"""Predictions for many files, which threads decode while the model computes, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import ConfigError
from trainables.export.model import Model
from trainables.processors import processors

AHEAD = 2
"""The number of decoded batches that may wait for the model."""
LARGEST = 64
"""The most images in a batch. Models take larger ones if images are small, but decoding and
computing overlap only if there are several batches.
"""


@dataclass(frozen=True)
class FileAnswer:
    """A file and the model's prediction for it."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    """A row of `Model.rows`; empty if the file could not be read."""
    error: str = ""
    """The reason why it could not be read; empty if it could."""


def answers(model: Model, files: Iterable[str], threads: int | None = None) -> Iterator[FileAnswer]:
    """Yield the model's prediction for each file, in their order.

    `files` is consumed lazily, so that there may be any number of them. A file that cannot be read
    yields its error.

    Args:
        model: the model.
        files: paths.
        threads: the number of threads that decode (default: the number of processors).
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
            decoded = [_fetch_pixels(*waiting.popleft()) for _ in range(count)]
            decode_ahead()  # by the threads, while the model computes
            yield from _answer_batch(model, decoded)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_pixels(file: str, pixels: "Future[Any]") -> tuple[str, Any, str]:
    """Return a file, its pixels, and the reason if it has none."""
    try:
        return file, pixels.result(), ""
    except (ConfigError, OSError) as error:
        # The reason may begin with the file's name, which is shown beside it.
        return file, None, str(error).removeprefix(f"'{file}'").lstrip(": ").rstrip(".")


def _answer_batch(model: Model, decoded: list[tuple[str, Any, str]]) -> Iterator[FileAnswer]:
    rows = iter(model.rows([pixels for _, pixels, error in decoded if not error]))
    for file, _, error in decoded:
        yield FileAnswer(file, error=error) if error else FileAnswer(file, next(rows))
