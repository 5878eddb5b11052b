import dataclasses
import warnings

import pytest
import torch
from torch import nn

from tests.support.networks import OWN
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import ModelConfig
from trainables.models.paper import FILTER_SIZES, MultiScale, ResidualPair, spread
from trainables.training.loop import Training, on_device

NAMES = OWN


def build(name, image=(1, 8, 8), classes=3, **options):
    return MODELS[name].build(image, classes, **{**MODELS[name].options, **options})


def parameters(network):
    return sum(weight.numel() for weight in network.parameters())


def of_kind(network, *kinds):
    return [module for module in network.modules() if isinstance(module, kinds)]


# Every network of our own


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [None, 28, 32])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_finite_and_of_the_right_shape(name, side, channels, classes):
    side = side or MODELS[name].min_side
    network = build(name, (channels, side, side), classes)
    for mode in (True, False):
        logits = network.train(mode)(torch.rand(4, channels, side, side))
        assert logits.shape == (4, classes)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_images_need_not_be_square(name):
    side = MODELS[name].min_side
    for height, width in ((side, 30), (21, side)):
        assert build(name, (3, height, width), 5)(torch.rand(2, 3, height, width)).shape == (2, 5)


@pytest.mark.parametrize("name", [name for name in NAMES if MODELS[name].min_side > 1])
def test_a_side_below_the_smallest_fails(name):
    side = MODELS[name].min_side - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        network = build(name, (1, side, side))
    with pytest.raises(RuntimeError):
        network(torch.rand(2, 1, side, side))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_options_are_fields_of_the_config_and_their_defaults_are_allowed(name):
    options = MODELS[name].options
    assert set(options) <= {field.name for field in dataclasses.fields(ModelConfig)} - {"name"}
    assert ModelConfig(name=name, **options).options == ModelConfig(name=name).options == options


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in NAMES for option in MODELS[name].options]
)
def test_each_option_changes_the_network(name, option):
    default = MODELS[name].options[option]
    changed = {"width": 2 * (default or 1), "dropout": 0.3, "layers": 9, "filter_size": 7}[option]
    assert str(build(name, (1, 16, 16))) != str(build(name, (1, 16, 16), **{option: changed}))


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_in_training_only(name):
    network, images = build(name, dropout=0.9), torch.rand(8, 1, 8, 8)
    network.train()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", NAMES)
def test_an_images_logits_do_not_depend_on_its_batch(name):
    network, images = build(name).eval(), torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))
    assert not torch.allclose(network(images)[0], network(images)[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient(name):
    network = build(name, (3, 12, 12))
    network(torch.rand(8, 3, 12, 12)).square().sum().backward()
    for weights in network.parameters():
        assert weights.grad is not None
        assert weights.grad.isfinite().all()
        assert weights.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_one_epoch_trains(name, make_config, make_dataset):
    training = Training(
        make_config(model__name=name, epochs=1), make_dataset(side=max(8, MODELS[name].min_side))
    )
    before = [weights.clone() for weights in training.network.parameters()]
    (epoch,) = training.epochs()
    assert epoch.diverged == ""
    assert 0 <= epoch.values["val/accuracy"] <= 1
    assert all(
        not torch.equal(old, new)
        for old, new in zip(before, training.network.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_network_out_of_a_checkpoint_gives_identical_logits(
    name, make_config, make_dataset, tmp_path
):
    config, dataset = make_config(model__name=name, epochs=1), make_dataset()
    training = Training(config, dataset)
    list(training.epochs())
    state = checkpoint.load(checkpoint.save(tmp_path, training.state(), {}))
    network = on_device(
        MODELS[name].build(dataset.image, len(dataset.classes), **config.model.options),
        torch.device("cpu"),
    )
    network.load_state_dict(state["model"])
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(network.eval()(images), training.network.eval()(images))


# Table II


def test_table2_has_the_parameters_that_the_paper_counts():
    network = build("table2", (3, 224, 224), 10)
    assert [parameters(layer) for layer in of_kind(network, nn.Conv2d, nn.Linear)] == [
        896,
        18_496,
        25_690_240,
        1_290,
    ]
    assert parameters(network) == 25_710_922
    assert len(of_kind(network, nn.MaxPool2d)) == 2
    assert len(of_kind(network, nn.Dropout)) == 1
    assert [layer.p for layer in of_kind(network, nn.Dropout)] == [0.0]


# Table III's nets


@pytest.mark.parametrize("side", [1, 2, 8, 28, 32])
@pytest.mark.parametrize("layers", [3, 4, 5, 6, 10, 15, 30])
def test_deep_cnn_has_as_many_weight_layers_as_asked_for(layers, side):
    network = build("deep_cnn", (1, side, side), layers=layers, width=2)
    assert len(of_kind(network, nn.Conv2d)) == layers - 2
    assert len(of_kind(network, nn.Linear)) == 2
    assert network(torch.rand(2, 1, side, side)).shape == (2, 3)


@pytest.mark.parametrize("layers", [3, 5])
def test_deep_cnn_is_plain_up_to_five_layers(layers):
    assert not of_kind(build("deep_cnn", (1, 28, 28), layers=layers), nn.BatchNorm2d, ResidualPair)


@pytest.mark.parametrize("layers", [6, 10, 15])
def test_deep_cnn_normalises_each_convolution_beyond_five_layers(layers):
    network = build("deep_cnn", (1, 28, 28), layers=layers)
    convolutions = of_kind(network, nn.Conv2d)
    normalisations = of_kind(network, nn.BatchNorm2d)
    assert [layer.out_channels for layer in convolutions] == [
        layer.num_features for layer in normalisations
    ]
    assert all(layer.bias is None for layer in convolutions)


@pytest.mark.parametrize(("layers", "pairs"), [(6, 1), (10, 3), (15, 5)])
def test_deep_cnn_carries_depth_by_residual_pairs(layers, pairs):
    assert len(of_kind(build("deep_cnn", (1, 28, 28), layers=layers), ResidualPair)) == pairs


def test_a_residual_pair_that_has_learnt_nothing_passes_its_input_on():
    pair, x = ResidualPair(4, 3), torch.rand(2, 4, 5, 5)
    assert torch.equal(pair(x), x)
    nn.init.ones_(pair.pair[-1].weight)
    assert not torch.equal(pair(x), x)


@pytest.mark.parametrize("filter_size", [1, 3, 5, 7])
@pytest.mark.parametrize("layers", [5, 10])
def test_all_convolutions_of_deep_cnn_have_the_filter_size_and_keep_the_resolution(
    layers, filter_size
):
    network = build("deep_cnn", (1, 16, 16), layers=layers, filter_size=filter_size)
    for layer in of_kind(network, nn.Conv2d):
        assert layer.kernel_size == (filter_size, filter_size)
        assert layer(torch.rand(1, layer.in_channels, 9, 6)).shape[2:] == (9, 6)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16, 28, 224])
@pytest.mark.parametrize("convolutions", [1, 2, 3, 4, 8, 13, 50])
def test_spread_places_every_convolution_with_one_at_the_first_resolution(convolutions, side):
    stages = spread(convolutions, side)
    assert sum(stages) == convolutions
    assert min(stages) >= 1
    assert len(stages) <= 3
    assert len(stages) == 1 or stages[0] == 1
    assert stages[1:] == sorted(stages[1:])


def test_spread_places_most_convolutions_where_they_are_cheap():
    assert [spread(layers - 2, 28) for layers in (5, 10, 15)] == [[1, 1, 1], [1, 1, 6], [1, 3, 9]]


def test_spread_uses_fewer_resolutions_for_small_images():
    assert [len(spread(8, side)) for side in (2, 4, 8, 16, 28)] == [1, 1, 2, 3, 3]


def test_deep_cnn_doubles_its_filters_after_the_first_resolution():
    first, *others = of_kind(build("deep_cnn", (1, 28, 28), layers=10, width=8), nn.Conv2d)
    assert first.out_channels == 8
    assert {layer.out_channels for layer in others} == {16}


# Multi-scale features


@pytest.mark.parametrize("width", [1, 2, 3, 32])
def test_multi_scale_looks_with_all_filter_sizes_at_the_same_input(width):
    layer = MultiScale(2, width)
    assert (
        [branch.kernel_size for branch in layer.branches]
        == [(size, size) for size in FILTER_SIZES]
        == [(3, 3), (5, 5), (7, 7)]
    )
    assert {branch.in_channels for branch in layer.branches} == {2}
    assert layer(torch.rand(2, 2, 9, 6)).shape == (2, 3 * max(1, width // 3), 9, 6)
    assert build("multi_scale", width=width)(torch.rand(2, 1, 8, 8)).shape == (2, 3)
