"""Networks that are fine-tuned on images without labels, too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.design.experiment import fit_problems
from tests.trainables.probes.test_probe import SIDE, save_weights
from trainables.catalog import networks
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.evaluation.estimate import epochs_seconds, training_bytes
from trainables.evaluation.evaluate import evaluate
from trainables.export.export import export
from trainables.fairness.groups import Attributes
from trainables.probes import spreading
from trainables.probes.spreading import PseudoLabels, SpreadingProbe
from trainables.trial import run_trial

BRIGHTNESS = (20, 120, 220)


def pixels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of three brightnesses in turn, (count, 24, 24, 3), and their classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noise = generator.normal(0, 8, (count, 24, 24, 3))
    return (np.array(BRIGHTNESS)[labels][:, None, None, None] + noise).clip(0, 255), labels


@pytest.fixture
def few() -> Dataset:
    """Six labelled images, and thirty to validate with."""
    parts = []
    for count, seed in ((6, 1), (30, 2)):
        images, labels = pixels(count, seed)
        parts.append(Part(images.astype(np.uint8), labels))
    return Dataset("folder", ("dark", "grey", "light"), *parts, None, "few")


@pytest.fixture
def config(tmp_path: Path) -> TrialConfig:
    """A network with forty images without labels, whose names begin with their class."""
    images, labels = pixels(40, 3)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{label}-{number:02d}.png")
    return TrialConfig().override(
        {
            "model.name": "pseudo_squeezenet1_0",
            "model.pretrained": True,
            "model.weights": str(save_weights(tmp_path, 0)),
            "model.unlabelled": str(folder),
            "model.input_size": SIDE,
            "model.neighbours": 5,
            "batch_size": 4,
            "epochs": 1,
        }
    )


def test_the_most_certain_half_is_added_with_the_class_of_its_neighbours(
    config: TrialConfig, few: Dataset
) -> None:
    images = PseudoLabels(config)
    assert images.count == 20
    extended = images.added_to(few)
    assert extended.train.images.shape == (26, 24, 24, 3)
    assert extended.train.targets.dtype == few.train.targets.dtype
    np.testing.assert_array_equal(extended.train.images[:6], few.train.images)
    np.testing.assert_array_equal(extended.train.targets[:6], few.train.targets)
    added = extended.train.images[6:]
    brightness = added.reshape(20, -1).mean(axis=1)
    classes = np.abs(brightness[:, None] - np.array(BRIGHTNESS)).argmin(axis=1)
    assert (extended.train.targets[6:] == classes).mean() > 0.9
    assert extended.val is few.val
    again = PseudoLabels(config).added_to(few)
    np.testing.assert_array_equal(again.train.images, extended.train.images)


def test_images_keep_their_groups_and_those_without_labels_have_none(
    config: TrialConfig, few: Dataset
) -> None:
    names = tuple(f"{number}.png" for number in range(6))
    attributes = Attributes(("camera",), (("new",), ("old",)), dict.fromkeys(names, 1))
    grouped = replace(few, train=replace(few.train, names=names), attributes=attributes)
    extended = PseudoLabels(config).added_to(grouped)
    numbers = extended.group_numbers(extended.train)
    assert numbers is not None
    assert numbers.tolist() == [1] * 6 + [-1] * 20


def test_the_number_of_images_is_limited(
    config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "MOST_UNLABELLED", 7)
    spreading._count.cache_clear()
    assert PseudoLabels(config).count == 7
    spreading._count.cache_clear()


def test_the_trial_trains_on_them_and_is_a_network_like_any_other(
    config: TrialConfig, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    count = SpreadingProbe.unlabelled_features

    def counted(probe: SpreadingProbe, *args: Any) -> Any:
        steps.append(1)
        return count(probe, *args)

    monkeypatch.setattr(SpreadingProbe, "unlabelled_features", counted)
    (report,) = run_trial(config, few, tmp_path / "trial")
    assert report.outcome == "completed"
    assert steps == [1]
    checkpoint = tmp_path / "trial" / "epoch-0001"
    evaluation = evaluate(config, few, few.val, checkpoint)
    assert evaluation["accuracy"] == pytest.approx(report.metrics["val/accuracy"])
    exported = export(config, few, checkpoint, tmp_path / "exported")
    assert exported.images == 30
    assert exported.difference < 1e-4


def test_an_epoch_takes_longer_by_these_images(config: TrialConfig, few: Dataset) -> None:
    plain = config.override(
        {"model.name": "squeezenet1_0", "model.unlabelled": None, "model.neighbours": None}
    )
    with_more, without = epochs_seconds([config, plain], few)
    assert with_more > 1.5 * without


def test_the_training_set_of_its_own_takes_memory(config: TrialConfig, few: Dataset) -> None:
    plain = config.override(
        {"model.name": "squeezenet1_0", "model.unlabelled": None, "model.neighbours": None}
    )
    more = training_bytes(config, few) - training_bytes(plain, few)
    assert more == 2 * 26 * 24 * 24 * 3


def test_one_process_trains_it(config: TrialConfig, few: Dataset) -> None:
    (problem,) = fit_problems(config, few, 2)
    assert problem == (
        "pseudo_squeezenet1_0 learns from images without labels, whose classes one process "
        "determines (got --workers 2). Remove --workers, or use another model."
    )


def test_the_folder_must_be_named(config: TrialConfig, few: Dataset) -> None:
    missing = config.override({"model.unlabelled": None})
    assert list(fit_problems(config, few, 1)) == []
    assert list(fit_problems(missing, few, 1)) == [
        "pseudo_squeezenet1_0 learns from images without labels, too. Name their folder with "
        "--unlabelled FOLDER, or use another model."
    ]


def test_with_folds_each_network_gets_labels_from_its_own_training_images(
    config: TrialConfig, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = replace(few, train=few.val, val=few.val, folds=3)
    labelled: list[int] = []
    add = PseudoLabels.added_to

    def added(images: PseudoLabels, dataset: Dataset, *beat: Any) -> Dataset:
        labelled.append(len(dataset.train))
        return add(images, dataset, *beat)

    monkeypatch.setattr(PseudoLabels, "added_to", added)
    (report,) = run_trial(config.override({"data.folds": 3}), folded, tmp_path / "trial")
    assert report.outcome == "completed"
    assert len(report.folds) == 3
    assert labelled == [20, 20, 20]
