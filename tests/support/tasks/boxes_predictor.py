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
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.clip(high - low, 0, None)))
    areas = (float(np.prod(np.clip(box[2:] - box[:2], 0, None))) for box in (one, other))
    return both / max(sum(areas) - both, 1e-9)
