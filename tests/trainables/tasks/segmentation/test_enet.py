import torch
from torch import nn

from trainables.tasks.segmentation.networks import enet


def test_it_is_as_large_as_in_the_paper() -> None:
    """The paper has 0.37 million parameters (table III)."""
    network = enet((3, 64, 64), 20, dropout=0.1)
    assert 0.35e6 < sum(weights.numel() for weights in network.parameters()) < 0.38e6


def test_most_of_it_works_at_an_eighth_of_the_resolution() -> None:
    network, sides = enet((3, 64, 64), 2, dropout=0.1), list[int]()
    for block in network:
        block.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[2]))
    network(torch.rand(2, 3, 64, 64))
    assert sides == [32] + 5 * [16] + 17 * [8] + 3 * [16] + 2 * [32] + [64]


def test_whole_channels_are_dropped_and_fewer_of_them_early() -> None:
    rates = [
        module.p for module in enet((3, 64, 64), 2, dropout=0.2).modules()
        if isinstance(module, nn.Dropout2d)
    ]  # fmt: skip
    assert rates == 5 * [0.1 * 0.2] + 22 * [0.2]
