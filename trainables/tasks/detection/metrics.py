"""Average precision as COCO computes it, and its standard error over images.

Predicted boxes are matched with true ones image by image, at ten thresholds of intersection over
union (0.5 to 0.95). Average precision is the mean precision at 101 values of recall, of all images
together (https://cocodataset.org/#detection-eval). A test compares it with pycocotools.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import Metric
from trainables.tasks.detection.predictor import CLASS_FOUND, SCORE, Detections
from trainables.tasks.detection.values import CLASS, CROWD, Boxes

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
RESAMPLES = 100
"""The number of bootstrap samples of the images, for standard errors."""
MEDIUM, LARGE = 32**2, 96**2
"""The areas, in pixels, from which COCO calls an object medium, and large."""
SIZES = {"small": (0, MEDIUM), "medium": (MEDIUM, LARGE), "large": (LARGE, np.inf)}
"""The limits of the areas, in pixels of the decoded images, by name."""
EVERY_SIZE = (0.0, np.inf)


class Matches(NamedTuple):
    """The predicted boxes of one class in several images, the surest first."""

    images: NDArray[np.int64]
    """The number of the image of each box, (boxes,)."""
    scores: Floats
    right: Flags
    """True if the box is matched with an object, at each threshold, (boxes, thresholds)."""
    ignored: Flags
    """True if the box does not count, at each threshold, (boxes, thresholds)."""
    objects: NDArray[np.int64]
    """The number of objects in each image, (images,)."""

    @classmethod
    def of_class(
        cls,
        predictions: Sequence[Detections],
        truths: Sequence[Boxes],
        number: int,
        limits: tuple[float, float] = EVERY_SIZE,
    ) -> Self:
        """Match the boxes of a class in all images.

        Args:
            predictions: the predicted boxes of each image, the surest first.
            truths: the true boxes of each image.
            number: the number of the class.
            limits: the least and the largest area of objects; others are ignored.
        """
        each = []
        for own, truth in zip(predictions, truths, strict=True):
            is_own, is_true = own[:, CLASS_FOUND] == number, truth[:, CLASS] == number
            has_any = is_own.any() or is_true.any()  # most images lack most of many classes
            each.append(match(own[is_own], truth[is_true], limits) if has_any else NO_MATCHES)
        scores = np.concatenate([own.scores for own in each])
        order = np.argsort(-scores, kind="stable")
        images = np.repeat(np.arange(len(each)), [len(own.scores) for own in each])
        return cls(
            images[order],
            scores[order],
            np.concatenate([own.right for own in each])[order],
            np.concatenate([own.ignored for own in each])[order],
            np.array([own.objects for own in each], np.int64),
        )

    def up_to_last_right(self) -> Self:
        """Leave out the boxes after the last right one, on which no average precision depends."""
        rows = np.flatnonzero(self.right.any(axis=1))
        end = int(rows[-1]) + 1 if len(rows) else 0
        return self._replace(
            images=self.images[:end],
            scores=self.scores[:end],
            right=self.right[:end],
            ignored=self.ignored[:end],
        )


class ImageMatches(NamedTuple):
    """The predicted boxes of one class in one image."""

    scores: Floats
    right: Flags
    ignored: Flags
    objects: int
    """The number of objects that count."""


NO_MATCHES = ImageMatches(
    np.zeros(0), np.zeros((0, len(THRESHOLDS)), bool), np.zeros((0, len(THRESHOLDS)), bool), 0
)
"""The result for an image that has neither boxes nor objects of a class."""


def match(
    detections: Detections, truth: Boxes, limits: tuple[float, float] = EVERY_SIZE
) -> ImageMatches:
    """Match the boxes of one class in an image with objects: the surest first, with its best one.

    An object is matched once. Crowds, and objects whose area is outside the limits, are matched
    only if no other object fits, and do not count; a crowd may be matched by several boxes.
    """
    # Areas of float32 would be rounded, and could reach a limit that they do not.
    edges = truth[:, :4].astype(np.float64)
    areas = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    is_crowd = truth[:, CROWD] > 0
    is_ignored = is_crowd | (areas < limits[0]) | (areas > limits[1])
    right = np.zeros((len(detections), len(THRESHOLDS)), bool)
    ignored = np.zeros_like(right)
    shares = overlaps(detections, truth, is_crowd)
    is_free = np.ones((len(THRESHOLDS), len(truth)), bool)
    levels = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for row in np.flatnonzero(shares.max(axis=1, initial=0) >= THRESHOLDS[0]).tolist():
        fits = (is_free | is_crowd) & (shares[row] >= levels)
        for some in (~is_ignored, is_ignored):
            is_open = ~(right[row] | ignored[row])
            fitting = fits & some & is_open[:, None]
            at = np.flatnonzero(fitting.any(axis=1))
            # Of equal overlaps the last one, as in pycocotools.
            reversed_shares = np.where(fitting[at], shares[row], -1)[:, ::-1]
            best = len(truth) - 1 - reversed_shares.argmax(axis=1)
            is_free[at, best] = False
            (ignored if some is is_ignored else right)[row, at] = True
            if some is not is_ignored and not is_ignored.any():
                break
    sizes = (detections[:, 2] - detections[:, 0]) * (detections[:, 3] - detections[:, 1])
    is_outside = (sizes < limits[0]) | (sizes > limits[1])
    ignored |= is_outside[:, None] & ~right
    return ImageMatches(detections[:, SCORE], right, ignored, int((~is_ignored).sum()))


def overlaps(detections: Detections, truth: NDArray[Any], is_crowd: Flags) -> Floats:
    """Return the intersection over union of predicted and true boxes, (boxes, objects).

    For a crowd, the intersection is divided by the area of the predicted box.
    """
    first, second = detections[:, None, :4], truth[None, :, :4].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = sides.clip(min=0).prod(axis=-1)
    own, true = ((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (first, second))
    union = np.where(is_crowd, own, own + true - shared)
    shares: Floats = shared / np.maximum(union, 1e-12)
    return shares


def average_precisions(matches: Matches, weights: Floats | None = None) -> Floats:
    """Return the average precision of a class at each threshold; NaN if there are no objects.

    `weights` is the number of times that each image counts; None for once.
    """
    repeats = np.ones(len(matches.objects)) if weights is None else weights
    objects = float((matches.objects * repeats).sum())
    if not objects:
        return np.full(len(THRESHOLDS), np.nan)
    own = repeats[matches.images][:, None]
    right = (own * (matches.right & ~matches.ignored)).cumsum(axis=0)
    wrong = (own * (~matches.right & ~matches.ignored)).cumsum(axis=0)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    highest = np.vstack([highest, np.zeros(len(THRESHOLDS))])
    recall = right / objects
    return np.array(
        [
            highest[np.searchsorted(recall[:, level], RECALLS, side="left"), level].mean()
            for level in range(len(THRESHOLDS))
        ]
    )


class Precision(NamedTuple):
    """The mean average precision of several classes."""

    map: float
    """The mean over the classes that have objects, and over all thresholds; 0 if none has any."""
    map50: float
    """That at the threshold 0.5."""

    @classmethod
    def of(cls, classes: Sequence[Matches], weights: Floats | None = None) -> Self:
        """Compute it from the matches of each class; `weights` as in `average_precisions`."""
        values = np.array([average_precisions(matches, weights) for matches in classes])
        present = values[~np.isnan(values[:, 0])]
        if not len(present):
            return cls(0.0, 0.0)
        return cls(float(present.mean()), float(present[:, 0].mean()))


def matches_of(
    predictions: Sequence[Detections], truths: Sequence[Boxes], classes: int
) -> list[Matches]:
    """Match the boxes of each class in all images."""
    return [Matches.of_class(predictions, truths, number) for number in range(classes)]


def standard_errors(classes: Sequence[Matches]) -> Precision:
    """Return the standard errors of mean average precision, by the bootstrap over images.

    They are the root mean squares of the differences between resampled values and the value itself.
    The average precision of few images is too high on average, and so are the resampled values; the
    standard deviation of these would leave that out (`tests/bench/rates/intervals_of_boxes.py`
    measures how often intervals miss the true value).
    """
    count = len(classes[0].objects)
    if count < 2:
        return Precision(0.0, 0.0)
    classes = [matches.up_to_last_right() for matches in classes]
    generator = np.random.default_rng(0)
    draws = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    values = np.array([Precision.of(classes, weights) for weights in draws.astype(np.float64)])
    differences = values - np.array(Precision.of(classes))
    return Precision(*np.sqrt((differences**2).mean(axis=0)).tolist())


def epoch_values(
    predictions: Sequence[Detections], truths: Sequence[Boxes], classes: int, metric: Metric
) -> dict[str, float]:
    """Return the values of an epoch: both metrics, and the standard error of the one that ranks."""
    matches = matches_of(predictions, truths, classes)
    values, errors = Precision.of(matches), standard_errors(matches)
    return {
        "val/map": values.map,
        "val/map50": values.map50,
        metric.error_key: getattr(errors, metric.name),
        metric.freedom_key: float(freedom(matches)),
    }


def freedom(classes: Sequence[Matches]) -> int:
    """Return the degrees of freedom of the standard errors.

    They are those of a mean over the images with the class that occurs in the fewest of them: a
    class that occurs in three images may decide the mean, and three images say little about it.
    """
    images = [int((matches.objects > 0).sum()) for matches in classes]
    return max(0, min((count for count in images if count), default=0) - 1)


class WorkingPoint(NamedTuple):
    """A score from which on boxes are taken for objects, at an intersection over union of 0.5."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def best_working_point(classes: Sequence[Matches]) -> WorkingPoint:
    """Return the working point with the highest F1 of all classes together."""
    scores = np.concatenate([matches.scores for matches in classes])
    right, ignored = (
        np.concatenate([getattr(matches, name)[:, 0] for matches in classes])
        for name in ("right", "ignored")
    )
    objects = sum(int(matches.objects.sum()) for matches in classes)
    counted = ~ignored
    if not objects or not (right & counted).any():
        return WorkingPoint(0.5, 0.0, 0.0)
    order = np.argsort(-scores[counted], kind="stable")
    scores, hits = scores[counted][order], right[counted][order].cumsum()
    f1 = 2 * hits / (objects + np.arange(1, len(hits) + 1))
    is_last = np.append(scores[1:] < scores[:-1], True)  # no threshold separates equal scores
    best = int(np.where(is_last, f1, 0).argmax())
    # Halfway to the next score, so that rounding does not move a box over the threshold.
    after = scores[best + 1] if best + 1 < len(scores) else 0.0
    threshold = float(scores[best] + after) / 2
    return WorkingPoint(threshold, float(hits[best] / (best + 1)), float(hits[best] / objects))
