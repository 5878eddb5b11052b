from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.evaluation.combine import (
    average_trainings,
    compare_with_mean,
    mean_weights,
    renew_statistics,
)
from trainables.evaluation.evaluate import evaluate
from trainables.models.pretrained import Anatomy, Pretrainable
from trainables.training.loop import Training

SETTINGS = {"model.name": "deep_cnn", "epochs": 1, "optimizer.lr": 0.001, "precision": "fp32"}


def test_whole_numbers_are_not_averaged() -> None:
    first, second = (
        {"weight": torch.full((2,), value), "steps": torch.tensor(int(value))}
        for value in (1.0, 4.0)
    )
    mean = mean_weights(first, second)
    assert mean["weight"].tolist() == [2.5, 2.5]
    assert mean["steps"] == 1


class Images:
    """Eight images of one pixel."""

    pixels = torch.arange(8.0).view(8, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels[rows], rows


class TwoLayers(Pretrainable):
    part_name = "layers"

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.part(images)
        return outputs


def test_new_statistics_are_those_of_the_trained_layers_only() -> None:
    part = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1))
    anatomy = Anatomy(head=("2.",), last_stage=("1.",))
    network = TwoLayers(part, anatomy, pretrained=True, freeze="all_but_last_stage")
    frozen, trained = part[0], part[1]
    assert isinstance(frozen, nn.BatchNorm2d)
    assert isinstance(trained, nn.BatchNorm2d)
    assert frozen.running_mean is not None
    assert trained.running_mean is not None
    before, momentum = frozen.running_mean.clone(), trained.momentum
    images: Any = Images()
    renew_statistics(network, images)
    assert torch.equal(frozen.running_mean, before)
    assert float(trained.running_mean) == pytest.approx(3.5, rel=1e-3)  # the mean of 0 to 7
    assert (trained.momentum, trained.training) == (momentum, False)


def test_the_gain_and_its_error_are_those_of_paired_images() -> None:
    right = np.array([True, True, True, False])
    members = [np.array([True, False, True, False]), np.array([True, False, False, False])]
    gain, error = compare_with_mean(right, members)
    differences = np.array([0, 1, 0.5, 0])
    assert gain == pytest.approx(differences.mean())
    assert error == pytest.approx(differences.std(ddof=1) / 2)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(train_limit=300, val_limit=200))


@pytest.fixture(scope="module")
def members(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The checkpoints of two trainings with different seeds that begin with the same weights."""
    folder = tmp_path_factory.mktemp("trainings")
    begin = Training(TrialConfig().override(SETTINGS), digits)
    begin.next_epoch()
    begin.epoch = 0
    start = begin.state()
    paths = []
    for seed in (1, 2):
        training = Training(TrialConfig().override({**SETTINGS, "seed": seed}), digits)
        training.network.load_state_dict(start["model"])
        training.next_epoch()
        paths.append(checkpoint.save(folder / f"seed-{seed}", training.state(), {}))
    return paths


def test_the_saved_network_has_the_mean_weights_and_the_values_that_are_reported(
    digits: Dataset, members: list[Path], tmp_path: Path
) -> None:
    config = TrialConfig().override(SETTINGS)
    compared = average_trainings(config, digits, members, tmp_path / "average", 7)
    saved = tmp_path / "average" / "epoch-0007"
    state, each = checkpoint.load(saved), [checkpoint.load(path) for path in members]
    assert (state["epoch"], state["precision"]) == (7, "fp32")
    parameters = [name for name in state["model"] if "running" not in name and "num_" not in name]
    for name in parameters:
        mean = (each[0]["model"][name] + each[1]["model"][name]) / 2
        torch.testing.assert_close(state["model"][name], mean)
    measured = evaluate(config, digits, digits.val, saved)
    own = [evaluate(config, digits, digits.val, path)["accuracy"] for path in members]
    assert compared.metrics["val/accuracy"] == pytest.approx(measured["accuracy"])
    assert compared.gain == pytest.approx(measured["accuracy"] - np.mean(own))
    assert compared.metrics["val/accuracy"] > 0.2  # chance is 0.1


def test_a_damaged_member_is_named(digits: Dataset, members: list[Path], tmp_path: Path) -> None:
    config, missing = TrialConfig().override(SETTINGS), tmp_path / "epoch-0009"
    with pytest.raises(CheckpointError, match="epoch-0009"):
        average_trainings(config, digits, [*members, missing], tmp_path / "average", 1)
    assert not (tmp_path / "average").exists()
