"""What a process still knows of a trial's validation: the same to the last bit, of these very
weights, and no more than it may hold.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.checkpoints import remembered
from trainables.checkpoints.checkpoint import CheckpointError, list_checkpoints, name
from trainables.checkpoints.remembered import OUTPUT_CACHE, OutputCache, Outputs
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.evaluation import evaluate as evaluating
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.trial import run_trial

CONFIG = TrialConfig().override({"data.name": "digits", "model.name": "table2", "epochs": 3})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(CONFIG.data).sealed


@pytest.fixture(autouse=True)
def _empty() -> None:
    OUTPUT_CACHE.forget()


def trained(folder: Path, dataset: Dataset, config: TrialConfig = CONFIG) -> Path:
    """The checkpoint of a trial's best epoch."""
    reports = [report for report in run_trial(config, dataset, folder) if report.metrics]
    best = max(
        reports, key=lambda report: (report.metrics["val/accuracy"], -report.metrics["val/loss"])
    )
    return folder / name(best.epoch)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed anew")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_evaluation_of_what_was_validated_here_is_the_same_and_computes_nothing(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    config = CONFIG.override({"precision": precision})
    path = trained(tmp_path / "t0001", dataset, config)
    assert OUTPUT_CACHE.trials == ["t0001"]
    read = TrialConfig.from_dict(config.to_dict())
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "load_model", refuse)
        found, chances = (
            evaluate(read, dataset, dataset.val, path),
            predictions(read, dataset, dataset.val, path),
        )
    OUTPUT_CACHE.forget()
    np.testing.assert_array_equal(chances, predictions(read, dataset, dataset.val, path))
    assert found == evaluate(read, dataset, dataset.val, path)


def test_what_is_not_the_same_is_computed_anew(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another epoch's weights, another part, another scaling, a process that knows nothing."""
    path = trained(tmp_path / "t0001", dataset)
    other = next(epoch for epoch in list_checkpoints(path.parent) if epoch != path)
    monkeypatch.setattr(evaluating, "load_model", refuse)
    copy = replace(dataset.val)
    for config, part, where in (
        (CONFIG, dataset.val, other),
        (CONFIG, copy, path),
        (CONFIG, dataset.train, path),
        (CONFIG.override({"data.scaling": "unit"}), dataset.val, path),
    ):
        with pytest.raises(AssertionError, match="computed anew"):
            predictions(config, dataset, part, where)
    OUTPUT_CACHE.forget()
    with pytest.raises(AssertionError, match="computed anew"):
        predictions(CONFIG, dataset, dataset.val, path)


def test_a_checkpoint_that_was_damaged_since_is_told(tmp_path: Path, dataset: Dataset) -> None:
    path = trained(tmp_path / "t0001", dataset)
    (path / "optimizer.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        evaluate(CONFIG, dataset, dataset.val, path)


def test_a_trial_that_was_cut_off_remembers_its_best_epoch_if_that_is_trained_again(
    tmp_path: Path, dataset: Dataset
) -> None:
    for report in run_trial(CONFIG, dataset, tmp_path / "t0001"):
        if report.metrics:
            break
    OUTPUT_CACHE.forget()
    path = trained(tmp_path / "t0001", dataset)
    assert OUTPUT_CACHE.outputs(path, CONFIG, dataset.val) is not None


def test_the_oldest_is_dropped_where_it_is_too_much(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = trained(tmp_path / "t0001", dataset), OutputCache()
    outputs = Outputs(1, CONFIG, dataset.val, [torch.zeros(100, 10)])
    monkeypatch.setattr(remembered, "MAX_BYTES", 2 * outputs.size)
    for trial in ("t0001", "t0002", "t0001", "t0003"):
        memory.keep(trial, path, outputs)
    assert memory.trials == ["t0001", "t0003"]
    memory.keep("t0004", tmp_path / "gone", outputs)
    assert memory.trials == ["t0001", "t0003"]
