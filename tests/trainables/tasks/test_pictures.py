import base64
import io

import numpy as np
import pytest
from PIL import Image

from trainables.datasets.arrays import Part
from trainables.errors import printable
from trainables.tasks.classification.report import MAX_MISTAKES, confidently_wrong
from trainables.tasks.pictures import LARGEST, thumbnail


def drawn(side: int, channels: int, count: int = 60):
    generator = np.random.default_rng(3)
    part = Part(
        generator.integers(0, 256, (count, side, side, channels), dtype=np.uint8),
        generator.integers(0, 4, count),
    )
    chances = generator.random((count, 4))
    return part, chances / chances.sum(axis=1, keepdims=True)


def opened(data: bytes):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_surest_of_the_wrong_guesses_come_first():
    part, chances = drawn(8, 1)
    found = confidently_wrong(part, chances)
    sure = {
        row: chances[row].max()
        for row in range(len(part))
        if chances[row].argmax() != part.targets[row]
    }
    assert [entry["row"] for entry in found] == sorted(sure, key=sure.get, reverse=True)[
        :MAX_MISTAKES
    ]
    for entry in found:
        assert (
            entry["true"]
            == part.targets[entry["row"]]
            != entry["guess"]
            == chances[entry["row"]].argmax()
        )
        assert entry["confidence"] == sure[entry["row"]]


def test_who_is_right_everywhere_has_none():
    part, _ = drawn(8, 1)
    assert confidently_wrong(part, np.eye(4)[part.targets]) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiny_image_is_kept_pixel_by_pixel(channels):
    part, chances = drawn(9, channels)
    for entry in confidently_wrong(part, chances):
        pixels = part.images[entry["row"]]
        assert (opened(base64.b64decode(entry["webp"])) == np.broadcast_to(pixels, (9, 9, 3))).all()


def test_a_large_image_is_small_and_keeps_its_shape():
    gradient = np.linspace(0, 255, 600).astype(np.uint8)
    data = thumbnail(np.broadcast_to(gradient[None, :, None], (300, 600, 3)).copy())
    assert opened(data).shape == (LARGEST // 2, LARGEST, 3)
    assert len(data) < 20_000


def test_an_image_that_is_a_file_is_named_printably():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    part = Part(images, np.array([0, 1, 1]), ("a/1.png", "b/2\x1b.png", "b/3.png"))
    (one,) = confidently_wrong(part, np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]))
    assert one["name"] == printable("b/2\x1b.png")
    assert "name" not in confidently_wrong(Part(images, part.targets), np.eye(2)[[1, 1, 1]])[0]
