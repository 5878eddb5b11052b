"""The evaluation of boxes: tables, a picture of precision and recall, and the hardest images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.catalog.entries import Metric
from trainables.datasets.arrays import Images, Part
from trainables.errors import counted, printable
from trainables.tasks.detection.metrics import (
    SIZES,
    Matches,
    Precision,
    average_precisions,
    best_working_point,
    freedom,
    matches_of,
    overlaps,
    standard_errors,
)
from trainables.tasks.detection.predictor import (
    CLASS_FOUND,
    SCORE,
    Detections,
    class_colour,
    draw_boxes,
    one_class_each,
)
from trainables.tasks.detection.values import CLASS, CROWD, Boxes
from trainables.tasks.pictures import strip, table_value, title_of, to_rgb
from trainables.values import Evaluation, Json

HARDEST = 6
"""The number of images that are shown."""
PANEL = 320
"""The longer side of an image that is shown, in pixels."""
CURVE, MARGIN = 260, 34
"""The side of the square of the curves, and the margin for its labels, in pixels."""
MOST_CURVES = 10
"""The maximum number of classes with a curve; those with the most objects are shown."""
MATRIX_CLASSES, MOST_PAIRS = 30, 20
"""The maximum number of classes in the table of all confusions, and of pairs in the other one."""
SAME = 0.5
"""The intersection over union from which on a box is around an object."""


class ImageResult(NamedTuple):
    """The boxes of an image at the working point, compared with its objects."""

    pairs: list[tuple[int, int]]
    """The rows of each box and of the object that it is around, whatever their classes."""
    missed: list[int]
    """The rows of objects that no box is around."""
    false: list[int]
    """The rows of boxes that are around no object."""


def report(
    predictions: Sequence[Detections], part: Part, classes: Sequence[str], metric: Metric
) -> Evaluation:
    """Evaluate the boxes in the images of a part.

    Returns:
        The mean average precisions; the `metric` that ranks trials, with its interval; precision
        and recall at the `threshold` with the highest F1 on these images; tables of the classes, of
        the sizes and of confused classes; and `pictures` of precision and recall, and of the images
        with the most mistakes.
    """
    truths: list[Boxes] = list(part.targets)
    matches = matches_of(predictions, truths, len(classes))
    values, errors = Precision.of(matches), standard_errors(matches)
    distinct = [one_class_each(own) for own in predictions]
    distinct_matches = matches_of(distinct, truths, len(classes))
    point = best_working_point(distinct_matches)
    objects = [own[own[:, SCORE] >= point.threshold] for own in distinct]
    results = [compare(*pair) for pair in zip(objects, truths, strict=True)]
    mistakes = [
        len(result.missed) + len(result.false) + _confused(result, own, truth)
        for result, own, truth in zip(results, objects, truths, strict=True)
    ]
    hardest = np.argsort(-np.array(mistakes), kind="stable").tolist()[:HARDEST]
    return {
        "images": len(part),
        "map": values.map,
        "map50": values.map50,
        "objects": sum(int(own.objects.sum()) for own in matches),
        "threshold": point.threshold,
        "precision": point.precision,
        "recall": point.recall,
        "metric": metric.evaluated(
            getattr(values, metric.name), getattr(errors, metric.name), freedom(matches)
        ),
        "tables": [
            _class_table(matches, distinct_matches, classes, point.threshold),
            _size_table(predictions, truths, len(classes)),
            _confusion_table(results, objects, truths, classes),
        ],
        "pictures": [
            _curves(matches, classes),
            *(
                _picture(part, row, objects[row], results[row], mistakes[row])
                for row in hardest
                if mistakes[row] or row == hardest[0]
            ),
        ],
    }


def compare(detections: Detections, truth: Boxes) -> ImageResult:
    """Pair the boxes of an image with its objects, those with the largest overlap first."""
    is_crowd = truth[:, CROWD] > 0
    shares = overlaps(detections, truth, is_crowd)
    in_crowds = np.any(shares[:, is_crowd] >= SAME, axis=1)
    pairs: list[tuple[int, int]] = []
    objects = shares * ~is_crowd
    for _ in range(min(objects.shape)):
        box, target = np.unravel_index(int(objects.argmax()), objects.shape)
        if objects[box, target] < SAME:
            break
        pairs.append((int(box), int(target)))
        objects[box], objects[:, target] = 0, 0
    boxes, targets = {box for box, _ in pairs}, {target for _, target in pairs}
    return ImageResult(
        pairs,
        [row for row in range(len(truth)) if row not in targets and not is_crowd[row]],
        [row for row in range(len(detections)) if row not in boxes and not in_crowds[row]],
    )


def _confused(result: ImageResult, detections: Detections, truth: Boxes) -> int:
    return sum(detections[box, CLASS_FOUND] != truth[row, CLASS] for box, row in result.pairs)


def _class_table(
    matches: Sequence[Matches],
    distinct: Sequence[Matches],
    classes: Sequence[str],
    threshold: float,
) -> Json:
    """Return a table of the classes: from all boxes, and at a working point from distinct ones."""
    rows = []
    for name, every, own in zip(classes, matches, distinct, strict=True):
        values = average_precisions(every)
        is_object = (own.scores >= threshold) & ~own.ignored[:, 0]
        right, count = int((own.right[:, 0] & is_object).sum()), int(own.objects.sum())
        rows.append(
            [
                printable(name),
                count,
                table_value(float(values.mean())),
                table_value(float(values[0])),
                right / int(is_object.sum()) if is_object.any() else "none",
                right / count if count else "none",
            ]
        )
    return {
        "title": f"Each class (precision and recall at a score of {threshold:.2f})",
        "columns": ["class", "objects", "AP50-95", "AP50", "precision", "recall"],
        "rows": rows,
    }


def _size_table(predictions: Sequence[Detections], truths: Sequence[Boxes], classes: int) -> Json:
    rows = []
    for name, limits in SIZES.items():
        matches = [
            Matches.of_class(predictions, truths, number, limits) for number in range(classes)
        ]
        values = np.array([average_precisions(own) for own in matches])
        present = values[~np.isnan(values[:, 0])]
        count = sum(int(own.objects.sum()) for own in matches)
        low, high = (f"{limit**0.5:.0f} x {limit**0.5:.0f}" for limit in limits)
        title = f"{name}: at least {low} pixels" if limits[1] == np.inf else f"{name}: below {high}"
        rows.append([title, count, float(present.mean()) if len(present) else "none"])
    return {
        "title": "Each size, in pixels of the resized images (limits belong to both sizes)",
        "columns": ["size", "objects", "mAP50-95"],
        "rows": rows,
    }


def _confusion_table(
    results: Sequence[ImageResult],
    objects: Sequence[Detections],
    truths: Sequence[Boxes],
    classes: Sequence[str],
) -> Json:
    counts = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    for result, own, truth in zip(results, objects, truths, strict=True):
        for box, row in result.pairs:
            counts[int(truth[row, CLASS]), int(own[box, CLASS_FOUND])] += 1
        for row in result.missed:
            counts[int(truth[row, CLASS]), -1] += 1
        for box in result.false:
            counts[-1, int(own[box, CLASS_FOUND])] += 1
    names = [printable(name) for name in classes]
    if len(classes) > MATRIX_CLASSES:
        return _confused_pairs(counts, names)
    table = [
        [name, *row] for name, row in zip([*names, "background"], counts.tolist(), strict=True)
    ]
    table[-1][-1] = ""
    return {
        "title": "True classes (rows) and predicted ones at this score",
        "columns": ["true class", *names, "missed"],
        "rows": table,
    }


def _confused_pairs(counts: NDArray[np.int64], names: Sequence[str]) -> Json:
    """Return a table of the most frequent confusions, instead of one with all classes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(counts)) for place in most]
    return {
        "title": "The most frequent mistakes at this score",
        "columns": ["true class", "predicted class", "objects"],
        "rows": [
            [[*names, "background"][true], [*names, "missed"][own], int(wrong[true, own])]
            for true, own in pairs
            if wrong[true, own]
        ],
    }


def _curves(matches: Sequence[Matches], classes: Sequence[str]) -> Json:
    """Draw precision over recall of the classes with the most objects, at an overlap of a half."""
    commonest = sorted(range(len(classes)), key=lambda number: -matches[number].objects.sum())
    classes_drawn = [number for number in commonest[:MOST_CURVES] if matches[number].objects.sum()]
    picture = Image.new("RGB", (CURVE + MARGIN + 150, CURVE + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((MARGIN, MARGIN, MARGIN + CURVE, MARGIN + CURVE), None, "grey")
    pen.text((MARGIN, 10), "precision (up) over recall (right), 0 to 1", fill="black")
    for place, number in enumerate(classes_drawn):
        colour = tuple(round(0.8 * level) for level in class_colour(number))
        points = _curve(matches[number])
        pen.line([(MARGIN + CURVE * x, MARGIN + CURVE * (1 - y)) for x, y in points], colour, 2)
        row = MARGIN + 16 * place
        pen.rectangle((MARGIN + CURVE + 10, row, MARGIN + CURVE + 20, row + 10), colour)
        pen.text((MARGIN + CURVE + 26, row), printable(classes[number])[:18], fill="black")
    return strip("Precision and recall", [picture])


def _curve(matches: Matches) -> list[tuple[float, float]]:
    counted_boxes = ~matches.ignored[:, 0]
    right = matches.right[counted_boxes, 0].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    recall = right / matches.objects.sum()
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    points = list(zip(recall.tolist(), highest.tolist(), strict=True))
    start = [(0.0, points[0][1])] if points else [(0.0, 0.0)]
    end = points[-1][0] if points else 0.0
    return [*start, *points, (end, 0.0)]


def _picture(
    part: Part, row: int, detections: Detections, result: ImageResult, mistakes: int
) -> Json:
    """Show an image with its true boxes, beside the same image with the predicted ones."""
    image, truth = part.images[row], part.targets[row]
    labels = ["missed" if number in result.missed else "" for number in range(len(truth))]
    own_labels = ["false" if number in result.false else "" for number in range(len(detections))]
    panels = [
        _drawn(image, truth[:, :4], truth[:, CLASS].astype(int), labels),
        _drawn(image, detections[:, :4], detections[:, CLASS_FOUND].astype(int), own_labels),
    ]
    title = (
        f"{title_of(part, row)}: {counted(mistakes, 'mistake')}, {len(result.missed)} missed, "
        f"{len(result.false)} false (truth, model)"
    )
    return strip(title, panels)


def _drawn(
    image: Images,
    boxes: NDArray[np.floating],
    numbers: NDArray[np.integer],
    labels: Sequence[str],
) -> Image.Image:
    """Draw boxes on an image that is resized so that its longer side has `PANEL` pixels."""
    factor = PANEL / max(image.shape[:2])
    picture = to_rgb(image)
    size = round(picture.width * factor), round(picture.height * factor)
    resized = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(draw_boxes(resized, boxes * factor, numbers, labels))
