"""Every network for super-resolution: a correction of the bicubic enlargement."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.support.networks import ENLARGING
from trainables.catalog.models import MODELS
from trainables.config import ModelConfig
from trainables.tasks.super_resolution.networks import enlarge_bicubic
from trainables.tasks.super_resolution.predictor import bicubic

CHANGES = {"width": 12, "layers": 5, "depth": 1}
"""Another value of each option."""


def build(name: str, scale: int = 2, channels: int = 3, **options: object) -> nn.Module:
    torch.manual_seed(0)
    entry = MODELS[name]
    return entry.build((channels, 16, 16), scale, **ModelConfig(name=name, **options).options)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ENLARGING)
def test_the_output_is_larger_by_the_scale(name: str, scale: int) -> None:
    for channels, height, width in ((1, 16, 16), (3, 20, 12)):
        images = torch.rand(2, channels, height, width)
        output = build(name, scale, channels)(images)
        assert output.shape == (2, channels, scale * height, scale * width)
        assert output.abs().max() < 0.5, "it begins with small corrections"


def test_an_autoencoder_may_halve_more_often_than_its_sides_allow() -> None:
    network = build("autoencoder", 3, width=2, depth=5)
    assert network(torch.rand(1, 3, 12, 20)).shape == (1, 3, 36, 60)


@pytest.mark.parametrize("name", ENLARGING)
def test_every_option_has_an_effect(name: str) -> None:
    count = sum(weights.numel() for weights in build(name).parameters())
    for option in MODELS[name].options:
        changed = build(name, **{option: CHANGES[option]})
        assert sum(weights.numel() for weights in changed.parameters()) != count


@pytest.mark.parametrize("name", ENLARGING)
def test_a_few_steps_learn_a_correction(name: str) -> None:
    """None of them dies in the first steps of Adam, with the space's usual learning rate."""
    network = build(name, width=16).train()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 16, 16, generator=generator)
    truth = enlarge_bicubic(images, 2).roll(1, dims=3) - enlarge_bicubic(images, 2)
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=2e-3), []
    for _ in range(150):
        loss = (network(images) - truth).abs().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_that_of_pillow(scale: int) -> None:
    down, across = np.mgrid[:20, :24]
    waves = [127 + 90 * np.sin(down / 3 + number) * np.cos(across / 2) for number in range(3)]
    image = np.stack(waves, axis=2).astype(np.uint8)
    size = (24 * scale, 20 * scale)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    enlarged = enlarge_bicubic(tensor, scale)[0].permute(1, 2, 0).numpy()
    inner = slice(2 * scale, -2 * scale)
    difference = np.abs(enlarged[inner, inner] - expected[inner, inner])
    assert difference.max() <= 1.5, "Pillow rounds between the two axes"
    assert difference.mean() < 0.4
    own = bicubic(image, scale).astype(np.float32)
    assert np.abs(own - enlarged.clip(0, 255)).max() <= 0.5 + 1e-3, (
        "rounded once, also at the edges"
    )
