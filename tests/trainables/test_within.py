"""A trial that is killed within an epoch continues with exactly the next image."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables import trial
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.messages import Report, TrialRequest
from trainables.training.loop import Training
from trainables.trial import WITHIN, run_trial

CONFIG = TrialConfig().override(
    {
        "model.name": "mnist_cnn",  # with dropout
        "model.width": 2,
        "epochs": 3,
        "batch_size": 8,
        "augment.crop": 2,
        "optimizer.name": "adamw",
        "optimizer.lr": 0.01,
    }
)
STEPS = 8
"""The number of steps of an epoch."""


class Killed(BaseException):
    """The process is killed."""


@pytest.fixture
def dataset() -> Dataset:
    """64 images to train on, and 16 to validate, in two classes."""
    generator = np.random.default_rng(0)
    train, val = (
        Part(generator.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8), np.arange(count) % 2)
        for count in (64, 16)
    )
    return Dataset("made", ("a", "b"), train, val, None, "f00d")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of each step that was taken; the state is saved after each."""
    monkeypatch.setattr(trial, "WITHIN_S", 0.0)
    monkeypatch.setattr(trial, "WITHIN_SHARE", math.inf)
    taken: list[list[int]] = []
    step = Training.step

    def recording(training: Training, rows: Tensor, changes: Tensor, means: Any) -> None:
        step(training, rows, changes, means)
        taken.append(rows.tolist())

    monkeypatch.setattr(Training, "step", recording)
    return taken


def killed_at(number: int, steps: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be killed when it begins the step with this number, from 0."""
    step = Training.step

    def killing(training: Training, *arguments: Any) -> None:
        if len(steps) == number:
            raise Killed
        step(training, *arguments)

    monkeypatch.setattr(Training, "step", killing)


def without_times(reports: list[Report]) -> list[dict[str, float]]:
    return [
        {name: value for name, value in report.metrics.items() if name != "time/epoch_s"}
        for report in reports
        if report.metrics
    ]


@pytest.mark.parametrize("number", np.random.default_rng(7).permutation(3 * STEPS)[:20].tolist())
def test_the_next_image_and_everything_after_it_are_the_same(
    number: int,
    dataset: Dataset,
    steps: list[list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = list(run_trial(CONFIG, dataset, tmp_path / "undisturbed"))
    expected = list(steps)
    steps.clear()
    reports: list[Report] = []
    with monkeypatch.context() as patched:
        killed_at(number, steps, patched)
        with pytest.raises(Killed):
            reports.extend(run_trial(CONFIG, dataset, tmp_path / "killed"))
    again = list(run_trial(CONFIG, dataset, tmp_path / "killed", TrialRequest(attempt=2)))
    assert steps == expected, "no image twice, and none left out"
    last = checkpoint.name(CONFIG.epochs)
    one, other = (
        checkpoint.load(tmp_path / name / last)["model"] for name in ("undisturbed", "killed")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert without_times(again)[-1] == without_times(undisturbed)[-1]
    assert not (tmp_path / "killed" / WITHIN).exists(), "it is not needed any more"


def test_a_save_that_takes_long_makes_the_next_one_wait(
    dataset: Dataset, steps: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, folders = checkpoint.save, list[str]()

    def recording(folder: Path, *arguments: Any, **named: Any) -> Any:
        folders.append(folder.name)
        return save(folder, *arguments, **named)

    monkeypatch.setattr(checkpoint, "save", recording)
    list(run_trial(CONFIG, dataset, tmp_path / "often"))
    assert folders.count(WITHIN) > CONFIG.epochs
    folders.clear()
    monkeypatch.setattr(trial, "WITHIN_SHARE", 1e-9)
    list(run_trial(CONFIG, dataset, tmp_path / "seldom"))
    assert folders.count(WITHIN) == 1


def test_a_damaged_state_within_an_epoch_is_left_aside(
    dataset: Dataset, steps: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        killed_at(11, steps, patched)
        with pytest.raises(Killed):
            list(run_trial(CONFIG, dataset, tmp_path))
    (tmp_path / WITHIN / "epoch-0002" / "model.safetensors").write_bytes(b"cut off")
    steps.clear()
    list(run_trial(CONFIG, dataset, tmp_path, TrialRequest(attempt=2)))
    assert len(steps) == 2 * STEPS, "from the beginning of the second epoch"


def test_short_epochs_are_not_saved_on_the_way(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    save = checkpoint.save

    def recording(folder: Path, *arguments: Any, **options: Any) -> Path:
        folders.append(folder)
        return save(folder, *arguments, **options)

    monkeypatch.setattr(checkpoint, "save", recording)
    list(run_trial(CONFIG, dataset, tmp_path))
    assert folders == [tmp_path] * 3
