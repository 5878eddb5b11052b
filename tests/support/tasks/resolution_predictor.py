"""A promoted network that enlarges images, in use; a copy of this file goes with it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.predictors.base import Run, TaskPredictor, load_program


class Predictor(TaskPredictor):
    """The model in a folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network."""
        self._program = run or load_program(folder)

    def predictions(self, images: Any) -> NDArray[Any]:
        """Return images twice as large, float32 (count, height, width, channels), from 0 to 1."""
        return self._program(np.array(images))

    def row(self, prediction: NDArray[Any]) -> dict[str, Any]:
        """Return the mean brightness of an enlarged image, from 0 to 1."""
        return {"brightness": float(prediction.mean())}
