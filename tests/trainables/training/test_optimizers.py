import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from trainables.config import OPTIMIZER_NAMES, SCHEDULE_NAMES, OptimizerConfig
from trainables.training import optimizers


def learning_rates(config: OptimizerConfig, losses: list[float]) -> list[float]:
    """The learning rate of each epoch when the validation losses are these."""
    optimizer, schedule = optimizers.build(nn.Linear(2, 2), config, len(losses))
    optimizer.step()
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizers.advance(schedule, loss)
    return rates


def test_every_name_of_the_config_is_built():
    assert set(optimizers.OPTIMIZERS) == set(OPTIMIZER_NAMES)
    assert set(optimizers.SCHEDULES) == set(SCHEDULE_NAMES)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "step", "step_epochs": 2, "decay": 0.1}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (
            {"schedule": "step", "step_epochs": 1, "decay": 0.5},
            [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32],
        ),
        ({"schedule": "step", "step_epochs": 10}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]),
    ],
)
def test_a_schedule_gives_each_epoch_its_learning_rate(options, rates):
    assert learning_rates(OptimizerConfig(lr=0.2, **options), [1.0] * 6) == pytest.approx(
        [0.2 * rate for rate in rates]
    )


@pytest.mark.parametrize(
    ("patience", "losses", "rates"),
    [
        (1, [3, 2, 1, 0.5, 0.25, 0.1], [1, 1, 1, 1, 1, 1]),
        (1, [1, 1, 1, 1, 1, 1], [1, 1, 1, 0.1, 0.1, 0.01]),
        (0, [1, 2, 0.5, 0.6, 0.7, 0.8], [1, 1, 0.1, 0.1, 0.01, 0.001]),
        (2, [1, 2, 2, 0.5, 2, 2], [1, 1, 1, 1, 1, 1]),
    ],
)
def test_plateau_decays_after_its_patience_without_a_lower_validation_loss(patience, losses, rates):
    config = OptimizerConfig(lr=0.1, schedule="plateau", decay=0.1, patience=patience)
    assert learning_rates(config, losses) == pytest.approx([0.1 * rate for rate in rates])


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_an_optimizer_has_the_configs_values_and_all_weights(name):
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer, _ = optimizers.build(
        network, OptimizerConfig(name=name, lr=0.3, weight_decay=0.02), 2
    )
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__.lower() == name
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.02)
    assert {id(weights) for weights in group["params"]} == {
        id(weights) for weights in network.parameters()
    }


@pytest.mark.parametrize(("momentum", "expected"), [(None, 0.9), (0.0, 0.0), (0.5, 0.5)])
def test_sgd_has_the_momentum_asked_for(momentum, expected):
    optimizer, _ = optimizers.build(
        nn.Linear(1, 1), OptimizerConfig(name="sgd", momentum=momentum), 2
    )
    assert optimizer.param_groups[0]["momentum"] == expected


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_a_step_goes_downhill(name):
    network = nn.Linear(3, 1)
    optimizer, _ = optimizers.build(network, OptimizerConfig(name=name, lr=0.01), 2)
    before = network(torch.ones(1, 3)).sum()
    before.backward()
    optimizer.step()
    assert network(torch.ones(1, 3)).sum() < before


TORCHS = {
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=0.02),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.02),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.01, weight_decay=0.02, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_steps_are_those_of_torchs_own_optimizer(name):
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)).to(
        memory_format=torch.channels_last
    )
    theirs = copy.deepcopy(ours)
    pairs = [
        (
            ours,
            optimizers.build(ours, OptimizerConfig(name=name, lr=0.01, weight_decay=0.02), 2)[0],
        ),
        (theirs, TORCHS[name](theirs.parameters())),
    ]
    for _ in range(20):
        images = torch.rand(4, 2, 4, 4)
        for network, optimizer in pairs:
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_what_is_restored_lies_as_its_weight_does():
    """A fused step walks through the memory of both: another layout would be another optimizer."""
    network = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer, _ = optimizers.build(network, OptimizerConfig(), 2)
    network(torch.rand(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0] = {name: value.contiguous() for name, value in state["state"][0].items()}
    optimizer.load_state_dict(state)
    optimizers.lay_out(optimizer)
    kept = optimizer.state[network.weight]
    assert (
        kept["exp_avg"].stride() == network.weight.stride() != network.weight.contiguous().stride()
    )
    assert torch.equal(kept["exp_avg"], state["state"][0]["exp_avg"])


STEP = """
import sys
from torch import nn
from trainables.training import optimizers
from trainables.config import OptimizerConfig
network = nn.Linear(2, 2)
optimizer, schedule = optimizers.build(network, OptimizerConfig(), 2)
network.weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
schedule.step()
print("torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_import_torchs_compiler():
    """That takes a second, in each process that trains."""
    assert (
        subprocess.run(
            [sys.executable, "-c", STEP], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )
