"""Baselines of segmentation: Otsu's threshold, and a random forest on features of pixels.

A watershed, which cuts touching objects apart, is not among them. Its lines are one pixel wide, and
lie inside the foreground of masks that do not number their objects: they could only lower the IoU.
"""

import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from trainables.baselines.base import (
    LEAST_CHANCE,
    TRAIN_MEASURED,
    Beat,
    Fitted,
    PartBaseline,
    no_beat,
    spread,
    write_classifiers,
)
from trainables.baselines.threshold import LEAST_ACCURACY, MOST_ACCURACY, SIDES, OtsuThreshold
from trainables.datasets.arrays import Arrays, Dataset, Images, Part
from trainables.datasets.targets import class_weights
from trainables.tasks.segmentation import pixel_models
from trainables.tasks.segmentation.metrics import (
    boundary_f1,
    count_pixels,
    epoch_values,
    mean_iou,
    pixel_accuracy,
)
from trainables.tasks.segmentation.pixel_models import (
    FOREST,
    OTSU,
    Chances,
    Mask,
    forest_chances,
    mean_chances,
    most_probable,
    pixel_features,
    threshold_chances,
    threshold_mask,
)
from trainables.tasks.segmentation.values import IGNORED
from trainables.values import Json

PIXELS, MOST_IMAGES = 50_000, 1000
"""The maximum number of training pixels of a forest, and of the images from which they are drawn.

Neighbouring pixels are alike, so few pixels of many images are enough.
"""
LEAF_PIXELS = 5
"""The smallest number of training pixels in a leaf of a forest."""


class PixelBaseline(PartBaseline):
    """A baseline with probabilities for each pixel; its predictions are masks."""

    @abstractmethod
    def chances(self, fitted: Fitted, image: Images, classes: int) -> Chances:
        """Predict the probability of each class, (height, width, classes)."""

    def measure(self, fitted: Fitted, dataset: Dataset, beat: Beat = no_beat) -> dict[str, float]:
        """Return the mean cross-entropies over pixels, and the metrics of the validation set."""
        classes, metric = len(dataset.classes), self.config.ranked_by
        train, counts, boundaries = spread(dataset.train, TRAIN_MEASURED), [], []
        losses = {"train/loss": 0.0, "val/loss": 0.0}
        pixels = dict.fromkeys(losses, 0)
        for name, part in (("train/loss", train), ("val/loss", dataset.val)):
            for image, truth in zip(part.each(), part.targets, strict=True):
                chances = self.chances(fitted, image, classes)
                losses[name] += _loss_sum(chances, truth)
                pixels[name] += int(np.count_nonzero(truth != IGNORED))
                if name == "val/loss":
                    masks = most_probable(chances), truth
                    counts.append(count_pixels(*masks, classes))
                    if metric.name == "boundary_f1":
                        boundaries.append(boundary_f1(*masks))
                beat()
        return {
            **{name: loss / max(1, pixels[name]) for name, loss in losses.items()},
            **epoch_values(np.array(counts), np.array(boundaries), metric),
        }

    def predict(self, fitted: Sequence[Fitted], images: Arrays, dataset: Dataset) -> list[Mask]:
        """Predict the mask of each image, with folds by the mean of the probabilities."""
        classes = len(dataset.classes)
        return [
            most_probable(mean_chances(self.chances(member, image, classes) for member in fitted))
            for image in images
        ]


class Otsu(PixelBaseline):
    """A threshold on grey values, which Otsu's method finds for each image.

    Foreground is the side that fits the training masks best.
    """

    def fit_to(self, dataset: Dataset, share: float, beat: Beat = no_beat) -> OtsuThreshold:
        """Choose the side of the threshold by its mean IoU; each image is thresholded."""
        counts = np.zeros((len(SIDES), 2, 2), np.int64)
        for image, truth in zip(dataset.train.each(), dataset.train.targets, strict=True):
            for number, side in enumerate(SIDES):
                counts[number] += count_pixels(threshold_mask(image, side), truth, 2)
            beat()
        best = int(mean_iou(counts).argmax())
        accuracy = float(pixel_accuracy(counts[best]).clip(LEAST_ACCURACY, MOST_ACCURACY))
        return OtsuThreshold(side=SIDES[best], accuracy=accuracy)

    def chances(self, fitted: OtsuThreshold, image: Images, classes: int) -> Chances:
        """Return the threshold's accuracy for the predicted class, the rest for the other one."""
        return threshold_chances(image, fitted.side, fitted.accuracy)

    def export(self, fitted: Sequence[OtsuThreshold], folder: Path) -> Json:
        """Write the code of the threshold; its values are among those for `about.json`."""
        shutil.copy(pixel_models.__file__, folder)
        members = [{"side": each.side, "accuracy": each.accuracy} for each in fitted]
        return {"baseline": OTSU, "members": members}

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of a few values on disk, in bytes."""
        return 20_000


class PixelForest(PixelBaseline):
    """A random forest that classifies pixels by the values of filters at several scales."""

    def fit_to(
        self, dataset: Dataset, share: float, beat: Beat = no_beat
    ) -> RandomForestClassifier:
        """Fit a forest to pixels that are drawn evenly from the training images.

        Pixels are weighted by their class if the config says so.
        """
        options, kind = self.config.model.options, self.config.train.class_weights
        features, labels = self._draw_pixels(dataset.train, int(PIXELS * share), beat)
        forest = RandomForestClassifier(
            options["trees"],
            max_depth=options["tree_depth"],
            min_samples_leaf=LEAF_PIXELS,
            random_state=self.config.seed,
        )
        if kind == "none":
            return forest.fit(features, labels)
        weights = class_weights(kind, np.bincount(labels, minlength=len(dataset.classes)))
        return forest.fit(features, labels, sample_weight=weights[labels])

    def chances(self, fitted: RandomForestClassifier, image: Images, classes: int) -> Chances:
        """Predict the probability of each class, tile by tile."""
        return forest_chances(fitted, image, classes)

    def export(self, fitted: Sequence[RandomForestClassifier], folder: Path) -> Json:
        """Write each forest, and the code of its features."""
        shutil.copy(pixel_models.__file__, folder)
        members = [{"file": file} for file in write_classifiers(fitted, folder)]
        return {"baseline": FOREST, "members": members}

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of the forest on disk, in bytes.

        Each leaf has at least `LEAF_PIXELS` pixels, and a node needs 64 bytes and its values.
        """
        leaves = min(2 ** min(options["tree_depth"], 32), PIXELS // LEAF_PIXELS)
        return int(options["trees"] * (2 * leaves * (64 + 8 * outputs) + 20_000))

    def _draw_pixels(
        self, part: Part, most: int, beat: Beat
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw at most `most` pixels; return their features, (pixels, features), and classes."""
        generator = np.random.default_rng(self.config.seed)
        images = spread(part, MOST_IMAGES)
        features, labels = [], []
        for image, truth in zip(images.each(), images.targets, strict=True):
            counted = np.flatnonzero(truth != IGNORED)
            count = min(len(counted), max(1, most // len(images)))
            places = generator.choice(counted, count, replace=False)
            values = pixel_features(image)
            features.append(values.reshape(-1, values.shape[-1])[places])
            labels.append(truth.ravel()[places].astype(np.int64))
            beat()
        return np.concatenate(features), np.concatenate(labels)


def _loss_sum(chances: Chances, truth: Mask) -> float:
    """Return the sum of the cross-entropies of the pixels that count."""
    counted = truth != IGNORED
    own = chances[counted, truth[counted]]
    return float(-np.log(np.maximum(own, LEAST_CHANCE)).sum())
