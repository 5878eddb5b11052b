"""Thresholds and features of pixels: as in scikit-image, and the same whatever the tiles."""

import numpy as np
import pytest
from PIL import Image
from skimage.filters import threshold_otsu
from sklearn.ensemble import RandomForestClassifier

from trainables.baselines.threshold import SIDES
from trainables.tasks.segmentation import pixel_models
from trainables.tasks.segmentation.pixel_models import (
    forest_chances,
    otsu_threshold,
    pixel_features,
    threshold_mask,
    to_grey,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_that_of_scikit_image(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mixed = np.concatenate([generator.normal(60, 15, 300), generator.normal(160, 30, 100)])
    grey = mixed.clip(0, 255).astype(np.uint8).reshape(20, 20)
    assert otsu_threshold(grey) == threshold_otsu(grey)


def test_grey_is_that_of_pillow() -> None:
    image = noise(20, 30, 3)
    assert np.array_equal(to_grey(image), np.asarray(Image.fromarray(image).convert("L")))
    assert np.array_equal(to_grey(image[..., :1]), image[..., 0])


def test_each_side_of_the_threshold_may_be_foreground() -> None:
    image = np.full((4, 4, 1), 10, np.uint8)
    image[0, :3] = 200
    counts = {side: int(threshold_mask(image, side).sum()) for side in SIDES}
    assert counts == {"bright": 3, "dark": 13, "smaller": 3}
    assert threshold_mask(255 - image, "smaller").sum() == 3


def test_an_image_of_one_value_has_no_foreground() -> None:
    image = np.full((4, 4, 1), 10, np.uint8)
    assert not any(threshold_mask(image, side).any() for side in SIDES)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 1), (5, 1, 3)])
def test_images_of_a_single_row_have_features(shape: tuple[int, int, int]) -> None:
    features = pixel_features(noise(*shape))
    assert features.shape[:2] == shape[:2]
    assert np.isfinite(features).all()


def test_the_tiles_do_not_change_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(150, 190, 1)
    values = pixel_features(image).reshape(150 * 190, -1)
    forest = RandomForestClassifier(3, max_depth=6, random_state=0)
    forest.fit(values, (image.ravel() > 128).astype(np.int64))
    whole = forest_chances(forest, image, 2)
    monkeypatch.setattr(pixel_models, "TILE", 64)
    assert np.array_equal(forest_chances(forest, image, 2), whole)
    assert np.array_equal(whole.reshape(-1, 2), forest.predict_proba(values))
