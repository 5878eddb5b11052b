"""A promoted detector in use; a copy of this file goes with it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.predictors.base import Run, TaskPredictor, load_program

CELLS = 4
SURE, SAME = 0.05, 0.5


class Predictor(TaskPredictor):
    """The model in a folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network."""
        self._program = run or load_program(folder)

    def predictions(self, images: Any) -> list[NDArray[Any]]:
        """Return the boxes of each image, (boxes, 5): score, left, top, right, bottom."""
        return [boxes_of(own, self.image[0]) for own in self._program(np.array(images))]

    def row(self, prediction: NDArray[Any]) -> dict[str, Any]:
        """Return how many boxes an image has, and the score of the surest."""
        sure = prediction[prediction[:, 0] > SAME]
        return {"boxes": float(len(sure)), "score": float(sure[0, 0]) if len(sure) else 0.0}


def boxes_of(cells: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the boxes that cells (cells, 5) stand for, the surest first, each once."""
    scores = 1 / (1 + np.exp(-cells[:, 0]))
    kept: list[NDArray[Any]] = []
    for number in np.argsort(-scores, kind="stable"):
        box = np.concatenate([scores[number, None], cells[number, 1:] * side])
        if box[0] > SURE and all(overlaps(box[1:], other[1:]) < SAME for other in kept):
            kept.append(box)
    return np.array(kept, dtype=np.float64).reshape(-1, 5)


def overlaps(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the intersection of two boxes over their union."""
    a, b = one.tolist(), other.tolist()  # numpy would take ten times as long for so few numbers
    both = _area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return both / max(_area(*a) + _area(*b) - both, 1e-9)


def _area(left: float, top: float, right: float, bottom: float) -> float:
    return max(right - left, 0.0) * max(bottom - top, 0.0)
