import copy

import numpy as np
import pytest
import torch
from torch import nn

from trainables import precision
from trainables.config import PRECISION_NAMES
from trainables.evaluate import probabilities
from trainables.loop import Training
from trainables.models.registry import MODELS, NETWORKS
from trainables.precision import LEAST_WORK, operations, precision_for, work_per_layer
from trainables.run import run_trial

CPU = torch.device("cpu")


def build(name, image=(1, 8, 8), **options):
    return MODELS[name].build(image, 3, **{**MODELS[name].options, **options})


@pytest.mark.parametrize("wanted", [name for name in PRECISION_NAMES if name != "auto"])
def test_what_is_asked_for_is_taken(wanted):
    assert precision_for(wanted, build("table2"), (1, 8, 8), 64, CPU) == wanted


@pytest.mark.parametrize(("has", "image", "batch", "expected"), [
    (True, (1, 28, 28), 64, "bf16"), (True, (1, 8, 8), 8, "fp32"), (True, (1, 8, 8), 512, "bf16"), (False, (3, 224, 224), 64, "fp32"),
])  # fmt: skip
def test_auto_takes_bfloat16_where_the_processor_has_it_and_layers_have_work(has, image, batch, expected, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda: has)
    assert precision_for("auto", build("table2", image), image, batch, CPU) == expected


def test_operations_are_those_of_the_layers_with_weights():
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 6, 7))
    assert operations(network, (3, 8, 12)) == [2 * 8 * 12 * 5 * 3 * 9, 2 * 5 * 4 * 6 * 7]
    assert work_per_layer(network, (3, 8, 12), 10) == 10 * sum(operations(network, (3, 8, 12))) / 2
    assert LEAST_WORK > 0


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_counting_leaves_the_network_as_it_was(name):
    network = build(name).train()
    before = copy.deepcopy(network.state_dict())
    assert operations(network, (1, 8, 8)) == operations(network, (1, 8, 8))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_bfloat16_trains_to_nearly_the_same_losses_with_weights_in_float32(name, make_config, make_dataset):
    exact, fast = (Training(make_config(model__name=name, precision=wanted), make_dataset()) for wanted in ("fp32", "bf16"))
    assert (exact.precision, fast.precision) == ("fp32", "bf16")
    losses = [[epoch.values["val/loss"] for epoch in training.epochs()] for training in (exact, fast)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert {weights.dtype for weights in fast.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_the_evaluation_computes_as_the_training_did(wanted, make_config, make_dataset, tmp_path):
    config, dataset = make_config(precision=wanted, epochs=1), make_dataset(val=600)
    (report,) = run_trial(config, dataset, tmp_path)
    chances = probabilities(config, dataset, dataset.val, tmp_path / "epoch-0001")
    loss = -np.log(chances[np.arange(600), dataset.val.labels]).mean()
    assert report.metrics["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert report.metrics["val/accuracy"] == (chances.argmax(axis=1) == dataset.val.labels).mean()
