"""Every network of segmentation: logits for each pixel, for training and for export."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from tests.support.networks import LARGE, SEGMENTING
from trainables.catalog.models import MODELS
from trainables.config import ModelConfig
from trainables.models.pretrained import Pretrainable
from trainables.training.loop import on_device

CLASSES = 3
SIDE = 32
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] * name.startswith(LARGE)) for name in SEGMENTING
]
WITH_ENCODER = [name for name in SEGMENTING if MODELS[name].source]
CHANGES = {
    "depth": 2,
    "width": 24,
    "norm": "group",
    "dropout": 0.3,
    "pretrained": True,
    "freeze": "backbone",
}
"""Another value of each option that has an effect on a new network."""


def build(
    name: str, image: tuple[int, int, int] = (3, 64, 64), *, seed: int = 0, **options: object
) -> nn.Module:
    torch.manual_seed(seed)
    network = MODELS[name].build(image, CLASSES, **ModelConfig(name=name, **options).options)
    return on_device(network, torch.device("cpu"))


def images_and_targets(channels: int = 3, side: int = 64, count: int = 4) -> tuple[Tensor, Tensor]:
    """Bright squares on noise."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, side, side, generator=generator) / 2
    targets = torch.zeros(count, side, side, dtype=torch.long)
    for number in range(count):
        targets[number, 8 : 24 + number, 16:40] = 1 + number % (CLASSES - 1)
    images += targets[:, None] / 4
    return images.contiguous(memory_format=torch.channels_last), targets


@pytest.mark.parametrize(("channels", "height", "width"), [(1, SIDE, SIDE), (3, 96, 64)])
@pytest.mark.parametrize("name", SEGMENTING)
def test_the_logits_have_the_sides_of_the_image(
    name: str, channels: int, height: int, width: int
) -> None:
    image = (channels, height, width)
    with torch.device("meta"):
        network = MODELS[name].build(image, CLASSES, **MODELS[name].options)
    for mode in (True, False):
        logits = network.train(mode)(torch.zeros(2, *image, device="meta"))
        assert logits.shape == (2, CLASSES, height, width)
        assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_step_lowers_the_loss_and_changes_every_weight(name: str) -> None:
    network, (images, targets) = build(name).train(), images_and_targets()
    before = {key: weights.detach().clone() for key, weights in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    losses = []
    for _ in range(2):
        torch.manual_seed(5)  # the same dropout before and after the step
        loss = functional.cross_entropy(network(images), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    # A bias before batch normalisation has a gradient of zero.
    assert [
        key for key, weights in network.named_parameters() if torch.equal(weights, before[key])
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_weights(name: str) -> None:
    states = [build(name, seed=seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_an_images_logits_do_not_depend_on_its_batch(name: str) -> None:
    network, (images, _) = build(name).eval(), images_and_targets()
    with torch.no_grad():
        logits = network(images)
        torch.testing.assert_close(logits[2:3], network(images[2:3]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.filterwarnings("ignore")  # those of torch's exporters about their own code
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("unet", 1),
        *(
            pytest.param(name, 3, marks=[pytest.mark.slow] * (name != "unet"))
            for name in SEGMENTING
        ),
    ],
)
def test_exported_for_one_size_it_gives_the_same_logits_for_any_batch(
    name: str, channels: int, tmp_path: Path
) -> None:
    """Both as a program of torch, and in ONNX Runtime."""
    images, _ = images_and_targets(channels, count=3)
    network = trained(build(name, (channels, 64, 64)), images).eval()
    axes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (images[:2],), dynamic_shapes=axes)
    path = tmp_path / "network.onnx"
    torch.onnx.export(program, f=path, dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        with torch.no_grad():
            logits = network(images[:count])
            torch.testing.assert_close(
                program.module()(images[:count]), logits, rtol=1e-4, atol=1e-4
            )
        (outputs,) = session.run(None, {session.get_inputs()[0].name: images[:count].numpy()})
        np.testing.assert_allclose(outputs, logits, rtol=1e-3, atol=1e-3)


def trained(network: nn.Module, images: Tensor) -> nn.Module:
    """Adapt the statistics of batch normalisation, so that eval mode differs from its default."""
    with torch.no_grad():
        network.train()(images)
    return network


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name in SEGMENTING
        for option in MODELS[name].options
        if option != "weights"
    ],
)
def test_each_option_changes_the_network(name: str, option: str) -> None:
    """`weights` is a path, which is read after the network was built."""
    changes = {option: CHANGES[option]} | ({"pretrained": True} if option == "freeze" else {})
    base = {"pretrained": True} if option == "freeze" else {}
    with torch.device("meta"):
        plain, changed = (
            MODELS[name].build((3, 64, 64), CLASSES, **{**MODELS[name].options, **options})
            for options in (base, changes)
        )
    assert describe(plain) != describe(changed)


def describe(network: nn.Module) -> tuple[str, list[bool], bool]:
    """Describe all of a network but the values of its weights."""
    return (
        str(network),
        [weights.requires_grad for weights in network.parameters()],
        getattr(network, "pretrained", False),
    )


@pytest.mark.parametrize("name", [name for name in SEGMENTING if "dropout" in MODELS[name].options])
def test_dropout_acts_in_training_only(name: str) -> None:
    network, (images, _) = build(name, dropout=0.9), images_and_targets(side=SIDE)
    with torch.no_grad():
        network.train()
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_the_registry_names_torchvisions_own_weights_of_the_encoder(name: str) -> None:
    entry = MODELS[name]
    assert models.get_model_weights(entry.source).DEFAULT.url.rpartition("/")[2] == entry.weights


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"vit"}))
def test_a_network_that_may_start_with_weights_says_which_part_does(name: str) -> None:
    entry = MODELS[name]
    if "pretrained" not in entry.options:
        assert not entry.weights
        return
    side = max(entry.min_side, entry.multiple)
    with torch.device("meta"):
        network = entry.build((3, side, side), CLASSES, **entry.options)
    assert isinstance(network, Pretrainable)
    heads = {id(weights) for weights in network.head_parameters()}
    pretrained = [weights for weights in network.part.parameters() if id(weights) not in heads]
    assert heads
    assert len(pretrained) + len(heads) == len(list(network.parameters()))
