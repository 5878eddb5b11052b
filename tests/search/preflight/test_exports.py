"""The check that the networks of a search can be exported."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.preflight.exports import check_exports
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError
from trainables.export import program as export

SIDE = 12
DATASET = Dataset(
    "made",
    ("a", "b"),
    *[Part(np.zeros((6, SIDE, SIDE, 1), np.uint8), np.arange(6) % 2)] * 3,
    "f00d",
)


class Hesitating(nn.Module):
    """A network whose path depends on the values of the image, which cannot be exported."""

    def __init__(self, values: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(values, outputs)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits if images.sum() > 0 else -logits


def build_hesitating(image: tuple[int, int, int], outputs: int, **options: object) -> nn.Module:
    return Hesitating(math.prod(image), outputs)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def hesitating(monkeypatch: pytest.MonkeyPatch) -> TrialConfig:
    entry = replace(MODELS["deep_cnn"], builder=f"{__name__}:build_hesitating", options={})
    monkeypatch.setitem(MODELS, "hesitating", entry)
    return TrialConfig().override({"model.name": "hesitating"})


def noting(monkeypatch: pytest.MonkeyPatch) -> list[TrialConfig]:
    """Take every network for one that can be exported; return the list of those checked."""
    checked: list[TrialConfig] = []

    def check(config: TrialConfig, _: Dataset) -> bool:
        checked.append(config)
        return True

    monkeypatch.setattr(export, "check_exportable", check)
    return checked


def test_a_network_that_cannot_be_exported_is_named_before_the_search(
    hesitating: TrialConfig,
) -> None:
    with pytest.raises(
        ConfigError, match="'hesitating' cannot be exported, so that it could be trained but not"
    ):
        check_exports([hesitating], DATASET, lambda line: None)
    with pytest.raises(ConfigError, match="hesitating"):  # a failure is not remembered as success
        check_exports([hesitating], DATASET, lambda line: None)


def build_broken(image: tuple[int, int, int], outputs: int, **options: object) -> nn.Module:
    raise RuntimeError("it is broken")


def test_a_network_that_cannot_be_built_is_left_to_its_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = replace(MODELS["deep_cnn"], builder=f"{__name__}:build_broken")
    monkeypatch.setitem(MODELS, "deep_cnn", entry)
    lines: list[str] = []
    for _ in range(2):
        check_exports([TrialConfig()], DATASET, lines.append)
    assert len(lines) == 2  # it is not taken for checked


def test_the_largest_network_of_each_model_is_checked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = noting(monkeypatch)
    base = TrialConfig()
    configs = [
        base.override({"model.name": name, **options})
        for name, options in [
            ("deep_cnn", {"model.width": 8}),
            ("deep_cnn", {"model.width": 64}),
            ("mnist_cnn", {}),
            ("svm", {}),
        ]
    ]
    lines: list[str] = []
    for _ in range(2):
        check_exports(configs, DATASET, lines.append)
    assert checked == [configs[1], configs[2]]
    (line,) = lines
    assert line.endswith(": deep_cnn, mnist_cnn")
    check_exports(configs, replace(DATASET, classes=("a", "b", "c")), lines.append)
    assert len(checked) == 4


def test_without_a_cache_networks_are_checked_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked = noting(monkeypatch)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        check_exports([TrialConfig()], DATASET, lambda line: None)
    assert len(checked) == 2


@pytest.mark.parametrize("folds", [None, 2])
def test_the_check_leaves_the_random_numbers_as_they_are(folds: int | None) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert export.check_exportable(TrialConfig(), replace(DATASET, folds=folds))
    assert torch.equal(torch.rand(4), expected)
