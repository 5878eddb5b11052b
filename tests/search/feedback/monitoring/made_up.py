"""A model and what it meets, made up: its probabilities are right as often as they say."""

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.feedback.records import RecordedAnswer, Records, RecordsInfo
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.export import reference
from trainables.export.reference import Reference
from trainables.predictors import base as predictor

CLASSES = ("cat", "dog", "<script>alert(1)</script>")
SIDE = 12
START_MS = 1_700_000_000_000


def answers(
    count: int, generator: np.random.Generator, mix: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return classes in this mix, and what a model that is often right says of them."""
    targets = generator.choice(len(mix), count, p=mix)
    scores = generator.normal(0, 1, (count, len(mix)))
    scores[np.arange(count), targets] += 1.8
    chances = np.exp(1.8 * scores)
    return targets, chances / chances.sum(axis=1, keepdims=True)


def images(count: int, generator: np.random.Generator, noise: float = 20) -> NDArray[np.uint8]:
    """Return grey images with a slope, each of its own brightness, and noise."""
    slopes = generator.uniform(-5, 5, (count, 1, 1, 1)) * np.arange(SIDE)[:, None]
    level = generator.uniform(80, 170, (count, 1, 1, 1))
    rough = generator.normal(0, noise, (count, SIDE, SIDE, 1))
    return np.clip(level + slopes + rough, 0, 255).astype(np.uint8)


def made_reference(count: int = 400, seed: int = 0) -> Reference:
    """Return the reference of a model."""
    generator = np.random.default_rng(seed)
    targets, chances = answers(count, generator)
    return Reference(CLASSES, (SIDE, SIDE, 1), SIXTEEN_BITS, targets, chances)


def promoted(folder: Path, count: int = 400) -> Path:
    """Write what the monitor reads of a promoted model."""
    folder.mkdir(parents=True)
    made = made_reference(count)
    about = {"classes": CLASSES, "image": (SIDE, SIDE, 1), "batch": 8}
    (folder / predictor.DESCRIPTION).write_text(json.dumps(about), encoding="utf-8")
    np.savez_compressed(
        folder / reference.FILE,
        version=reference.VERSION,
        targets=made.targets,
        probabilities=made.probabilities.astype(np.float32),
    )
    return folder


def meet(
    records: Records,
    count: int,
    *,
    version: str = "1",
    mix: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3),
    corrected: int = 0,
    by: str = "label",
    seed: int = 1,
    first_ms: int = START_MS,
) -> list[RecordedAnswer]:
    """Write answers, each a second after another, on images of which all are kept."""
    generator = np.random.default_rng(seed)
    targets, chances = answers(count, generator, mix)
    records.begin(RecordsInfo("models:/pets", CLASSES))
    seen = []
    for row, pixels in enumerate(images(count, generator)):
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0]).save(file, "PNG")
        name = records.keep_image(file.getvalue())
        seen.append(
            RecordedAnswer(
                f"{seed}-{row}", first_ms + 1000 * row, name, version, tuple(chances[row]), "usual"
            )
        )
        if row < corrected:
            records.correct(name, CLASSES[targets[row]], by)
    records.write_answers(seen)
    return seen
