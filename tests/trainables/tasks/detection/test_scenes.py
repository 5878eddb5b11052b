"""The drawn scenes of digits: the same each time, with the exact box of each digit."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.tasks.detection import scenes as digit_scenes
from trainables.tasks.detection.scenes import CLASSES, SIDE, TEST, TRAIN, VISIBLE
from trainables.tasks.detection.targets import BoxTargets
from trainables.tasks.detection.values import CROWD, iou

PRINT = """
from trainables.config import DataConfig
from trainables.tasks.detection import scenes as digit_scenes
print(digit_scenes.load(DataConfig(), download=False).fingerprint)
"""


@cache
def draw() -> Decoded:
    return digit_scenes.load(DataConfig(), download=False)


def test_scenes_are_the_same_in_each_process() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PRINT], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == [draw().fingerprint]
    assert digit_scenes.load(DataConfig(), download=False).fingerprint == draw().fingerprint


def test_scenes_have_their_size_and_both_classes() -> None:
    decoded = draw()
    assert decoded.classes == CLASSES
    for part, count in ((decoded.train, TRAIN), (decoded.test, TEST)):
        assert part.images.shape == (count, SIDE, SIDE, 3)
        counts = BoxTargets().class_counts(part, len(CLASSES))
        assert counts.sum() == sum(len(boxes) for boxes in part.targets)
        assert counts.min() > 0.3 * counts.sum()
        assert counts.sum() > 1.5 * count
        empty = sum(not len(boxes) for boxes in part.targets)
        assert 0.05 * count < empty < 0.35 * count
        assert not any(boxes[:, CROWD].any() for boxes in part.targets)


def test_scenes_are_resized_with_their_boxes() -> None:
    whole = digit_scenes.load(DataConfig(image_size=2 * SIDE), download=False)
    for part, original in ((whole.train, draw().train), (whole.test, draw().test)):
        assert part.images.shape[1:] == (2 * SIDE, 2 * SIDE, 3)
        image = Image.fromarray(original.images[0])
        larger = image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BILINEAR)
        assert np.array_equal(part.images[0], np.asarray(larger))
        for boxes, before in zip(part.targets, original.targets, strict=True):
            assert boxes.dtype == np.float32
            assert np.array_equal(boxes[:, :4], 2 * before[:, :4])
            assert np.array_equal(boxes[:, 4:], before[:, 4:])


def test_boxes_lie_in_their_scene_and_hardly_overlap() -> None:
    for boxes in draw().train.targets:
        edges = boxes[:, :4]
        assert (edges == edges.round()).all()
        assert (edges >= 0).all()
        assert (edges <= SIDE).all()
        assert (edges[:, 2:] - edges[:, :2] >= 2).all()
        ratios = iou(boxes[:, None].astype(np.float64), boxes.astype(np.float64))
        assert (np.triu(ratios, 1) < 0.3).all()


def test_each_box_is_exactly_around_the_strong_ink_of_a_digit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ink is read from the scene before it is painted."""
    covers, paint = [], digit_scenes._paint
    monkeypatch.setattr(
        digit_scenes, "_paint", lambda cover, *rest: covers.append(cover) or paint(cover, *rest)
    )
    bunch = load_digits()
    numbers = np.where(np.isin(bunch.target, digit_scenes.ROUND), 0, 1)
    part = digit_scenes.draw_scenes(40, bunch.images / 16, numbers, np.random.default_rng(3))
    boxes_seen = 0
    for cover, boxes in zip(covers, part.targets, strict=True):
        is_seen = np.zeros_like(cover, dtype=bool)
        for left, top, right, bottom in boxes[:, :4].astype(int):
            ink = cover[top:bottom, left:right]
            is_strong = ink > VISIBLE * ink.max()
            for edge in (is_strong[0], is_strong[-1], is_strong[:, 0], is_strong[:, -1]):
                assert edge.any(), "a box is as small as it can be"
            is_seen[top:bottom, left:right] = True
            boxes_seen += 1
        rest = np.where(is_seen, 0, cover)
        # A digit's faint rim may be outside its box, but no digit is without one.
        assert rest.max(initial=0) <= VISIBLE
    assert boxes_seen > 60


def test_digits_are_darker_than_the_paper() -> None:
    """Each box of a painted scene has darker pixels than what is around all of them."""
    differences = []
    for image, boxes in zip(draw().test.images, draw().test.targets, strict=True):
        is_paper = np.ones((SIDE, SIDE), bool)
        for left, top, right, bottom in boxes[:, :4].astype(int):
            is_paper[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = False
        grey = image.mean(axis=2)
        for left, top, right, bottom in boxes[:, :4].astype(int):
            differences.append(
                grey[is_paper].mean() - np.quantile(grey[top:bottom, left:right], 0.2)
            )
    assert min(differences) > 10


def test_training_and_test_scenes_show_different_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    sets, original = [], digit_scenes.draw_scenes

    def note(count, digits, numbers, generator):
        sets.append({digit.tobytes() for digit in digits})
        return original(count, digits, numbers, generator)

    monkeypatch.setattr(digit_scenes, "draw_scenes", note)
    digit_scenes.load(DataConfig(), download=False)
    train, test = sets
    assert len(train) > 1000
    assert len(test) > 300
    assert not train & test
