"""Reads folders of images with boxes in tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.datasets import sources
from trainables.datasets.arrays import Decoded, Part
from trainables.errors import DataError
from trainables.tasks.detection.formats.layout import BoxLayout
from trainables.tasks.detection.reading import find


def config_of(root: Path, **values: Any) -> DataConfig:
    return DataConfig(name="folder", root=str(root), task="detection", **values)


def layout_of(root: Path, **values: Any) -> BoxLayout:
    return find(config_of(root, **values))


def decoded(root: Path, **values: Any) -> Decoded:
    return sources.decode(config_of(root, **values))


def refusal(root: Path, **values: Any) -> str:
    with pytest.raises(DataError) as error:
        decoded(root, **values)
    return str(error.value)


def names_by_part(layout: BoxLayout) -> dict[str, list[str]]:
    return {
        part: [layout.name(path) for _, path in members] for part, members in layout.parts.items()
    }


def boxes_of(part: Part, name: str) -> list[list[float]]:
    assert part.names is not None
    boxes = part.targets[part.names.index(name)]
    assert boxes.dtype == np.float32
    rows: list[list[float]] = np.round(boxes.astype(float), 4).tolist()
    return rows
