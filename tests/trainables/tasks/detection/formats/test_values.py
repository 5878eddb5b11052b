"""The comparison of boxes, which must be that of all pairs."""

import numpy as np
import pytest

from trainables.tasks.detection import values
from trainables.tasks.detection.values import COPY, OVERLAP, RawBoxes, clean_boxes, iou

SIDE = 1000


def compare_all(boxes: RawBoxes) -> tuple[list[bool], int]:
    """Compare all pairs of boxes of the same class: the marks of copies, and the overlaps."""
    ratios = iou(boxes[:, None], boxes)
    are_equal = (boxes[:, None, 4] == boxes[:, 4]) & ~(boxes[:, None, 5] + boxes[:, 5]).astype(bool)
    is_copy: list[bool] = []
    for row in range(len(boxes)):
        is_copy.append(
            any(
                are_equal[row, earlier] and ratios[row, earlier] >= COPY and not is_copy[earlier]
                for earlier in range(row)
            )
        )
    is_pair = np.triu(are_equal & (ratios > OVERLAP), 1)
    is_single = ~np.array(is_copy, bool)
    return is_copy, int(is_pair[is_single][:, is_single].sum())


def random_boxes(seed: int, count: int) -> RawBoxes:
    """Return boxes of which many are copies or near copies of others."""
    generator = np.random.default_rng(seed)
    starts, sides = generator.uniform(0, 600, (count, 2)), generator.uniform(2, 300, (count, 2))
    boxes = np.concatenate([starts, starts + sides], axis=1)
    origins = generator.integers(count // 4, size=count)
    scale = generator.choice([0, 0.0015, 0.003, 0.06], size=(count, 1))
    near = boxes[origins] + scale * np.tile(sides[origins], 2) * generator.normal(size=(count, 4))
    corners = np.where(generator.random((count, 1)) < 0.6, near, boxes).clip(0, SIDE)
    marks = generator.integers(2, size=count), generator.random(count) < 0.1
    return np.column_stack([corners, *marks]).astype(float)


@pytest.mark.parametrize("most", [1, 50, 1_000_000])
@pytest.mark.parametrize("seed", range(4))
def test_neighbours_give_the_results_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch, seed: int, most: int
) -> None:
    monkeypatch.setattr(values, "MANY_PAIRS", most)
    boxes = random_boxes(seed, 250)
    cleaned = clean_boxes(boxes, (SIDE, SIDE))
    assert cleaned.invalid == 0
    is_copy, overlapping = compare_all(boxes)
    assert 20 < sum(is_copy) < 200
    assert overlapping > 10
    assert np.array_equal(cleaned.boxes, boxes[~np.array(is_copy)])
    assert (cleaned.doubled, cleaned.overlapping) == (sum(is_copy), overlapping)


def test_boxes_of_the_least_overlap_are_compared() -> None:
    boxes = np.array([[0, 0, 100, 10, 0, 0], [29.9, 0, 100, 10, 0, 0], [0, 0, 70.1, 10, 1, 0]])
    assert clean_boxes(boxes, (SIDE, SIDE)).overlapping == 1
    boxes[2, 4] = 0
    assert clean_boxes(boxes, (SIDE, SIDE)).overlapping == 2
