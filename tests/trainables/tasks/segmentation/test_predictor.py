"""Masks of images of any size, predicted tile by tile."""

import io

import numpy as np
import pytest
from PIL import Image

from trainables.predictors.base import as_list, cut_tile, spans, tiles
from trainables.tasks.segmentation.predictor import (
    mask_png,
    overlay,
    palette,
    predict_mask,
    shares_of,
)


@pytest.mark.parametrize("length", [1, 5, 63, 64, 65, 100, 127, 128, 129, 1000, 4000])
def test_tiles_cover_an_axis_once_and_take_no_pixel_near_an_inner_edge(length: int) -> None:
    found = spans(length, 64)
    assert [span.low for span in found] == [0, *(span.high for span in found[:-1])]
    assert found[-1].high == length
    assert all(0 <= span.start <= max(0, length - 64) for span in found)
    assert all(span.high <= span.start + 64 for span in found)
    assert all(span.low - span.start >= 7 for span in found[1:])
    assert all(span.start + 64 - span.high >= 7 for span in found[:-1])


@pytest.mark.parametrize("size", [(64, 64), (20, 300), (301, 97), (1, 1)])
def test_a_network_that_sees_each_pixel_alone_gives_the_same_mask_as_without_tiles(
    size: tuple[int, int],
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)

    def run(images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (64, 64, 3)
        return np.stack([images[..., 0] < 100, images[..., 0] >= 100], axis=1).astype(float)

    assert (predict_mask(run, image, 64) == (image[..., 0] >= 100)).all()


def test_few_tiles_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return np.zeros((len(images), 2, 256, 256))

    predict_mask(run, np.zeros((2000, 3000, 1), np.uint8), 256)
    assert max(seen) == 16
    assert sum(seen) == len(list(tiles(2000, 3000, 256)))


def test_a_small_image_is_continued_by_its_edges() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    (place,) = tiles(2, 3, 4)
    assert cut_tile(image, *place, 4)[..., 0].tolist() == [
        [0, 1, 2, 2],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
    ]


def test_a_mask_is_a_png_whose_pixels_are_class_numbers() -> None:
    mask = np.array([[0, 1], [7, 200]], np.uint8)
    picture = Image.open(io.BytesIO(mask_png(mask)))
    assert (picture.mode, np.asarray(picture).tolist()) == ("P", mask.tolist())
    colours = np.reshape(palette(), (256, 3))
    assert np.asarray(picture.convert("RGB"))[0, 1].tolist() == colours[1].tolist()
    assert len(np.unique(colours[:100], axis=0)) == 100


def test_only_what_has_a_class_is_coloured() -> None:
    image = np.full((1, 3, 1), 100, np.uint8)
    shown = overlay(image, np.array([[0, 1, 255]], np.uint8))
    assert (shown[0, 0] == 100).all()
    assert (shown[0, 1] != 100).any()
    assert (shown[0, 2] == 100).all()


def test_the_image_is_seen_within_outlines() -> None:
    image, mask = np.full((5, 5, 3), 100, np.uint8), np.zeros((5, 5), np.uint8)
    mask[1:4, 1:4] = 1
    shown, colour = overlay(image, mask), palette()[3:6]
    assert shown[1, 2].tolist() == shown[3, 3].tolist() == colour
    low, high = np.sort([shown[0, 0], colour], axis=0)
    assert ((low < shown[2, 2]) & (shown[2, 2] < high)).all()
    assert (shown[0] == 100).all()


def test_shares_are_those_of_all_classes() -> None:
    assert shares_of(np.array([[0, 0, 2, 2]], np.uint8), ["a", "b", "c"]) == {
        "share of a": 0.5,
        "share of b": 0.0,
        "share of c": 0.5,
    }


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), float), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_told_in_a_line(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"takes uint8 images of shape .* \(got "):
        as_list([image], 3)
