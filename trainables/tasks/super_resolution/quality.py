"""Closeness of an enlarged image to the true one, as papers on super-resolution measure it.

Both measures compare the luma (Y of ITU-R BT.601) or, for grey images, the image itself. A border
as wide as the scale is left out.
"""

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.arrays import Images

PEAK = 255.0
MOST_DB = 100.0
"""The PSNR of equal images, which would be infinite."""
LUMA = (65.481, 128.553, 24.966)
"""The weights of red, green and blue, from 0 to 1, in the luma, which is from 16 to 235."""
SIGMA = 1.5
"""The standard deviation of the Gaussian window of SSIM, in pixels; the window has 11 x 11."""

Luma = NDArray[np.float64]


def luma(image: Images, border: int = 0, *, is_grey: bool | None = None) -> Luma:
    """Return the luma of an image (height, width, channels), without its border.

    A grey image, which may have three equal channels, is its own luma, as in papers. `is_grey`
    decides for an image that should be grey, such as an enlarged one; None to look at its channels.
    """
    inner = image[border : len(image) - border, border : image.shape[1] - border]
    if is_grey if is_grey is not None else looks_grey(image):
        mean: Luma = inner.mean(axis=2, dtype=np.float64)
        return mean
    weighted: Luma = inner @ (np.array(LUMA) / PEAK) + 16
    return weighted


def looks_grey(image: Images) -> bool:
    """True if an image has one channel, or equal ones."""
    return image.shape[2] == 1 or bool((image == image[..., :1]).all())


def _lumas(image: Images, truth: Images, border: int) -> tuple[Luma, Luma]:
    is_grey = looks_grey(truth)
    return luma(image, border, is_grey=is_grey), luma(truth, border, is_grey=is_grey)


def psnr(image: Images, truth: Images, scale: int) -> float:
    """Return the peak signal-to-noise ratio of an enlarged image, in dB; at most `MOST_DB`.

    Args:
        image: uint8 (height, width, channels).
        truth: the true image, of the same shape.
        scale: how many times the image was enlarged.
    """
    enlarged_luma, true_luma = _lumas(image, truth, scale)
    error = float(np.mean((enlarged_luma - true_luma) ** 2))
    return MOST_DB if error == 0 else min(MOST_DB, float(10 * np.log10(PEAK**2 / error)))


def ssim(image: Images, truth: Images, scale: int) -> float:
    """Return the structural similarity (Wang et al. 2004), from -1 to 1; 1 for equal images.

    For the arguments see `psnr`.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            *_lumas(image, truth, scale),
            data_range=PEAK,
            gaussian_weights=True,
            sigma=SIGMA,
            use_sample_covariance=False,
        )
    )
