import pytest
import torch
from torch import nn

from trainables.tasks.segmentation.networks import UNet

IMAGE = (3, 64, 64)


def parameters(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def test_it_has_the_layers_of_the_paper() -> None:
    """The number of parameters follows from figure 1, where 1 channel is mapped to 2 classes."""
    with torch.device("meta"):
        network = UNet((1, 572, 572), 2, depth=4, width=64, norm="none")
    assert parameters(network) == 31_030_658
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 19
    assert sum(isinstance(module, nn.ConvTranspose2d) for module in network.modules()) == 4


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_images_are_halved_as_often_as_asked(depth: int) -> None:
    network = UNet(IMAGE, 2, depth=depth, width=2, norm="batch")
    sides: list[int] = []
    network.pool.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[2]))
    network(torch.rand(2, *IMAGE))
    assert sides == [64 // 2**halving for halving in range(1, depth + 1)]


@pytest.mark.parametrize("width", [1, 7, 12, 32])
def test_group_normalisation_suits_any_width(width: int) -> None:
    network = UNet(IMAGE, 2, depth=2, width=width, norm="group")
    groups = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert len(groups) == 10
    assert network(torch.rand(1, *IMAGE)).isfinite().all()


def test_with_batch_normalisation_alone_an_images_logits_depend_on_its_batch_in_training() -> None:
    images = torch.rand(2, *IMAGE)
    for norm, depends in (("batch", True), ("group", False), ("none", False)):
        network = UNet(IMAGE, 2, depth=2, width=4, norm=norm).train()
        with torch.no_grad():
            assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-4) != depends


def test_details_reach_the_output_past_the_lowest_resolution() -> None:
    """Without the lowest resolution, each pixel's logits still depend on its own value."""
    network = UNet((1, 32, 32), 2, depth=2, width=4, norm="none").eval()
    for weights in network.upsampling.parameters():
        nn.init.zeros_(weights)
    images = torch.rand(1, 1, 32, 32, requires_grad=True)
    network(images)[0, 0, 16, 16].backward()
    assert images.grad is not None
    assert images.grad[0, 0, 16, 16] != 0
    assert images.grad[0, 0, :8].abs().sum() == 0
