"""Small data and configurations for the tests of `trainables`; nothing here or below needs the
network, Ray or the home folder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded_torch() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("cache-home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    """Random images whose brightness tells their class, so that something can be learnt."""

    def make(
        *,
        side: int = 8,
        height: int | None = None,
        channels: int = 1,
        classes: int = 3,
        train: int = 24,
        val: int = 12,
        test: int = 9,
    ) -> Dataset:
        generator = np.random.default_rng(7)

        def part(count: int) -> Part:
            labels = np.arange(count) % classes
            images = generator.integers(0, 128, (count, height or side, side, channels)) + (
                labels * 127 // (classes - 1)
            ).reshape(-1, 1, 1, 1)
            return Part(images.astype(np.uint8), labels.astype(np.int64))

        return Dataset(
            "made",
            tuple(f"class {number}" for number in range(classes)),
            part(train),
            part(val),
            part(test),
            "fingerprint",
        )

    return make


@pytest.fixture
def make_config() -> Callable[..., TrialConfig]:
    """A quick training without dropout; keywords are dotted paths with `__` for the dot:
    `make_config(optimizer__lr=0.1, epochs=3)`.
    """

    def make(**values: Any) -> TrialConfig:
        quick = {"batch_size": 8, "epochs": 2, "model.width": 4, "model.dropout": 0.0}
        return TrialConfig().override(
            quick | {name.replace("__", "."): value for name, value in values.items()}
        )

    return make


@pytest.fixture
def write_images() -> Callable[..., list[Path]]:
    """Write random PNG images into a folder (made if need be), all different."""
    generator = np.random.default_rng(3)

    def write(
        folder: Path, count: int = 4, *, size: tuple[int, int] = (9, 8), mode: str = "RGB"
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        paths = [folder / f"{mode}-{size[0]}x{size[1]}-{number}.png" for number in range(count)]
        for path in paths:
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(path)
        return paths

    return write
