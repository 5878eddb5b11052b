"""The checks and strata of masks."""

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part, Ragged
from trainables.errors import DataError
from trainables.tasks.segmentation.metrics import MEASURES, count_pixels
from trainables.tasks.segmentation.targets import MaskTargets, present_classes


def check(masks):
    decoded = Decoded(("a", "b"), Part(np.zeros((len(masks), 6, 5, 3), np.uint8), masks))
    MaskTargets().check(decoded, DataConfig(name="folder", root="x", task="segmentation"))


def test_masks_that_fit_are_accepted():
    masks = np.zeros((4, 6, 5), np.uint8)
    masks[0, 0], masks[1, 0] = 1, 255
    check(masks)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((4, 6, 4), np.uint8), "4 masks have another size than their images .*4 x 6"),
        (
            np.full((4, 6, 5), 2, np.uint8),
            "class number 2, but the classes have the numbers 0 to 1",
        ),
        (np.full((4, 6, 5), 1, np.uint8), "every pixel of the 4 training masks is of class 'b'"),
        (np.full((4, 6, 5), 255, np.uint8), "every pixel of the 4 training masks is ignored"),
        (np.zeros((2, 6, 5), np.uint8), "2 images cannot be divided into 3 sets"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
    with pytest.raises(DataError, match=message):
        check(masks)


def test_the_classes_of_an_image_do_not_include_what_is_ignored():
    masks = [np.array([[0, 255]], np.uint8), np.array([[254], [3]], np.uint8)]
    present = present_classes(Ragged.of(masks))
    assert [np.flatnonzero(row).tolist() for row in present] == [[0], [3, 254]]


def test_the_stratum_is_the_rarest_class_that_is_frequent_enough():
    masks = np.zeros((40, 4, 4), np.uint8)
    masks[:25, 0] = 1
    masks[:12, 1] = 2
    masks[:3, 2] = 3
    assert MaskTargets().strata(masks).tolist() == [2] * 12 + [1] * 13 + [0] * 15


def test_the_guess_is_the_commonest_class_of_each_set_and_its_values_those_of_its_masks():
    generator = np.random.default_rng(0)
    parts = []
    for foreground in (0.2, 0.3, 0.7):
        masks = (generator.random((5, 8, 8)) < foreground).astype(np.uint8)
        masks[:, 0] = 255
        parts.append(Part(np.zeros((5, 8, 8, 3), np.uint8), masks))
    dataset = Dataset("x", ("ground", "cell"), *parts, "f", side=32)
    ground, cell = MaskTargets().guesses(dataset)
    assert (ground.says, cell.says) == ("ground", "cell")
    assert ground.test["iou"] < cell.test["iou"], "each set has its own commonest class"
    for number, guess in enumerate((ground, cell)):
        for values, part in ((guess.val, dataset.val), (guess.test, dataset.test)):
            counts = np.sum(
                [count_pixels(np.full_like(mask, number), mask, 2) for mask in part.targets],
                axis=0,
            )
            assert values == pytest.approx(
                {name: float(measure(counts)) for name, measure in MEASURES.items()}
            )


def test_a_guess_without_a_test_set_has_no_values_for_it():
    masks = np.zeros((5, 8, 8), np.uint8)
    masks[:, :3] = 1
    part = Part(np.zeros((5, 8, 8, 3), np.uint8), masks)
    (guess,) = MaskTargets().guesses(Dataset("x", ("a", "b"), part, part, None, "f", side=32))
    assert guess.test == {}
    assert guess.val["pixel_accuracy"] == 5 / 8
