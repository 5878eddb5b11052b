"""Baselines of segmentation: fitted to pixels, promoted, and equal in every form."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

from search.design.experiment import fit_problems
from trainables.baselines.base import Fitting, load_baseline
from trainables.baselines.store import read
from trainables.baselines.threshold import OtsuThreshold
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part, Ragged
from trainables.evaluation import estimate
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.export.export import export
from trainables.export.model import model_class
from trainables.tasks.segmentation import baselines as segmentation
from trainables.tasks.segmentation.values import IGNORED
from trainables.trial import run_trial

NAMES = sorted(
    name
    for name, entry in MODELS.items()
    if entry.kind == "baseline" and "segmentation" in entry.tasks
)


def config_of(name: str, **values: object) -> TrialConfig:
    base = {"data.task": "segmentation", "data.name": "scenes", "model.name": name}
    if name == "pixel_forest":
        base |= {"model.trees": 5}
    return TrialConfig().override(base | {key.replace("__", "."): values[key] for key in values})


def discs(count: int = 9, *, gain: int = 90, radius: int = 10, classes: int = 2) -> Dataset:
    """Discs on noise in images of mixed sizes, brighter than the ground by `gain`."""
    generator = np.random.default_rng(0)
    images, masks = [], []
    for number in range(count):
        height, width = generator.integers(24, 60, 2)
        down, across = np.mgrid[:height, :width]
        inside = (down - height // 2) ** 2 + (across - width // 3) ** 2 < radius**2
        kind = 1 + number % (classes - 1)
        pixels = generator.normal(120, 10, (height, width, 3)) + kind * gain * inside[..., None]
        images.append(np.clip(pixels, 0, 255).astype(np.uint8))
        masks.append((kind * inside).astype(np.uint8))
    cut = 2 * count // 3
    train, val = (
        Part(Ragged.of(images[rows]), Ragged.of(masks[rows]))
        for rows in (slice(0, cut), slice(cut, None))
    )
    names = ("ground", "disc", "ring")[:classes]
    return Dataset("scenes", names, train, val, None, "f", side=32)


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_finds_discs_and_its_values_are_those_of_the_evaluation(
    name: str, tmp_path: Path
) -> None:
    config, dataset = config_of(name), discs()
    (report,) = run_trial(config, dataset, tmp_path)
    evaluation = evaluate(config, dataset, dataset.val, tmp_path / "epoch-0001")
    assert report.metrics["val/iou"] > 0.9
    for metric in ("iou", "dice", "pixel_accuracy"):
        assert report.metrics[f"val/{metric}"] == pytest.approx(evaluation[metric])
    assert report.metrics["val/iou_error"] == pytest.approx(evaluation["metric"]["error"])
    assert 0 < report.metrics["val/loss"] < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_model_gives_the_masks_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    config, dataset = config_of(name), discs()
    fitting = Fitting(config, dataset)
    list(fitting.epochs())
    path = checkpoint.save(tmp_path / "saved", fitting.state(), {})
    exported = export(config, dataset, path, tmp_path / "model")
    assert exported.difference == 0
    assert "scikit-learn" in exported.requirements
    assert json.loads((tmp_path / "model/about.json").read_text())["baseline"] == name
    model = model_class(tmp_path / "model")(tmp_path / "model", "it")
    images = list(dataset.val.images)
    for mask, expected in zip(
        model.predictions(images), predictions(config, dataset, dataset.val, path), strict=True
    ):
        assert np.array_equal(mask, expected)
    (answer,) = model.answers([np.zeros((1, 3, 3), np.uint8)])
    assert sum(answer.row.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_repeats_from_its_seed(name: str) -> None:
    ends = [Fitting(config_of(name, seed=3), discs()).next_epoch().values for _ in range(2)]
    del ends[0]["time/epoch_s"], ends[1]["time/epoch_s"]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", NAMES)
def test_its_time_and_its_room_are_estimated(name: str, tmp_path: Path) -> None:
    config, dataset = config_of(name), discs()
    assert estimate.epochs_seconds([config], dataset)[0] > 0
    (_,) = run_trial(config, dataset, tmp_path)
    file = tmp_path / "epoch-0001" / checkpoint.CLASSIFIER
    most = estimate.checkpoint_bytes(config.model, dataset.image, 2, images=len(dataset.train))
    assert file.stat().st_size <= most


@pytest.mark.parametrize(
    ("gain", "radius", "side"), [(90, 18, "bright"), (-90, 18, "dark")], ids=["bright", "dark"]
)
def test_the_foreground_is_the_side_that_fits_the_training_masks(
    gain: int, radius: int, side: str
) -> None:
    fitted = load_baseline(config_of("otsu")).fit(discs(gain=gain, radius=radius))
    assert fitted.side == side
    assert fitted.accuracy > 0.95


def test_the_smaller_side_is_chosen_for_images_of_both_kinds() -> None:
    bright, dark = discs(radius=8), discs(gain=-90, radius=8)
    both = Part(
        Ragged.of([*bright.train.images, *dark.train.images]),
        Ragged.of([*bright.train.targets, *dark.train.targets]),
    )
    dataset = Dataset("scenes", bright.classes, both, bright.val, None, "f", side=32)
    assert load_baseline(config_of("otsu")).fit(dataset).side == "smaller"


def test_a_forest_predicts_three_classes_and_ignores_unlabelled_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segmentation, "PIXELS", 3000)
    dataset, config = discs(classes=3, gain=45), config_of("pixel_forest")
    for mask in dataset.train.targets:
        mask[:4] = IGNORED
    baseline = load_baseline(config)
    fitted = baseline.fit(dataset)
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted._n_samples <= 3000
    assert baseline.measure(fitted, dataset)["val/iou"] > 0.8


def test_a_class_weight_changes_the_forest() -> None:
    forests = [
        load_baseline(config_of("pixel_forest", train__class_weights=kind)).fit(discs())
        for kind in ("none", "balanced")
    ]
    shares = [forest.estimators_[0].tree_.value[0].ravel()[1] for forest in forests]
    assert shares[0] < 0.4
    assert shares[1] == pytest.approx(0.5, abs=0.05)


def test_boundary_f1_ranks_a_baseline() -> None:
    values = Fitting(config_of("otsu", metric="boundary_f1"), discs()).next_epoch().values
    assert values["val/boundary_f1"] > 0.9
    assert values["val/boundary_f1_error"] >= 0


def test_options_belong_to_the_forest_only() -> None:
    assert config_of("pixel_forest", model__tree_depth=3).model.options == {
        "trees": 5,
        "tree_depth": 3,
    }
    assert "trees" not in config_of("otsu").to_dict()["model"]


# Files from elsewhere


@pytest.fixture
def forest() -> RandomForestClassifier:
    values = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    return RandomForestClassifier(3, random_state=0).fit(values, np.arange(60) % 2)


def with_another_tree(forest: RandomForestClassifier) -> None:
    values = np.zeros((4, 5), np.float32)
    forest.estimators_[1] = forest.estimators_[1].__class__().fit(values, np.arange(4) % 2)


def with_more_classes(forest: RandomForestClassifier) -> None:
    forest.classes_, forest.n_classes_ = np.arange(3), 3


def without_trees(forest: RandomForestClassifier) -> None:
    forest.estimators_ = []


def with_a_hidden_method(forest: RandomForestClassifier) -> None:
    forest.estimators_[0].predict_proba = "another"


def test_a_forest_is_read_as_it_was_written(forest: RandomForestClassifier, tmp_path: Path) -> None:
    skops.io.dump(forest, tmp_path / "it.skops")
    values = np.ones((2, 3), np.float32)
    again = read(tmp_path / "it.skops")
    assert np.array_equal(again.predict_proba(values), forest.predict_proba(values))


@pytest.mark.parametrize(
    "change", [with_another_tree, with_more_classes, without_trees, with_a_hidden_method]
)
def test_a_forest_of_other_parts_is_refused(
    change: Callable[[RandomForestClassifier], None],
    forest: RandomForestClassifier,
    tmp_path: Path,
) -> None:
    change(forest)
    skops.io.dump(forest, tmp_path / "it.skops")
    with pytest.raises(ValueError, match="RandomForestClassifier that is damaged or was changed"):
        read(tmp_path / "it.skops")


@pytest.mark.parametrize(("side", "accuracy"), [("left", 0.9), ("dark", 2.0), ("dark", 1)])
def test_a_threshold_of_other_values_is_refused(side: str, accuracy: float, tmp_path: Path) -> None:
    skops.io.dump(OtsuThreshold(side=side, accuracy=accuracy), tmp_path / "it.skops")
    with pytest.raises(ValueError, match="OtsuThreshold that is damaged or was changed"):
        read(tmp_path / "it.skops")


def test_a_threshold_is_refused_for_three_classes_and_a_forest_is_not() -> None:
    dataset = discs(classes=3)
    assert list(fit_problems(config_of("otsu"), dataset, 1)) == [
        "otsu predicts at most 2 classes, and scenes has 3. Use another model with --set "
        "model.name=NAME."
    ]
    assert list(fit_problems(config_of("pixel_forest"), dataset, 1)) == []
