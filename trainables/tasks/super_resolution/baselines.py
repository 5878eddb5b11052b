"""Baselines of super-resolution: interpolations, which have nothing to learn."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.baselines.base import Baseline, Beat, Fitted, no_beat
from trainables.baselines.enlargement import Enlargement
from trainables.datasets.arrays import Arrays, Dataset, Images, Part
from trainables.tasks.super_resolution.predictor import interpolate
from trainables.tasks.super_resolution.reducing import scale_of
from trainables.tasks.super_resolution.report import Quality, epoch_values
from trainables.values import Json


class Interpolation(Baseline):
    """The interpolation with the name of the model."""

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> Enlargement:
        """Take the scale from the data."""
        return Enlargement(scale=scale_of(dataset.train))

    def measure(
        self, fitted: Enlargement, dataset: Dataset, beat: Beat = no_beat
    ) -> dict[str, float]:
        """Return the mean squared errors of both parts, and the metrics of the validation set."""
        metric = self.config.ranked_by

        def measure(part: Part, *, with_ssim: bool) -> NDArray[np.float64]:
            each = []
            for small, truth in zip(part.each(), part.targets, strict=True):
                (enlarged,) = self.predict([fitted], [small], dataset)
                each.append(Quality.of(enlarged, truth, small, with_ssim=with_ssim))
                beat()
            return np.array(each)

        loss = float(Quality(*measure(dataset.train, with_ssim=False).T).loss.mean())
        val = measure(dataset.val, with_ssim=metric.name == "ssim")
        return {"train/loss": loss, **epoch_values(val, metric)}

    def predict(
        self, fitted: Sequence[Enlargement], images: Arrays, dataset: Dataset
    ) -> list[Images]:
        """Enlarge each image; all fits are the same."""
        return [interpolate(image, fitted[0].scale, self.config.model.name) for image in images]

    def export(self, fitted: Sequence[Fitted], folder: Path) -> Json:
        """Return the name of the interpolation; the predictor needs no files for it."""
        return {"baseline": self.config.model.name}

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds the epoch takes, by measuring an image."""
        small, truth = dataset.val.images[0], dataset.val.targets[0]
        with_ssim, start = self.config.metric == "ssim", time.perf_counter()
        (enlarged,) = self.predict([self.fit(dataset)], [small], dataset)
        Quality.of(enlarged, truth, small, with_ssim=with_ssim)
        return (time.perf_counter() - start) * (len(dataset.train) + len(dataset.val))

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of one value on disk, in bytes."""
        return 20_000
