"""Options that regularise a training: exact continuation, weight averages, attacks, refusals."""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import trial
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig, training_key
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import predictions
from trainables.fusion.planner import unsuitability
from trainables.fusion.shapes import shape_key
from trainables.fusion.stack import incompatibility, train_together
from trainables.messages import TrialRequest
from trainables.training.adversarial import Adversary
from trainables.training.averaging import WeightAverage, decay_at
from trainables.training.loop import Training
from trainables.trial import run_trial

OPTIONS: dict[str, dict[str, Any]] = {
    "mixup": {"augment.mix": "mixup"},
    "cutmix": {"augment.mix": "cutmix", "augment.mix_alpha": 0.5},
    "trivial": {"augment.policy": "trivial"},
    "randaugment": {"augment.policy": "randaugment"},
    "augmix": {"augment.policy": "augmix"},
    "ema": {"train.ema": 0.9},
    "smoothing": {"train.smoothing": 0.1},
    "adversarial": {"train.adversarial": 8.0},
    "together": {
        "augment.mix": "mixup",
        "augment.crop": 2,
        "augment.jitter": 0.2,
        "augment.policy": "trivial",
        "train.ema": 0.99,
        "train.smoothing": 0.1,
        "train.adversarial": 2.0,
        "train.class_weights": "sqrt",
    },
}
DROPPING = {"model.name": "mnist_cnn", "model.dropout": 0.5}
"""A network with dropout, whose random numbers come from the same generator as those of attacks."""
NORMALISED = {"model.name": "deep_cnn", "model.layers": 6}
"""A network with batch normalisation, and so with buffers."""
SEGMENTING = {"data.name": "folder", "data.task": "segmentation", "model.name": "unet"}
each_option = pytest.mark.parametrize("values", OPTIONS.values(), ids=OPTIONS)
Make = Callable[..., Any]


class Killed(BaseException):
    """The process is killed."""


def metrics_of(training: Training) -> list[dict[str, float]]:
    return [
        {name: value for name, value in epoch.values.items() if name != "time/epoch_s"}
        for epoch in training.epochs()
    ]


def is_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@each_option
def test_a_training_continues_exactly_after_an_epoch(
    values: dict[str, Any], make_config: Make, make_dataset: Make, tmp_path: Path
) -> None:
    config, dataset = make_config(epochs=4).override(NORMALISED | values), make_dataset(channels=3)
    undisturbed = Training(config, dataset)
    expected = metrics_of(undisturbed)
    first = Training(config, dataset)
    for _ in range(2):
        first.next_epoch()
    path = checkpoint.save(tmp_path, first.state(), {})
    again = Training(config, dataset)
    again.load_state(checkpoint.load(path))
    assert metrics_of(again) == expected[2:]
    for name in ("model", "trained"):
        assert is_equal(again.state().get(name, {}), undisturbed.state().get(name, {}))


@each_option
@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_training_continues_exactly_within_an_epoch(
    values: dict[str, Any],
    killed_at: int,
    make_config: Make,
    make_dataset: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "WITHIN_S", 0.0)
    monkeypatch.setattr(trial, "WITHIN_SHARE", math.inf)
    config, dataset = make_config().override(DROPPING | values), make_dataset()
    expected = list(run_trial(config, dataset, tmp_path / "undisturbed"))[-1].metrics
    step, taken = Training.step, 0

    def killing(training: Training, *arguments: Any) -> None:
        nonlocal taken
        if taken == killed_at:
            raise Killed
        taken += 1
        step(training, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", killing)
        with pytest.raises(Killed):
            list(run_trial(config, dataset, tmp_path / "killed"))
    again = list(run_trial(config, dataset, tmp_path / "killed", TrialRequest(attempt=2)))
    assert again[-1].metrics | {"time/epoch_s": 0} == expected | {"time/epoch_s": 0}
    states = [
        checkpoint.load(tmp_path / name / checkpoint.name(2)) for name in ("undisturbed", "killed")
    ]
    for name in ("model", "trained"):
        assert is_equal(*(state.get(name, {}) for state in states))


@each_option
def test_an_option_changes_the_training_and_the_seed_determines_it(
    values: dict[str, Any], make_config: Make, make_dataset: Make
) -> None:
    plain, config, dataset = make_config(), make_config().override(values), make_dataset()
    first, again = (metrics_of(Training(config, dataset)) for _ in range(2))
    assert first == again
    assert first != metrics_of(Training(config.override({"seed": 1}), dataset))
    assert first[-1]["val/loss"] != metrics_of(Training(plain, dataset))[-1]["val/loss"]
    assert training_key(config) != training_key(plain)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "e77b68d991af2e43"),
        ({"augment.crop": 2, "train.class_weights": "sqrt"}, "9660cfbb8cced46e"),
        (SEGMENTING, "9889371cd46e2a6e"),
    ],
    ids=["default", "weighted", "segmentation"],
)
def test_configs_without_the_options_keep_their_training_keys(
    values: dict[str, Any], key: str
) -> None:
    """The keys are those of the version before the options existed."""
    config = TrialConfig().override(values)
    off = {"augment.policy": "none", "augment.mix": "none", "augment.mix_alpha": None}
    off |= {"train.ema": 0.0, "train.smoothing": 0, "train.adversarial": 0.0}
    assert training_key(config) == training_key(config.override(off)) == key


def test_the_average_is_that_of_the_definition() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = WeightAverage(network, 0.3)
    expected: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        with torch.no_grad():
            for values in network.state_dict().values():
                if values.is_floating_point():
                    values.copy_(torch.rand(values.shape, generator=generator))
                else:
                    values += 1
        decay = min(0.3, (1 + number) / (10 + number)) if number else 0
        for name, values in network.state_dict().items():
            earlier = expected.get(name, torch.zeros_like(values))
            expected[name] = (
                decay * earlier + (1 - decay) * values
                if values.is_floating_point()
                else values.clone()
            )
        average.update(network)
    for name, values in average.network.state_dict().items():
        assert torch.allclose(values.double(), expected[name].double()), name
    assert average.state() == {"updates": 6}


@pytest.mark.parametrize(("number", "decay"), [(0, 0.1), (5, 0.4), (90, 0.91), (10_000, 0.999)])
def test_the_decay_rises_to_its_limit(number: int, decay: float) -> None:
    assert decay_at(number, 0.999) == pytest.approx(decay)


def test_averaged_weights_are_validated_saved_and_used(
    make_config: Make, make_dataset: Make, tmp_path: Path
) -> None:
    dataset = make_dataset()
    config = make_config(train__ema=0.95, epochs=3).override(NORMALISED)
    plain = Training(config.override({"train.ema": 0.0}), dataset)
    training = Training(config, dataset)
    metrics, plain_metrics = metrics_of(training)[-1], metrics_of(plain)[-1]
    state = training.state()
    assert is_equal(state["trained"], plain.state()["model"]), "averages affect no step"
    assert not is_equal(state["model"], state["trained"])
    assert metrics["train/loss"] == plain_metrics["train/loss"]
    assert metrics["val/loss"] != plain_metrics["val/loss"]
    list(run_trial(config, dataset, tmp_path))
    path = checkpoint.list_checkpoints(tmp_path)[-1]
    probabilities = predictions(config, dataset, dataset.val, path)
    true = probabilities[np.arange(len(dataset.val)), dataset.val.targets]
    assert float(-np.log(true).mean()) == pytest.approx(metrics["val/loss"], abs=1e-5)


def test_an_attack_stays_within_its_budget_and_raises_the_loss(
    make_config: Make, make_dataset: Make
) -> None:
    config, dataset = make_config(epochs=4, optimizer__lr=0.01), make_dataset(channels=3)
    training = Training(config, dataset)
    metrics_of(training)
    rows, changes = training.draws(1)
    batch = training.task.batch(training.train, rows[0], changes[0])
    training.network.train()
    buffers = [buffer.clone() for buffer in training.network.buffers()]
    changed = Adversary(8.0, training.train).changed(training.task, training.network, batch)
    assert training.network.training
    assert all(map(torch.equal, buffers, training.network.buffers()))
    assert all(
        weights.grad is None or not weights.grad.isnan().any()
        for weights in training.network.parameters()
    )
    before, after = (
        each.inputs * training.train.deviation + training.train.mean for each in (batch, changed)
    )
    assert 0 < float((after - before).abs().max()) <= 8 / 255 + 1e-6
    assert float(after.min()) >= -1e-6
    assert float(after.max()) <= 1 + 1e-6
    losses = [
        training.task.step(training.network, each, nullcontext()).told.item()
        for each in (batch, changed)
    ]
    assert losses[1] > losses[0] * 1.05


def test_an_attack_takes_two_steps_of_half_the_budget(
    make_config: Make, make_dataset: Make
) -> None:
    training = Training(make_config(), make_dataset(channels=3, classes=2))
    network, pixels = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), training.train
    rows, changes = training.draws(1)
    batch = training.task.batch(pixels, rows[0], changes[0])
    torch.manual_seed(5)
    changed = Adversary(4.0, pixels).changed(training.task, network, batch)
    torch.manual_seed(5)
    noise = torch.empty_like(batch.inputs).uniform_(-1, 1)
    limit = 4 / 255
    images = batch.inputs * pixels.deviation + pixels.mean
    attacked = (images + limit * noise).clamp(0, 1)
    # With two classes, the loss of a linear network rises along the difference of its weights.
    first, second = network[1].weight.view(2, 3, 8, 8)
    signs = torch.where(batch.targets[:, None, None, None] == 0, second - first, first - second)
    for _ in range(2):
        moved = attacked + limit / 2 * signs.sign()
        attacked = torch.minimum(torch.maximum(moved, images - limit), images + limit).clamp(0, 1)
    assert torch.allclose(changed.inputs * pixels.deviation + pixels.mean, attacked, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("augment.mix", "mixup"),
        ("train.ema", 0.9),
        ("train.smoothing", 0.1),
        ("train.adversarial", 1.0),
    ],
)
def test_what_cannot_be_fused_is_trained_by_itself(
    path: str, value: Any, make_config: Make, make_dataset: Make
) -> None:
    config = make_config().override({path: value})
    assert shape_key(config) is None
    assert unsuitability(config, make_dataset(), "cpu", 8) == f"trainings with {path} are not fused"
    trainings = [Training(config, make_dataset()) for _ in range(2)]
    assert path in incompatibility(trainings)


def test_a_policy_is_fused(make_config: Make, make_dataset: Make) -> None:
    config, dataset = make_config(augment__policy="trivial"), make_dataset()
    expected = metrics_of(Training(config, dataset))[0]
    fused = train_together([Training(config, dataset) for _ in range(2)])
    for epoch in fused:
        assert epoch.values["train/loss"] == pytest.approx(expected["train/loss"], abs=1e-4)
        assert epoch.values["val/loss"] == pytest.approx(expected["val/loss"], abs=1e-4)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_options_work_in_half_precision(
    precision: str, make_config: Make, make_dataset: Make
) -> None:
    config = make_config(precision=precision).override(OPTIONS["together"])
    metrics = metrics_of(Training(config, make_dataset()))
    assert all(np.isfinite(list(each.values())).all() for each in metrics)


REFUSED = {
    "segmentation": SEGMENTING,
    "detection": {
        "data.name": "digit_scenes", "data.task": "detection", "model.name": "center_points"
    },
    "super_resolution": {
        "data.name": "photographs", "data.task": "super_resolution", "model.name": "edsr"
    },
}  # fmt: skip


@pytest.mark.parametrize("task", REFUSED)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("augment.mix", "cutmix"),
        ("augment.policy", "augmix"),
        ("train.smoothing", 0.1),
        ("train.adversarial", 4.0),
    ],
)
def test_other_tasks_refuse_in_one_line(path: str, value: Any, task: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{re.escape(path)} cannot be used for {task}: [^\n]+ Remove this"
    ):
        TrialConfig().override(REFUSED[task] | {path: value})


SMALL: dict[str, dict[str, Any]] = {
    "segmentation": {"data.name": "scenes", "model.width": 4, "model.depth": 2},
    "detection": {"model.width": 4},
    "super_resolution": {"model.name": "espcn"},
}


@pytest.mark.parametrize("task", REFUSED)
def test_other_tasks_can_average_weights(task: str, tmp_path: Path) -> None:
    limits = {"data.train_limit": 4, "data.val_limit": 2, "batch_size": 4, "epochs": 2}
    config = TrialConfig().override(REFUSED[task] | SMALL[task] | limits | {"train.ema": 0.9})
    dataset = load(config.data)
    undisturbed = Training(config, dataset)
    expected = metrics_of(undisturbed)
    first = Training(config, dataset)
    first.next_epoch()
    again = Training(config, dataset)
    again.load_state(checkpoint.load(checkpoint.save(tmp_path, first.state(), {})))
    assert metrics_of(again) == expected[1:]
    assert is_equal(again.state()["model"], undisturbed.state()["model"])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"augment.mix": "mixed"}, "unknown augment.mix 'mixed'. Known: cutmix, mixup, none."),
        ({"augment.policy": "auto"}, "unknown augment.policy 'auto'. Known: augmix, none, "),
        ({"augment.mix_alpha": 0.5}, "augment.mix_alpha=0.5 requires augment.mix=mixup or cutmix."),
        (
            {"augment.mix": "mixup", "augment.mix_alpha": 0.0},
            "augment.mix_alpha must be > 0 and <= 100 (got 0.0).",
        ),
        ({"train.ema": 1.0}, "train.ema must be >= 0 and < 1 (got 1.0)."),
        ({"train.smoothing": 1.0}, "train.smoothing must be >= 0 and < 1 (got 1.0)."),
        ({"train.smoothing": -0.1}, "train.smoothing must be >= 0 and < 1 (got -0.1)."),
        ({"train.adversarial": 65.0}, "train.adversarial must be >= 0 and <= 64 (got 65.0)."),
    ],
    ids=str,
)
def test_a_value_that_is_not_allowed_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
        TrialConfig().override(values)


def test_a_baseline_ignores_the_options() -> None:
    values = {"train.ema": 0.9, "train.smoothing": 0.1, "train.adversarial": 2.0}
    config = TrialConfig().override({"model.name": "svm", **values})
    assert config.train == TrialConfig().train


@each_option
def test_each_fold_is_trained_with_the_options(
    values: dict[str, Any], make_config: Make, make_dataset: Make, tmp_path: Path
) -> None:
    data: Dataset = make_dataset(train=36)
    dataset = Dataset("made", data.classes, data.train, data.train, None, "f", folds=2)
    config = make_config(data__folds=2).override(values)
    reports = list(run_trial(config, dataset, tmp_path))
    assert reports[-1].outcome == "completed"
