"""The families of torchvision: each as any model of `MODELS`, and what they have beside: frozen
parts, auxiliary heads, sizes of their own.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.support.networks import OF_TORCHVISION
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import FREEZE_NAMES, ModelConfig, OptimizerConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import predictions
from trainables.models.families import ANATOMY, Family
from trainables.tasks.metrics import WithAuxiliary, losses
from trainables.training.loop import Training
from trainables.training.optimizers import groups

NAMES = OF_TORCHVISION
PUBLISHED = sorted(name for name in NAMES if MODELS[name].weights)
SMALL = "mobilenet_v3_small"
LARGE = ("vgg", "alexnet", "vit")


def build(
    name: str,
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 3,
    *,
    device: str = "cpu",
    **options: object,
) -> Family:
    with torch.device(device):
        network = MODELS[name].build(image, classes, **ModelConfig(name=name, **options).options)
    assert isinstance(network, Family)
    return network


def smallest(name: str) -> int:
    return max(MODELS[name].min_side, MODELS[name].multiple)


def learning(network: nn.Module) -> set[str]:
    return {name for name, weights in network.named_parameters() if weights.requires_grad}


# Every family


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * name.startswith(LARGE)) for name in NAMES],
)
def test_it_trains_at_its_smallest_size_and_comes_out_of_a_checkpoint_as_it_went_in(
    name: str, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    """One step forward and backward changes every weight; saved and loaded, it gives the same
    probabilities.
    """
    dataset = make_dataset(side=smallest(name), train=4, val=3)
    config = TrialConfig().override(
        {
            "model.name": name,
            "batch_size": 4,
            "epochs": 1,
            "optimizer.lr": 1e-3,
            "optimizer.weight_decay": 0.1,
        }
    )
    training = Training(config, dataset)
    before = [weights.detach().clone() for weights in training.network.parameters()]
    (epoch,) = training.epochs()
    assert epoch.diverged == ""
    unchanged = [
        old
        for old, new in zip(before, training.network.parameters(), strict=True)
        if old.any() and torch.equal(old, new)
    ]
    assert not unchanged
    saved = checkpoint.save(tmp_path, training.state(), {})
    chances = torch.from_numpy(predictions(config, dataset, dataset.val, saved))
    with torch.no_grad():
        logits = training.network.eval()(training.val.batch(torch.arange(3))[0])
    torch.testing.assert_close(
        chances,
        logits.double().softmax(dim=1),
        rtol=1e-3 if training.precision == "fp32" else 0.05,
        atol=1e-3,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_as_many_weights_as_was_published(name: str) -> None:
    """With a thousand classes, at the size of the published weights (torchvision's `num_params`; of
    GoogLeNet without its auxiliary heads).
    """
    side = MODELS[name].native_side
    network = build(name, (3, side, side), 1000, device="meta")
    counted = sum(
        weights.numel()
        for key, weights in network.net.named_parameters()
        if name != "googlenet" or not key.startswith("aux")
    )
    assert counted == models.get_model_weights(name).DEFAULT.meta["num_params"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_registry_names_torchvisions_own_weights(name: str) -> None:
    weights = models.get_model_weights(name).DEFAULT
    assert weights.url.rpartition("/")[2] == MODELS[name].weights
    assert weights.transforms().crop_size == [MODELS[name].native_side]


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].min_side > 1])
def test_a_side_below_the_smallest_fails(name: str) -> None:
    side = MODELS[name].min_side
    network = build(name, (3, side, side), device="meta").eval()
    assert network(torch.zeros(2, 3, side, side, device="meta")).shape == (2, 3)
    small = build(name, (3, side - 1, side - 1), device="meta").eval()
    with pytest.raises(RuntimeError):
        small(torch.zeros(2, 3, side - 1, side - 1, device="meta"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_images_may_be_grey_and_need_not_be_square(name: str, channels: int) -> None:
    height, width = max(32, smallest(name)), max(32, smallest(name)) + 9
    network = build(name, (channels, height, width), device="meta").eval()
    assert network(torch.zeros(2, channels, height, width, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("freeze", FREEZE_NAMES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_frozen_is_what_the_option_says(name: str, freeze: str) -> None:
    network = build(name, device="meta", pretrained=True, freeze=freeze)
    all_of_them = {key for key, _ in network.net.named_parameters()}
    head = {key for key in all_of_them if key.startswith(ANATOMY[name].head)}
    wanted = {
        "nothing": all_of_them,
        "backbone": head,
        "all_but_last_stage": {
            key
            for key in all_of_them
            if key.startswith((*ANATOMY[name].head, *ANATOMY[name].last_stage))
        },
    }
    assert learning(network.net) == wanted[freeze]
    assert head
    assert freeze != "all_but_last_stage" or head < wanted[freeze] < all_of_them


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_part_that_is_named_is_there(name: str) -> None:
    """A prefix that matches nothing would freeze, or leave out, less than is said."""
    anatomy, side = ANATOMY[name], MODELS[name].native_side
    keys = [key for key, _ in build(name, (3, side, side), device="meta").net.named_parameters()]
    for prefix in (*anatomy.head, *anatomy.last_stage, *anatomy.auxiliary):
        assert any(key.startswith(prefix) for key in keys), prefix


# Sizes


@pytest.mark.parametrize(
    ("name", "image", "options", "size"),
    [
        ("resnet18", (3, 40, 30), {}, (40, 30)),
        ("resnet18", (3, 40, 30), {"input_size": 64}, (64, 64)),
        ("resnet18", (3, 40, 30), {"pretrained": True}, (224, 224)),
        ("inception_v3", (3, 40, 30), {"pretrained": True}, (299, 299)),
        ("resnet18", (3, 40, 30), {"pretrained": True, "input_size": 64}, (64, 64)),
        ("vit_b_16", (1, 28, 28), {}, (32, 32)),
        ("vit", (1, 8, 8), {"patch": 3}, (9, 9)),
    ],
)
def test_an_image_reaches_the_layers_at_the_size_that_was_asked_for(
    name: str, image: tuple[int, int, int], options: dict[str, object], size: tuple[int, int]
) -> None:
    network = build(name, image, device="meta", **options).eval()
    assert (
        network.size
        == size
        == MODELS[name].effective_size(image, ModelConfig(name=name, **options).options)
    )
    shapes: list[torch.Size] = []
    network.net.register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    network(torch.zeros(2, *image, device="meta"))
    assert shapes == [torch.Size([2, 3, *size])]


def test_the_transformers_options_make_its_shape() -> None:
    network = build("vit", (3, 32, 32), patch=8, layers=3, width=64).net
    assert (
        network.patch_size,
        len(network.encoder.layers),
        network.hidden_dim,
        network.seq_length,
    ) == (8, 3, 64, 17)


# Frozen


def test_frozen_layers_stay_to_the_last_bit_and_so_do_their_statistics(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(models.resnet18().state_dict(), path)
    config = TrialConfig().override(
        {
            "model.name": "resnet18",
            "model.pretrained": True,
            "model.freeze": "all_but_last_stage",
            "model.input_size": 32,
        }
    )
    config = config.override({"model.weights": str(path), "batch_size": 8, "epochs": 1})
    training = Training(config, make_dataset())
    before = {key: value.clone() for key, value in training.network.state_dict().items()}
    list(training.epochs())
    changed = {
        key
        for key, value in training.network.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed
    assert all(key.startswith(("net.layer4.", "net.fc.")) for key in changed)
    assert "net.layer4.0.bn1.running_mean" in changed


def test_dropout_acts_between_what_learns_and_not_in_what_is_frozen() -> None:
    """Of AlexNet's two dropouts both stand before the head; DenseNet's is a function inside its
    frozen blocks.
    """
    alexnet = build(
        "alexnet",
        (3, 64, 64),
        device="meta",
        pretrained=True,
        input_size=64,
        freeze="backbone",
        dropout=0.5,
    ).train()
    assert [module.training for module in alexnet.modules() if isinstance(module, nn.Dropout)] == [
        True,
        True,
    ]
    densenet = build(
        "densenet121", pretrained=True, input_size=32, freeze="backbone", dropout=0.5
    ).train()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(densenet(images), densenet(images))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model.freeze": "all"}, "unknown model.freeze 'all'"),
        ({"model.freeze": "backbone"}, "have never been trained"),
    ],
)
def test_nonsense_about_freezing_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrialConfig().override({"model.name": "resnet18", **given})


# Learning rates


def test_head_and_backbone_learn_at_rates_of_their_own() -> None:
    network = build("resnet18", pretrained=True)
    head, backbone = groups(network, OptimizerConfig(lr=0.01, backbone_lr=0.001))
    assert head["params"] == [network.net.fc.weight, network.net.fc.bias]
    assert backbone["lr"] == 0.001
    assert len(head["params"]) + len(backbone["params"]) == len(list(network.parameters()))


def test_the_rate_that_is_reported_is_the_heads_and_the_schedule_moves_both(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(models.mobilenet_v3_small().state_dict(), path)
    values = {
        "model.name": SMALL,
        "model.pretrained": True,
        "model.weights": str(path),
        "model.input_size": 32,
        "batch_size": 8,
        "epochs": 2,
    }
    values |= {
        "optimizer.lr": 0.01,
        "optimizer.backbone_lr": 0.001,
        "optimizer.schedule": "step",
        "optimizer.step_epochs": 1,
    }
    training = Training(TrialConfig().override(values), make_dataset())
    assert [epoch.values["lr"] for epoch in training.epochs()] == pytest.approx([0.01, 0.001])
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([1e-4, 1e-5])


@pytest.mark.parametrize("given", [{}, {"model.pretrained": True, "model.freeze": "backbone"}])
def test_a_backbones_rate_needs_a_backbone_that_learns(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="requires a pretrained backbone that is not frozen"):
        TrialConfig().override({"model.name": "resnet18", "optimizer.backbone_lr": 0.1, **given})


# Auxiliary heads


def test_googlenets_auxiliary_heads_count_in_training_alone() -> None:
    network, images, labels = (
        build("googlenet"),
        torch.rand(4, 3, 32, 32),
        torch.tensor([0, 1, 2, 0]),
    )
    outputs = network.train()(images)
    assert isinstance(outputs, WithAuxiliary)
    assert len(outputs.auxiliary) == 2
    whole, own = losses(outputs, labels)
    each = [nn.functional.cross_entropy(logits, labels) for logits in outputs.auxiliary]
    assert whole.item() == pytest.approx(
        own.item() + 0.3 * sum(loss.item() for loss in each), rel=1e-5
    )
    assert own.item() == pytest.approx(nn.functional.cross_entropy(outputs.logits, labels).item())
    assert network.eval()(images).shape == (4, 3)


@pytest.mark.parametrize(("side", "heads"), [(75, False), (299, True)])
def test_inceptions_auxiliary_head_is_there_where_it_has_something_to_look_at(
    side: int, heads: bool
) -> None:
    network = build("inception_v3", (3, side, side), device="meta").train()
    outputs = network(torch.zeros(2, 3, side, side, device="meta"))
    assert isinstance(outputs, WithAuxiliary) == heads


def test_inceptions_auxiliary_head_learns(make_dataset: Callable[..., Dataset]) -> None:
    values = {
        "model.name": "inception_v3",
        "model.input_size": 299,
        "batch_size": 2,
        "epochs": 1,
        "precision": "fp32",
    }
    training = Training(
        TrialConfig().override(values), make_dataset(side=8, train=2, val=2, classes=2)
    )
    before = training.network.net.AuxLogits.conv0.conv.weight.detach().clone()
    (epoch,) = training.epochs()
    assert epoch.diverged == ""
    assert not torch.equal(training.network.net.AuxLogits.conv0.conv.weight, before)


def test_a_frozen_backbone_has_no_auxiliary_heads() -> None:
    assert isinstance(
        build("googlenet", pretrained=True, input_size=32, freeze="backbone").train()(
            torch.rand(2, 3, 32, 32)
        ),
        torch.Tensor,
    )
