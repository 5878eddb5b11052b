"""A trained model, as far as two of them are held against each other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part


@dataclass(frozen=True)
class Trained:
    """A trained model in its search's checkpoint."""

    config: TrialConfig
    dataset: Dataset
    """The data that it was trained on."""
    checkpoint: Path

    def rights(self, part: Part) -> NDArray[np.bool_]:
        """Return which images of a part it names right."""
        from trainables.evaluation.evaluate import predictions

        said = predictions(self.config, self.dataset, part, self.checkpoint)
        found: NDArray[np.bool_] = said.argmax(axis=1) == part.targets
        return found

    def ms_per_image(self) -> float:
        """Return the milliseconds for one image alone, measured now, on one thread of the CPU."""
        from trainables.evaluation.evaluate import load_model
        from trainables.export.export import times

        with load_model(self.config, self.dataset, self.checkpoint) as saved:
            found = times(saved.predict, self.config.task.load(), self.dataset)
        return found["batch_1"]["median_ms"]
