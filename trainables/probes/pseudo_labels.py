"""Training data with images without labels, each with the class that is spread to it.

The labels of the training images are spread over the graph of nearest neighbours in the space of
the pretrained network's features (`trainables.probes.spreading`). The images whose class is the
most certain then count as training images of that class (pseudo-labels; Lee 2013).
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.baselines.base import Beat, no_beat
from trainables.catalog.networks import PROBE_SIDE, number_used
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part, join_names
from trainables.probes.spreading import Rows, Scores, SpreadingProbe, spread
from trainables.probes.unlabelled import FilesPart, folder_of, used_paths


def most_certain(certainty: Scores) -> Rows:
    """Return the rows of the images that are used, sorted, given the certainty of each."""
    return np.sort(np.argsort(-certainty, kind="stable")[: number_used(len(certainty))])


@lru_cache(maxsize=4)
def _count(folder: Path, data: Path | None) -> int:
    return number_used(len(used_paths(folder, data)))


class PseudoLabels:
    """The images without labels that a network also trains on."""

    def __init__(self, config: TrialConfig) -> None:
        """`config` is that of the network, with the folder of the images (`model.unlabelled`)."""
        options = config.model.options
        model = ModelConfig(
            name=config.model.name.replace("pseudo_", "spread_", 1),
            weights=options["weights"],
            input_size=min(options["input_size"] or PROBE_SIDE, PROBE_SIDE),
            unlabelled=options["unlabelled"],
        )
        self.probe = SpreadingProbe(replace(config, model=model))
        """The probe in whose space of features images are neighbours."""
        self.neighbours: int = options["neighbours"]

    @property
    def count(self) -> int:
        """The number of images that are added to the training set, counted once by a process.

        Raises:
            ConfigError: see `used_paths`.
        """
        return _count(self.probe.folder, folder_of(self.probe.config.data))

    def added_to(self, dataset: Dataset, beat: Beat | None = None) -> Dataset:
        """Return a data set with these images in its training set.

        Args:
            dataset: the data set.
            beat: called from time to time; None to call nothing.

        Raises:
            ConfigError: the images cannot be used, or the weights are missing.
        """
        beat = beat or no_beat
        classes, certainty = spread(
            self.probe.features(dataset.train, dataset, beat),
            dataset.train.targets,
            self.probe.unlabelled_features(dataset, beat),
            classes=len(dataset.classes),
            neighbours=self.neighbours,
            beat=beat,
        )
        rows = most_certain(certainty)
        images = FilesPart([self.probe.paths[row] for row in rows], dataset, beat).images
        labels = classes[rows].astype(dataset.train.targets.dtype)
        paths = tuple(f"unlabelled/{self.probe.paths[row].name}" for row in rows)
        train = Part(
            np.concatenate([dataset.train.images, images]),
            np.concatenate([dataset.train.targets, labels]),
            join_names(dataset.train.names, paths),
        )
        return replace(dataset, train=train, strata=None, groups=None)
