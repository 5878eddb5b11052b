"""The baseline of detection: a random forest that classifies blobs.

`blob_models` finds the blobs, computes their features, and selects boxes.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from trainables.baselines.base import (
    LEAST_CHANCE,
    TRAIN_MEASURED,
    Beat,
    PartBaseline,
    no_beat,
    spread,
    write_classifiers,
)
from trainables.datasets.arrays import Arrays, Dataset, Images, Part
from trainables.tasks.detection import blob_models
from trainables.tasks.detection.blob_models import (
    FOREST,
    Features,
    describe_boxes,
    find_candidates,
    find_objects,
    forest_chances,
)
from trainables.tasks.detection.entry import DetectionOptions
from trainables.tasks.detection.metrics import epoch_values, overlaps
from trainables.tasks.detection.predictor import Detections, find_each
from trainables.tasks.detection.values import CLASS, CROWD, Boxes
from trainables.values import Json

CANDIDATES, MOST_IMAGES = 20_000, 1000
"""The maximum number of training candidates of a forest, and of the images with them."""
NO_OBJECT, EXACT = 0.4, 0.9
"""The intersections over union with an object up to which a candidate is background, and from which
on it is the object. Between them it counts as both, with weights, so that the score of a candidate
is higher the better it fits."""
IN_CROWD = 0.5
"""A candidate of which more than this share is in a crowd is neither object nor background."""
LEAF_CANDIDATES = 3
"""The smallest number of training candidates in a leaf of a forest."""


class LabelledCandidates(NamedTuple):
    """Candidates of several images, with their classes."""

    features: Features
    labels: NDArray[np.int64]
    """The class number of each; that after the last class is background."""
    weights: NDArray[np.float64]

    @classmethod
    def join(cls, each: Sequence["LabelledCandidates"]) -> Self:
        """Concatenate those of several images."""
        return cls(*map(np.concatenate, zip(*each, strict=True)))


class BlobForest(PartBaseline):
    """A random forest that gives each candidate the score of each class."""

    most_images = MOST_IMAGES

    def fit_to(
        self, dataset: Dataset, share: float, beat: Beat = no_beat
    ) -> RandomForestClassifier:
        """Fit to this share of the candidates of the training images."""
        most = int(CANDIDATES * share)
        candidates = self._draw_candidates(dataset.train, len(dataset.classes), most, beat)
        forest = RandomForestClassifier(
            self.config.model.options["trees"],
            min_samples_leaf=LEAF_CANDIDATES,
            random_state=self.config.seed,
        )
        return forest.fit(candidates.features, candidates.labels, sample_weight=candidates.weights)

    def _draw_candidates(
        self, part: Part, classes: int, most: int, beat: Beat
    ) -> LabelledCandidates:
        """Draw about `most` candidates, the same number from each image."""
        generator = np.random.default_rng(self.config.seed)
        images = spread(part, MOST_IMAGES)
        count = max(2, most // len(images))
        each = []
        for image, truth in zip(images.each(), images.targets, strict=True):
            each.append(label_candidates(image, truth, classes, count, generator))
            beat()
        return LabelledCandidates.join(each)

    def measure(
        self, fitted: RandomForestClassifier, dataset: Dataset, beat: Beat = no_beat
    ) -> dict[str, float]:
        """Return the cross-entropy of training candidates, and the metrics of the validation set.

        As for networks, there is no loss of the validation set.
        """
        classes, train = len(dataset.classes), spread(dataset.train, TRAIN_MEASURED)
        most = CANDIDATES * len(train) // max(1, len(dataset.train))
        candidates = self._draw_candidates(train, classes, most, beat)
        chances = forest_chances(fitted, candidates.features, classes)
        own = chances[np.arange(len(chances)), candidates.labels].clip(min=LEAST_CHANCE)
        loss = float(np.average(-np.log(own), weights=candidates.weights))
        predictions = []
        for image in dataset.val.each():
            predictions += self.predict([fitted], [image], dataset)
            beat()
        truths = list(dataset.val.targets)
        metric = self.config.ranked_by
        return {"train/loss": loss, **epoch_values(predictions, truths, classes, metric)}

    def predict(
        self, fitted: Sequence[RandomForestClassifier], images: Arrays, dataset: Dataset
    ) -> list[Detections]:
        """Find the objects in each image, with folds by the mean of the scores."""
        options, classes = self._options, len(dataset.classes)

        def find(image: Images) -> Detections:
            return find_objects(fitted, image, classes, options.most_boxes, options.overlap)

        return find_each(find, images, dataset.side)

    @property
    def _options(self) -> DetectionOptions:
        options = self.config.options
        assert isinstance(options, DetectionOptions)
        return options

    def export(self, fitted: Sequence[RandomForestClassifier], folder: Path) -> Json:
        """Write each forest, and the code that finds and describes candidates."""
        shutil.copy(blob_models.__file__, folder)
        return {
            "baseline": FOREST,
            "members": write_classifiers(fitted, folder),
            "most_boxes": self._options.most_boxes,
            "overlap": self._options.overlap,
        }

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of the forest on disk, in bytes.

        Each leaf has at least `LEAF_CANDIDATES` of the candidates, of which those that count twice
        are at most half; a node needs 64 bytes and its values.
        """
        leaves = 3 * max(CANDIDATES, 2 * images) // (2 * LEAF_CANDIDATES)
        return int(options["trees"] * (2 * leaves * (64 + 8 * (outputs + 1)) + 20_000))


def label_candidates(
    image: Images, truth: Boxes, classes: int, most: int, generator: np.random.Generator
) -> LabelledCandidates:
    """Draw at most `most` candidates of an image; at most half of them overlap with objects.

    A candidate between `NO_OBJECT` and `EXACT` is returned twice, as object and as background.
    """
    boxes, is_crowd = find_candidates(image), truth[:, CROWD] > 0
    shares = overlaps(boxes, truth, is_crowd)
    boxes, shares = (own[~(shares[:, is_crowd] > IN_CROWD).any(axis=1)] for own in (boxes, shares))
    objects, shares = truth[~is_crowd], shares[:, ~is_crowd]
    qualities = shares.max(axis=1, initial=0)
    qualities = ((qualities - NO_OBJECT) / (EXACT - NO_OBJECT)).clip(0, 1)
    near, far = np.flatnonzero(qualities > 0), np.flatnonzero(qualities == 0)
    near = generator.choice(near, min(len(near), most // 2), replace=False)
    far = generator.choice(far, min(len(far), most - len(near)), replace=False)
    rows = np.concatenate([near, far])
    features = describe_boxes(image, boxes[rows])
    numbers = objects[shares[near].argmax(axis=1), CLASS] if len(near) else np.zeros(0)
    labels = np.concatenate([numbers, np.full(len(rows), classes)]).astype(np.int64)
    weights = np.concatenate([qualities[near], 1 - qualities[rows]])
    is_used = weights > 0
    all_features = np.concatenate([features[: len(near)], features])
    return LabelledCandidates(all_features[is_used], labels[is_used], weights[is_used])
