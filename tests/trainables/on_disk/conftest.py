"""A folder of images, and a cache that has no room for them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.datasets import cache


@pytest.fixture
def write_noise(tmp_path: Path) -> Callable[[], Path]:
    """Writes 150 colour images of 12 x 10 pixels in three classes; returns their folder."""

    def write() -> Path:
        generator = np.random.default_rng(0)
        for number in range(150):
            file = tmp_path / "data" / "abc"[number % 3] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 160, (10, 12, 3)) + 40 * (number % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
        return tmp_path / "data"

    return write


def leave_little_room(patched: pytest.MonkeyPatch, cache_home: Path) -> None:
    """Let decoded images fit neither into memory nor into the cache, which is in `cache_home`."""
    patched.setenv("XDG_CACHE_HOME", str(cache_home))
    patched.setattr(cache, "is_large", lambda size: True)
    patched.setattr(cache, "free_memory", lambda: 1000)
    patched.setattr(cache, "cache_limit", lambda folder: 100)


@pytest.fixture
def little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[pytest.MonkeyPatch]]:
    """A context in which decoded images fit neither into memory nor into the cache."""

    @contextmanager
    def enter() -> Iterator[pytest.MonkeyPatch]:
        with monkeypatch.context() as patched:
            leave_little_room(patched, tmp_path / "small")
            yield patched

    return enter
