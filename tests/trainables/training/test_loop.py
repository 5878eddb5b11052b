import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.support.card import CARD, watched
from tests.support.networks import OWN
from trainables.augmentation.augment import draw
from trainables.checkpoints import checkpoint
from trainables.config import OPTIMIZER_NAMES, SCALING_NAMES, TrialConfig, training_key
from trainables.datasets.arrays import Part
from trainables.errors import ConfigError
from trainables.fusion.shapes import shape_key
from trainables.messages import DIVERGED_LOSS, EpochMetrics
from trainables.tasks.pixels import Pixels, scaling
from trainables.training import optimizers
from trainables.training.loop import (
    Training,
    batches,
    eval_batch,
    generator_for,
    mixed_seed,
    seeded,
)

RICH = {  # a bit of everything that is drawn: dropout, augmentation, initialisation and order
    "model__dropout": 0.3, "augment__rotation": 10, "augment__scale": 0.1, "augment__crop": 1,
    "augment__jitter": 0.1,
}  # fmt: skip


def metrics_of(config, dataset):
    return [
        (
            epoch.epoch,
            {name: value for name, value in epoch.values.items() if name != "time/epoch_s"},
        )
        for epoch in Training(config, dataset).epochs()
    ]


# Equal results


@pytest.mark.parametrize("name", OWN)
def test_equal_configs_train_to_identical_metrics(name, make_config, make_dataset):
    config = make_config(model__name=name, **RICH)
    first = metrics_of(config, make_dataset())
    torch.manual_seed(1)
    assert metrics_of(config, make_dataset()) == first


def test_another_seed_trains_to_other_metrics(make_config, make_dataset):
    assert metrics_of(make_config(seed=1), make_dataset()) != metrics_of(
        make_config(seed=2), make_dataset()
    )


def test_the_seed_draws_the_weights(make_config, make_dataset):
    first, again, other = (
        next(Training(make_config(seed=seed), make_dataset()).network.parameters())
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_longer_training_begins_as_a_shorter_one(make_config, make_dataset):
    short, long = (
        metrics_of(make_config(epochs=epochs, **RICH), make_dataset()) for epochs in (2, 4)
    )
    assert long[:2] == short


def test_the_callers_random_state_is_left_as_it_was(make_config, make_dataset):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    training = Training(make_config(**RICH), make_dataset())
    assert torch.equal(torch.get_rng_state(), torch_state)
    next(training.epochs())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_seeded_puts_the_state_back_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1, "x", 1, torch.device("cpu")):
        torch.rand(3 // 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_purpose_and_epoch_has_a_seed_of_its_own():
    seeds = {
        mixed_seed(seed, purpose, epoch)
        for seed in range(4)
        for purpose in ("order", "augment 0", "augment 1", "dropout 0")
        for epoch in range(50)
    }
    assert len(seeds) == 4 * 4 * 50
    assert torch.equal(
        torch.rand(3, generator=generator_for(1, "order", 2)),
        torch.rand(3, generator=generator_for(1, "order", 2)),
    )


def test_each_epoch_has_an_order_of_its_own_and_sees_every_image_once(
    make_config, make_dataset, monkeypatch
):
    training = Training(make_config(epochs=3), make_dataset())
    seen = []
    step = training.step
    monkeypatch.setattr(
        training,
        "step",
        lambda rows, changes, means: (seen.extend(rows.tolist()), step(rows, changes, means)),
    )
    list(training.epochs())
    orders = [tuple(seen[start : start + 24]) for start in (0, 24, 48)]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(24)) for order in orders)


# What an epoch says


def test_an_epoch_reports_its_number_and_its_metrics(make_config, make_dataset):
    epochs = list(Training(make_config(epochs=3), make_dataset()).epochs())
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    for epoch in epochs:
        assert set(epoch.values) == {"train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s"}
        assert all(
            isinstance(value, float) and math.isfinite(value) for value in epoch.values.values()
        )
        assert epoch.values["time/epoch_s"] > 0


@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_training_learns_what_can_be_learnt(optimizer, make_config, make_dataset):
    lr = 0.02 if optimizer == "sgd" else 0.01
    *_, last = Training(
        make_config(model__width=8, epochs=12, optimizer__name=optimizer, optimizer__lr=lr),
        make_dataset(train=60, val=30),
    ).epochs()
    assert last.values["val/accuracy"] > 0.9
    assert last.values["train/loss"] < 0.5


def test_the_validation_is_of_the_network_as_it_will_be_used(make_config, make_dataset):
    dataset = make_dataset(val=700)
    training = Training(
        make_config(model__layers=6, model__dropout=0.5, epochs=1, augment__jitter=0.5), dataset
    )
    (epoch,) = training.epochs()
    images, labels = training.val.batch(torch.arange(700))
    with torch.no_grad():
        logits = training.network.eval()(images)
    assert epoch.values["val/accuracy"] == pytest.approx(
        (logits.argmax(dim=1) == labels).double().mean().item()
    )
    assert epoch.values["val/loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_training_at_a_negligible_rate_reports_the_loss_of_its_weights(make_config, make_dataset):
    training = Training(
        make_config(epochs=1, optimizer__name="sgd", optimizer__lr=1e-30), make_dataset(train=24)
    )
    images, labels = training.train.batch(torch.arange(24))
    expected = torch.nn.functional.cross_entropy(training.network(images), labels).item()
    (epoch,) = training.epochs()
    assert epoch.values["train/loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "step", "step_epochs": 2, "decay": 0.5}, [1, 1, 0.5, 0.5]),
        (
            {"schedule": "cosine"},
            [1, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 + math.cos(3 * math.pi / 4)) / 2],
        ),
        ({"schedule": "plateau", "patience": 0, "decay": 0.5}, [1, 1, 0.5, 0.25]),
    ],
)
def test_each_epoch_is_trained_at_its_scheduled_rate(options, rates, make_config, make_dataset):
    slow = {
        "optimizer__name": "sgd",
        "optimizer__lr": 1e-6,
    }  # the loss stands still, which is a plateau
    config = make_config(
        epochs=4, **slow, **{f"optimizer__{name}": value for name, value in options.items()}
    )
    assert [values["lr"] for _, values in metrics_of(config, make_dataset())] == pytest.approx(
        [1e-6 * rate for rate in rates]
    )


def test_the_schedule_is_told_the_validation_loss(make_config, make_dataset, monkeypatch):
    told = []
    monkeypatch.setattr(
        "trainables.training.optimizers.advance", lambda schedule, loss: told.append(loss)
    )
    assert [values["val/loss"] for _, values in metrics_of(make_config(), make_dataset())] == told


# Divergence


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", OWN)
def test_an_absurd_learning_rate_diverges(name, optimizer, make_config, make_dataset):
    config = make_config(model__name=name, optimizer__name=optimizer, optimizer__lr=1e6, epochs=1)
    (epoch,) = Training(config, make_dataset()).epochs()
    assert epoch.diverged.endswith("at epoch 1")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train/loss", math.nan, "nan"),
        ("train/loss", math.inf, "inf"),
        ("train/loss", 2 * DIVERGED_LOSS, "2e+09"),
        ("val/loss", math.nan, "nan"),
        ("val/loss", math.inf, "inf"),
    ],
)
def test_a_loss_that_blew_up_is_named(name, value, text):
    assert (
        EpochMetrics(3, {"train/loss": 1.0, "val/loss": 1.0, name: value}).diverged
        == f"{name} is {text} at epoch 3"
    )


def test_a_finite_loss_has_not_diverged():
    assert (
        EpochMetrics(3, {"train/loss": DIVERGED_LOSS, "val/loss": 2 * DIVERGED_LOSS}).diverged == ""
    )


# Batches of every size


@pytest.mark.parametrize(("images", "steps"), [(9, 2), (16, 2), (17, 3)])
def test_all_batches_have_one_size_and_every_image_is_among_them(images, steps):
    rows = batches(torch.randperm(images), 8)
    assert rows.shape == (steps, 8)
    assert set(rows.flatten().tolist()) == set(range(images))
    assert rows.flatten().bincount().max() <= 2


def test_a_last_batch_is_large_enough_for_batch_normalisation(make_config, make_dataset):
    epochs = list(Training(make_config(model__layers=6), make_dataset(side=1, train=17)).epochs())
    assert len(epochs) == 2
    assert not any(epoch.diverged for epoch in epochs)


def test_a_batch_may_be_larger_than_the_training_part(make_config, make_dataset):
    assert len(metrics_of(make_config(batch_size=1000), make_dataset())) == 2


def test_a_batch_size_of_one_trains_or_is_refused(make_config, make_dataset):
    """It must not pass for a training that changed nothing and had a loss of 0."""
    try:
        training = Training(make_config(batch_size=1, epochs=1), make_dataset())
    except ValueError:
        return
    before = [weights.clone() for weights in training.network.parameters()]
    (epoch,) = training.epochs()
    assert epoch.values["train/loss"] > 0
    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, training.network.parameters(), strict=True)
    )


# Pixels


def parts(images: np.ndarray, make_dataset):
    """A data set whose training and validation parts hold these images."""
    dataset = make_dataset()
    part = Part(images, np.zeros(len(images), dtype=np.int64))
    return type(dataset)(dataset.name, dataset.classes, part, part, None, "")


@pytest.mark.parametrize(("name", "low", "high"), [("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)])
def test_scaling_brings_black_and_white_to_the_ends_of_its_range(
    name, low, high, make_config, make_dataset
):
    images = np.array([0, 255, 51], dtype=np.uint8).reshape(3, 1, 1, 1).repeat(3, axis=3)
    batch, _ = Training(make_config(data__scaling=name), parts(images, make_dataset)).val.batch(
        torch.arange(3)
    )
    assert batch.dtype == torch.float32
    assert batch.amin(dim=(1, 2, 3)).tolist() == pytest.approx(
        [low, high, low + 0.2 * (high - low)]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_standard_scaling_gives_each_training_channel_mean_zero_and_deviation_one(
    channels, make_config, make_dataset
):
    training = Training(
        make_config(data__scaling="standard"), make_dataset(channels=channels, height=5, train=60)
    )
    batch, _ = training.train.batch(torch.arange(60))
    torch.testing.assert_close(batch.mean(dim=(0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        batch.std(dim=(0, 2, 3), correction=0), torch.ones(channels), atol=1e-5, rtol=0
    )


def test_standard_scaling_takes_its_statistics_from_the_training_part_alone(
    make_config, make_dataset
):
    dataset = make_dataset()
    dark = Part(np.zeros_like(dataset.val.images), dataset.val.targets)
    changed = type(dataset)(dataset.name, dataset.classes, dataset.train, dark, dark, "")
    for old, new in zip(scaling("standard", dataset), scaling("standard", changed), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("name", SCALING_NAMES)
def test_images_all_of_one_colour_stay_finite(name, make_config, make_dataset):
    images = np.full((4, 3, 3, 1), 200, dtype=np.uint8)
    batch, _ = Training(make_config(data__scaling=name), parts(images, make_dataset)).val.batch(
        torch.arange(4)
    )
    assert batch.isfinite().all()


def test_a_batch_holds_the_rows_asked_for_channels_first(make_config, make_dataset):
    dataset = make_dataset(channels=3, height=5)
    batch, labels = Training(make_config(data__scaling="unit"), dataset).val.batch(
        torch.tensor([3, 1])
    )
    assert batch.shape == (2, 3, 5, 8)
    assert labels.tolist() == dataset.val.targets[[3, 1]].tolist()
    np.testing.assert_allclose(
        batch.numpy(), dataset.val.images[[3, 1]].transpose(0, 3, 1, 2) / 255, rtol=1e-6
    )


def test_only_training_batches_are_augmented(make_config, make_dataset):
    pixels = Pixels(
        make_dataset().train, make_dataset(), make_config(augment__crop=3), torch.device("cpu")
    )
    rows = torch.arange(4)
    plain, labels = pixels.batch(rows)
    (drawn,) = draw(pixels.augment, 1, len(rows), generator_for(0, "x", 0), rows.device)
    changed, same_labels = pixels.batch(rows, drawn)
    assert torch.equal(plain, pixels.batch(rows)[0])
    assert not torch.equal(plain, changed)
    assert torch.equal(labels, same_labels)


def test_read_only_arrays_are_trained_on_and_nothing_is_written(make_config, make_dataset):
    dataset = make_dataset()
    before = dataset.train.images.copy()
    for part in (dataset.train, dataset.val):
        part.images.flags.writeable = False
        part.targets.flags.writeable = False
    assert len(metrics_of(make_config(**RICH), dataset)) == 2
    assert np.array_equal(dataset.train.images, before)


@pytest.mark.parametrize(
    "drawn",
    [{"augment__crop": 4}, {"model__dropout": 0.5}, {}],
    ids=["augmentation", "dropout", "nothing"],
)
def test_each_epoch_draws_its_own_augmentation_and_dropout(drawn, make_config, make_dataset):
    """Equal images and a network that stands still: losses differ only by what is drawn."""
    images = (
        np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8).repeat(24, axis=0)
    )
    config = make_config(
        epochs=3, batch_size=24, optimizer__name="sgd", optimizer__lr=1e-30, **drawn
    )
    losses = [values["train/loss"] for _, values in metrics_of(config, parts(images, make_dataset))]
    assert len({round(loss, 5) for loss in losses}) == (3 if drawn else 1)


def test_a_trial_needs_no_test_part(make_config, make_dataset):
    assert metrics_of(make_config(), make_dataset().sealed) == metrics_of(
        make_config(), make_dataset()
    )


def test_images_stay_on_the_device_for_the_next_trial_until_other_data_come(
    make_config, make_dataset, monkeypatch
):
    """Torch's device without memory stands for a card."""
    monkeypatch.setattr("trainables.tasks.pixels.RESIDENT", {})
    card, dataset, other = torch.device("meta"), make_dataset(), make_dataset()
    first, again = (Pixels(dataset.train, dataset, make_config(), card) for _ in range(2))
    assert first.images is again.images
    assert first.targets is again.targets
    pixels = [
        Pixels(part, source, make_config(), card)
        for source in (dataset, other)
        for part in (source.train, source.val)
    ]
    assert len({id(each.images) for each in pixels}) == 4
    assert (
        Pixels(dataset.train, dataset, make_config(), card).images is not first.images
    )  # it had to make room


def test_on_a_cpu_images_are_the_arrays_own_memory(make_config, make_dataset):
    dataset = make_dataset()
    assert (
        Training(make_config(), dataset).train.images.data_ptr() == dataset.train.images.ctypes.data
    )


@pytest.fixture
def on_card(monkeypatch):
    """Train on torch's device without memory, by optimizers that take it."""
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        monkeypatch.setitem(
            optimizers.OPTIMIZERS,
            name,
            lambda weights, config, kind=kind: kind(weights, lr=config.lr),
        )
    monkeypatch.setattr("trainables.tasks.pixels.RESIDENT", {})
    monkeypatch.setattr(
        "trainables.training.loop.autocast", lambda precision, device: nullcontext()
    )

    def train(config, dataset):
        training = Training(config, dataset, device=CARD)
        training.epoch = 1
        training._train_epoch(0.0)  # what is brought there once for all epochs
        with watched() as traffic:
            training._train_epoch(0.0)
            trained = list(traffic.copies)
            training._validate()
        return trained, traffic.copies[len(trained) :], traffic.waits

    return train


@pytest.mark.parametrize(
    ("device", "batch", "images"),
    [("cpu", 256, 41), ("meta", 256, 256), ("meta", 16, 41), ("meta", 4096, 512)],
)
def test_a_card_classifies_as_many_images_at_once_as_it_trains_on(
    device, batch, images, make_config, make_dataset
):
    config = make_config(model__name="deep_cnn", batch_size=batch)
    assert (
        eval_batch(config, make_dataset(side=224, train=3, val=3), torch.device(device)) == images
    )


@pytest.mark.parametrize(("side", "images"), [(128, 512), (224, 167)])
def test_large_images_that_a_network_shrinks_are_few_at_once(side: int, images: int, make_dataset):
    """A batch of them fills the memory before it is shrunk."""
    config = TrialConfig().override({"model.name": "squeezenet1_0", "model.input_size": 32})
    data = make_dataset(side=side, train=3, val=3)
    assert eval_batch(config, data, torch.device("cpu")) == images


AUGMENTED = {
    "plain": {},
    "crop": {"augment__crop": 1},
    "all": {
        "augment__rotation": 5,
        "augment__scale": 0.1,
        "augment__crop": 1,
        "augment__jitter": 0.1,
    },
}


@pytest.mark.parametrize("augment", AUGMENTED.values(), ids=AUGMENTED)
def test_a_card_gets_an_epochs_draws_at_once_and_nobody_waits_for_it_in_a_step(
    augment, on_card, make_config, make_dataset
):
    for train in (24, 96):
        trained, validated, waits = on_card(
            make_config(optimizer__name="sgd", **augment),
            make_dataset(channels=3, train=train, val=1100),
        )
        copies = 1 + bool(augment)
        assert trained.count("cpu to meta") == copies, "the rows and, if there are some, the draws"
        assert len(trained) == copies
        assert validated == []
        assert waits == []


# Warm starts


def test_a_training_begins_with_a_checkpoints_network_head_and_all(
    make_config, make_dataset, tmp_path
):
    dataset = make_dataset()
    before = Training(make_config(), dataset)
    next(before.epochs())
    checkpoint.save(tmp_path, before.state(), {})
    config = make_config(data__root=str(tmp_path), warm_start="epoch-0001", seed=5)
    begun = Training(config, dataset)
    for name, value in before.network.state_dict().items():
        assert torch.equal(value, begun.network.state_dict()[name]), name
    assert begun.epoch == 0
    assert next(begun.epochs()).epoch == 1


def test_a_warm_start_makes_another_training(make_config):
    cold, warm = make_config(), make_config(warm_start="champion-1")
    assert "warm_start" not in cold.to_dict()
    assert training_key(cold) != training_key(warm)
    assert shape_key(cold) is not None
    assert shape_key(warm) is None


@pytest.mark.parametrize("values", [{"model.name": "knn"}, {"data.folds": 3}])
def test_what_cannot_go_on_from_a_checkpoint_is_refused(values):
    with pytest.raises(
        ConfigError, match="warm_start=champion-1 cannot be combined with a baseline"
    ):
        TrialConfig().override({"warm_start": "champion-1", **values})
