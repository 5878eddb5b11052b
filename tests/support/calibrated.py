"""The probabilities of a checkpoint at the temperature of an exported model."""

import json
from pathlib import Path

import numpy as np

from trainables.predictors.base import DESCRIPTION, at_temperature


def calibrated(folder: Path, chances: np.ndarray) -> np.ndarray:
    """Convert a checkpoint's probabilities to those of the model in `folder`."""
    temperature = json.loads((folder / DESCRIPTION).read_text())["temperature"]
    return at_temperature(temperature, chances)
