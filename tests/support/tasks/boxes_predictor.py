"""A promoted detector in use; a copy of this file goes with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

CELLS = 4
SURE, SAME = 0.05, 0.5


class Predictor:
    """The model in a folder."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.classes: list[str] = about["classes"]
        self.image: tuple[int, int, int] = tuple(about["image"])
        self.batch: int = about["batch"]
        self._program = torch.export.load(folder / "network.pt2").module()

    def predictions(self, images: Any) -> list[NDArray[Any]]:
        """Return the boxes of each image, (boxes, 5): score, left, top, right, bottom."""
        with torch.no_grad():
            cells = self._program(torch.from_numpy(np.array(images))).numpy()
        return [boxes_of(own, self.image[0]) for own in cells]

    def table(self, images: Any) -> pd.DataFrame:
        """Return how many boxes each image has, and the score of the surest."""
        found = [boxes[boxes[:, 0] > SAME] for boxes in self.predictions(images)]
        return pd.DataFrame(
            {
                "boxes": [float(len(boxes)) for boxes in found],
                "score": [float(boxes[0, 0]) if len(boxes) else 0.0 for boxes in found],
            }
        )


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
