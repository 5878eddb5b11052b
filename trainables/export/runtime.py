"""A model's folder made ready to answer many requests fast, without what the answers do not need.

With `model.onnx` ONNX Runtime computes, and neither torch nor pandas is imported; else what the
folder's own code uses.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trainables.catalog.tasks import DEFAULT_TASK
from trainables.disk import read_regular
from trainables.export import predictor
from trainables.export.model import Model
from trainables.export.predictor import ABOUT, NETWORK, ONNX, Images, Probabilities

BUDGET_S = 0.25
"""The longest that one number of threads, or one size of batch, is tried."""
TRIES = 5
WORTH = 0.85
"""Twice the threads are used only if that takes less than this share of the time."""
LARGEST = 128
"""The most images in a batch: more gain nothing on a CPU, and wait for each other."""
TRIED = 8
"""The number of images with which threads are compared."""


class _Onnx(predictor.Predictor):
    """A classifier whose network ONNX Runtime computes."""

    def __init__(self, folder: Path, threads: int) -> None:
        about = json.loads(read_regular(folder / ABOUT))
        self.classes = about["classes"]
        self.image = tuple(about["image"])
        self.batch = about["batch"]
        self._session = _session(folder / ONNX, threads)
        self._classify = self._run

    def _run(self, images: Images) -> Probabilities:
        found: Probabilities = self._session.run(None, {"images": images})[0]
        return found


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait in a loop would take the time in which requests are read.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Runtime:
    """A model that is ready: it has answered, and the time that it takes is known."""

    model: Model
    engine: str
    """The library that computes: `ONNX Runtime`, `torch` or `scikit-learn`."""
    threads: int
    """The number of threads that it computes with; 0 where that is not ours to say."""
    seconds: dict[int, float]
    """The seconds that a batch takes, by its number of images."""

    def batch_within(self, limit_s: float) -> int:
        """Return the most images that are computed within this time; 0 if none is."""
        return max((size for size, took in self.seconds.items() if took <= limit_s), default=0)


def load(folder: Path, source: str, most_threads: int) -> Runtime:
    """Read the model in a folder, choose its number of threads, and let it answer.

    Args:
        folder: the model's (`trainables.export.export`); it is not needed afterwards.
        source: what the model is called in texts.
        most_threads: how many it may compute with.

    Raises:
        ConfigError: it is for a task that this version does not know.
        Exception: whatever a damaged folder makes its libraries raise.
    """
    about = json.loads(read_regular(folder / ABOUT))
    is_classifier = about.get("task", DEFAULT_TASK) == DEFAULT_TASK
    if is_classifier and (folder / ONNX).exists() and find_spec("onnxruntime"):
        found = fastest(lambda threads: Model(folder, source, _Onnx(folder, threads)), most_threads)
        model, engine = found.value, "ONNX Runtime"
    elif (folder / NETWORK).exists():
        import torch

        model, engine = Model(folder, source), "torch"
        found = fastest(lambda threads: _with_threads(model, threads, torch), most_threads)
        torch.set_num_threads(found.threads)
    else:
        model, engine = Model(folder, source), "scikit-learn"
        found = Fastest(model, 0)
    return Runtime(model, engine, found.threads, dict(_times(model)))


def _with_threads(model: Model, threads: int, torch: Any) -> Model:
    torch.set_num_threads(threads)
    return model


@dataclass(frozen=True)
class Fastest:
    """A model, and the number of threads with which it is fast."""

    value: Model
    threads: int


def fastest(make: Callable[[int], Model], most: int) -> Fastest:
    """Return the model with the fewest threads of which twice as many would gain little.

    `make` makes it for a number of threads, of which there are to be at most `most`.
    """
    best, threads = Fastest(make(1), 1), 2
    took = _took(best.value, TRIED)
    while threads <= most:
        other = make(threads)
        if (other_took := _took(other, TRIED)) >= WORTH * took:
            make(best.threads)  # which may hold for the whole process
            break
        best, took, threads = Fastest(other, threads), other_took, 2 * threads
    return best


def _times(model: Model) -> Iterator[tuple[int, float]]:
    """Yield sizes of batches, and how long each takes, up to where they take too long to try."""
    size = 1
    while size <= min(model.batch, LARGEST):
        took = _took(model, size)
        yield size, took
        if took > BUDGET_S:
            return
        size *= 2


def _took(model: Model, size: int) -> float:
    """Return the seconds of a batch: the least of some tries, after one that warms it."""
    height, width, channels = model.image
    images = np.random.default_rng(0).integers(
        0, 256, (size, height, width, channels), dtype=np.uint8
    )
    best, until = np.inf, time.perf_counter() + BUDGET_S
    for number in range(TRIES + 1):
        began = time.perf_counter()
        model.predictions(images)
        ended = time.perf_counter()
        best = min(best, ended - began) if number or ended > until else best
        if ended > until:
            break
    return float(best)
