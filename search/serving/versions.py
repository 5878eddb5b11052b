"""Load and check versions of a model, and replace the version in use."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.serving.answers import Encoder
from trainables.errors import ConfigError, counted, printable
from trainables.export.model import Model, folder_in
from trainables.export.runtime import Runtime, load

QUICK_S = 0.001
"""Maximum duration of a computation in the event loop, in seconds."""
LOAD_S = 600.0
"""Maximum seconds for loading a version. Later versions wait meanwhile."""


@dataclass(frozen=True)
class ServedVersion:
    """A version that is loaded and ready to answer."""

    version: str
    runtime: Runtime
    largest_batch: int
    """Maximum number of images in a batch."""
    quick_batch: int
    """Maximum number of images in a batch that is computed in the event loop instead of a thread;
    0 if all batches are computed in a thread.
    """
    encoder: Encoder

    @cached_property
    def model(self) -> Model:
        """The loaded model."""
        return self.runtime.model

    @cached_property
    def image_classes(self) -> list[str]:
        """The classes whose probabilities the model predicts; empty if it predicts none."""
        return self.model.image_classes

    def predictions(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """Compute the model's answers on images.

        Args:
            images: decoded pixels, (height, width, channels), as `Model.decoded` returns them.

        Returns:
            The probabilities, (images, classes), or the predictions in the form of another task.
        """
        return self.model.predictions(list(images))

    def judged(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Any, Sequence[Any] | None]:
        """Compute the answers like `predictions`, and judge each one (`Model.judged`)."""
        return self.model.judged(list(images))


def load_version(
    folder: Path, name: str, version: str, *, threads: int, delay_s: float
) -> ServedVersion:
    """Load the version in a folder, and check its answers on two images.

    Args:
        folder: the folder of a promoted model, or a folder of MLflow that contains such a folder.
        name: the name of the model.
        version: the name of this version.
        threads: the maximum number of threads that compute.
        delay_s: the maximum time to compute a batch, in seconds, which limits the size of batches:
            images that arrive meanwhile have to wait.

    Raises:
        ConfigError: the folder contains no model that can be served.
    """
    model_folder = folder_in(folder)
    if model_folder is None:
        raise ConfigError(f"'{folder}' is not the folder of a model, which contains about.json.")
    try:
        runtime = _call_within(LOAD_S, lambda: _load(model_folder, name, threads))
    except ConfigError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ConfigError(f"the model cannot be loaded ({describe_error(error)})") from error
    model = runtime.model
    encoder = Encoder(name, version, tuple(model.classes), model.plain)
    largest_batch = max(1, runtime.batch_within(delay_s))
    return ServedVersion(version, runtime, largest_batch, runtime.batch_within(QUICK_S), encoder)


def _load(folder: Path, name: str, threads: int) -> Runtime:
    runtime = load(folder, name, threads)
    runtime.model.check()
    return runtime


def _call_within(limit_s: float, make: Callable[[], Runtime]) -> Runtime:
    """Call a function in a thread, and return its result or raise its error.

    Raises:
        ConfigError: the function took longer than `limit_s`; its thread continues.
    """
    future: Future[Runtime] = Future()

    def run() -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            future.set_exception(error)

    threading.Thread(target=run, name="loading", daemon=True).start()
    if not wait([future], limit_s).done:
        raise ConfigError(f"the model was not loaded within {limit_s:g} s")
    return future.result()


def describe_error(error: Exception) -> str:
    """Describe an error in one line: its class and the beginning of its text."""
    lines = str(error).splitlines() or [""]
    return printable(f"{type(error).__name__}: {lines[0]}"[:300])


def mismatch(old: Model, new: Model) -> str:
    """Describe why a new model cannot replace an old one; empty if it can."""
    if old.signature == new.signature:
        return ""
    if old.task != new.task:
        return f"it is for {new.task.title}, but the version in use is for {old.task.title}"
    if old.classes != new.classes:
        missing, added = (
            sorted(set(a) - set(b))
            for a, b in ((old.classes, new.classes), (new.classes, old.classes))
        )
        words = [f"without {_quote(missing)}"] * bool(missing) + [f"with {_quote(added)}"] * bool(
            added
        )
        return f"its classes differ ({', '.join(words) or 'in their order'})"
    return f"its images have {_image_form(new)} instead of {_image_form(old)}"


def _quote(classes: list[str]) -> str:
    names = ", ".join(f"'{printable(name)[:40]}'" for name in classes[:3])
    return names + f" and {len(classes) - 3} more" * (len(classes) > 3)


def _image_form(model: Model) -> str:
    height, width, channels = model.image
    return f"{height} x {width} pixels and {counted(channels, 'channel')}"


class Versions:
    """The version in use, and the last version that was refused."""

    def __init__(self, first: ServedVersion) -> None:
        self.current = first
        self.refused: tuple[str, str] | None = None
        """The last refused version, and the reason; None after a swap."""

    def swap(self, new: ServedVersion) -> None:
        """Replace the version in use.

        Raises:
            ConfigError: the new version cannot replace the version in use.
        """
        if text := mismatch(self.current.model, new.model):
            raise ConfigError(text)
        self.current, self.refused = new, None
