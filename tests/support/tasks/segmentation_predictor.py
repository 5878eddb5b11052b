"""A promoted segmentation model in use; a copy of this file goes with it."""

from pathlib import Path
from typing import Any

from trainables.predictors.base import Run, TaskPredictor, load_program


class Predictor(TaskPredictor):
    """The model in a folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network."""
        self._program = run or load_program(folder)

    def predictions(self, images: Any) -> list[Any]:
        """Return the classes' probabilities, (classes, height, width), of each image."""
        return [self._program(image[None])[0] for image in images]

    def row(self, prediction: Any) -> dict[str, Any]:
        """Return the share of each class in an image."""
        guess = prediction.argmax(axis=0)
        return {
            f"share of {name}": float((guess == number).mean())
            for number, name in enumerate(self.classes)
        }
