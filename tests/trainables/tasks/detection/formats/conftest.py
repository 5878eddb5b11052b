"""Images with boxes as people have them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 40, 30
Row = tuple[Any, ...]


@pytest.fixture
def draw() -> Callable[..., None]:
    """Write an image of noise; its folders are made."""

    def make(path: Path, width: int = WIDTH, height: int = HEIGHT, **values: Any) -> None:
        generator = np.random.default_rng(list(path.name.encode()))
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 200, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **values)

    return make


def xml_of(rows: Sequence[Row], size: tuple[int, int] | None = None) -> str:
    """Return a VOC annotation of rows (name, xmin, ymin, xmax, ymax, difficult)."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{(*rest, 0)[0]}</difficult><bndbox>"
        f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object>"
        for name, left, top, right, bottom, *rest in rows
    )
    stated = "" if size is None else f"<width>{size[0]}</width><height>{size[1]}</height>"
    return f"<annotation><size>{stated}</size>{objects}</annotation>"


@pytest.fixture
def voc(tmp_path: Path, draw: Callable[..., None]) -> Callable[..., Path]:
    """Write images `0.png`, ... with VOC annotations, in JPEGImages/ and Annotations/."""

    def make(*images: Sequence[Row], place: str = "", inner: bool = True) -> Path:
        folder = tmp_path / place
        for number, rows in enumerate(images):
            draw(folder / ("JPEGImages" if inner else "") / f"{number}.png")
            path = folder / ("Annotations" if inner else "") / f"{number}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(xml_of(rows))
        return tmp_path

    return make


@pytest.fixture
def coco(tmp_path: Path, draw: Callable[..., None]) -> Callable[..., Path]:
    """Write images with the rows (category, x, y, width, height, iscrowd) in a COCO file."""

    def make(
        *images: Sequence[Row],
        file: str = "annotations.json",
        folder: str = "images",
        categories: Sequence[Any] = ({"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}),
        size: tuple[int, int] = (WIDTH, HEIGHT),
        more: dict[str, Any] | None = None,
    ) -> Path:
        for number in range(len(images)):
            draw(tmp_path / folder / f"{number}.png")
        content = {
            "images": [
                {
                    "id": 50 + number,
                    "file_name": f"{number}.png",
                    "width": size[0],
                    "height": size[1],
                }
                for number in range(len(images))
            ],
            "annotations": [
                {
                    "image_id": 50 + number,
                    "category_id": category,
                    "bbox": box,
                    "iscrowd": (*rest, 0)[0],
                    **(more or {}),
                }
                for number, rows in enumerate(images)
                for category, box, *rest in rows
            ],
            "categories": list(categories),
        }
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).write_text(json.dumps(content))
        return tmp_path

    return make


@pytest.fixture
def yolo(tmp_path: Path, draw: Callable[..., None]) -> Callable[..., Path]:
    """Write images with label files; None writes no label file."""

    def make(
        *texts: str | None, images: str = "images", labels: str = "labels", start: int = 0
    ) -> Path:
        for number, text in enumerate(texts, start):
            draw(tmp_path / images / f"{number}.png")
            (tmp_path / labels).mkdir(parents=True, exist_ok=True)
            if text is not None:
                (tmp_path / labels / f"{number}.txt").write_text(text)
        return tmp_path

    return make
