"""Ensembles of several networks: what is saved, predicted and exported."""

from pathlib import Path

import numpy as np
import pytest

from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.errors import ConfigError
from trainables.evaluation.combine import combine_trainings
from trainables.evaluation.cost import cost
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.explanations.explain import load_explainable
from trainables.export.export import export
from trainables.fusion.shapes import cost_key
from trainables.reliability.promises import Promises
from trainables.training.loop import Training

ONE_EPOCH = {"epochs": 1, "precision": "fp32"}
SETTINGS = (
    {"model.name": "deep_cnn", "data.scaling": "standard"},
    {"model.name": "mnist_cnn", "data.scaling": "symmetric"},
)
"""The members scale pixels in different ways."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(train_limit=300, val_limit=200))


@pytest.fixture(scope="module")
def ensemble() -> TrialConfig:
    configs = [TrialConfig().override({**settings, **ONE_EPOCH}) for settings in SETTINGS]
    values = {**configs[0].to_dict(), "members": [config.to_dict() for config in configs]}
    return TrialConfig.from_dict(values)


@pytest.fixture(scope="module")
def members(
    digits: Dataset, ensemble: TrialConfig, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The checkpoints of two networks, each trained for one epoch."""
    folder, paths = tmp_path_factory.mktemp("trainings"), []
    for config in ensemble.members:
        training = Training(config, digits)
        training.next_epoch()
        paths.append(checkpoint.save(folder / config.model.name, training.state(), {}))
    return paths


def test_a_config_keeps_those_of_the_members(ensemble: TrialConfig) -> None:
    assert TrialConfig.from_dict(ensemble.to_dict()) == ensemble
    assert [member.model.name for member in ensemble.members] == ["deep_cnn", "mnist_cnn"]
    first = ensemble.members[0]
    assert "members" not in first.to_dict()
    assert cost_key(ensemble, "fp32") != cost_key(first, "fp32")
    with pytest.raises(ConfigError, match="unknown key 'members'"):
        TrialConfig().override({"members": ()})


def test_an_ensemble_predicts_the_mean_probabilities_of_its_members(
    digits: Dataset, ensemble: TrialConfig, members: list[Path], tmp_path: Path
) -> None:
    compared = combine_trainings(ensemble, digits, members, tmp_path / "ensemble", 3)
    saved = tmp_path / "ensemble" / "epoch-0003"
    each = [
        predictions(config, digits, digits.val, path)
        for config, path in zip(ensemble.members, members, strict=True)
    ]
    np.testing.assert_allclose(
        predictions(ensemble, digits, digits.val, saved), np.mean(each, axis=0), atol=1e-6
    )
    measured = evaluate(ensemble, digits, digits.val, saved)
    own = [
        evaluate(config, digits, digits.val, path)["accuracy"]
        for config, path in zip(ensemble.members, members, strict=True)
    ]
    assert measured["members"]["accuracy"] == pytest.approx(own)
    assert compared.metrics["val/accuracy"] == pytest.approx(measured["accuracy"])
    assert compared.gain == pytest.approx(measured["accuracy"] - own[0])
    costs = [
        cost(config, digits, path)
        for config, path in ((ensemble, saved), *zip(ensemble.members, members, strict=True))
    ]
    assert costs[0]["parameters"] == sum(each["parameters"] or 0 for each in costs[1:])


def test_an_ensemble_is_exported_and_explained_as_one_model(
    digits: Dataset, ensemble: TrialConfig, members: list[Path], tmp_path: Path
) -> None:
    combine_trainings(ensemble, digits, members, tmp_path / "ensemble", 1)
    saved = tmp_path / "ensemble" / "epoch-0001"
    exported = export(ensemble, digits, saved, tmp_path / "exported", onnx=True)
    assert exported.difference < 1e-4
    assert exported.onnx_difference is not None
    assert exported.onnx_difference < 1e-4
    with load_explainable(ensemble, digits, saved) as model:
        assert len(model.networks) == 2
    promises = Promises(false_alarms=0.05)
    with pytest.raises(ConfigError, match="--unlike cannot be used for an ensemble"):
        export(ensemble, digits, saved, tmp_path / "other", promises=promises)


def test_a_damaged_member_is_named(
    digits: Dataset, ensemble: TrialConfig, members: list[Path], tmp_path: Path
) -> None:
    missing = [members[0], tmp_path / "epoch-0009"]
    with pytest.raises(CheckpointError, match="epoch-0009"):
        combine_trainings(ensemble, digits, missing, tmp_path / "ensemble", 1)
    assert not (tmp_path / "ensemble").exists()
