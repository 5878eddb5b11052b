"""PSNR and SSIM as papers compute them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from trainables.datasets.arrays import Images
from trainables.tasks.super_resolution.predictor import bicubic
from trainables.tasks.super_resolution.quality import MOST_DB, luma, psnr, ssim
from trainables.tasks.super_resolution.reducing import cut_to_multiple, reduce


@pytest.fixture
def pair() -> tuple[Images, Images]:
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 256, (60, 50, 3), dtype=np.uint8)
    noise = generator.integers(-9, 10, truth.shape)
    return (truth.astype(int) + noise).clip(0, 255).astype(np.uint8), truth


def test_luma_is_that_of_matlab() -> None:
    """The values of `rgb2ycbcr` for black, white and the primary colours."""
    colours = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    image = np.array(colours, np.uint8).reshape(1, 5, 3)
    assert luma(image)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)
    grey = np.array([[[7], [200]]], np.uint8)
    assert luma(grey)[0].tolist() == [7.0, 200.0]


def test_both_agree_with_another_implementation(pair: tuple[Images, Images]) -> None:
    enlarged, truth = (torch.from_numpy(luma(image, 2))[None, None] for image in pair)
    assert psnr(*pair, 2) == pytest.approx(
        float(peak_signal_noise_ratio(enlarged, truth, data_range=255.0)), abs=1e-4
    )
    expected = structural_similarity_index_measure(enlarged, truth, data_range=255.0, sigma=1.5)
    assert ssim(*pair, 2) == pytest.approx(float(expected), abs=2e-3)


def test_the_border_does_not_count(pair: tuple[Images, Images]) -> None:
    enlarged, truth = pair
    changed = enlarged.copy()
    changed[:3] = changed[-3:] = 0
    changed[:, :3] = changed[:, -3:] = 0
    assert psnr(changed, truth, 3) == psnr(enlarged, truth, 3)
    assert psnr(changed, truth, 2) < psnr(enlarged, truth, 2)


def test_a_grey_photograph_is_measured_as_it_is_also_among_coloured_ones(
    pair: tuple[Images, Images],
) -> None:
    grey, truth = (image[..., :1] for image in pair)
    as_colour = truth.repeat(3, axis=2)
    assert psnr(grey.repeat(3, axis=2), as_colour, 2) == pytest.approx(psnr(grey, truth, 2))
    tinted = as_colour.copy()
    tinted[..., 0] ^= 1
    assert 50 < psnr(tinted, as_colour, 2) < 70, "an enlarged image may be slightly tinted"


def test_equal_images_have_finite_values(pair: tuple[Images, Images]) -> None:
    assert psnr(pair[1], pair[1], 2) == MOST_DB
    assert ssim(pair[1], pair[1], 2) == pytest.approx(1.0)


def resized(image: Images, height: int, width: int) -> Images:
    """Resize as MATLAB's `imresize` does: bicubic, antialiased, edges mirrored, rounded once."""

    def matrix(length: int, new: int) -> np.ndarray:
        scale = new / length
        widened = min(1.0, scale)
        reach = int(np.ceil(2 / widened)) + 2
        weights = np.zeros((new, length))
        for row in range(new):
            centre = (row + 0.5) / scale - 0.5
            for place in range(int(centre) - reach, int(centre) + reach + 2):
                distance = abs(widened * (centre - place))
                weight = (
                    1.5 * distance**3 - 2.5 * distance**2 + 1
                    if distance <= 1
                    else -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
                    if distance <= 2
                    else 0.0
                )
                mirrored = place % (2 * length)
                weights[row, min(mirrored, 2 * length - 1 - mirrored)] += weight
        return weights / weights.sum(axis=1, keepdims=True)

    down, across = matrix(image.shape[0], height), matrix(image.shape[1], width)
    values = np.einsum("ij,jkc,lk->ilc", down, image.astype(float), across, optimize=True)
    return np.rint(values).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_bicubic_has_the_psnr_of_matlab(name: str, scale: int) -> None:
    """Published figures were computed by MATLAB, and ours with Pillow's small copies."""
    truth = cut_to_multiple(load_sample_image(name), scale)
    height, width = truth.shape[:2]
    matlab = resized(resized(truth, height // scale, width // scale), height, width)
    ours = bicubic(reduce(truth, scale), scale)
    assert psnr(ours, truth, scale) == pytest.approx(psnr(matlab, truth, scale), abs=0.05)
