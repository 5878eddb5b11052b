"""Does transfer work? Weights learnt on one set of real images, read the way torchvision's are,
help on a small part of another.
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from trainables.catalog.models import MODELS
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.training.loop import Training

NETWORK = {
    "model.name": "resnet18",
    "model.input_size": 32,
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
    "batch_size": 32,
    "precision": "fp32",
}
EPOCHS, IMAGES = 5, 60


def of_digits(part: Part, wanted: range, count: int) -> Part:
    """The first so many images of these digits, numbered from 0."""
    rows = np.flatnonzero(np.isin(part.targets, list(wanted)))[:count]
    return Part(part.images[rows], part.targets[rows] - wanted[0])


def digits(wanted: range, count: int) -> Dataset:
    whole = load(DataConfig())
    train, val = of_digits(whole.train, wanted, count), of_digits(whole.val, wanted, 10**6)
    return replace(whole, classes=tuple(map(str, wanted)), train=train, val=val, test=None)


def accuracy(dataset: Dataset, **values: object) -> float:
    """Of the last epoch."""
    *_, last = Training(
        TrialConfig().override(NETWORK | {"epochs": EPOCHS} | values), dataset
    ).epochs()
    return last.values["val/accuracy"]


@pytest.mark.slow(60)
@pytest.mark.long
def test_fine_tuning_beats_training_from_scratch_at_equal_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ResNet-18 learns the digits 0 to 4; then 60 images of the digits 5 to 9, five epochs, three
    seeds.
    """
    first = Training(
        TrialConfig().override(
            NETWORK | {"epochs": 4, "optimizer.lr": 1e-3, "data.scaling": "unit"}
        ),
        digits(range(5), 10**6),
    )
    *_, learnt = first.epochs()
    assert learnt.values["val/accuracy"] > 0.9
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / MODELS["resnet18"].weights
    place.parent.mkdir(parents=True)
    torch.save(
        {name.removeprefix("net."): value for name, value in first.network.state_dict().items()},
        place,
    )
    few = digits(range(5, 10), IMAGES)
    scratch = [
        max(accuracy(few, seed=seed, **{"optimizer.lr": lr}) for lr in (1e-3, 3e-3))
        for seed in range(3)
    ]
    tuned = [
        accuracy(
            few,
            seed=seed,
            **{"model.pretrained": True, "optimizer.lr": 3e-3, "optimizer.backbone_lr": 1e-3},
        )
        for seed in range(3)
    ]
    assert mean(tuned) > mean(scratch) + 0.1, (tuned, scratch)
