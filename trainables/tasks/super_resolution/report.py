"""The evaluation of enlarged images: how close each is to the true one, and the hardest of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import Metric
from trainables.datasets.arrays import Images, Part
from trainables.errors import counted
from trainables.tasks.pictures import strip, title_of, to_rgb
from trainables.tasks.super_resolution.predictor import interpolate
from trainables.tasks.super_resolution.quality import luma, psnr, ssim
from trainables.values import Evaluation, Json

HARDEST = 6
"""The number of images that are shown."""
MAX_ROWS = 20
"""The maximum number of images in the table."""
CROP, PANEL_SIDE = 72, 216
"""The side of the square of a large image that is shown, and the side at which it is shown."""


class Quality(NamedTuple):
    """The closeness of an enlarged image to the true one, or of several: arrays, (images,)."""

    loss: Any
    """The mean squared error of pixels from 0 to 1."""
    gain: Any
    """The PSNR minus that of the bicubic enlargement, in dB."""
    psnr: Any
    ssim: Any

    @classmethod
    def of(
        cls,
        enlarged: Images,
        truth: Images,
        small: Images,
        *,
        with_ssim: bool = True,
        reference: float | None = None,
    ) -> Self:
        """Measure an enlarged image.

        Args:
            enlarged: the enlarged image.
            truth: the true one.
            small: the small one.
            with_ssim: False to leave out the SSIM, which is slow; it is then 0.
            reference: the PSNR of the bicubic enlargement (`bicubic_psnr`), if it is known.
        """
        scale = len(truth) // len(small)
        own = psnr(enlarged, truth, scale)
        gain = own - (bicubic_psnr(small, truth) if reference is None else reference)
        loss = float(np.mean((enlarged.astype(np.float64) - truth) ** 2) / 255**2)
        return cls(loss, gain, own, ssim(enlarged, truth, scale) if with_ssim else 0.0)


def bicubic_psnr(small: Images, truth: Images) -> float:
    """Return the PSNR of the bicubic enlargement of an image, in dB."""
    scale = len(truth) // len(small)
    return psnr(interpolate(small, scale, "bicubic"), truth, scale)


def epoch_values(each: NDArray[np.float64], metric: Metric) -> dict[str, float]:
    """Return the values that an epoch reports for the validation set.

    Args:
        each: the values of `Quality` of each image, (images, values).
        metric: the metric that ranks trials.
    """
    values = Quality(*each.T)
    own: NDArray[np.float64] = getattr(values, metric.name)
    return {
        "val/loss": float(values.loss.mean()),
        "val/gain": float(values.gain.mean()),
        "val/psnr": float(values.psnr.mean()),
        metric.key: float(own.mean()),
        metric.error_key: mean_error(own),
    }


def mean_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of these values; 0 for a single one."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def mean_gain(predictions: Sequence[Images], part: Part) -> float:
    """Return the mean gain over bicubic enlargement, in dB."""
    each = [
        Quality.of(*images, with_ssim=False).gain
        for images in zip(predictions, part.targets, part.images, strict=True)
    ]
    return float(np.mean(each))


def report(predictions: Sequence[Images], part: Part, metric: Metric) -> Evaluation:
    """Evaluate the enlarged images of a part.

    Returns:
        The means over the images; the `metric` that ranks trials, with its interval; how many
        images are better than their bicubic enlargement (`above_bicubic`); a table of the hardest
        images, which have the lowest PSNR, and `pictures` of them.
    """
    each = [
        Quality.of(*images) for images in zip(predictions, part.targets, part.images, strict=True)
    ]
    values = Quality(*np.array(each, np.float64).T)
    own: NDArray[np.float64] = getattr(values, metric.name)
    hardest = np.argsort(values.psnr, kind="stable").tolist()
    return {
        "images": len(part),
        "gain": float(values.gain.mean()),
        "psnr": float(values.psnr.mean()),
        "ssim": float(values.ssim.mean()),
        "bicubic_psnr": float((values.psnr - values.gain).mean()),
        "least_gain": float(values.gain.min()),
        "above_bicubic": int((values.gain > 0).sum()),
        "metric": metric.evaluated(float(own.mean()), mean_error(own), len(part) - 1),
        "tables": [_table(part, each, hardest[:MAX_ROWS])],
        "pictures": [_picture(part, row, predictions[row], each[row]) for row in hardest[:HARDEST]],
    }


def _table(part: Part, each: Sequence[Quality], rows: Sequence[int]) -> Json:
    return {
        "title": "Images, the hardest first",
        "columns": ["image", "PSNR (dB)", "bicubic (dB)", "gain (dB)", "SSIM"],
        "rows": [
            [name, own.psnr, own.psnr - own.gain, own.gain, own.ssim]
            for name, own in (
                (
                    f"mean of {counted(len(each), 'image')}",
                    Quality(*np.mean(each, axis=0).tolist()),
                ),
                *((title_of(part, row), each[row]) for row in rows),
            )
        ],
    }


def _picture(part: Part, row: int, enlarged: Images, quality: Quality) -> Json:
    """Show the square of an image that the model improves most: bicubic, model, truth."""
    small, truth = part.images[row], part.targets[row]
    scale = len(truth) // len(small)
    bicubic = interpolate(small, scale, "bicubic")
    down, across = _most_improved(bicubic, enlarged, truth)
    place = slice(down, down + CROP), slice(across, across + CROP)
    times = PANEL_SIDE // CROP
    panels = [
        to_rgb(image[place].repeat(times, axis=0).repeat(times, axis=1))
        for image in (bicubic, enlarged, truth)
    ]
    by_bicubic = quality.psnr - quality.gain
    title = (
        f"{title_of(part, row)}: {quality.psnr:.1f} dB, bicubic {by_bicubic:.1f} dB "
        "(bicubic, model, truth)"
    )
    return strip(title, panels)


def _most_improved(bicubic: Images, enlarged: Images, truth: Images) -> tuple[int, int]:
    """Return the upper left corner of the square where most squared error has gone."""
    truth_luma = luma(truth)
    improvement = (luma(bicubic) - truth_luma) ** 2 - (luma(enlarged) - truth_luma) ** 2
    sums = np.pad(improvement.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = (max(1, side - CROP + 1) for side in improvement.shape)
    down, across = (min(CROP, side) for side in improvement.shape)
    squares = (
        sums[down : down + height, across : across + width]
        - sums[:height, across : across + width]
        - sums[down : down + height, :width]
        + sums[:height, :width]
    )
    row, column = np.unravel_index(squares.argmax(), squares.shape)
    return int(row), int(column)
