"""A server that many tests ask, and images for it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.promoted import linear, png
from tests.support.serving import Running, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for grey images of 8 x 8."""
    return linear(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder) as made:
        yield made


@pytest.fixture(scope="module")
def digits() -> list[bytes]:
    """Four images as PNG."""
    generator = np.random.default_rng(1)
    return [png(generator.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(4)]
