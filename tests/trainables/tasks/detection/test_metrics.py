"""Average precision against pycocotools, and its standard error against a plain bootstrap."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainables.tasks.detection.entry import ENTRY as DETECTION
from trainables.tasks.detection.metrics import (
    EVERY_SIZE,
    LARGE,
    MEDIUM,
    SIZES,
    THRESHOLDS,
    Matches,
    Precision,
    average_precisions,
    best_working_point,
    match,
    matches_of,
    standard_errors,
)
from trainables.tasks.detection.predictor import Detections
from trainables.tasks.detection.values import COLUMNS, Boxes, no_boxes

CLASSES = 4
"""No object has the last class, but some boxes have."""
AREAS = {"all": EVERY_SIZE, **SIZES}
"""The limits of areas in the order of pycocotools."""
EXACT_SIDES = ((32, 32), (16, 64), (96, 96), (72, 128))
"""Sides of objects whose areas are limits themselves."""


def draw_truth(generator: np.random.Generator, count: int) -> Boxes:
    """Draw objects of all sizes, in quarters of pixels: sums and products of them are exact."""
    truth = np.zeros((count, COLUMNS), np.float32)
    sides = np.round(4 * 10 ** generator.uniform(0.5, 2.3, (count, 2))) / 4
    is_exact = generator.random(count) < 0.3
    exact = generator.integers(len(EXACT_SIDES), size=count)
    sides[is_exact] = np.array(EXACT_SIDES)[exact][is_exact]
    start = generator.integers(0, 400, (count, 2)) / 4
    truth[:, :4] = np.hstack([start, start + sides])
    truth[:, 4] = generator.integers(0, CLASSES - 1, count)
    truth[:, 5] = generator.random(count) < 0.2
    return truth


def draw_detections(generator: np.random.Generator, truth: Boxes) -> Detections:
    """Draw boxes near some objects, of which some several times, and others anywhere."""
    if generator.random() < 0.15:
        return np.zeros((0, COLUMNS))
    near = truth[generator.integers(0, len(truth), 2 * len(truth))] if len(truth) else truth
    boxes = np.vstack([near, draw_truth(generator, generator.integers(0, 5))]).astype(np.float64)
    shift = generator.choice([0, 0, 0.25, 1, 4], (len(boxes), 1)) * generator.integers(
        -2, 3, (len(boxes), 4)
    )
    boxes[:, :4] += shift
    boxes[:, 2:4] = np.maximum(boxes[:, 2:4], boxes[:, :2] + 0.25)
    is_wrong = generator.random(len(boxes)) < 0.2
    boxes[is_wrong, 4] = generator.integers(0, CLASSES, int(is_wrong.sum()))
    # Few different scores, so that many are equal.
    scores = generator.integers(1, 12, len(boxes)) / 12
    own = np.column_stack([boxes[:, :4], scores, boxes[:, 4]])
    return own[np.argsort(-scores, kind="stable")]


def draw_case(seed: int) -> tuple[list[Detections], list[Boxes]]:
    generator = np.random.default_rng(seed)
    truths = [
        draw_truth(generator, int(generator.choice([0, 1, 2, 4, 9])))
        for _ in range(generator.integers(1, 7))
    ]
    return [draw_detections(generator, truth) for truth in truths], truths


def coco_of(each: list[NDArray[Any]], *, are_found: bool) -> COCO:
    """Return boxes in the form of pycocotools."""
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(each, 1):
        for left, top, right, bottom, fifth, sixth in boxes.tolist():
            own = (
                {"score": fifth, "category_id": int(sixth), "iscrowd": 0}
                if are_found
                else {"category_id": int(fifth), "iscrowd": int(sixth)}
            )
            width, height = right - left, bottom - top
            own |= {"image_id": image, "id": len(annotations) + 1, "area": width * height}
            annotations.append({**own, "bbox": [left, top, width, height]})
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, len(each) + 1)],
        "categories": [{"id": number} for number in range(CLASSES)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def coco_precisions(predictions: list[Detections], truths: list[Boxes]) -> NDArray[np.float64]:
    """Return AP by pycocotools, (thresholds, classes, areas); NaN for no objects."""
    evaluation = COCOeval(
        coco_of(truths, are_found=False), coco_of(predictions, are_found=True), "bbox"
    )
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]
    values: NDArray[np.float64] = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return values


@pytest.mark.parametrize("start", range(0, 160, 20))
def test_average_precision_is_that_of_pycocotools(start: int) -> None:
    """For each class, threshold and size, in random cases."""
    has_crowds = False
    for seed in range(start, start + 20):
        predictions, truths = draw_case(seed)
        has_crowds |= any(truth[:, 5].any() for truth in truths)
        expected = coco_precisions(predictions, truths)
        for place, limits in enumerate(AREAS.values()):
            for number in range(CLASSES):
                own = average_precisions(Matches.of_class(predictions, truths, number, limits))
                np.testing.assert_allclose(
                    own, expected[:, number, place], rtol=0, atol=1e-9, err_msg=f"case {seed}"
                )
        values = Precision.of(matches_of(predictions, truths, CLASSES))
        present = expected[:, ~np.isnan(expected[0, :, 0]), 0]
        assert values.map == pytest.approx(present.mean() if present.size else 0, abs=1e-9)
        assert values.map50 == pytest.approx(present[0].mean() if present.size else 0, abs=1e-9)
    assert has_crowds


def test_thresholds_and_sizes_are_those_of_pycocotools() -> None:
    parameters = COCOeval(iouType="bbox").params
    assert parameters.iouThrs == pytest.approx(THRESHOLDS, abs=0)
    assert parameters.areaRngLbl == list(AREAS)
    for (low, high), own in zip(parameters.areaRng, AREAS.values(), strict=True):
        assert own == (low, np.inf if high == 1e10 else high)


@pytest.mark.parametrize(("side", "names"), [(32, ("small", "medium")), (96, ("medium", "large"))])
def test_an_object_as_large_as_a_limit_has_both_sizes(side: int, names: tuple[str, str]) -> None:
    truth = np.array([[3, 4, 3 + side, 4 + side, 0, 0]], np.float32)
    found = np.array([[3, 4, 3 + side, 4 + side, 0.9, 0]])
    counts = {
        name: Matches.of_class([found], [truth], 0, limits).objects.sum()
        for name, limits in SIZES.items()
    }
    assert counts == {name: int(name in names) for name in SIZES}
    assert side**2 in (MEDIUM, LARGE)


def test_a_large_object_in_fractions_of_pixels_has_the_size_of_its_exact_area() -> None:
    """Areas of float32 would be rounded: 96.0009765625 x 95.9990234375 is below 9216."""
    truth = np.array([[0, 0, 96 + 2**-10, 96 - 2**-10, 0, 0]], np.float32)
    own = match(np.zeros((0, COLUMNS)), truth, SIZES["large"])
    assert own.objects == 0


def test_a_class_without_objects_has_no_average_precision_and_does_not_count() -> None:
    truth = np.array([[0, 0, 10, 10, 1, 0]], np.float32)
    found = np.array([[0, 0, 10, 10, 0.9, 1], [0, 0, 9, 9, 0.8, 0]])
    classes = matches_of([found], [truth], 3)
    assert np.isnan(average_precisions(classes[0])).all()
    assert np.isnan(average_precisions(classes[2])).all()
    assert Precision.of(classes) == (pytest.approx(1), pytest.approx(1))
    assert Precision.of([classes[0], classes[2]]) == (0, 0)


def test_only_a_crowd_is_no_object() -> None:
    truth = np.array([[0, 0, 50, 50, 0, 1]], np.float32)
    found = np.array([[0, 0, 10, 10, 0.9, 0], [20, 20, 40, 40, 0.8, 0]])
    (own,) = matches_of([found], [truth], 1)
    assert own.ignored[:, 0].all()
    assert Precision.of([own]) == (0, 0)
    assert best_working_point([own]) == (0.5, 0, 0)


def test_finding_nothing_has_no_precision_and_no_error() -> None:
    truths = [np.array([[0, 0, 10, 10, 0, 0]], np.float32), no_boxes()]
    classes = matches_of([np.zeros((0, COLUMNS))] * 2, truths, 1)
    assert (average_precisions(classes[0]) == 0).all()
    assert Precision.of(classes) == (0, 0)
    assert standard_errors(classes) == (0, 0)
    point = best_working_point(classes)
    assert point == (0.5, 0, 0)
    assert point.f1 == 0


def draw_images(count: int) -> tuple[list[Detections], list[Boxes]]:
    """Draw images whose boxes all have different scores."""
    generator = np.random.default_rng(4)
    truths = [draw_truth(generator, int(generator.integers(0, 4))) for _ in range(count)]
    predictions = [draw_detections(generator, truth) for truth in truths]
    for own in predictions:
        own[:, 4] = -np.sort(-generator.random(len(own)))
    return predictions, truths


def test_a_weight_counts_an_image_several_times() -> None:
    predictions, truths = draw_images(12)
    weights = np.random.default_rng(1).integers(0, 4, 12)
    repeated = [row for row, weight in enumerate(weights) for _ in range(weight)]
    whole = matches_of([predictions[row] for row in repeated], [truths[row] for row in repeated], 3)
    weighted = Precision.of(matches_of(predictions, truths, 3), weights.astype(float))
    assert weighted == pytest.approx(Precision.of(whole), abs=1e-12)
    assert weighted != pytest.approx(Precision.of(matches_of(predictions, truths, 3)), abs=1e-3)


def test_standard_errors_are_those_of_a_plain_bootstrap() -> None:
    predictions, truths = draw_images(20)
    generator, values = np.random.default_rng(3), []
    for _ in range(400):
        rows = generator.integers(0, 20, 20)
        classes = matches_of([predictions[row] for row in rows], [truths[row] for row in rows], 3)
        values.append(Precision.of(classes))
    expected = np.std(values, axis=0, ddof=1)
    assert standard_errors(matches_of(predictions, truths, 3)) == pytest.approx(expected, rel=0.15)
    assert min(expected) > 0.02


def test_one_image_has_no_standard_error() -> None:
    predictions, truths = draw_images(1)
    assert standard_errors(matches_of(predictions, truths, 3)) == (0, 0)


def test_the_best_working_point_has_the_highest_f1_of_all_classes_together() -> None:
    """Of five objects, three boxes of the first four are right; the fifth is false."""
    places = [(20.0 * row, 0.0, 20.0 * row + 10, 10.0) for row in range(8)]
    truth = np.array([(*places[row], row % 2, 0) for row in range(5)], np.float32)
    found = np.array(
        [
            (*places[0], 0.9, 0),
            (*places[1], 0.8, 1),
            (*places[6], 0.7, 1),
            (*places[2], 0.6, 0),
            (*places[7], 0.2, 0),
        ]
    )
    point = best_working_point(matches_of([found], [truth], 2))
    assert point.precision == pytest.approx(3 / 4)
    assert point.recall == pytest.approx(3 / 5)
    assert point.f1 == pytest.approx(2 / 3)
    assert point.threshold == pytest.approx(0.4), "halfway to the next score"


def test_boxes_of_equal_score_are_on_the_same_side_of_the_working_point() -> None:
    """A threshold cannot separate them, so precision and recall are those of all of them."""
    places = [(20.0 * row, 0.0, 20.0 * row + 10, 10.0) for row in range(4)]
    truth = np.array([(*places[0], 0, 0)], np.float32)
    found = np.array([(*places[row], 0.5, 0) for row in range(4)])
    point = best_working_point(matches_of([found], [truth], 1))
    assert (found[:, 4] >= point.threshold).all()
    assert (point.precision, point.recall) == (1 / 4, 1)


def test_both_metrics_of_the_task_are_computed() -> None:
    assert {metric.name for metric in DETECTION.metrics} == set(Precision._fields)
