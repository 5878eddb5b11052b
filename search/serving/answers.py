"""Answers as JSON. What is the same in each is written once for a version."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from search.serving.limits import Refusal

COLUMN = "probability of {}"
"""The title of a class's column, as `trainables.export.predictor` has it."""


class Encoder:
    """Writes what a version says of images."""

    def __init__(self, name: str, version: str, classes: tuple[str, ...]) -> None:
        self._names = [json.dumps(one) for one in classes]
        self._version = json.dumps(version)
        self.head = f'{{"model":{json.dumps(name)},"predictions":['
        """The beginning of an answer, before its images."""
        self._all = ",".join(f"{one.replace('%', '%%')}:%.6g" for one in self._names)

    def image(self, found: Any, name: str, top: int | None) -> str:
        """Return what is said of one image.

        Args:
            found: the probability of each class; or whatever else the task predicts.
            name: the answer's own name.
            top: the number of classes that are told, the most probable first; None for all.
        """
        told = f'"version":{self._version},"id":"{name}"}}'
        if not self._names or np.ndim(found) != 1 or len(found) != len(self._names):
            return f'{{"prediction":{json.dumps(plain(found))},{told}'
        values = found.tolist()
        best = max(values)
        number = values.index(best)
        if top is None:
            chances = self._all % tuple(values)
        else:
            order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top]
            chances = ",".join(f"{self._names[one]}:{values[one]:.6g}" for one in order)
        return (
            f'{{"class":{self._names[number]},"probability":{best:.6g},'
            f'"probabilities":{{{chances}}},{told}'
        )


def check_numbers(answers: Sequence[Any]) -> None:
    """Check that the probabilities of each image are numbers, of which one is the highest.

    Raises:
        Refusal: some are not (NaN or infinite): JSON has no such numbers.
    """
    for number, found in enumerate(answers, 1):
        if isinstance(found, np.ndarray) and found.ndim == 1 and not isfinite(found.sum()):
            image = f" for image {number} of {len(answers)}" if len(answers) > 1 else ""
            raise Refusal(500, f"the model gave no numbers{image} (NaN or infinite)")


def plain(found: Any) -> Any:
    """Return arrays, and what holds them, as JSON's lists and numbers."""
    if isinstance(found, np.ndarray | np.generic):
        return plain(found.tolist())
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(one) for one in found]
    if isinstance(found, float) and not np.isfinite(found):
        return None
    return found


def table(found: Any, classes: list[str]) -> list[dict[str, Any]]:
    """Return probabilities as the rows of the table that MLflow gives of a promoted model."""
    return [
        {
            "class": classes[int(row.argmax())],
            "probability": float(row.max()),
            **{COLUMN.format(name): float(one) for name, one in zip(classes, row, strict=True)},
        }
        for row in found
    ]
