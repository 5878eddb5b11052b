"""Predictions for many files in bounded memory: threads decode while the model computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import ConfigError
from trainables.export.model import Model
from trainables.machine import processors

AHEAD = 2
"""The maximum number of decoded batches that wait for the model."""
LARGEST = 64
"""The maximum batch size.

A model may accept larger batches of small images. But decoding and computing overlap only if there
are several batches.
"""


@dataclass(frozen=True)
class FileAnswer:
    """The model's prediction for a file, or the reason why the file could not be read."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    """A row of `Model.rows`; empty if the file could not be read."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The contents of files that belong to the answer (`Answer.files`)."""
    record: Any = None
    """The values for files about all images (`Answer.record`)."""
    error: str = ""
    """The reason why the file could not be read; empty if it was read."""


def answers(model: Model, files: Iterable[str], threads: int | None = None) -> Iterator[FileAnswer]:
    """Yield the model's prediction for each file, in the order of `files`.

    `files` is read lazily, so that it may have any length. For a file that cannot be read, the
    reason is yielded instead (`FileAnswer.error`).

    Args:
        model: the model.
        files: the paths of image files.
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
            decode_ahead()  # the threads decode while the model computes
            yield from _answer_batch(model, decoded)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_pixels(file: str, pixels: "Future[Any]") -> tuple[str, Any, str]:
    """Wait for the pixels of a file.

    Returns:
        The file, its pixels (None if it cannot be read), and the reason (empty if it can).
    """
    try:
        return file, pixels.result(), ""
    except (ConfigError, OSError) as error:
        # The reason may begin with the file's name, which is printed anyway.
        return file, None, str(error).removeprefix(f"'{file}'").lstrip(": ").rstrip(".")


def _answer_batch(model: Model, decoded: list[tuple[str, Any, str]]) -> Iterator[FileAnswer]:
    answers = iter(model.answers([pixels for _, pixels, error in decoded if not error]))
    for file, _, error in decoded:
        if error:
            yield FileAnswer(file, error=error)
        else:
            answer = next(answers)
            yield FileAnswer(file, answer.row, answer.files, answer.record)
