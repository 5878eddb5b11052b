"""The version of a model that answers, and how another takes its place."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.serving.answers import Encoder
from trainables.catalog.tasks import CLASSIFICATION
from trainables.errors import ConfigError, printable
from trainables.export.model import Model, folder_in
from trainables.export.runtime import Runtime, load

QUICK_S = 0.001
"""The longest computation, in seconds, that may hold up the event loop."""
LOAD_S = 600.0
"""The longest that loading a version may take, in seconds: those that come after it wait."""


@dataclass(frozen=True)
class Served:
    """A version that is ready to answer."""

    version: str
    runtime: Runtime
    largest: int
    """The most images that it computes at once."""
    quick: int
    """The most images that it computes sooner than a thread could be asked to; 0 if none."""
    encoder: Encoder

    @property
    def model(self) -> Model:
        """The model itself."""
        return self.runtime.model

    @property
    def is_classifier(self) -> bool:
        """True if it gives probabilities of classes."""
        return self.model.task is CLASSIFICATION

    def predictions(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """Return what it says of images, whose pixels are as it takes them."""
        return self.model.predictions(np.stack(images) if self.is_classifier else list(images))


def ready(folder: Path, name: str, version: str, *, threads: int, delay_s: float) -> Served:
    """Load the version in a folder and let it answer.

    Args:
        folder: it may be one of MLflow's, that holds the model's.
        name: what the model is called.
        version: what this version of it is called.
        threads: how many it may compute with.
        delay_s: how long the images that come while a batch is computed may have to wait for it.

    Raises:
        ConfigError: the folder holds no model that can be served.
    """
    found = folder_in(folder)
    if found is None:
        raise ConfigError(f"'{folder}' holds no promoted model (a folder with about.json).")
    try:
        runtime = _within(LOAD_S, lambda: _loaded(found, name, threads))
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged file makes its library raise
        raise ConfigError(f"it cannot be loaded ({reason(error)})") from error
    encoder = Encoder(name, version, tuple(runtime.model.classes))
    largest = max(1, runtime.batch_within(delay_s))
    return Served(version, runtime, largest, runtime.batch_within(QUICK_S), encoder)


def _loaded(folder: Path, name: str, threads: int) -> Runtime:
    runtime = load(folder, name, threads)
    _check_answers(runtime.model)
    return runtime


def _within(limit_s: float, make: Callable[[], Runtime]) -> Runtime:
    """Call a function in a thread, and stop waiting for it after a while; it is not ended.

    Raises:
        ConfigError: it took longer than `limit_s` seconds.
        Exception: as the function.
    """
    made: Future[Runtime] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            made.set_exception(error)

    threading.Thread(target=run, name="loading", daemon=True).start()
    if not wait([made], limit_s).done:
        raise ConfigError(f"it was not loaded within {limit_s:g} s")
    return made.result()


def _check_answers(model: Model) -> None:
    """Check that a classifier gives each image a probability of each class.

    Raises:
        ConfigError: it does not.
    """
    if model.task is not CLASSIFICATION:
        return
    wanted = (2, len(model.classes))
    chances = np.asarray(model.predictions(np.zeros((2, *model.image), dtype=np.uint8)))
    if chances.shape != wanted:
        raise ConfigError(f"it answers two images with {chances.shape} numbers, not {wanted}.")
    if not np.isfinite(chances).all():
        raise ConfigError("its probabilities are no numbers (NaN or infinite).")


def reason(error: Exception) -> str:
    """Return the beginning of an error as one line."""
    lines = str(error).splitlines() or [""]
    return printable(f"{type(error).__name__}: {lines[0]}"[:300])


def why_not(old: Model, new: Model) -> str:
    """Return why one model cannot take another's place; empty if it can."""
    if old.signature == new.signature:
        return ""
    if old.task != new.task:
        return f"it is for {new.task.title}, and the one in use for {old.task.title}"
    if old.classes != new.classes:
        gone, come = (
            sorted(set(a) - set(b))
            for a, b in ((old.classes, new.classes), (new.classes, old.classes))
        )
        words = [f"without {_named(gone)}"] * bool(gone) + [f"with {_named(come)}"] * bool(come)
        return f"its classes differ ({', '.join(words) or 'in their order'})"
    return f"its images differ ({_form(new)}, and {_form(old)} in use)"


def _named(classes: list[str]) -> str:
    shown = ", ".join(f"'{printable(name)[:40]}'" for name in classes[:3])
    return shown + f" and {len(classes) - 3} more" * (len(classes) > 3)


def _form(model: Model) -> str:
    height, width, channels = model.image
    return f"{height} x {width} with {channels} channels"


class Versions:
    """The version in use, and the last one that was refused."""

    def __init__(self, first: Served) -> None:
        self.current = first
        self.refused: tuple[str, str] | None = None
        """A version and why it is not used; None after a swap."""

    def swap(self, new: Served) -> None:
        """Let another version answer from now on.

        Raises:
            ConfigError: it cannot take the place of the one in use.
        """
        if text := why_not(self.current.model, new.model):
            raise ConfigError(text)
        self.current, self.refused = new, None
