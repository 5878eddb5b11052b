"""Segmentation: crops for training, whole images for all else, and an export that agrees."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.baselines.base import Fitting
from trainables.checkpoints import checkpoint
from trainables.config import AugmentConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part, Ragged
from trainables.datasets.crops import crops_per_image, tile_side
from trainables.errors import ConfigError, DataError
from trainables.evaluation.evaluate import evaluate, load_model, predictions
from trainables.export.export import export
from trainables.export.model import model_class
from trainables.tasks.pixels import Pixels
from trainables.tasks.segmentation.entry import ENTRY as SEGMENTATION
from trainables.tasks.segmentation.targets import MaskTargets
from trainables.tasks.segmentation.training import Segmentation
from trainables.tasks.segmentation.values import SIDE_STEP
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training

BASE = {
    "data.task": "segmentation",
    "data.name": "scenes",
    "model.name": "unet",
    "model.width": 8,
    "model.depth": 2,
    "optimizer.lr": 5e-3,
    "batch_size": 8,
    "epochs": 8,
    "precision": "fp32",
}


@pytest.fixture
def make_discs() -> Callable[..., Dataset]:
    """Bright discs on noise, in images of mixed sizes, cut to 32 x 32."""

    def make(count: int = 45, *, low: int = 24, high: int = 90) -> Dataset:
        generator = np.random.default_rng(0)
        images, masks = [], []
        for _ in range(count):
            height, width = generator.integers(low, high, 2)
            down, across = np.mgrid[:height, :width]
            mask = (down - height // 2) ** 2 + (across - width // 3) ** 2 < 100
            noise = generator.normal(80, 20, (height, width, 3)) + 90 * mask[..., None]
            images.append(np.clip(noise, 0, 255).astype(np.uint8))
            masks.append(mask.astype(np.uint8))
        cut = 2 * count // 3
        train, val = (
            Part(Ragged.of(images[rows]), Ragged.of(masks[rows]))
            for rows in (slice(0, cut), slice(cut, None))
        )
        return Dataset("scenes", ("ground", "disc"), train, val, None, "f", side=32)

    return make


@pytest.fixture
def trained(make_discs: Callable[..., Dataset], tmp_path: Path) -> tuple[Any, ...]:
    """A small U-Net after a few epochs: its config, data, checkpoint and last values."""
    dataset, config = make_discs(), TrialConfig().override(BASE)
    training = Training(config, dataset)
    values = [epoch.values for epoch in training.epochs()]
    path = checkpoint.save(tmp_path / "saved", training.state(), {})
    return config, dataset, path, values


def test_it_learns_and_its_values_are_those_of_whole_images(trained: tuple[Any, ...]) -> None:
    config, dataset, path, values = trained
    found = evaluate(config, dataset, dataset.val, path)
    assert values[-1]["val/iou"] > 0.8
    assert values[-1]["val/loss"] < values[0]["val/loss"]
    assert found["iou"] == pytest.approx(values[-1]["val/iou"], abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(values[-1]["val/pixel_accuracy"], abs=1e-6)
    assert found["metric"]["low"] < found["iou"] < found["metric"]["high"]
    masks = predictions(config, dataset, dataset.val, path)
    assert [mask.shape for mask in masks] == [mask.shape for mask in dataset.val.targets]
    both = [
        (((mask == 1) & (truth == 1)).sum(), ((mask == 1) | (truth == 1)).sum())
        for mask, truth in zip(masks, dataset.val.targets, strict=True)
    ]
    shared, union = np.sum(both, axis=0)
    assert found["tables"][0]["rows"][1][3] == pytest.approx(shared / union)


def test_the_exported_model_and_onnx_give_the_masks_of_the_checkpoint(
    trained: tuple[Any, ...], tmp_path: Path
) -> None:
    config, dataset, path, _ = trained
    exported = export(config, dataset, path, tmp_path / "model", onnx=True)
    assert exported.difference == 0
    assert exported.onnx_difference is not None
    assert exported.onnx_difference <= Segmentation.tolerance
    assert exported.inference.keys() == {"batch_1"}  # images are predicted one by one
    assert exported.columns == {
        "share of ground": "double",
        "share of disc": "double",
        "mask": "binary",
    }
    model = model_class(tmp_path / "model")(tmp_path / "model", "it")
    large = np.random.default_rng(0).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    (answer,) = model.answers([large])
    assert set(answer.files) == {"_mask.png", "_overlay.png"}
    model.check()
    assert sum(answer.row.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "mask", [np.zeros((16, 32), np.uint8), np.full((32, 32), 2, np.uint8)], ids=["size", "number"]
)
def test_a_model_with_masks_of_another_form_is_refused(tmp_path: Path, mask: Any) -> None:
    facts = {"classes": ["a", "b"], "image": [32, 32, 3], "batch": 1, "tile": 32}
    about = {"task": "segmentation", "any_size": True, **facts}
    (tmp_path / "about.json").write_text(json.dumps(about))
    model: Any = model_class(tmp_path)(tmp_path, "it", lambda tiles: tiles)
    model._predictor.predictions = lambda images: [mask] * 2
    with pytest.raises(ConfigError, match=r"a mask of shape \(.* numbers up to"):
        model.check()


def test_an_epoch_shows_about_all_pixels(make_discs: Callable[..., Dataset]) -> None:
    dataset, config = make_discs(), TrialConfig().override(BASE)
    crops = crops_per_image(dataset)
    pixels = sum(mask.size for mask in dataset.train.targets)
    assert crops == round(pixels / len(dataset.train) / 32**2) > 1
    training = Training(config, dataset)
    rows, _ = training.draws(1)
    drawn = rows.flatten()[: len(dataset.train) * crops]  # the last batch is filled up
    assert rows.numel() - len(drawn) < rows.shape[1]
    assert (torch.bincount(drawn) == crops).all()


def test_an_epoch_of_many_pixels_has_just_enough_crops(
    make_discs: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_discs()
    images = len(dataset.train)
    for enough, crops in ((1, 1), (images, 1), (images + 1, 2)):
        monkeypatch.setattr("trainables.datasets.crops.ENOUGH", enough)
        assert crops_per_image(dataset) == crops


def test_a_tile_is_larger_than_a_crop_but_not_than_the_images(
    make_discs: Callable[..., Dataset],
) -> None:
    assert tile_side(make_discs(high=200), SIDE_STEP) == 64
    assert tile_side(make_discs(low=30, high=34), SIDE_STEP) in (32, 64)


def test_images_and_masks_move_together_and_what_comes_from_outside_is_ignored(
    make_discs: Callable[..., Dataset],
) -> None:
    """The disc is bright, so its mask can be read from each augmented crop."""
    dataset = make_discs()
    augment = AugmentConfig(rotation=30, scale=0.2, crop=3, flip=True)
    config = TrialConfig().override(
        {**BASE, "task.turns": True, "data.scaling": "unit"}
        | {f"augment.{name}": value for name, value in vars(augment).items()}
    )
    task = config.load_task()
    pixels = Pixels(dataset.train, dataset, config, torch.device("cpu"))
    changes = task.draw(config.augment, 1, 64, torch.Generator().manual_seed(0), pixels.device)
    rows = torch.arange(64) % len(dataset.train)
    batch = task.batch(pixels, rows, changes[0])
    assert batch.inputs.shape == (64, 3, 32, 32)
    assert set(batch.targets.unique().tolist()) == {0, 1, 255}
    grey = batch.inputs.mean(dim=1)
    assert grey[batch.targets == 1].mean() > grey[batch.targets == 0].mean() + 0.25
    assert (batch.targets == 255).float().mean() < 0.5


def test_a_loss_is_an_option_of_the_task_and_not_of_another() -> None:
    config = TrialConfig().override(BASE)
    assert config.value("task.loss") == "cross_entropy_dice"
    assert "task" not in config.to_dict()
    changed = config.override({"task.loss": "focal"})
    assert changed.to_dict()["task"] == {"loss": "focal"}
    assert TrialConfig.from_dict(changed.to_dict()) == changed
    with pytest.raises(ConfigError, match=r"classification has no option task.loss. Remove it"):
        TrialConfig().override({"task.loss": "focal"})
    with pytest.raises(ConfigError, match=r"unknown key 'task\.speed'.*task\.loss"):
        config.override({"task.speed": 1})
    with pytest.raises(ConfigError, match=r"unknown task\.loss 'hinge'"):
        config.override({"task.loss": "hinge"})
    other = {"data.task": "classification", "model.name": "deep_cnn", "model.depth": None}
    assert changed.override({**other, "data.name": "digits"}).to_dict().get("task") is None


def test_what_it_cannot_do_is_refused() -> None:
    assert not {"fuse", "feedback", "sampling"} & SEGMENTATION.can
    with pytest.raises(ConfigError, match=r"train.sampling cannot be used for segmentation"):
        TrialConfig().override({**BASE, "train.sampling": "balanced"})
    assert TrialConfig().override({**BASE, "train.class_weights": "sqrt"}).train.class_weights


# Folds


@pytest.fixture
def in_folds(make_discs: Callable[..., Dataset]) -> Dataset:
    """Thirty discs in three folds, and fifteen others as a test set."""
    dataset = make_discs()
    strata = MaskTargets().strata(dataset.train.targets)
    return replace(dataset, val=dataset.train, test=dataset.val, folds=3, strata=strata)


@pytest.fixture(params=["unet", "otsu", "pixel_forest"])
def cross_validated(
    request: pytest.FixtureRequest, in_folds: Dataset, tmp_path: Path
) -> tuple[TrialConfig, list[float], Path]:
    """A model in folds: its config, the IoU of each fold, and its checkpoint."""
    task = {"data.task": "segmentation", "data.name": "scenes", "data.folds": 3}
    own = {
        "unet": {**BASE, "epochs": 3},
        "otsu": {"model.name": "otsu"},
        "pixel_forest": {"model.name": "pixel_forest", "model.trees": 5, "model.tree_depth": 4},
    }
    config = TrialConfig().override(task | own[request.param])
    kind = Training if request.param == "unet" else Fitting
    folds = Folds(config, in_folds, lambda own: kind(config, own))
    *_, last = folds.epochs()
    path = checkpoint.save(tmp_path / "saved", folds.state(), {})
    return config, [values["val/iou"] for values in last.folds], path


def test_each_image_of_the_folds_is_predicted_by_the_network_that_did_not_see_it(
    cross_validated: tuple[TrialConfig, list[float], Path], in_folds: Dataset
) -> None:
    config, fold_ious, path = cross_validated
    evaluation = evaluate(config, in_folds, in_folds.train, path)
    assert evaluation["members"]["iou"] == pytest.approx(fold_ious, abs=1e-6)
    masks = predictions(config, in_folds, in_folds.train, path)
    assert [mask.shape for mask in masks] == [mask.shape for mask in in_folds.train.targets]
    assert evaluation["iou"] == pytest.approx(config.load_task().value(masks, in_folds.train))


def test_the_mean_of_the_folds_probabilities_is_promoted(
    cross_validated: tuple[TrialConfig, list[float], Path], in_folds: Dataset, tmp_path: Path
) -> None:
    config, _, path = cross_validated
    task: Segmentation = config.load_task()
    assert in_folds.test is not None
    masks = predictions(config, in_folds, in_folds.test, path)
    evaluation = evaluate(config, in_folds, in_folds.test, path)
    assert evaluation["iou"] == pytest.approx(task.value(masks, in_folds.test))
    assert len(evaluation["members"]["iou"]) == 3
    is_network = not config.model.is_baseline
    exported = export(config, in_folds, path, tmp_path / "model", onnx=is_network)
    model = model_class(tmp_path / "model")(tmp_path / "model", "it")
    again = model.predictions(list(in_folds.test.images))
    assert task.difference(masks, again) <= Segmentation.tolerance
    assert exported.value is None, "no validation image is new to all networks"
    if is_network:
        row = next(
            row
            for row, mask in enumerate(masks)
            if max(mask.shape) <= tile_side(in_folds, SIDE_STEP)
        )
        probabilities = _mean_probabilities(config, in_folds, path, row)
        differs = masks[row] != probabilities.argmax(axis=0)
        assert differs.mean() <= Segmentation.tolerance


def _mean_probabilities(config: TrialConfig, dataset: Dataset, path: Path, row: int) -> Any:
    """Return the mean probabilities of a test image that fits into one tile."""
    assert dataset.test is not None
    image, side = dataset.test.images[row], tile_side(dataset, SIDE_STEP)
    height, width = image.shape[:2]
    tile = np.pad(image, ((0, side - height), (0, side - width), (0, 0)), mode="edge")[None]
    with load_model(config, dataset, path) as saved:
        each = [member(torch.from_numpy(tile)).numpy()[0] for member in saved.members]
    return np.mean(each, axis=0)[:, :height, :width]


def test_the_masks_of_a_fold_are_not_stored_beside_those_of_all(in_folds: Dataset) -> None:
    fold = in_folds.fold(1, 0)
    assert len(fold.train) + len(fold.val) == 30
    assert [mask.shape for mask in fold.val.targets] == [
        in_folds.train.targets[row].shape for row in fold.val.rows
    ]
    stored = [value for value in vars(fold.val).values() if isinstance(value, Ragged)]
    assert stored == []


def test_more_folds_than_images_of_a_stratum_are_refused(in_folds: Dataset) -> None:
    with pytest.raises(DataError, match=r"has 30, which is fewer than 31 folds. Use --folds 30"):
        MaskTargets().check_split(replace(in_folds, folds=31))
    MaskTargets().check_split(in_folds)
