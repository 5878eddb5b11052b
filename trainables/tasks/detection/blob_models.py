"""The baseline of detection: blobs as candidates, which a random forest classifies.

This file is copied with an exported model, so it imports nothing from this project.

    load(folder, description)(image)

finds the objects in an image, uint8 (height, width, channels), of about the size of the training
images. `trainables.tasks.detection.baselines` fits the forests.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Candidates = NDArray[np.float64]
"""The boxes that may be objects, (boxes, 4): left, top, right and bottom, in pixels."""
Detections = NDArray[np.float64]
"""The boxes of an image, (boxes, 6): left, top, right, bottom, score, class number."""

FOREST = "blob_forest"
"""The value of `baseline` in `about.json`."""
LEVELS = 10
"""The number of thresholds of each map, whose connected components are candidates."""
SMOOTHING = 1.0
"""The standard deviation by which a map is smoothed before it is divided, in pixels."""
LEAST_SIDE = 4
"""The shortest side of a candidate, in pixels."""
FIRST_SIGMA, SIGMA_RATIO, SIGMAS = 3.0, 1.25, 12
"""The scales of the Laplacian of Gaussians: the first one in pixels, the ratio, the number."""
LEAST_RESPONSE = 3.0
"""The smallest response of the Laplacian that is a blob, in grey levels."""
MARGIN = 1.2
"""The side of a blob's box, as a multiple of the diameter of a disc with its scale."""
CELLS, AROUND, WIDER = 6, 8, 1.5
"""The cells along a side of a candidate, and of the box around it that is wider by a factor."""
PARTS, DIRECTIONS = 4, 6
"""The cells along a side, and the directions of each, in which gradients are counted."""
TINY = 1e-6
"""Added to divisors that may be 0."""


def maps_of(image: Images) -> list[Floats]:
    """Return the mean of the channels, and of a picture in colour their range, (height, width)."""
    values = image.astype(np.float64)
    grey = values.mean(axis=2)
    return [grey] if image.shape[2] == 1 else [grey, values.max(axis=2) - values.min(axis=2)]


def find_candidates(image: Images) -> Candidates:
    """Find boxes that may be objects, some hundreds to thousands.

    They are the image itself, the boxes around connected components above and below several
    thresholds, and squares around the extrema of the Laplacian of Gaussians at several scales
    (Lindeberg 1998, "Feature Detection with Automatic Scale Selection"). The squares also divide
    objects that touch each other.
    """
    height, width = image.shape[:2]
    whole = np.array([[0, 0, width, height]], np.float64)
    blobs = np.concatenate([own for values in maps_of(image) for own in _boxes_in(values)])
    blobs = blobs.clip(0, [width, height, width, height]).round()
    blobs = blobs[(blobs[:, 2:] - blobs[:, :2] >= LEAST_SIDE).all(axis=1)]
    candidates: Candidates = np.unique(np.concatenate([whole, blobs]), axis=0)
    return candidates


def _boxes_in(values: Floats) -> Iterator[Candidates]:
    smooth = ndimage.gaussian_filter(values, SMOOTHING)
    low, high = np.percentile(smooth, (1, 99))
    for level in np.linspace(low, high, LEVELS + 2)[1:-1]:
        yield _components(smooth > level)
        yield _components(smooth < level)
    for number in range(SIGMAS):
        sigma = FIRST_SIGMA * SIGMA_RATIO**number
        if MARGIN * 2 * np.sqrt(2) * sigma > min(values.shape):
            break
        yield _blobs(values, sigma)


def _components(mask: NDArray[np.bool_]) -> Candidates:
    places = ndimage.find_objects(ndimage.label(mask)[0])
    edges = [(across.start, down.start, across.stop, down.stop) for down, across in places]
    return np.array(edges, np.float64).reshape(-1, 4)


def _blobs(values: Floats, sigma: float) -> Candidates:
    """Return boxes around the extrema of a scale, bright and dark."""
    response = np.abs(sigma**2 * ndimage.gaussian_laplace(values, sigma))
    side = 2 * int(sigma) + 1
    is_peak = (response == ndimage.maximum_filter(response, side)) & (response > LEAST_RESPONSE)
    centres = np.argwhere(is_peak)[:, ::-1] + 0.5
    half = MARGIN * np.sqrt(2) * sigma
    return np.hstack([centres - half, centres + half])


def describe_boxes(image: Images, boxes: Candidates) -> Features:
    """Compute the features of candidates, (boxes, features).

    They are the size and place, means of the pixels in cells of the box and around it, and the
    directions of gradients in cells (Dalal and Triggs 2005). Sums over cells are differences of
    integral images, so that their time does not depend on the size of boxes.
    """
    height, width = image.shape[:2]
    maps = maps_of(image)
    sides = boxes[:, 2:] - boxes[:, :2]
    margins = np.hstack([boxes[:, :2], [width, height] - boxes[:, 2:]]) / np.tile(sides, 2)
    features = [sides, np.log(sides[:, :1] / sides[:, 1:]), margins.clip(0, 1)]
    wide = _widen(boxes, WIDER)
    for values in maps:
        table = _integral(values)
        inner, outer = _cell_means(table, boxes, CELLS), _cell_means(table, wide, AROUND)
        level, spread = np.median(values), inner.std(axis=1, keepdims=True)
        features += [
            (inner - outer.mean(axis=1, keepdims=True)) / (spread + 1),
            (outer - outer.mean(axis=1, keepdims=True)) / (spread + 1),
            np.hstack([spread, inner.mean(axis=1, keepdims=True) - level]),
            outer - level,
        ]
    features.append(_gradients(maps[0], _widen(boxes, MARGIN)))
    return np.hstack(features).astype(np.float32)


def _widen(boxes: Candidates, factor: float) -> Candidates:
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.hstack([middle - factor * half, middle + factor * half])


def _integral(values: Floats) -> Floats:
    """Return the sums of all pixels above and left of each corner, (height + 1, width + 1)."""
    return np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


def _cell_means(table: Floats, boxes: Candidates, cells: int) -> Floats:
    """Return the means over the cells of each box, (boxes, cells * cells).

    Cells have at least one pixel; beyond the image's edges, the nearest ones count.
    """
    shares = np.arange(cells + 1) / cells
    height, width = (length - 1 for length in table.shape)
    spans = []
    for axis, length in ((0, width), (1, height)):
        edges = boxes[:, [axis]] + shares * (boxes[:, [axis + 2]] - boxes[:, [axis]])
        # Halves are rounded up: to even numbers, features would depend on the place of the box.
        edges = np.floor(edges + 0.5).astype(int)
        starts = edges[:, :-1].clip(0, length - 1)
        spans.append((starts, np.maximum(edges[:, 1:], starts + 1).clip(1, length)))
    (x1, x2), (y1, y2) = spans
    x1, x2, y1, y2 = x1[:, None, :], x2[:, None, :], y1[:, :, None], y2[:, :, None]
    sums = table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]
    means: Floats = sums / ((y2 - y1) * (x2 - x1))
    return means.reshape(len(boxes), -1)


def _gradients(values: Floats, boxes: Candidates) -> Floats:
    """Return the strength of gradients by cell and direction, divided by the norm of the box's."""
    smooth = ndimage.gaussian_filter(values, SMOOTHING / 2)
    down, across = ndimage.sobel(smooth, axis=0) / 8, ndimage.sobel(smooth, axis=1) / 8
    strength = np.hypot(down, across)
    bins = (np.arctan2(down, across) % np.pi * DIRECTIONS / np.pi).astype(int) % DIRECTIONS
    each = [
        _cell_means(_integral(strength * (bins == number)), boxes, PARTS)
        for number in range(DIRECTIONS)
    ]
    joined = np.hstack(each)
    shares: Floats = joined / (np.sqrt((joined**2).sum(axis=1, keepdims=True)) + 1)
    return shares


def forest_chances(forest: Any, features: Features, classes: int) -> Floats:
    """Return the score of each class and of background, (boxes, classes + 1)."""
    chances = np.zeros((len(features), classes + 1))
    chances[:, forest.classes_] = forest.predict_proba(features)
    return chances


def find_objects(
    forests: Sequence[Any], image: Images, classes: int, most: int, overlap: float
) -> Detections:
    """Find the objects in an image, the surest first.

    Args:
        forests: of which the mean of the scores is used.
        image: uint8 (height, width, channels).
        classes: the number of classes; the forests' next number is background.
        most: the maximum number of boxes.
        overlap: the intersection over union above which a box hides a less sure one of its class.
    """
    boxes = find_candidates(image)
    features = describe_boxes(image, boxes)
    chances = np.mean([forest_chances(forest, features, classes) for forest in forests], axis=0)
    detections = [
        _distinct(boxes, chances[:, number], number, most, overlap) for number in range(classes)
    ]
    joined = np.concatenate(detections)
    surest: Detections = joined[np.argsort(-joined[:, 4], kind="stable")[:most]]
    return surest


def _distinct(
    boxes: Candidates, scores: Floats, number: int, most: int, overlap: float
) -> Detections:
    """Return the boxes of a class that no surer one hides.

    Each is the mean of itself and the boxes that it hides, weighted by their scores (as in Gidaris
    and Komodakis 2015, "Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN
    Model"), which is more exact than the surest one.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    boxes, scores = boxes[order], scores[order]
    rows = list[list[float]]()
    while len(boxes) and len(rows) < most:
        shares = intersection_over_union(boxes[:1], boxes)[0]
        is_same = shares > overlap
        is_same[0] = True
        mean = np.average(boxes[is_same], axis=0, weights=scores[is_same] ** 2)
        rows.append([*mean, scores[0], number])
        boxes, scores = boxes[~is_same], scores[~is_same]
    return np.array(rows, np.float64).reshape(-1, 6)


def intersection_over_union(first: Candidates, second: Candidates) -> Floats:
    """Return the intersection over union of boxes, (boxes, others)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    shared = (high - low).clip(min=0).prod(axis=-1)
    areas, other_areas = ((own[:, 2:4] - own[:, :2]).prod(axis=-1) for own in (first, second))
    ratios: Floats = shared / (areas[:, None] + other_areas - shared + TINY)
    return ratios


def load(folder: Path, description: Mapping[str, Any]) -> Callable[[Images], Detections]:
    """Load a model from its folder; return its function from an image to its boxes.

    Args:
        folder: the model's folder.
        description: the values in its `about.json`.
    """
    import skops.io

    forests = [
        skops.io.load(folder / name, trusted=["sklearn.tree._tree.Tree"])
        for name in description["members"]
    ]
    classes, most = len(description["classes"]), description["most_boxes"]
    return lambda image: find_objects(forests, image, classes, most, description["overlap"])
