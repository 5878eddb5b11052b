"""The baseline of detection: it finds blobs, and is equal in every form."""

import json
from pathlib import Path

import numpy as np
import pytest

from trainables.baselines.base import Fitting, load_baseline
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part, Ragged
from trainables.evaluation import estimate
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.export.export import export
from trainables.export.model import model_class
from trainables.tasks.detection.baselines import BlobForest, label_candidates
from trainables.tasks.detection.blob_models import (
    describe_boxes,
    find_candidates,
    find_objects,
    intersection_over_union,
)
from trainables.tasks.detection.predictor import CLASS_FOUND, SCORE
from trainables.tasks.detection.values import CLASS, CROWD, Boxes
from trainables.trial import run_trial

BASE = {
    "data.task": "detection",
    "data.name": "digit_scenes",
    "model.name": "blob_forest",
    "model.trees": 8,
}


def config_of(**values: object) -> TrialConfig:
    return TrialConfig().override(BASE | {key.replace("__", "."): values[key] for key in values})


def draw_shapes(count: int = 12, *, channels: int = 3) -> Dataset:
    """Draw a dark disc and a bright bar on noise, in images of mixed sizes."""
    generator = np.random.default_rng(0)
    images, truths = list[Images](), list[Boxes]()
    for _ in range(count):
        height, width = generator.integers(44, 60, 2)
        down, across = np.mgrid[:height, :width]
        y, x, radius = (
            generator.integers(12, 30),
            generator.integers(9, 12),
            generator.integers(5, 9),
        )
        top = int(generator.integers(2, 24))
        pixels = generator.normal(120, 6, (height, width, channels))
        pixels[(down - y) ** 2 + (across - x) ** 2 <= radius**2] -= 80
        pixels[top : top + 18, 30:38] += 80
        images.append(np.clip(pixels, 0, 255).astype(np.uint8))
        disc = [x - radius, y - radius, x + radius + 1, y + radius + 1, 0, 0]
        truths.append(np.array([disc, [30, top, 38, top + 18, 1, 0]], np.float32))
    cut = 2 * count // 3
    train, val = (
        Part(Ragged.of(images[rows]), Ragged.of(truths[rows]))
        for rows in (slice(0, cut), slice(cut, None))
    )
    return Dataset("shapes", ("disc", "bar"), train, val, None, "f", side=64)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_trial_finds_shapes_and_its_values_are_those_of_the_evaluation(
    channels: int, tmp_path: Path
) -> None:
    config, dataset = config_of(), draw_shapes(channels=channels)
    (report,) = run_trial(config, dataset, tmp_path)
    evaluation = evaluate(config, dataset, dataset.val, tmp_path / "epoch-0001")
    assert report.metrics["val/map50"] > 0.95
    assert report.metrics["val/map"] > 0.6
    for metric in ("map", "map50"):
        assert report.metrics[f"val/{metric}"] == pytest.approx(evaluation[metric])
    assert report.metrics["val/map_error"] == pytest.approx(evaluation["metric"]["error"])
    assert 0 < report.metrics["train/loss"] < 0.5
    assert "val/loss" not in report.metrics


def test_the_exported_model_finds_the_boxes_of_the_checkpoint(tmp_path: Path) -> None:
    config, dataset = config_of(task__most_boxes=7, task__overlap=0.3), draw_shapes()
    fitting = Fitting(config, dataset)
    list(fitting.epochs())
    path = checkpoint.save(tmp_path / "saved", fitting.state(), {})
    exported = export(config, dataset, path, tmp_path / "model")
    assert exported.difference == 0
    assert "scikit-learn" in exported.requirements
    about = json.loads((tmp_path / "model/about.json").read_text())
    assert (about["baseline"], about["most_boxes"], about["overlap"]) == ("blob_forest", 7, 0.3)
    model = model_class(tmp_path / "model")(tmp_path / "model", "it")
    images = list(dataset.val.images)
    expected = predictions(config, dataset, dataset.val, path)
    for boxes, own in zip(model.predictions(images), expected, strict=True):
        assert 0 < len(boxes) <= 7
        assert np.array_equal(boxes, own)
    (answer,) = model.answers([images[0]])
    assert answer.row == {"disc": 1, "bar": 1}
    (tiny,) = model.predictions([np.zeros((1, 3, 3), np.uint8)])
    assert (tiny[:, 2:4] <= [3, 1]).all()


def test_boxes_refer_to_the_pixels_of_a_larger_image(tmp_path: Path) -> None:
    config, dataset = config_of(), draw_shapes()
    baseline = load_baseline(config)
    fitted = baseline.fit(dataset)
    image = dataset.val.images[0]
    large = image.repeat(12, axis=0).repeat(12, axis=1)
    enlarged, own = (
        baseline.predict([fitted], [pixels], Dataset(**{**vars(dataset), "side": max(image.shape)}))
        for pixels in (large, image)
    )
    assert enlarged[0][0][:4] == pytest.approx(12 * own[0][0][:4], abs=24)


def test_it_repeats_from_its_seed() -> None:
    ends = [Fitting(config_of(seed=3), draw_shapes()).next_epoch().values for _ in range(2)]
    del ends[0]["time/epoch_s"], ends[1]["time/epoch_s"]
    assert ends[0] == ends[1]


def test_its_time_and_its_room_are_estimated(tmp_path: Path) -> None:
    config, dataset = config_of(), draw_shapes()
    assert estimate.epochs_seconds([config], dataset)[0] > 0
    (_,) = run_trial(config, dataset, tmp_path)
    file = tmp_path / "epoch-0001" / checkpoint.CLASSIFIER
    most = estimate.checkpoint_bytes(config.model, dataset.image, 2, images=len(dataset.train))
    assert file.stat().st_size <= most


def test_candidates_include_touching_discs_and_each_of_them() -> None:
    down, across = np.mgrid[:64, :96]
    ink = sum((down - 32) ** 2 + (across - x) ** 2 <= 14**2 for x in (34, 60))
    image = np.where(ink > 0, 60, 190).astype(np.uint8)[..., None]
    boxes = find_candidates(image)
    truth = np.array([[20, 18, 75, 47], [20, 18, 49, 47], [46, 18, 75, 47]], float)
    shares = intersection_over_union(truth, boxes).max(axis=1)
    assert shares[0] == pytest.approx(1)
    assert (shares[1:] > 0.7).all()


def test_features_do_not_change_with_a_shift_of_the_image() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    image = np.tile(noise, (3, 3, 1))
    boxes = np.array([[45.0, 44, 59, 62]])
    first, second = (
        describe_boxes(np.roll(image, shift, (0, 1)), boxes + shift) for shift in (0, 5)
    )
    differs = ~np.isclose(first, second, atol=1e-3)
    # The margins to the image's edges are none here, since the box is far from all of them.
    assert not differs.any()


def test_a_candidate_counts_the_more_the_better_it_fits_and_none_in_a_crowd_counts() -> None:
    dataset = draw_shapes()
    image, truth = dataset.train.images[0], dataset.train.targets[0].copy()
    generator = np.random.default_rng(0)
    drawn = label_candidates(image, truth, 2, 10_000, generator)
    background = drawn.labels == 2
    assert set(drawn.labels[~background]) == {0, 1}
    assert 0 < drawn.weights.min() < 0.5
    assert drawn.weights.max() == 1
    truth[0, CROWD] = 1
    crowded = label_candidates(image, truth, 2, 10_000, generator)
    assert set(crowded.labels) == {1, 2}
    assert (crowded.labels == 2).sum() < background.sum()


def test_an_image_without_objects_has_background_only() -> None:
    image = draw_shapes().train.images[0]
    drawn = label_candidates(image, np.zeros((0, 6), np.float32), 2, 40, np.random.default_rng(0))
    assert set(drawn.labels) == {2}
    assert len(drawn.labels) == 40
    assert (drawn.weights == 1).all()


def test_of_boxes_of_a_class_none_overlaps_by_more_than_the_option() -> None:
    dataset, config = draw_shapes(), config_of()
    fitted = BlobForest(config).fit(dataset)
    many, few = (find_objects([fitted], dataset.val.images[0], 2, most, 0.5) for most in (100, 3))
    assert len(few) == 3
    assert np.array_equal(many[:3], few)
    assert (np.diff(many[:, SCORE]) <= 0).all()
    assert set(many[:, CLASS_FOUND]) <= {0, 1}
    assert many[0, SCORE] > 0.5
    assert CLASS == 4
