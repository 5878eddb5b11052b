"""Models loaded for serving: warmed up, and with the fastest number of threads.

With `model.onnx`, ONNX Runtime is used if it is installed, and neither torch nor pandas is
imported. Otherwise torch or scikit-learn computes the predictions.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.export.model import Model, model_class
from trainables.predictors.base import NETWORK, ONNX, Images, Run

BUDGET_S = 0.25
"""The time of a batch is measured up to `TRIES` times, but not again after this many seconds.

After a batch that takes longer than this, no larger batch is measured.
"""
TRIES = 5
WORTH = 0.85
"""The number of threads is doubled only if this reduces a batch's time to less than this share."""
LARGEST = 128
"""The maximum batch size: larger batches are no faster on a CPU, but delay responses."""
TRIED = 8
"""The batch size for comparing numbers of threads."""


@dataclass(frozen=True)
class Runtime:
    """A model that is loaded and warmed up, with its measured speed."""

    model: Model
    engine: str
    """The library that computes the predictions: `ONNX Runtime`, `torch` or `scikit-learn`."""
    threads: int
    """The number of threads of the computation; 0 if it is not controlled here."""
    seconds: dict[int, float]
    """The measured seconds of a batch, by batch size."""

    def batch_within(self, limit_s: float) -> int:
        """Return the largest measured batch size that takes at most `limit_s` seconds, or 0."""
        return max(
            (size for size, seconds in self.seconds.items() if seconds <= limit_s), default=0
        )


def load(folder: Path, source: str, most_threads: int) -> Runtime:
    """Load the model in a folder, choose its number of threads, and measure its speed.

    Args:
        folder: the model's folder (`trainables.export.export`), which is not needed afterwards.
        source: the model's name in messages.
        most_threads: the maximum number of threads for the computation.

    Raises:
        ConfigError: the model's task is unknown in this version.
        Exception: the libraries may raise anything for a damaged folder.
    """
    cls = model_class(folder)
    if (path := folder / ONNX).exists() and find_spec("onnxruntime"):
        engine = "ONNX Runtime"
        model, threads = fastest(
            lambda count: cls(folder, source, in_onnxruntime(path, count)), most_threads
        )
    elif (folder / NETWORK).exists():
        import torch

        model, engine = cls(folder, source), "torch"
        _, threads = fastest(lambda count: _with_threads(model, count, torch), most_threads)
        torch.set_num_threads(threads)
    else:
        model, engine, threads = cls(folder, source), "scikit-learn", 0
    return Runtime(model, engine, threads, dict(_times(model)))


def in_onnxruntime(path: Path, threads: int) -> Run:
    """Load the network at `path` in ONNX Runtime; return a function that computes its outputs.

    It computes on the CPU, with this number of threads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Busy-waiting threads would take processor time from the threads that read requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> NDArray[np.floating[Any]]:
        outputs: NDArray[np.floating[Any]] = session.run(None, {"images": images})[0]
        return outputs

    return run


def _with_threads(model: Model, threads: int, torch: Any) -> Model:
    torch.set_num_threads(threads)
    return model


def fastest(make: Callable[[int], Model], most: int) -> tuple[Model, int]:
    """Choose the number of threads: double it while that makes the model clearly faster (`WORTH`).

    Args:
        make: builds the model for a number of threads.
        most: the maximum number of threads.

    Returns:
        The model, and the number of threads that was chosen for it.
    """
    best, chosen, threads = make(1), 1, 2
    seconds = _batch_seconds(best, TRIED)
    while threads <= most:
        candidate = make(threads)
        if (candidate_seconds := _batch_seconds(candidate, TRIED)) >= WORTH * seconds:
            make(chosen)  # restores a setting that may be global to the process
            break
        best, chosen, seconds, threads = candidate, threads, candidate_seconds, 2 * threads
    return best, chosen


def _times(model: Model) -> Iterator[tuple[int, float]]:
    """Yield (batch size, seconds) for growing batches, up to the first that exceeds `BUDGET_S`."""
    size = 1
    while size <= min(model.batch, LARGEST):
        seconds = _batch_seconds(model, size)
        yield size, seconds
        if seconds > BUDGET_S:
            return
        size *= 2


def _batch_seconds(model: Model, size: int) -> float:
    """Return the shortest time of a batch in several tries after a warm-up, in seconds.

    If the warm-up alone exceeds `BUDGET_S`, its own time is returned.
    """
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
