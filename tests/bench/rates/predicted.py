"""The interval of `search.predict` for the accuracy on folders whose names are the classes."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from search.operations.predict import FolderAccuracy
from tests.bench.rates.case import Case, Promise


def cases() -> list[Case]:
    """Return few and many images, from guesses to a model that is nearly always right."""
    return [
        Case(
            feature="search.predict",
            title=f"{classes} classes, accuracy {accuracy:g}, {images:,} images",
            promises={"interval": Promise("interval", 0.95)},
            repetitions=10_000,
            play=partial(_covers, images=images, classes=classes, accuracy=accuracy),
        )
        for classes in (2, 30)
        for accuracy in (0.5, 0.9, 0.99)
        for images in (20, 200, 5000)
    ]


def _covers(
    generator: np.random.Generator, *, images: int, classes: int, accuracy: float
) -> Mapping[str, bool | None]:
    """Answer for images of an uneven class mix; the classes differ in how hard they are."""
    mix = generator.dirichlet(np.full(classes, 2.0))
    ease = np.clip(accuracy + 0.3 * (1 - accuracy) * generator.uniform(-1, 1, classes), 0, 1)
    truth = float(mix @ ease)
    counts = generator.multinomial(images, mix)
    right = generator.binomial(counts, ease)
    found = FolderAccuracy(
        [],
        {str(name): int(count) for name, count in enumerate(counts)},
        {str(name): int(count) for name, count in enumerate(right)},
    )
    low, high = found.bounds
    return {"interval": low <= truth <= high}
