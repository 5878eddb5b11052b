import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.card import CARD, watched
from tests.support.networks import OWN
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import OPTIMIZER_NAMES
from trainables.datasets.arrays import Part
from trainables.fusion import stack
from trainables.fusion.layers import (
    FUSED,
    UNCHANGED,
    HashedMasks,
    blueprint,
    draw_masks,
    fuse,
)
from trainables.fusion.stack import Stack, shape_of, train_together
from trainables.training import optimizers
from trainables.training.loop import Training

CLOSE = {"rel": 1e-5, "abs": 1e-5}
MOMENTA = (0.0, 0.5, 0.9, 0.99)
NETWORKS = [(name, {}) for name in OWN] + [("deep_cnn", {"model__layers": 8})]


@pytest.fixture
def make_members(make_config):
    """Four configs that differ in all that may differ."""

    def make(optimizer="adam", name="deep_cnn", **values):
        own = [
            {
                "optimizer__lr": (1e-3, 1e-2, 3e-3, 2e-2)[member],
                "optimizer__weight_decay": (0.0, 1e-2, 1e-3, 0.1)[member],
                "model__dropout": (0.0, 0.3, 0.5, 0.1)[member],
                "seed": (0, 1, 0, 0)[member],
                "optimizer__schedule": ("constant", "cosine", "step", "plateau")[member],
                "optimizer__step_epochs": 1,
                "optimizer__patience": 0,
                "epochs": 3 + member,
                **({"optimizer__momentum": MOMENTA[member]} if optimizer == "sgd" else {}),
            }
            for member in range(4)
        ]
        return [
            make_config(
                optimizer__name=optimizer, model__name=name, precision="fp32", **each, **values
            )
            for each in own
        ]

    return make


def values_of(metrics):
    return {name: value for name, value in metrics.values.items() if name != "time/epoch_s"}


def assert_equal_metrics(one, other):
    assert one.epoch == other.epoch
    assert values_of(one) == pytest.approx(values_of(other), **CLOSE)


def alone(config, dataset, epochs):
    """The metrics of a training by itself."""
    generator = Training(config, dataset).epochs()
    return [next(generator) for _ in range(epochs)]


# Equal to the training alone


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
@pytest.mark.parametrize(
    ("name", "options"),
    NETWORKS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_together_is_as_alone(name, options, optimizer, make_members, make_dataset):
    dataset, configs = make_dataset(), make_members(optimizer, name, **options)
    expected = [alone(config, dataset, 3) for config in configs]
    trainings = [Training(config, dataset) for config in configs]
    for epoch in range(3):
        for member, metrics in enumerate(train_together(trainings)):
            assert_equal_metrics(metrics, expected[member][epoch])


@pytest.mark.parametrize("values", [
    {"augment__crop": 1, "augment__jitter": 0.2}, {"augment__rotation": 10}, {"batch_size": 1000},
    {"batch_size": 7}, {"data__scaling": "unit"}, {"metric": "macro_f1"}, {"metric": "auc"},
], ids=str)  # fmt: skip
def test_together_is_as_alone_with(values, make_members, make_dataset):
    dataset, configs = make_dataset(channels=3, height=10), make_members(**values, model__layers=6)
    trainings = [Training(config, dataset) for config in configs]
    for epoch in range(2):
        for config, metrics in zip(configs, train_together(trainings), strict=True):
            assert_equal_metrics(metrics, alone(config, dataset, 2)[epoch])


def test_each_may_balance_classes_in_its_own_way(make_config, make_dataset):
    dataset = make_dataset(train=25)  # classes of 9, 8 and 8 images
    configs = [
        make_config(precision="fp32", **values)
        for values in (
            {},
            {"train__class_weights": "balanced"},
            {"train__class_weights": "sqrt"},
            {"train__sampling": "balanced"},
        )
    ]
    together = train_together([Training(config, dataset) for config in configs])
    for config, metrics in zip(configs, together, strict=True):
        assert_equal_metrics(metrics, alone(config, dataset, 1)[0])


def test_each_may_have_its_own_augmentation(make_config, make_dataset):
    dataset = make_dataset()
    configs = [
        make_config(precision="fp32"),
        make_config(precision="fp32", augment__crop=2),
        make_config(precision="fp32", augment__jitter=0.3),
    ]
    together = train_together([Training(config, dataset) for config in configs])
    for config, metrics in zip(configs, together, strict=True):
        assert_equal_metrics(metrics, alone(config, dataset, 1)[0])
    assert len({metrics.values["train/loss"] for metrics in together}) == 3


@pytest.mark.parametrize("shared", [True, False], ids=["one batch for all", "a batch each"])
@pytest.mark.parametrize(("channels", "width"), [(1, 1), (3, 3)])
def test_a_residual_pair_over_the_images_themselves(
    channels, width, shared, make_config, make_dataset
):
    """As many filters as channels, and a batch as large as the group: they would broadcast."""
    dataset = make_dataset(channels=channels)
    seeds = [0] * 8 if shared else range(8)
    configs = [
        make_config(
            model__layers=6,
            model__width=width,
            precision="fp32",
            seed=seed,
            optimizer__lr=0.01 * 2**-n,
        )
        for n, seed in enumerate(seeds)
    ]
    for config, metrics in zip(
        configs, train_together([Training(config, dataset) for config in configs]), strict=True
    ):
        assert_equal_metrics(metrics, alone(config, dataset, 1)[0])


def test_one_alone_is_a_group_too(make_config, make_dataset):
    config = make_config(model__dropout=0.5, model__layers=8, precision="fp32")
    (metrics,) = train_together([Training(config, make_dataset())])
    assert_equal_metrics(metrics, alone(config, make_dataset(), 1)[0])


def test_in_bfloat16_losses_are_near(make_members, make_dataset):
    configs = [config.override({"precision": "bf16"}) for config in make_members(model__layers=8)]
    for config, metrics in zip(
        configs,
        train_together([Training(config, make_dataset()) for config in configs]),
        strict=True,
    ):
        assert values_of(metrics)["val/loss"] == pytest.approx(
            alone(config, make_dataset(), 1)[0].values["val/loss"], rel=0.05
        )


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_every_part_of_the_state_is_as_alone(optimizer, make_members, make_dataset):
    dataset, configs = make_dataset(), make_members(optimizer, model__layers=8)
    trainings = [Training(config, dataset) for config in configs]
    for _ in range(2):
        train_together(trainings)
    for config, training in zip(configs, trainings, strict=True):
        one = Training(config, dataset)
        epochs = one.epochs()
        next(epochs), next(epochs)
        assert_equal_states(training.state(), one.state())
        for mine, its in zip(training.network.parameters(), one.network.parameters(), strict=True):
            assert mine.stride() == its.stride()
            for name, value in one.optimizer.state[its].items():
                assert training.optimizer.state[mine][name].stride() == value.stride()
                assert training.optimizer.state[mine][name].dtype == value.dtype


def assert_equal_states(mine, other):
    assert mine["epoch"] == other["epoch"]
    torch.testing.assert_close(mine["model"], other["model"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        mine["optimizer"]["state"], other["optimizer"]["state"], rtol=1e-4, atol=1e-5
    )
    assert mine["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
    assert {name: value for name, value in mine["schedule"].items() if name != "best"} == {
        k: v for k, v in other["schedule"].items() if k != "best"
    }


def test_the_callers_random_state_is_left_as_it_was(make_members, make_dataset):
    trainings = [Training(config, make_dataset()) for config in make_members()]
    before = torch.get_rng_state()
    train_together(trainings)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_step_is_a_sign_of_life_of_each(make_members, make_dataset):
    beats = [[] for _ in range(4)]
    own, dataset = make_members(), make_dataset()
    train_together(
        [
            Training(config, dataset, on_step=lambda member=member: beats[member].append(1))
            for member, config in enumerate(own)
        ]
    )
    one: list[int] = []
    next(Training(own[0], dataset, on_step=lambda: one.append(1)).epochs())
    assert {len(each) for each in beats} == {len(one)}


def test_the_time_is_the_groups(make_members, make_dataset):
    times = [
        metrics.values["time/epoch_s"]
        for metrics in train_together(
            [Training(config, make_dataset()) for config in make_members()]
        )
    ]
    assert 0 < times[0] <= times[-1] < 2 * times[0] + 0.1


# Joining and leaving


def test_one_leaves_and_another_joins(make_members, make_dataset):
    dataset, (first, second, third, fourth) = make_dataset(), make_members("sgd", model__layers=6)
    a, b, c, d = (Training(config, dataset) for config in (first, second, third, fourth))
    seen = {id(training): [] for training in (a, b, c, d)}
    for group in (
        [a, b, c],
        [a, c, d],
        [c, d],
        [d, b],
    ):  # b is stopped, d begins; then a is stopped; c ends and b goes on
        for training, metrics in zip(group, train_together(group), strict=True):
            seen[id(training)].append(metrics)
    for training, config in ((a, first), (b, second), (c, third), (d, fourth)):
        for mine, expected in zip(
            seen[id(training)], alone(config, dataset, len(seen[id(training)])), strict=True
        ):
            assert_equal_metrics(mine, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_saved_together_it_resumes_alone_and_the_other_way_round(
    optimizer, make_members, make_dataset, tmp_path
):
    dataset, configs = make_dataset(), make_members(optimizer, model__layers=6)
    expected = [alone(config, dataset, 3) for config in configs]
    together = [Training(config, dataset) for config in configs]
    train_together(together)
    resumed = []
    for member, training in enumerate(together):
        path = checkpoint.save(tmp_path / str(member), training.state(), {})
        one = Training(configs[member], dataset)
        one.load_state(checkpoint.load(path))
        assert_equal_metrics(next(one.epochs()), expected[member][1])
        again = Training(configs[member], dataset)
        again.load_state(checkpoint.load(checkpoint.save(tmp_path / str(member), one.state(), {})))
        resumed.append(again)
    for member, metrics in enumerate(train_together(resumed)):
        assert_equal_metrics(metrics, expected[member][2])


# Divergence


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
@pytest.mark.parametrize(
    ("name", "options"),
    NETWORKS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_one_that_diverges_leaves_the_others_as_they_are(
    name, options, optimizer, make_members, make_dataset
):
    dataset, configs = make_dataset(), make_members(optimizer, name, **options)
    configs[1] = configs[1].override({"optimizer.lr": 1e30})
    trainings = [Training(config, dataset) for config in configs]
    epochs = [train_together(trainings) for _ in range(2)]
    assert epochs[0][1].diverged
    for member in (0, 2, 3):
        for mine, expected in zip(epochs, alone(configs[member], dataset, 2), strict=True):
            assert_equal_metrics(mine[member], expected)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_weights_that_are_not_numbers_stay_with_their_member(
    poison, name, make_members, make_dataset
):
    dataset, configs = make_dataset(), make_members("adam", name)
    trainings = [Training(config, dataset) for config in configs]
    with torch.no_grad():
        for weights in trainings[2].network.parameters():
            weights.fill_(poison)
    metrics = train_together(trainings)
    assert metrics[2].diverged
    for member in (0, 1, 3):
        assert_equal_metrics(metrics[member], alone(configs[member], dataset, 1)[0])


# What can be together


@pytest.mark.parametrize("name", OWN)
def test_every_model_of_ours_has_a_shape(name, make_config):
    assert shape_of(make_config(model__name=name)) is not None
    hash(shape_of(make_config(model__name=name)))


@pytest.mark.parametrize("values", [
    {"optimizer__lr": 0.5}, {"optimizer__weight_decay": 0.5}, {"optimizer__schedule": "step"},
    {"model__dropout": 0.9}, {"seed": 9}, {"epochs": 9}, {"augment__crop": 2}, {"model__layers": 5},
], ids=str)  # fmt: skip
def test_trials_of_one_shape(values, make_config):
    """`model.layers` is 5 where it is left out."""
    assert shape_of(make_config(**values)) == shape_of(make_config())


@pytest.mark.parametrize("values", [
    {"batch_size": 9}, {"optimizer__name": "sgd"}, {"model__width": 5}, {"model__layers": 6},
    {"model__name": "table2"}, {"precision": "bf16"}, {"data__name": "mnist"},
    {"data__train_limit": 20},
], ids=str)  # fmt: skip
def test_trials_of_two_shapes(values, make_config):
    assert shape_of(make_config(**values)) != shape_of(make_config())


class Odd(nn.Module):
    def forward(self, x):
        return x - x.mean()


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x - x.mean())


def hooked() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, inputs, output: output * 2)
    return layer


def used_twice() -> nn.Module:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, layer)


@pytest.mark.parametrize("network", [
    Odd(), nn.Sequential(nn.ReLU(), Odd()), OwnLinear(2, 2), hooked(), used_twice(),
    nn.Softmax(dim=0), nn.LayerNorm(2), nn.Flatten(), nn.BatchNorm2d(2, momentum=None),
    nn.BatchNorm2d(2, track_running_stats=False),
    nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
    nn.MaxPool2d(2, return_indices=True), nn.Dropout(1.0),
], ids=lambda network: str(network)[:30])  # fmt: skip
def test_what_is_not_known_to_keep_members_apart_is_not_stacked(network):
    assert blueprint(network) is None


def test_a_model_with_an_unknown_layer_has_no_shape_and_is_refused(
    make_config, make_dataset, monkeypatch
):
    entry = copy.copy(MODELS["table2"])
    monkeypatch.setattr(
        type(entry),
        "build",
        lambda self, image, classes, **options: nn.Sequential(
            Odd(), nn.Flatten(-3), nn.Linear(64, classes)
        ),
    )
    stack._is_stackable.cache_clear()
    try:
        assert shape_of(make_config(model__name="table2")) is None
        with pytest.raises(
            ValueError,
            match="it is unknown whether the layers of 'table2' keep the members separate",
        ):
            train_together([Training(make_config(model__name="table2"), make_dataset())])
    finally:
        stack._is_stackable.cache_clear()


def test_what_cannot_be_together_is_refused_in_words(make_config, make_dataset):
    one = Training(make_config(), make_dataset())
    with pytest.raises(ValueError, match="there are no trainings"):
        train_together([])
    with pytest.raises(ValueError, match="one of them is listed twice"):
        train_together([one, one])
    with pytest.raises(ValueError, match="they differ in shape"):
        train_together([one, Training(make_config(batch_size=9), make_dataset())])
    with pytest.raises(ValueError, match="they differ in data set"):
        train_together([one, Training(make_config(), make_dataset(train=25))])
    with pytest.raises(ValueError, match="they differ in network"):
        train_together([one, Training(make_config(), make_dataset(classes=4))])
    assert one.epoch == 0
    list(one.epochs())
    with pytest.raises(ValueError, match="one of them has trained all its epochs"):
        train_together([one])
    several = Training(make_config(), make_dataset())
    several.world.size = 2
    with pytest.raises(ValueError, match="one of them is trained by several processes"):
        train_together([several])


def test_an_error_on_the_way_leaves_all_as_they_were(make_members, make_dataset):
    def fail():
        raise RuntimeError("no memory")

    trainings = [Training(config, make_dataset(), on_step=fail) for config in make_members()]
    before = copy.deepcopy([training.state() for training in trainings])
    with pytest.raises(RuntimeError, match="no memory"):
        train_together(trainings)
    for training, state in zip(trainings, before, strict=True):
        assert_equal_states(training.state(), state)


# Layers


@pytest.mark.parametrize("make", [
    lambda: nn.Conv2d(2, 4, 3, stride=2, dilation=2, groups=2),
    lambda: nn.Conv2d(2, 4, 3, padding="same", bias=False),
    lambda: nn.MaxPool2d(3, 2, 1),
    lambda: nn.BatchNorm2d(2, affine=False),
    lambda: nn.Sequential(nn.Flatten(-3), nn.Linear(2 * 9 * 8, 5, bias=False)),
], ids=range(5))  # fmt: skip
@pytest.mark.parametrize("shared", [True, False])
def test_a_layer_of_many_is_each_ones(make, shared):
    members = [make() for _ in range(3)]
    images = torch.randn(4, 1 if shared else 3, 2, 9, 8).expand(4, 3, 2, 9, 8)
    fused = fuse(members, lambda x, rates: x)
    for member, layer in enumerate(members):
        torch.testing.assert_close(
            fused(images)[:, member], layer(images[:, member]), rtol=1e-5, atol=1e-5
        )


def test_all_that_is_listed_is_tested():
    """A new layer or container belongs into these tests before it is stacked."""
    assert {kind.__name__ for kind in FUSED} == {"Conv2d", "Linear", "BatchNorm2d", "MaxPool2d"}
    assert {kind.__name__ for kind in UNCHANGED} == {
        "Sequential",
        "ModuleList",
        "ResidualPair",
        "MultiScale",
        "ReLU",
        "Flatten",
    }


# Masks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8,), (5, 3, 2), (64,)])
def test_masks_on_a_cpu_are_those_of_each_alone(shape, dtype):
    rates, x = [0.0, 0.3, 0.5, 0.9], torch.ones(6, 4, *shape, dtype=dtype)
    generators = [torch.Generator().manual_seed(member) for member in range(4)]
    twice = [draw_masks(x, rates, generators) for _ in range(2)]
    for member, rate in enumerate(rates):
        torch.manual_seed(member)
        for masks in twice:
            assert torch.equal(masks[:, member], functional.dropout(x[:, member], rate))


def test_hashed_masks_keep_their_share_and_scale_it():
    masks = HashedMasks([1, 2, 3], torch.device("cpu"))(torch.ones(500, 3, 200), [0.0, 0.25, 0.9])
    assert torch.equal(masks[:, 0], torch.ones(500, 200))
    assert masks[:, 1].unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert masks.mean(dim=(0, 2)).tolist() == pytest.approx([1, 1, 1], abs=0.03)


def test_hashed_masks_are_a_members_own_and_new_each_time():
    x, rates = torch.ones(100, 3, 50), [0.5] * 3
    group, other = HashedMasks([1, 2, 3], x.device), HashedMasks([7, 1], x.device)
    first, second = group(x, rates), group(x, rates)
    assert torch.equal(first[:, 0], other(x[:, :2], rates[:2])[:, 1])
    kept = (
        torch.stack(
            [first[:, 0], first[:, 1], second[:, 0], first[:, 0].roll(1, 0), first[:, 0].roll(1, 1)]
        ).flatten(1)
        > 0
    )
    agreement = (kept.unsqueeze(0) == kept.unsqueeze(1)).float().mean(dim=2)
    assert agreement.fill_diagonal_(0.5).sub(0.5).abs().max() < 0.04


def test_hashed_masks_train_too(make_members, make_dataset, monkeypatch):
    monkeypatch.setattr(stack, "masks_for", HashedMasks)
    dataset, configs = make_dataset(), make_members()
    twice = [
        [
            values_of(metrics)
            for metrics in train_together([Training(config, dataset) for config in configs])
        ]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]
    assert twice[0][0] == pytest.approx(
        values_of(alone(configs[0], dataset, 1)[0]), **CLOSE
    )  # no dropout


# Data


def test_members_with_copies_of_their_own_read_their_own(make_config, make_dataset):
    first, second = make_dataset(), make_dataset()
    dark = Part(np.zeros_like(second.val.images), second.val.targets)
    second = type(second)(second.name, second.classes, second.train, dark, None, "")
    config = make_config(precision="fp32")
    together = train_together([Training(config, first), Training(config, second)])
    assert_equal_metrics(together[0], alone(config, first, 1)[0])
    assert_equal_metrics(together[1], alone(config, second, 1)[0])


def test_a_group_on_a_card_gets_an_epochs_draws_at_once_and_no_step_waits(
    make_config, make_dataset, monkeypatch
):
    monkeypatch.setitem(
        optimizers.OPTIMIZERS,
        "sgd",
        lambda weights, config: torch.optim.SGD(weights, lr=config.lr, momentum=0.9),
    )
    for module in ("training.loop", "fusion.stack"):
        monkeypatch.setattr(
            f"trainables.{module}.autocast", lambda precision, device: nullcontext()
        )
    monkeypatch.setattr("trainables.tasks.pixels.RESIDENT", {})
    dataset = make_dataset(channels=3, train=96)
    configs = [
        make_config(
            optimizer__name="sgd",
            optimizer__lr=0.01 * n,
            augment__crop=n,
            augment__jitter=0.1,
            model__dropout=0.1 * n,
            seed=n,
        )
        for n in (1, 2)
    ]
    trainings = [Training(config, dataset, device=CARD) for config in configs]
    stack = Stack(trainings)
    stack.network.train()
    stack.step(*stack.batch(0))  # what is brought there once
    with watched() as traffic:
        for step in range(1, stack.steps):
            stack.step(*stack.batch(step))
    assert (traffic.copies, traffic.waits) == ([], [])
