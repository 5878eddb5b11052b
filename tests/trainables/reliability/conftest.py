"""A checkpoint of a network that was trained for a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.training.loop import Training

Make = Callable[..., tuple[TrialConfig, Dataset, Path]]


@pytest.fixture
def trained_checkpoint(make_dataset: Callable[..., Dataset], tmp_path: Path) -> Make:
    def make(name: str, epochs: int = 3, **sizes: int) -> tuple[TrialConfig, Dataset, Path]:
        dataset = make_dataset(**sizes)
        config = TrialConfig().override(
            {"model.name": name, "epochs": epochs, "precision": "fp32", "batch_size": 8}
        )
        training = Training(config, dataset)
        list(training.epochs())
        return config, dataset, checkpoint.save(tmp_path / "saved", training.state(), {})

    return make
