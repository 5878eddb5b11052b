"""The evaluation of masks: metrics with intervals, a table of classes, and the worst images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.catalog.entries import Metric
from trainables.datasets.arrays import Images, Part
from trainables.errors import printable
from trainables.tasks.pictures import strip, table_value, to_rgb
from trainables.tasks.segmentation.metrics import (
    MEASURES,
    Counts,
    Mask,
    boundary_f1,
    class_dices,
    class_ious,
    count_pixels,
    mean_iou,
    metric_error,
)
from trainables.tasks.segmentation.predictor import overlay
from trainables.values import Evaluation, Json

WORST = 8
"""The number of images that are shown."""
PANEL = 224
"""The maximum side of each of the three panels of an image, in pixels."""


def report(
    predictions: Sequence[Mask], part: Part, classes: Sequence[str], metric: Metric
) -> Evaluation:
    """Evaluate the predicted masks of a part.

    Returns:
        The metrics over the pixels of all images; the mean over images of each one's mean IoU
        (`iou_by_image`) and boundary F1; the `metric` that ranks trials, with the interval of a
        bootstrap over images; `tables` of classes and images; and `pictures` of the worst images.
    """
    pairs = list(zip(predictions, part.targets, strict=True))
    counts = np.array([count_pixels(*pair, len(classes)) for pair in pairs])
    by_image = mean_iou(counts)
    boundaries = np.array([boundary_f1(*pair) for pair in pairs])
    pooled = {name: float(measure(counts.sum(axis=0))) for name, measure in MEASURES.items()}
    values = {**pooled, "boundary_f1": float(boundaries.mean())}
    error = metric_error(counts, boundaries, metric)
    worst = np.argsort(by_image, kind="stable")[:WORST].tolist()
    return {
        "images": len(part),
        **values,
        "iou_by_image": float(np.nanmean(by_image)),
        "metric": metric.evaluated(values[metric.name], error, len(part) - 1),
        "tables": [_class_table(counts, classes), _image_table(by_image, boundaries)],
        "pictures": [_picture(part, row, predictions[row], float(by_image[row])) for row in worst],
    }


def _class_table(counts: Counts, classes: Sequence[str]) -> Json:
    pooled = counts.sum(axis=0)
    shares = pooled.sum(axis=1) / max(1, pooled.sum())
    images = (counts.sum(axis=2) > 0).sum(axis=0)
    rows = zip(
        classes, images.tolist(), shares, class_ious(pooled), class_dices(pooled), strict=True
    )
    return {
        "title": "Each class",
        "columns": ["class", "images with it", "share of pixels", "IoU", "Dice"],
        "rows": [
            [name, count, float(share), table_value(iou), table_value(dice)]
            for name, count, share, iou, dice in rows
        ],
    }


def _image_table(by_image: NDArray[np.float64], boundaries: NDArray[np.float64]) -> Json:
    shares = (0, 10, 50, 90, 100)
    return {
        "title": "Images, from the worst to the best",
        "columns": ["of the images", "mean IoU", "boundary F1"],
        "rows": [
            [
                {0: "worst", 50: "median", 100: "best"}.get(share, f"{share} % are below"),
                float(np.nanpercentile(by_image, share)),
                float(np.percentile(boundaries, share)),
            ]
            for share in shares
        ],
    }


def _picture(part: Part, row: int, prediction: Mask, iou: float) -> Json:
    """Show an image beside its true and its predicted mask, laid over it."""
    image = part.images[row]
    panels = [image, overlay(image, part.targets[row]), overlay(image, prediction)]
    name = f"{printable(part.names[row])}: " if part.names is not None else ""
    title = f"{name}IoU {iou:.2f} (image, truth, prediction)"
    return strip(title, [_fitted(panel) for panel in panels])


def _fitted(panel: Images) -> Image.Image:
    """Enlarge or reduce a panel to about the side of `PANEL` pixels."""
    picture = to_rgb(panel)
    enlarged = PANEL // max(picture.size)
    if enlarged > 1:
        size = picture.width * enlarged, picture.height * enlarged
        picture = picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((PANEL, PANEL))
    return picture
