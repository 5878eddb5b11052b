"""Detection: boxes move with their images, and a trained model finds the same boxes everywhere."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.augmentation.augment import augment, draw
from trainables.checkpoints import checkpoint
from trainables.config import AugmentConfig, DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part, Ragged
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.export.export import export
from trainables.export.model import model_class
from trainables.export.runtime import in_onnxruntime
from trainables.predictors.base import ONNX
from trainables.tasks.detection.predictor import SCORE, Predictor, objects_in
from trainables.tasks.detection.targets import BoxTargets
from trainables.tasks.detection.training import Detection, move_boxes
from trainables.tasks.detection.values import CLASS, COLUMNS, no_boxes
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training

BASE = {
    "data.task": "detection",
    "data.name": "digit_scenes",
    "model.name": "center_points",
    "model.width": 8,
    "optimizer.lr": 5e-3,
    "batch_size": 8,
    "epochs": 4,
    "precision": "fp32",
}

# Moving

HEIGHT, WIDTH, COUNT = 96, 128, 64
CHANGES = {
    "flip": AugmentConfig(flip=True),
    "crop": AugmentConfig(crop=20),
    "crop and flip": AugmentConfig(crop=20, flip=True),
    "rotation": AugmentConfig(rotation=180),
    "scale": AugmentConfig(scale=0.4),
    "all": AugmentConfig(rotation=60, scale=0.3, crop=12, flip=True, jitter=0.2),
}


def draw_boxes(*, lowest: int = 16) -> Tensor:
    """Draw one box for each image, (images, 1, 6), in whole pixels."""
    generator = np.random.default_rng(6)
    sides = generator.integers(lowest, 44, (COUNT, 2))
    start = (generator.random((COUNT, 2)) * ([WIDTH, HEIGHT] - sides)).astype(int)
    boxes = np.hstack([start, start + sides, np.ones((COUNT, 1)), np.zeros((COUNT, 1))])
    return torch.tensor(boxes, dtype=torch.float32)[:, None]


def draw_ellipses(boxes: Tensor) -> Tensor:
    """Draw images with a bright ellipse that fills the box of each, (images, 3, height, width)."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    left, top, right, bottom = (own[:, None, None] for own in boxes[:, 0, :4].unbind(dim=1))
    across = (x - (left + right) / 2) / ((right - left) / 2)
    down = (y - (top + bottom) / 2) / ((bottom - top) / 2)
    return (across**2 + down**2 <= 1).float()[:, None].expand(-1, 3, -1, -1)


def seen_boxes(images: Tensor) -> Iterator[tuple[int, list[float]]]:
    """Yield the row of each image with bright pixels, and the box around these."""
    for row, image in enumerate(images):
        down, across = torch.nonzero(image[0] > 0.4, as_tuple=True)
        if len(down):
            edges = (across.min(), down.min(), across.max() + 1, down.max() + 1)
            yield row, [float(edge) for edge in edges]


@pytest.mark.parametrize("name", CHANGES)
def test_boxes_are_where_their_objects_are_moved(name: str) -> None:
    config, boxes = CHANGES[name], draw_boxes()
    drawn = draw(config, 1, COUNT, torch.Generator().manual_seed(1), torch.device("cpu"))[0]
    images = augment(draw_ellipses(boxes), config, drawn)
    moved = move_boxes(boxes, config, drawn, (HEIGHT, WIDTH))
    whole = 0
    for row, seen in seen_boxes(images):
        left, top, right, bottom, number, crowd = moved[row, 0].tolist()
        if number < 0:
            continue
        assert (number, crowd) == (1, 0)
        is_inside = left > 1 and top > 1 and right < WIDTH - 1 and bottom < HEIGHT - 1
        # The box of an ellipse that is cut may be larger than that of the rest of it.
        if is_inside:
            assert [left, top, right, bottom] == pytest.approx(seen, abs=1.5)
            whole += 1
        else:
            assert left - 1.5 <= seen[0]
            assert top - 1.5 <= seen[1]
            assert right + 1.5 >= seen[2]
            assert bottom + 1.5 >= seen[3]
    assert whole > COUNT // 4
    assert not torch.equal(moved, boxes)


def test_shifts_and_mirrors_are_exact() -> None:
    config, boxes = CHANGES["crop and flip"], draw_boxes()
    drawn = draw(config, 1, COUNT, torch.Generator().manual_seed(1), torch.device("cpu"))[0]
    images = augment(draw_ellipses(boxes), config, drawn)
    moved = move_boxes(boxes, config, drawn, (HEIGHT, WIDTH))[:, 0]
    whole = ((boxes[:, 0, 2:4] - boxes[:, 0, :2]) == (moved[:, 2:4] - moved[:, :2])).all(dim=1)
    compared = 0
    for row, seen in seen_boxes(images):
        if whole[row]:
            # An ellipse may miss the outermost row of pixels of its box.
            assert moved[row, :4].tolist() == pytest.approx(seen, abs=1)
            compared += 1
    assert compared > COUNT // 3


@pytest.mark.parametrize("shift", [0, 10, 14, 15, 20, 60])
def test_a_box_that_leaves_the_image_is_no_box(shift: int) -> None:
    """Of a box of 20 pixels, 10 remain, 6, or less than LEAST_SHARE of them."""
    config = AugmentConfig(crop=60)
    boxes = torch.tensor([[[0.0, 10.0, 20.0, 40.0, 1.0, 0.0]]])
    moved = move_boxes(boxes, config, torch.tensor([[shift], [0.0]]), (HEIGHT, WIDTH))[0, 0]
    assert moved[4] == (1 if shift <= 14 else -1)
    if shift <= 14:
        assert moved[:4].tolist() == [0, 10, 20 - shift, 40]


def test_rows_that_are_no_box_stay_none() -> None:
    boxes = torch.full((COUNT, 3, COLUMNS), -1.0)
    for config in CHANGES.values():
        drawn = draw(config, 1, COUNT, torch.Generator(), torch.device("cpu"))[0]
        assert (move_boxes(boxes, config, drawn, (HEIGHT, WIDTH))[..., 4] == -1).all()


def test_without_moves_boxes_stay() -> None:
    boxes, config = draw_boxes(), AugmentConfig(jitter=0.3)
    drawn = draw(config, 1, COUNT, torch.Generator(), torch.device("cpu"))[0]
    assert torch.equal(move_boxes(boxes, config, drawn, (HEIGHT, WIDTH)), boxes)


# Training and export


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    torch.set_num_threads(1)
    return load(TrialConfig().override(BASE).data)


@pytest.fixture(scope="module")
def trained(scenes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A small detector after a few epochs: its config, data, checkpoint and values."""
    config = TrialConfig().override(BASE)
    training = Training(config, scenes)
    values = [epoch.values for epoch in training.epochs()]
    path = checkpoint.save(tmp_path_factory.mktemp("detector") / "saved", training.state(), {})
    return config, scenes, path, values


@pytest.fixture(scope="module")
def exported(trained: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The exported detector: its folder, and the result of `export`."""
    config, dataset, path, _ = trained
    folder = tmp_path_factory.mktemp("exported") / "model"
    return folder, export(config, dataset, path, folder, onnx=True)


@pytest.mark.slow
def test_it_learns_and_its_values_are_those_of_the_evaluation(trained: tuple[Any, ...]) -> None:
    config, dataset, path, values = trained
    assert values[-1]["val/map50"] > 0.2
    assert values[-1]["train/loss"] < values[0]["train/loss"]
    assert values[-1]["val/map_error"] > 0
    report = evaluate(config, dataset, dataset.val, path)
    assert report["map"] == pytest.approx(values[-1]["val/map"], abs=1e-6)
    assert report["map50"] == pytest.approx(values[-1]["val/map50"], abs=1e-6)
    assert report["metric"]["error"] == pytest.approx(values[-1]["val/map_error"], abs=1e-6)
    assert report["metric"]["low"] < report["map"] < report["metric"]["high"]


@pytest.mark.slow
def test_the_numbers_of_the_report_add_up(trained: tuple[Any, ...]) -> None:
    config, dataset, path, _ = trained
    report = json.loads(json.dumps(evaluate(config, dataset, dataset.val, path)))
    classes, sizes, confusion = report["tables"]
    counts = BoxTargets().class_counts(dataset.val, 2).tolist()
    assert report["objects"] == sum(counts)
    assert [row[:2] for row in classes["rows"]] == [["round", counts[0]], ["open", counts[1]]]
    assert np.mean([row[2] for row in classes["rows"]]) == pytest.approx(report["map"])
    assert np.mean([row[3] for row in classes["rows"]]) == pytest.approx(report["map50"])
    assert sum(row[1] for row in sizes["rows"]) == sum(counts)
    cells = [row[1:] for row in confusion["rows"]]
    # Each object is found, as one of the classes, or missed.
    assert [sum(row) for row in cells[:2]] == counts
    boxes = [
        objects_in(own, report["threshold"])
        for own in predictions(config, dataset, dataset.val, path)
    ]
    for number in range(2):
        assert sum(row[number] for row in cells) == sum(
            int((own[:, CLASS + 1] == number).sum()) for own in boxes
        )
    total = sum(map(len, boxes))
    hits = report["recall"] * report["objects"]
    assert report["precision"] == pytest.approx(hits / total)
    assert len(report["pictures"]) > 1
    assert report["pictures"][0]["title"] == "Precision and recall"


@pytest.mark.slow
def test_the_exported_model_and_onnx_find_the_boxes_of_the_checkpoint(
    trained: tuple[Any, ...], exported: Any
) -> None:
    config, dataset, path, _ = trained
    folder, result = exported
    assert result.difference <= 1e-4
    assert result.onnx_difference <= Detection.tolerance
    model = model_class(folder)(folder, "m")
    model.check()
    images = list(dataset.val.images[:16])
    expected = predictions(config, dataset, dataset.val, path)[:16]
    task = config.load_task()
    assert task.difference(expected, model.predictions(images)) <= 1e-3
    assert task.difference(expected, Predictor(folder).predictions(images)) <= 1e-3
    of_onnx = Predictor(folder, in_onnxruntime(folder / ONNX, 1)).predictions(images)
    assert task.difference(expected, of_onnx) <= Detection.tolerance
    about = json.loads((folder / "about.json").read_text())
    assert about["classes"] == ["round", "open"]
    everything = predictions(config, dataset, dataset.val, path)
    assert about["threshold"] == pytest.approx(
        task.calibrate(everything, dataset)["threshold"], abs=1e-3
    )


@pytest.mark.slow
def test_boxes_scale_with_the_image(trained: tuple[Any, ...], exported: Any) -> None:
    dataset, folder = trained[1], exported[0]
    image = dataset.val.images[0]
    predictor = Predictor(folder)
    padded = np.zeros((2 * len(image), 3 * len(image), 3), np.uint8)
    padded[:, : 2 * len(image)] = image.repeat(2, axis=0).repeat(2, axis=1)
    (large,) = predictor.predictions([padded])
    assert (large[:, :4] >= 0).all()
    assert (large[:, :4] <= [padded.shape[1], padded.shape[0]] * 2).all()
    doubled = image.repeat(2, axis=0).repeat(2, axis=1)
    own, twice = predictor.predictions([image, doubled])
    sure = own[own[:, SCORE] > predictor.threshold]
    assert len(sure)
    scaled = [2 * row[:4] for row in sure]
    for box in scaled:
        assert np.abs(twice[:, :4] - box).max(axis=1).min() < 6


@pytest.mark.slow
def test_a_predictor_takes_grey_images_and_names_what_it_takes(exported: Any) -> None:
    predictor = Predictor(exported[0])
    grey = np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8)
    forms: list[Any] = [[grey], grey, grey[..., None], np.repeat(grey[..., None], 3, axis=2)]
    first, *others = [predictor.predictions(images) for images in forms]
    assert all(np.array_equal(first[0], own[0]) for own in others)
    for wrong in (np.zeros((20, 30, 4), np.uint8), np.zeros((20, 30, 3)), np.zeros((0, 3, 3))):
        with pytest.raises(ValueError, match=r"this model takes uint8 images of shape \(height"):
            predictor.predictions([wrong])
    (row,) = predictor.table([grey]).to_dict("records")
    boxes = json.loads(row["boxes as JSON"])
    assert row["round"] + row["open"] == len(boxes)


@pytest.mark.slow
def test_a_model_answers_with_a_picture_and_a_file_of_all_images(
    trained: tuple[Any, ...], exported: Any
) -> None:
    model = model_class(exported[0])(exported[0], "m")
    images = list(trained[1].val.images[:3])
    answers = model.answers(images)
    assert all(list(answer.files) == ["_boxes.png"] for answer in answers)
    records = {f"{row}.png": answer.record for row, answer in enumerate(answers)}
    (content,) = model.joint_files(records).values()
    joint = json.loads(content)
    assert len(joint["images"]) == 3
    counts = [sum(answer.row.values()) for answer in answers]
    assert len(joint["annotations"]) == sum(counts)
    assert [model.plain(own)["counts"] for own in model.predictions(images)] == [
        answer.row for answer in answers
    ]


def few(dataset: Dataset, count: int = 24) -> Dataset:
    """Return a data set of a few images."""
    rows = np.arange(count)
    return replace(dataset, train=dataset.train.take(rows), val=dataset.val.take(rows))


@pytest.mark.parametrize(
    "own", [{}, {"augment.rotation": 15, "augment.flip": True, "augment.crop": 6}]
)
def test_a_training_continues_to_the_last_bit(scenes: Dataset, own: dict[str, Any]) -> None:
    dataset, config = few(scenes), TrialConfig().override({**BASE, **own, "epochs": 3})
    whole = [epoch.values for epoch in Training(config, dataset).epochs()]
    first = Training(config, dataset)
    first.next_epoch()
    second = Training(config, dataset)
    second.load_state(first.state())
    again = [epoch.values for epoch in second.epochs()]
    assert len(again) == 2
    for before, after in zip(whole[1:], again, strict=True):
        assert {key: before[key] for key in before.keys() - {"time/epoch_s"}} == {
            key: after[key] for key in after.keys() - {"time/epoch_s"}
        }


@pytest.mark.slow
def test_folds_fuse_the_boxes(scenes: Dataset, tmp_path: Path) -> None:
    train = scenes.train.take(np.arange(90))
    dataset = replace(
        scenes,
        train=train,
        val=train,
        test=None,
        folds=3,
        strata=BoxTargets().strata(train.targets),
    )
    config = TrialConfig().override({**BASE, "data.folds": 3, "epochs": 2})
    folds = Folds(config, dataset, lambda fold: Training(config, fold))
    *_, last = folds.epochs()
    path = checkpoint.save(tmp_path / "saved", folds.state(), {})
    report = evaluate(config, dataset, dataset.train, path)
    fold_values = [values["val/map"] for values in last.folds]
    assert report["members"]["map"] == pytest.approx(fold_values, abs=1e-6)
    result = export(config, dataset, path, tmp_path / "model")
    assert result.difference <= Detection.tolerance
    assert result.value is None, "no validation image is new to all networks"
    found = Predictor(tmp_path / "model").predictions([scenes.val.images[0]])
    assert found[0].shape[1] == COLUMNS


def test_images_of_several_sizes_are_padded(scenes: Dataset) -> None:
    """Boxes are in the pixels of each image, and none is found in its padding."""
    images = [
        image[: 60 + 3 * row, : 96 - 2 * row] for row, image in enumerate(scenes.val.images[:8])
    ]
    truth = [np.array([[2, 3, 20, 30, row % 2, 0]], np.float32) for row in range(7)]
    part = Part(Ragged.of(images), Ragged.of([*truth, no_boxes()]))
    dataset = replace(scenes, train=part, val=part)
    config = TrialConfig().override({**BASE, "batch_size": 4, "epochs": 1})
    training = Training(config, dataset)
    (epoch,) = training.epochs()
    assert 0 <= epoch.values["val/map"] <= 1
    assert BoxTargets().image(dataset) == (3, 96, 96)


# Comparing and calibrating


@pytest.fixture
def task() -> Detection:
    loaded: Detection = TrialConfig().override(BASE).load_task()
    return loaded


DETECTIONS = np.array(
    [
        [0, 0, 10, 10, 0.9, 0],
        [20, 0, 40, 10, 0.6, 1],
        [0, 30, 10, 60, 0.3, 1],
        [50, 50, 60, 60, 0.01, 0],
    ]
)


def test_equal_predictions_do_not_differ(task: Detection) -> None:
    assert task.difference([DETECTIONS, DETECTIONS[:0]], [DETECTIONS, DETECTIONS[:0]]) == 0
    assert task.difference([DETECTIONS], [DETECTIONS[[1, 0, 3, 2]]]) == pytest.approx(0)


def test_a_little_moved_box_and_a_lost_unsure_one_hardly_matter(task: Detection) -> None:
    moved = DETECTIONS + np.array([0.01, 0, 0.01, 0, 0.001, 0])
    assert 0 < task.difference([DETECTIONS], [moved]) < 0.01
    assert 0 < task.difference([DETECTIONS], [DETECTIONS[:3]]) < 0.01


@pytest.mark.parametrize("rows", [[1, 2, 3], []])
def test_a_sure_box_that_is_missing_matters(task: Detection, rows: list[int]) -> None:
    for pair in ((DETECTIONS, DETECTIONS[rows]), (DETECTIONS[rows], DETECTIONS)):
        assert task.difference(*([own] for own in pair)) > 0.4


def test_another_class_or_place_matters(task: Detection) -> None:
    for change in ([0, 0, 0, 0, 0, 1], [3, 0, 3, 0, 0, 0]):
        assert task.difference([DETECTIONS], [DETECTIONS + change]) > 0.9


def test_broken_or_missing_predictions_are_not_equal(task: Detection) -> None:
    broken = DETECTIONS.copy()
    broken[0, 0] = np.nan
    assert np.isnan(task.difference([DETECTIONS], [broken]))
    assert task.difference([DETECTIONS], []) == np.inf


def dataset_of(val: Part) -> Any:
    """Return what `calibrate` reads of a data set."""
    return SimpleNamespace(val=val, classes=("round", "open"))


def test_the_threshold_is_that_of_the_highest_f1(task: Detection) -> None:
    truth = np.array([[0, 0, 10, 10, 0, 0], [20, 0, 40, 10, 1, 0]], np.float32)
    part = Part(np.zeros((2, 96, 96, 3), np.uint8), Ragged.of([truth, no_boxes()]))
    own = {"threshold": pytest.approx(0.45)}
    assert task.calibrate([DETECTIONS, DETECTIONS[:0]], dataset_of(part)) == own
    assert task.value([DETECTIONS, DETECTIONS[:0]], part) == pytest.approx(1)


def test_false_boxes_of_a_class_without_objects_raise_the_threshold(task: Detection) -> None:
    """They are found by the exported model too, so the working point has to count them."""
    truth = np.array([[0, 0, 10, 10, 0, 0], [0, 30, 10, 60, 0, 0]], np.float32)
    part = Part(np.zeros((1, 96, 96, 3), np.uint8), Ragged.of([truth]))
    false = np.array([[60, 20 * row, 70, 20 * row + 10, 0.5, 1] for row in range(4)])
    right = np.array([[0, 0, 10, 10, 0.9, 0], [0, 30, 10, 60, 0.3, 0]])
    own = np.vstack([right[:1], false, right[1:]])
    assert task.calibrate([own], dataset_of(part))["threshold"] == pytest.approx(0.7)


def test_images_in_which_nothing_can_be_found_are_refused() -> None:
    with pytest.raises(DataError) as refused:
        load(DataConfig(name="digit_scenes", task="detection", image_size=16))
    assert str(refused.value) == (
        "data.image_size must be at least 32 for detection, since objects in smaller images cannot "
        "be found (got 16)."
    )
