"""Closeness of an enlarged image to the true one, as papers on super-resolution measure it.

Both measures compare the luma (Y of ITU-R BT.601), of which a border as wide as the scale is left
out.
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


def luma(image: Images, border: int = 0) -> Luma:
    """Return the luma of an image (height, width, channels), without its border.

    A grey image is its own luma.
    """
    inner = image[border : len(image) - border, border : image.shape[1] - border]
    if image.shape[2] == 1:
        return inner[..., 0].astype(np.float64)
    weighted: Luma = inner @ (np.array(LUMA) / PEAK) + 16
    return weighted


def psnr(image: Images, truth: Images, scale: int) -> float:
    """Return the peak signal-to-noise ratio of an enlarged image, in dB; at most `MOST_DB`.

    Args:
        image: uint8 (height, width, channels).
        truth: the true image, of the same shape.
        scale: how many times the image was enlarged.
    """
    error = float(np.mean((luma(image, scale) - luma(truth, scale)) ** 2))
    return MOST_DB if error == 0 else min(MOST_DB, float(10 * np.log10(PEAK**2 / error)))


def ssim(image: Images, truth: Images, scale: int) -> float:
    """Return the structural similarity (Wang et al. 2004), from -1 to 1; 1 for equal images.

    For the arguments see `psnr`.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            luma(image, scale),
            luma(truth, scale),
            data_range=PEAK,
            gaussian_weights=True,
            sigma=SIGMA,
            use_sample_covariance=False,
        )
    )
