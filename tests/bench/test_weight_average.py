from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.bench.weight_average import Scores, Weights, averaged, greedy_soup, normalise_anew
from trainables.models.pretrained import Anatomy, Pretrainable


def weights(value: float) -> Weights:
    return {"layer.weight": torch.full((2,), float(value)), "layer.steps": torch.tensor(int(value))}


def test_whole_numbers_are_not_averaged() -> None:
    mean = averaged([weights(1), weights(4)])
    assert mean["layer.weight"].tolist() == [2.5, 2.5]
    assert mean["layer.steps"] == 1


def test_greedy_soup_begins_with_the_best_and_refuses_what_lowers_it() -> None:
    """The accuracy is highest at 3; the members come from the best to the worst."""

    def score(tried: Weights) -> Scores:
        value = float(tried["layer.weight"][0])
        return 1 - abs(value - 3) / 10, value

    members = [(weights(value), score(weights(value))) for value in (9, 4, 1, 2)]
    # 4 is the best, beside 2. Their mean is 3, and 1 and 9 would move it away.
    count, soup, accuracies = greedy_soup(members, score)
    assert (count, accuracies) == (2, (pytest.approx(1), 3))
    assert soup["layer.weight"].tolist() == [3, 3]


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
    normalise_anew(network, images)
    assert torch.equal(frozen.running_mean, before)
    assert float(trained.running_mean) == pytest.approx(3.5, rel=1e-3)  # the mean of 0 to 7
    assert (trained.momentum, trained.training) == (momentum, False)
