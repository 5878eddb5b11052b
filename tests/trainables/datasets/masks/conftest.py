"""The task of masks, and images with masks as people have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.catalog.tasks import TASKS, UNIT, Metric, TaskEntry

TASK = TaskEntry(
    name="segmentation",
    title="segmentation",
    implementation="trainables.tasks.segmentation:Segmentation",
    predictor="trainables.predictors.segmentation",
    targets="trainables.datasets.masks.targets:MaskTargets",
    metrics=(Metric(name="iou", title="mean IoU", key="val/iou", limits=UNIT, is_primary=True),),
)


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the catalog a task whose targets are masks."""
    monkeypatch.setitem(TASKS, TASK.name, TASK)


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def pair() -> Callable[..., Pair]:
    """An image of noise, and the mask of a rectangle in it, by number."""

    def make(number: int, classes: int = 2, height: int = 14, width: int = 18) -> Pair:
        generator = np.random.default_rng(number)
        image = generator.integers(0, 200, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[2 + number % 5 : 9, 3 : 8 + number % 7] = 1 + number % (classes - 1)
        return image, mask

    return make


@pytest.fixture
def write() -> Callable[[Path, Any], None]:
    """Write an array, or a Pillow image, to a file; its folders are made."""

    def make(path: Path, pixels: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(path)

    return make
