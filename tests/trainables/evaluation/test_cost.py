import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from tests.support.networks import OF_TORCHVISION, OWN
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import TrialConfig
from trainables.evaluation import cost
from trainables.evaluation.cost import multiply_adds, time_per_image
from trainables.training.loop import Training
from trainables.training.precision import operations
from trainables.trial import run_trial

TABLE2 = {
    "first convolution": 224 * 224 * 32 * 3 * 3 * 3,
    "second convolution": 112 * 112 * 64 * 32 * 3 * 3,
    "dense": 56 * 56 * 64 * 128,
    "last": 128 * 10,
}
"""Multiply-adds of one image of 3 x 224 x 224: outputs times what each is summed over."""


@pytest.fixture
def saved(make_dataset, tmp_path):
    """Makes a config, its data set and the checkpoint of an untrained network."""

    def save(dataset=None, **values):
        config, dataset = TrialConfig().override(values), dataset or make_dataset()
        return config, dataset, checkpoint.save(tmp_path, Training(config, dataset).state(), {})

    return save


def test_table_two_has_the_parameters_and_multiply_adds_worked_out_by_hand():
    network = MODELS["table2"].build((3, 224, 224), 10, width=32, dropout=0.0)
    assert (
        sum(weights.numel() for weights in network.parameters())
        == 896 + 18_496 + 25_690_240 + 1_290
    )
    assert multiply_adds(network, (3, 224, 224)) == sum(TABLE2.values()) == 300_254_464


@pytest.mark.parametrize("name", ["deep_cnn", "mnist_cnn", "multi_scale", "table2"])
def test_multiply_adds_are_half_the_operations_counted_at_each_layer(name):
    """Counted another way, by a hook at each convolution and dense layer."""
    network, image = MODELS[name].build((3, 32, 32), 5, **MODELS[name].options).eval(), (3, 32, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert multiply_adds(network, image) == sum(operations(network, image)) // 2
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", [name for name in OF_TORCHVISION if MODELS[name].weights])
def test_a_known_network_has_the_published_multiply_adds(name):
    """In thousand millions, as torchvision's documentation has them."""
    image = (3, MODELS[name].native_side, MODELS[name].native_side)
    with torch.device("meta"):
        network = MODELS[name].build(image, 1000, **MODELS[name].options).eval()
    assert multiply_adds(network, image) / 1e9 == pytest.approx(
        models.get_model_weights(name).DEFAULT.meta["_ops"], abs=5.1e-4
    )


def test_the_count_is_torchs_and_its_compiler_is_not_imported():
    code = (
        "import sys, torch; from trainables.catalog.models import MODELS; "
        "from trainables.evaluation.cost import multiply_adds\n"
        "network = MODELS['mnist_cnn'].build((1, 28, 28), 10, "
        "**MODELS['mnist_cnn'].options).eval()\n"
        "found = multiply_adds(network, (1, 28, 28)); print('torch._dynamo' in sys.modules)\n"
        "from torch.utils.flop_counter import FlopCounterMode\n"
        "with FlopCounterMode(display=False) as counter: network(torch.zeros(1, 1, 28, 28))\n"
        "print(found > 0 and 2 * found == counter.get_total_flops())"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "True"]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_attention_is_counted(is_frozen):
    """Four products with the weights of a layer of 8, and two of the 5 places with each other."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images):
            return self.inner(images[:, 0], images[:, 0], images[:, 0], need_weights=False)[0]

    network = (
        Attention().eval().requires_grad_(not is_frozen)
    )  # torch has a faster way where nothing is to be learned
    assert multiply_adds(network, (1, 5, 8)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_cost_of_a_checkpoint(saved, precision):
    config, dataset, path = saved(**{"precision": precision, "model.width": 4})
    found = cost.cost(config, dataset, path)
    network = MODELS["deep_cnn"].build(dataset.image, 3, **config.model.options)
    assert found["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert found["bytes"] == (path / "model.safetensors").stat().st_size
    assert 4 * found["parameters"] < found["bytes"]
    assert (found["precision"], found["device"], found["threads"]) == (precision, "cpu", 1)
    assert found["inference"].keys() == {"batch_1", "batch_64"}
    for times in found["inference"].values():
        assert 0 < times["median_ms"] <= times["p95_ms"]
        assert times["repetitions"] >= cost.MIN_REPETITIONS
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_time_is_an_image_s_share_of_its_batch(saved, monkeypatch):
    monkeypatch.setattr(cost, "_seconds", lambda classify, images: 0.064)
    inference = cost.cost(*saved())["inference"]
    assert [inference[size]["median_ms"] for size in ("batch_1", "batch_64")] == pytest.approx(
        [64, 1]
    )


@pytest.mark.parametrize(
    "name",
    sorted({*OWN, "mobilenet_v3_small"}),
)
def test_a_model_has_a_cost(name, saved, make_dataset):
    found = cost.cost(*saved(make_dataset(channels=3), **{"model.name": name, "batch_size": 8}))
    assert found["inference"]["batch_1"]["median_ms"] > 0
    assert found["bytes"] > 0


def test_heads_that_help_in_training_alone_cost_nothing_to_use(saved, make_dataset):
    """With them, a network costs what it costs without: so many weights as torchvision's GoogLeNet
    without auxiliary heads.
    """
    dataset, frozen = (
        make_dataset(channels=3),
        {"model.pretrained": True, "model.freeze": "backbone", "model.input_size": 32},
    )
    config, _, path = saved(dataset, **{"model.name": "googlenet", "model.input_size": 32})
    found = cost.cost(config, dataset, path)
    assert found["parameters"] == sum(
        weights.numel()
        for weights in models.GoogLeNet(3, aux_logits=False, init_weights=False).parameters()
    )
    plain = MODELS["googlenet"].build(dataset.image, 3, **config.override(frozen).model.options)
    assert cost.bytes_for_training(plain) == 0
    assert found["bytes"] == pytest.approx(
        sum(values.nbytes for values in plain.state_dict().values()), rel=0.01
    )
    assert (path / "model.safetensors").stat().st_size > 1.5 * found["bytes"]


def test_a_baseline_in_a_search_on_a_gpu_ran_on_the_cpu(make_dataset, tmp_path):
    config, dataset = (
        TrialConfig().override({"model.name": "svm", "model.features": "hog"}),
        make_dataset(),
    )
    *_, last = run_trial(config, dataset, tmp_path, device="cpu")
    assert last.outcome == "completed"
    assert cost.cost(config, dataset, tmp_path / "epoch-0001", device="cuda")["device"] == "cpu"


def test_a_damaged_checkpoint_costs_nothing(saved):
    config, dataset, path = saved()
    (path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        cost.cost(config, dataset, path)


class Classified:
    """A classifier that counts how often it was asked, and how many images each time."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return np.full((len(images), 2), 0.5)


def test_a_fast_classifier_is_timed_for_as_long_as_there_is(monkeypatch):
    classify = Classified()
    clock = SimpleNamespace(perf_counter=lambda: len(classify.asked) * cost.BUDGET_S / 200)
    monkeypatch.setattr(cost, "time", clock)
    found = time_per_image(classify, np.zeros((64, 1, 1, 1), np.uint8))
    assert found["repetitions"] == len(classify.asked) - cost.WARM_UPS == 200
    assert set(classify.asked) == {64}
    assert found["median_ms"] < 1


def test_a_slower_one_is_timed_a_handful_of_times(monkeypatch):
    monkeypatch.setattr(cost, "BUDGET_S", 0.0)
    classify = Classified()
    assert (
        time_per_image(classify, np.zeros((1, 1, 1, 1), np.uint8))["repetitions"]
        == cost.MIN_REPETITIONS
    )
    assert len(classify.asked) == cost.MIN_REPETITIONS + 1


def test_one_that_takes_longer_than_all_the_time_is_asked_once(monkeypatch):
    monkeypatch.setattr(cost, "BUDGET_S", 0.0)
    monkeypatch.setattr(cost, "LIMIT_S", 0.0)
    classify = Classified()
    found = time_per_image(classify, np.zeros((1, 1, 1, 1), np.uint8))
    assert (found["repetitions"], len(classify.asked)) == (1, 1)
    assert found["median_ms"] == found["p95_ms"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_on_a_gpu_names_it(saved):
    found = cost.cost(*saved(), device="cuda")
    assert found["device"] == torch.cuda.get_device_name()
    assert found["inference"]["batch_64"]["median_ms"] > 0
