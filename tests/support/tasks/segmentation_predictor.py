"""A promoted segmentation model in use; a copy of this file goes with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch


class Predictor:
    """The model in a folder."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.classes: list[str] = about["classes"]
        self.image: tuple[int, int, int] = tuple(about["image"])
        self.batch: int = about["batch"]
        self._program = torch.export.load(folder / "network.pt2").module()

    def predictions(self, images: Any) -> list[Any]:
        """Return the classes' probabilities, (classes, height, width), of each image."""
        with torch.no_grad():
            return [
                self._program(torch.from_numpy(np.array(image[None])))[0].numpy()
                for image in images
            ]

    def table(self, images: Any) -> pd.DataFrame:
        """Return the share of each class in each image."""
        guesses = [chances.argmax(axis=0) for chances in self.predictions(images)]
        return pd.DataFrame(
            {
                f"share of {name}": [float((guess == number).mean()) for guess in guesses]
                for number, name in enumerate(self.classes)
            }
        )
