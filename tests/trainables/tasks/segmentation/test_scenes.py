"""The drawn scenes: the same each time, with masks that fit what is seen."""

import numpy as np
from sklearn.datasets import load_digits

from trainables.config import DataConfig
from trainables.datasets.arrays import Decoded
from trainables.tasks.segmentation import scenes


def drawn() -> Decoded:
    return scenes.load(DataConfig(), download=False)


def test_scenes_are_the_same_each_time():
    first, second = drawn(), drawn()
    assert first.fingerprint == second.fingerprint
    assert first.train.images.shape == (250, 64, 64, 3)
    assert first.test.targets.shape == (100, 64, 64)


def test_every_class_occurs_in_both_parts():
    for part in (drawn().train, drawn().test):
        shares = np.bincount(part.targets.ravel(), minlength=3) / part.targets.size
        assert shares[0] > 0.7
        assert min(shares[1:]) > 0.02


def test_digits_stand_out_from_the_texture():
    part = drawn().test
    contrasts = [
        abs(image[mask > 0].mean() - image[mask == 0].mean())
        for image, mask in zip(part.images, part.targets, strict=True)
        if mask.any()
    ]
    assert min(contrasts) > 10


def test_training_and_test_scenes_show_different_digits(monkeypatch):
    digits = load_digits().images / 16
    rows = {digit.tobytes(): row for row, digit in enumerate(digits)}
    drawn_rows = []
    original = scenes._enlarge

    def note(digit, times):
        drawn_rows.append(rows.get(digit.tobytes()))
        return original(digit, times)

    monkeypatch.setattr(scenes, "_enlarge", note)
    whole = drawn()
    in_train, in_test = set(), set()
    scene = 0
    for row in drawn_rows:
        if row is not None:
            (in_train if scene < 3 * len(whole.train) else in_test).add(row)
        else:
            scene += 1  # each scene ends with three textures
    assert len(in_train) > 200
    assert len(in_test) > 100
    assert not in_train & in_test
