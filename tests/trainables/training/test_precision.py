import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import OWN
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import OPTIMIZER_NAMES, PRECISION_NAMES
from trainables.evaluation.evaluate import predictions
from trainables.fusion.planner import unsuitability
from trainables.fusion.rounds import FusionRounds
from trainables.fusion.stack import incompatibility
from trainables.tasks.metrics import MetricAverage
from trainables.training import precision
from trainables.training.loop import Training
from trainables.training.precision import MIN_WORK, operations, precision_for, work_per_layer
from trainables.trial import run_trial

CPU = torch.device("cpu")


def build(name, image=(1, 8, 8), **options):
    return MODELS[name].build(image, 3, **{**MODELS[name].options, **options})


@pytest.mark.parametrize("wanted", [name for name in PRECISION_NAMES if name != "auto"])
def test_what_is_asked_for_is_taken(wanted):
    assert precision_for(wanted, build("table2"), (1, 8, 8), 64, CPU) == wanted


@pytest.mark.parametrize(("has", "image", "batch", "expected"), [
    (True, (1, 28, 28), 64, "bf16"), (True, (1, 8, 8), 8, "fp32"),
    (True, (1, 8, 8), 512, "bf16"), (False, (3, 224, 224), 64, "fp32"),
])  # fmt: skip
def test_auto_takes_bfloat16_where_the_processor_has_it_and_layers_have_work(
    has, image, batch, expected, monkeypatch
):
    monkeypatch.setattr(precision, "has_bf16", lambda: has)
    assert precision_for("auto", build("table2", image), image, batch, CPU) == expected


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [
        (True, (8, 0), "bf16"),
        (False, (7, 5), "fp16"),
        (False, (7, 0), "fp16"),
        (False, (6, 1), "fp32"),
    ],
)
def test_auto_takes_float16_on_cards_without_bfloat16_that_have_units_for_it(
    bf16, capability, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision_for("auto", build("table2"), (1, 8, 8), 64, torch.device("cuda")) == expected


def test_operations_are_those_of_the_layers_with_weights():
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 4 * 6, 7),
    )
    assert operations(network, (3, 8, 12)) == [2 * 8 * 12 * 5 * 3 * 9, 2 * 5 * 4 * 6 * 7]
    assert work_per_layer(network, (3, 8, 12), 10) == 10 * sum(operations(network, (3, 8, 12))) / 2
    assert MIN_WORK > 0


@pytest.mark.parametrize("name", OWN)
def test_counting_leaves_the_network_as_it_was(name):
    network = build(name).train()
    before = copy.deepcopy(network.state_dict())
    assert operations(network, (1, 8, 8)) == operations(network, (1, 8, 8))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("half", ["bf16", "fp16"])
@pytest.mark.parametrize("name", OWN)
def test_half_precision_trains_to_nearly_the_same_losses_with_weights_in_float32(
    name, half, make_config, make_dataset
):
    exact, fast = (
        Training(make_config(model__name=name, precision=wanted), make_dataset())
        for wanted in ("fp32", half)
    )
    assert (exact.precision, fast.precision) == ("fp32", half)
    losses = [
        [epoch.values["val/loss"] for epoch in training.epochs()] for training in (exact, fast)
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert {weights.dtype for weights in fast.network.parameters()} == {torch.float32}


def overflowing(training, steps):
    """Let the gradients of these steps of a training, counted from 0, overflow."""
    scale, count = training.scaler.scaler.scale, iter(range(1000))

    def scaled(loss):
        if loss.requires_grad and next(count) in steps:
            return scale(loss) * float("inf")
        return scale(loss)

    training.scaler.scaler.scale = scaled
    return training


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_a_step_whose_gradients_overflow_is_left_out_and_halves_the_scale(
    optimizer, make_config, make_dataset
):
    training = overflowing(
        Training(make_config(precision="fp16", optimizer__name=optimizer), make_dataset()), {0, 2}
    )
    before = copy.deepcopy(training.network.state_dict())
    rows, changes = training.draws(1)
    training.wrapped.train()
    changed = []
    for step in range(3):
        held = [weights.detach().clone() for weights in training.network.parameters()]
        training.step(rows[step], changes[step], MetricAverage("loss", device=CPU))
        changed.append(
            any(
                not torch.equal(*pair)
                for pair in zip(held, training.network.parameters(), strict=True)
            )
        )
    assert changed == [False, True, False]
    assert training.scaler.epoch_metrics() == {
        "train/loss_scale": 2.0**14,
        "train/skipped_steps": 2,
    }
    assert training.scaler.epoch_metrics()["train/skipped_steps"] == 0
    assert before.keys() == training.network.state_dict().keys()
    for kept in training.optimizer.state.values():
        assert all(
            value.isfinite().all() for value in kept.values() if isinstance(value, torch.Tensor)
        )


def test_the_first_step_that_is_taken_is_the_first_also_for_momentum(make_config, make_dataset):
    """Torch leaves in momentum what lies in memory where its first fused step is left out."""
    taken, late = (
        Training(make_config(precision="fp16", optimizer__name="sgd"), make_dataset())
        for _ in range(2)
    )
    overflowing(late, {0})
    rows, changes = taken.draws(1)
    for training, steps in ((taken, 1), (late, 2)):
        training.network.eval()  # no running statistics of the step that is left out
        for _ in range(steps):
            training.step(rows[0], changes[0], MetricAverage("loss", device=CPU))
    for one, other in zip(taken.network.parameters(), late.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_skipped_steps_are_told_and_are_no_divergence_unless_the_scale_is_used_up(
    make_config, make_dataset
):
    training = overflowing(
        Training(make_config(precision="fp16", epochs=9), make_dataset()), set(range(1, 100))
    )
    epochs = list(training.epochs())
    assert [epoch.values["train/skipped_steps"] for epoch in epochs[:2]] == [2, 3]
    scales = [epoch.values["train/loss_scale"] for epoch in epochs]
    assert scales == [2.0 ** (16 - 3 * epoch + 1) for epoch in range(1, 10)]
    assert [bool(epoch.diverged) for epoch in epochs] == [scale < 1 for scale in scales]
    assert (
        epochs[-1].diverged
        == "gradients overflow float16 at epoch 9, with the loss scaled by 0.000977"
    )


def test_a_training_in_float16_goes_on_from_its_checkpoint_with_its_scale(
    make_config, make_dataset, tmp_path
):
    config, dataset = make_config(precision="fp16", epochs=4, model__dropout=0.2), make_dataset()
    undisturbed, first = (overflowing(Training(config, dataset), {1, 3}) for _ in range(2))
    whole = [epoch.values for epoch in undisturbed.epochs()]
    epochs = first.epochs()
    for _ in range(2):
        next(epochs)
    path = checkpoint.save(tmp_path, first.state(), {})
    again = Training(config, dataset)
    again.load_state(checkpoint.load(path))
    assert again.scaler.state() == first.scaler.state()
    assert again.scaler.state()["scale"] == 2.0**14
    rest = [epoch.values for epoch in again.epochs()]
    for values, expected in zip(rest, whole[2:], strict=True):
        assert values | {"time/epoch_s": 0} == expected | {"time/epoch_s": 0}
    assert all(
        torch.equal(value, undisturbed.network.state_dict()[name])
        for name, value in again.network.state_dict().items()
    )


def test_what_is_not_scaled_has_no_scale_in_its_checkpoint(make_config, make_dataset):
    assert "scaler" not in Training(make_config(precision="bf16"), make_dataset()).state()


def test_trainings_in_float16_are_trained_alone(make_config, make_dataset):
    trainings = [
        Training(make_config(precision="fp16", seed=seed), make_dataset()) for seed in (1, 2)
    ]
    assert "float16" in incompatibility(trainings)
    outcomes = FusionRounds().train_round({"a": trainings[0], "b": trainings[1]})
    assert [outcome.values["train/skipped_steps"] for outcome in outcomes.values()] == [0, 0]
    assert "float16" in unsuitability(make_config(precision="fp16"), make_dataset(), "cpu", 4)


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_the_evaluation_computes_as_the_training_did(wanted, make_config, make_dataset, tmp_path):
    config, dataset = make_config(precision=wanted, epochs=1), make_dataset(val=600)
    (report,) = run_trial(config, dataset, tmp_path)
    chances = predictions(config, dataset, dataset.val, tmp_path / "epoch-0001")
    loss = -np.log(chances[np.arange(600), dataset.val.targets]).mean()
    assert report.metrics["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert report.metrics["val/accuracy"] == (chances.argmax(axis=1) == dataset.val.targets).mean()
