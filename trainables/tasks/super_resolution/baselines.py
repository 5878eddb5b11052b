"""Baselines of super-resolution: interpolations, which have nothing to learn."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.baselines.base import Baseline, Beat, Fitted, no_beat
from trainables.baselines.enlargement import Enlargement
from trainables.datasets.arrays import Arrays, Dataset, Images, Part
from trainables.tasks.super_resolution.predictor import interpolate
from trainables.tasks.super_resolution.reducing import scale_of
from trainables.tasks.super_resolution.report import Quality, epoch_values
from trainables.values import Json


class Interpolation(Baseline):
    """The interpolation with the name of the model."""

    @property
    def method(self) -> str:
        """Its name for `trainables.tasks.super_resolution.predictor.interpolate`."""
        return self.config.model.name

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> Enlargement:
        """Take the scale from the data."""
        return Enlargement(scale=scale_of(dataset.train))

    def measure(
        self, fitted: Enlargement, dataset: Dataset, beat: Beat = no_beat
    ) -> dict[str, float]:
        """Return the mean squared errors of both parts, and the metrics of the validation set."""
        metric = self.config.ranked_by
        train, val = (
            self._qualities(fitted, part, beat, with_ssim=with_ssim)
            for part, with_ssim in (
                (dataset.train, False),
                (dataset.val, metric.name == "ssim"),
            )
        )
        loss = float(np.mean([quality.loss for quality in train]))
        return {"train/loss": loss, **epoch_values(np.array(val), metric)}

    def _qualities(
        self, fitted: Enlargement, part: Part, beat: Beat, *, with_ssim: bool
    ) -> Sequence[Quality]:
        qualities = []
        for small, truth in zip(part.each(), part.targets, strict=True):
            enlarged = self._enlarge(fitted, small)
            qualities.append(Quality.of(enlarged, truth, small, with_ssim=with_ssim))
            beat()
        return qualities

    def _enlarge(self, fitted: Enlargement, image: Images) -> Images:
        return interpolate(image, fitted.scale, self.method)

    def predict(
        self, fitted: Sequence[Enlargement], images: Arrays, dataset: Dataset
    ) -> list[Images]:
        """Enlarge each image; all fits are the same."""
        return [self._enlarge(fitted[0], image) for image in images]

    def export(self, fitted: Sequence[Fitted], folder: Path) -> Json:
        """Return the name of the interpolation; the predictor needs no files for it."""
        return {"baseline": self.method}

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds the epoch takes, by measuring an image."""
        small, truth = dataset.val.images[0], dataset.val.targets[0]
        with_ssim, start = self.config.metric == "ssim", time.perf_counter()
        enlarged = self._enlarge(self.fit(dataset), small)
        Quality.of(enlarged, truth, small, with_ssim=with_ssim)
        return (time.perf_counter() - start) * (len(dataset.train) + len(dataset.val))

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of one value on disk, in bytes."""
        return 20_000
