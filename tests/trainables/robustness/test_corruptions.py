import re

import numpy as np
import pytest
from scipy.ndimage import zoom
from skimage.color import hsv2rgb, rgb2hsv

from trainables.robustness.corruptions import (
    CORRUPTIONS,
    _brightness,
    _disk,
    _plasma,
    _zoomed,
    corrupt,
    corrupt_all,
)
from trainables.robustness.stress_tests import PUBLISHED, parameters_of

SHAPES = [(8, 8, 1), (32, 32, 3), (48, 33, 3)]
each_corruption = pytest.mark.parametrize("name", CORRUPTIONS)

# Copied from make_cifar_c.py and make_imagenet_c.py of the authors: severities 1, 3 and 5.
CIFAR_10_C = {
    "gaussian_noise": [(0.04,), (0.08,), (0.10,)],
    "shot_noise": [(500,), (100,), (50,)],
    "impulse_noise": [(0.01,), (0.03,), (0.07,)],
    "defocus_blur": [(0.3, 0.4), (0.5, 0.6), (1.5, 0.1)],
    "glass_blur": [(0.05, 1, 1), (0.4, 1, 1), (0.4, 1, 2)],
    "motion_blur": [(6, 1), (6, 2), (9, 2.5)],
    "zoom_blur": [(1.06, 0.01), (1.16, 0.01), (1.26, 0.01)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "frost": [(1, 0.2), (0.9, 0.4), (0.75, 0.45)],
    "fog": [(0.2, 3), (0.75, 2.5), (1.5, 1.75)],
    "brightness": [(0.05,), (0.15,), (0.3,)],
    "contrast": [(0.75,), (0.4,), (0.15,)],
    "elastic_transform": [(0, 0, 32 * 0.08), (2.56, 1.92, 1.92), (3.2, 0.96, 0.96)],
    "pixelate": [(0.95,), (0.85,), (0.65,)],
    "jpeg_compression": [(80,), (58,), (40,)],
}
IMAGENET_C = {
    "gaussian_noise": [(0.08,), (0.18,), (0.38,)],
    "shot_noise": [(60,), (12,), (3,)],
    "impulse_noise": [(0.03,), (0.09,), (0.27,)],
    "defocus_blur": [(3, 0.1), (6, 0.5), (10, 0.5)],
    "glass_blur": [(0.7, 1, 2), (1, 2, 3), (1.5, 4, 2)],
    "motion_blur": [(10, 3), (15, 8), (20, 15)],
    "zoom_blur": [(1.11, 0.01), (1.21, 0.02), (1.31, 0.03)],
    "snow": [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ],
    "frost": [(1, 0.4), (0.7, 0.7), (0.6, 0.75)],
    "fog": [(1.5, 2), (2.5, 1.7), (3, 1.4)],
    "brightness": [(0.1,), (0.3,), (0.5,)],
    "contrast": [(0.4,), (0.2,), (0.05,)],
    "elastic_transform": [(488, 170.8, 24.4), (12.2, 2.44, 4.88), (29.28, 2.44, 4.88)],
    "pixelate": [(0.6,), (0.4,), (0.25,)],
    "jpeg_compression": [(25,), (15,), (7,)],
}


def drawn_images(shape, count=6):
    """Smooth images with some detail, as photographs have: pure noise hides what a blur changes."""
    generator = np.random.default_rng(3)
    height, width, channels = shape
    rows, columns = np.mgrid[:height, :width]
    waves = generator.uniform(0.2, 1.2, (count, channels, 2))
    images = [
        np.stack([np.sin(a * rows + number) * np.cos(b * columns) for a, b in pairs], axis=2)
        for number, pairs in enumerate(waves)
    ]
    noise = generator.normal(0, 12, (count, *shape))
    return np.clip(120 + 90 * np.array(images) + noise, 0, 255).astype(np.uint8)


def mean_error(images, name, severity):
    corrupted = corrupt_all(images, name, severity, range(len(images)))
    return np.abs(corrupted.astype(float) - images).mean()


@each_corruption
def test_the_parameters_are_the_published_ones(name):
    assert list(CORRUPTIONS) == list(PUBLISHED)
    for side, table in ((32, CIFAR_10_C), (224, IMAGENET_C)):
        of_severities = [parameters_of(name, severity, side) for severity in (1, 3, 5)]
        assert of_severities == [pytest.approx(row) for row in table[name]]


def test_between_the_published_sizes_parameters_are_interpolated():
    assert parameters_of("gaussian_noise", 1, 128) == pytest.approx((0.06,))
    assert parameters_of("motion_blur", 5, 128) == pytest.approx((14.5, 8.75))


def test_only_lengths_grow_beyond_the_published_sizes():
    assert parameters_of("defocus_blur", 2, 448) == pytest.approx((8, 0.5))
    assert parameters_of("gaussian_noise", 5, 448) == parameters_of("gaussian_noise", 5, 224)
    assert parameters_of("motion_blur", 1, 8) == (6, 1)
    assert parameters_of("elastic_transform", 1, 8) == pytest.approx((0, 0, 0.64))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_corruption
def test_each_changes_images_and_keeps_their_form(name, shape):
    images = drawn_images(shape)
    before = images.copy()
    for severity in (1, 5):
        corrupted = corrupt_all(images, name, severity, range(len(images)))
        assert (corrupted.shape, corrupted.dtype) == (images.shape, np.uint8)
        assert (corrupted != images).any()
    np.testing.assert_array_equal(images, before)


@each_corruption
def test_the_same_seed_gives_the_same_image_in_any_batch(name):
    images = drawn_images((32, 32, 3), 3)
    batch = corrupt_all(images, name, 4, [7, 8, 9])
    np.testing.assert_array_equal(batch[1], corrupt(images[1], name, 4, 8))


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "snow", "frost", "fog"])
def test_another_seed_gives_another_image(name):
    image = drawn_images((32, 32, 3), 1)[0]
    assert (corrupt(image, name, 3, 1) != corrupt(image, name, 3, 2)).any()


# The published parameters of the others do not grow in this measure: `glass_blur` has two passes of
# a weak blur after one pass of a stronger one, `motion_blur` a longer kernel with equal weights,
# `frost` a darker image under brighter frost, and `elastic_transform` moves finer parts less far.
GROWING = sorted(set(CORRUPTIONS) - {"glass_blur", "motion_blur", "frost", "elastic_transform"})


@pytest.mark.parametrize("name", GROWING)
def test_the_error_grows_with_the_severity(name):
    images = drawn_images((32, 32, 3), 12)
    errors = [mean_error(images, name, severity) for severity in range(1, 6)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_mean_error_of_all_grows_with_the_severity(shape):
    images = drawn_images(shape, 4)
    errors = [
        np.mean([mean_error(images, name, severity) for name in CORRUPTIONS])
        for severity in range(1, 6)
    ]
    assert np.all(np.diff(errors) > 0), errors


def test_brightness_is_that_of_hsv():
    image = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32)
    image[0, 0] = 0
    expected = rgb2hsv(image)
    expected[..., 2] = np.clip(expected[..., 2] + 0.3, 0, 1)
    brighter = _brightness(image, np.random.default_rng(0), 0.3)
    np.testing.assert_allclose(brighter, hsv2rgb(expected), atol=1e-5)


def test_the_zoom_is_that_of_scipy():
    image = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    whole = zoom(image[3:29, 3:29], (1.25, 1.25, 1), order=1)
    assert whole.shape == (32, 32, 3)
    np.testing.assert_allclose(_zoomed(image, 1.25), whole, atol=1e-5)


@pytest.mark.parametrize(("radius", "smoothing"), [(0.3, 0.4), (3, 0.1), (8, 0.5), (10, 0.5)])
def test_a_disk_blurs_without_changing_the_brightness(radius, smoothing):
    kernel = _disk(radius, smoothing)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert (kernel == kernel[::-1, ::-1]).all()
    assert (kernel >= 0).all()
    assert len(kernel) >= 2 * int(radius) + 1


def test_fog_is_a_rough_surface_that_continues_at_the_opposite_side():
    surface = _plasma(33, 2.0, np.random.default_rng(0))
    assert surface.shape == (64, 64)
    assert (surface.min(), surface.max()) == (0, 1)
    wrapped = np.abs(surface[:, 0] - surface[:, -1]).mean()
    assert wrapped < 2 * np.abs(np.diff(surface, axis=1)).mean()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fogg", 1, 0), "unknown corruption 'fogg'. Known: brightness"),
        (("fog", 6, 0), "the severity must be 1, 2, 3, 4 or 5 (got 6)"),
    ],
)
def test_an_unknown_corruption_or_severity_is_refused(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        corrupt(np.zeros((8, 8, 1), np.uint8), *arguments)


def test_an_image_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"must be uint8 .* \(got float32 \(8, 8\)\)"):
        corrupt(np.zeros((8, 8), np.float32), "fog", 1, 0)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_white_and_tiny_images_can_be_corrupted(name):
    for image in (
        np.zeros((9, 5, 3), np.uint8),
        np.full((2, 7, 1), 255, np.uint8),
        np.full((1, 1, 3), 100, np.uint8),
    ):
        assert corrupt(image, name, 5, 0).shape == image.shape
