"""A trained model that is compared with another one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A trained model, given by its config, its data and its checkpoint."""

    config: TrialConfig
    dataset: Dataset
    """The data that the model was trained on."""
    checkpoint: Path

    def correct_predictions(self, part: Part) -> NDArray[np.bool_]:
        """Classify the images of a part; True for each that is classified right, (images,)."""
        from trainables.evaluation.evaluate import predictions

        probabilities = predictions(self.config, self.dataset, part, self.checkpoint)
        correct: NDArray[np.bool_] = probabilities.argmax(axis=1) == part.targets
        return correct

    def ms_per_image(self) -> float:
        """Measure the median time for a batch of one image on one CPU thread, in milliseconds."""
        from trainables.evaluation.evaluate import load_model
        from trainables.export.export import times

        with load_model(self.config, self.dataset, self.checkpoint) as saved:
            measured = times(saved.predict, self.config.load_task(), self.dataset)
        return measured["batch_1"]["median_ms"]
