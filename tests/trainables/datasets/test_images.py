"""Large images are worked on in strips, with the same result as in one piece."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from trainables.datasets import images
from trainables.datasets.images import pixels_of, to_levels
from trainables.errors import DataError

DRAW = np.random.default_rng(0)
SIZE = (37, 41)


def drawn(channels: int) -> np.ndarray:
    return DRAW.integers(0, 256, (*SIZE[::-1], channels), dtype=np.uint8)


def half_opaque() -> Image.Image:
    pixels = drawn(4)
    pixels[:20, :, 3] = 255
    return Image.fromarray(pixels, "RGBA")


def with_palette() -> Image.Image:
    image = Image.fromarray(drawn(3)).convert("P", palette=Image.Palette.ADAPTIVE)
    image.info["transparency"] = 3
    return image


def with_a_colour_for_none() -> Image.Image:
    pixels = drawn(3)
    pixels[5, 5] = (1, 2, 3)
    image = Image.fromarray(pixels)
    image.info["transparency"] = (1, 2, 3)
    return image


MADE: dict[str, Callable[[], Image.Image]] = {
    "RGBA": half_opaque,
    "LA": lambda: half_opaque().convert("LA"),
    "a palette": with_palette,
    "a colour for none": with_a_colour_for_none,
    "opaque": lambda: Image.fromarray(drawn(3)).convert("RGBA"),
}


def in_one_piece(image: Image.Image, mode: str) -> np.ndarray:
    seen = image.convert("RGBA")
    if seen.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert(mode))
    ground = Image.new("RGBA", seen.size, "white")
    ground.alpha_composite(seen)
    return np.asarray(ground.convert(mode))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", MADE)
def test_what_is_transparent_is_laid_onto_white_strip_by_strip(
    monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    image, largest = MADE[kind](), list[int]()
    expected = in_one_piece(image, mode)
    new = Image.new

    def note(mode: str, size: tuple[int, int], *colour: str) -> Image.Image:
        if mode == "RGBA":
            largest.append(size[0] * size[1])
        return new(mode, size, *colour)

    monkeypatch.setattr(images, "STRIP_PIXELS", 100)
    monkeypatch.setattr(Image, "new", note)
    assert np.array_equal(pixels_of(image, mode).squeeze(), expected)
    assert max(largest, default=0) <= 100


def test_rows_that_are_longer_than_a_strip_are_scaled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "STRIP_PIXELS", 100)
    for shape in ((1, 300), (3, 300)):
        assert np.array_equal(
            to_levels(np.full(shape, 50, np.uint16), (0, 100)), np.full(shape, 127)
        )


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_values_of_more_bits_are_scaled_strip_by_strip(
    monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    values = (DRAW.random(SIZE) * 70_000 - 1000).clip(0, 65_535).astype(kind)
    expected = to_levels(values, (100, 60_000))
    monkeypatch.setattr(images, "STRIP_PIXELS", 100)
    assert np.array_equal(to_levels(values, (100, 60_000)), expected)
    if kind is np.float32:
        values[-1, -1] = np.nan
        with pytest.raises(DataError, match="NaN or infinite"):
            to_levels(values, (100, 60_000))
