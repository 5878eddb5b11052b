import math
from types import SimpleNamespace

import pytest
import torch

from tests.support.networks import OWN
from trainables.config import TrialConfig
from trainables.evaluation import estimate
from trainables.evaluation.estimate import (
    Times,
    checkpoint_bytes,
    epochs_seconds,
    size_for,
)
from trainables.training.loop import Training
from trainables.trial import run_trial


@pytest.fixture(autouse=True)
def threads_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", OWN)
def test_every_models_epoch_is_estimated(name, make_config, make_dataset):
    assert 0 < epochs_seconds([make_config(model__name=name)], make_dataset())[0] < math.inf


def test_a_familys_epoch_is_estimated(make_dataset):
    assert (
        0
        < epochs_seconds(
            [TrialConfig().override({"model.name": "mobilenet_v3_small", "batch_size": 8})],
            make_dataset(),
        )[0]
        < math.inf
    )


@pytest.mark.parametrize(("batch", "steps"), [(8, 3), (1000, 1)])
def test_an_epoch_is_its_steps_its_images_and_a_third_for_validation(batch, steps, make_dataset):
    config = TrialConfig().override({"batch_size": batch})
    epoch_s = Times(0.5, 0.1).epoch_s(config, make_dataset(train=24, val=12))
    assert epoch_s == pytest.approx(0.5 * steps + 0.1 * (24 + 4))


@pytest.fixture
def played(monkeypatch):
    """Steps that take as many seconds as `image_s` says, of a clock that only they move; `taken`
    are their numbers of images.
    """
    steps = SimpleNamespace(now=0.0, image_s=lambda training: 0.1, step_s=0.005, taken=[])

    def step(training, rows, changes, means):
        steps.taken.append((training.config.model.name, len(rows)))
        steps.now += steps.step_s + steps.image_s(training) * len(rows)

    monkeypatch.setattr(Training, "step", step)
    monkeypatch.setattr(estimate.time, "thread_time", lambda: steps.now)
    return steps


def test_a_long_step_is_measured_with_few_images(played, make_config, make_dataset):
    config, dataset = make_config(batch_size=128), make_dataset(train=256)
    assert epochs_seconds([config], dataset)[0] == pytest.approx(
        0.005 * 2 + 0.1 * (256 + len(dataset.val) / 3)
    )
    assert max(size for _, size in played.taken) == 9
    assert played.now < 2 * estimate.BOX_S


def test_a_short_step_is_measured_whole(played, make_config, make_dataset):
    played.image_s = lambda training: 1e-4
    epochs_seconds([make_config(batch_size=128)], make_dataset(train=256))
    assert max(size for _, size in played.taken) == 128


def test_a_batch_that_takes_much_memory_is_not_measured(
    played, make_config, make_dataset, monkeypatch
):
    played.image_s = lambda training: 1e-4
    config, dataset = make_config(batch_size=128), make_dataset(train=256)
    monkeypatch.setattr(estimate, "BATCH_BYTES", 20 * size_for(config, dataset).trained_image)
    epochs_seconds([config], dataset)
    assert max(size for _, size in played.taken) == 20


WIDTHS = (8, 16, 64, 128)


@pytest.mark.parametrize("limit", [{"STEP_S": 0.5}, {"MOST_BYTES": 10}, {"ALL_S": -1}])
def test_networks_too_large_to_be_measured_are_priced_by_their_work(
    limit, played, make_config, make_dataset, monkeypatch
):
    (name, value), dataset = *limit.items(), make_dataset(train=64)
    monkeypatch.setattr(estimate, name, value)
    configs = [make_config(model__width=width) for width in WIDTHS]
    works = [size_for(config, dataset).work for config in configs]
    played.step_s = 0.0
    played.image_s = lambda training: 0.1 * size_for(training.config, dataset).work / works[0]
    found = epochs_seconds(configs, dataset)
    assert [one / found[0] for one in found] == pytest.approx([work / works[0] for work in works])
    assert played.now < 3 * estimate.BOX_S


def test_networks_that_differ_in_their_training_alone_are_measured_once(
    played, make_config, make_dataset
):
    configs = [make_config(batch_size=size, epochs=size) for size in (8, 32, 16)]
    epochs_seconds(configs, make_dataset(train=64))
    assert len(played.taken) == 2 + 1 + estimate.STEPS


def test_the_estimate_runs_on_the_threads_asked_for_and_leaves_the_random_state(
    make_config, make_dataset
):
    state = torch.get_rng_state()
    epochs_seconds([make_config()], make_dataset(), threads=2)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 8, 8)])
def test_a_checkpoints_bytes_are_those_on_disk(name, image, make_config, make_dataset, tmp_path):
    """Within a fiftieth, and 10 kB: safetensors' headers and the step counters of Adam are not
    counted.
    """
    config = make_config(model__name=name, model__width=16, epochs=1)
    dataset = make_dataset(channels=image[0], side=image[1])
    list(run_trial(config, dataset, tmp_path))
    written = sum(path.stat().st_size for path in (tmp_path / "epoch-0001").glob("*.safetensors"))
    assert checkpoint_bytes(config.model, image, 3) == pytest.approx(written, rel=0.02, abs=10_000)


def test_a_familys_checkpoint_is_estimated(make_dataset, tmp_path):
    config = TrialConfig().override(
        {"model.name": "mobilenet_v3_small", "batch_size": 8, "epochs": 1}
    )
    list(run_trial(config, make_dataset(channels=3), tmp_path))
    written = sum(path.stat().st_size for path in (tmp_path / "epoch-0001").glob("*.safetensors"))
    assert checkpoint_bytes(config.model, (3, 8, 8), 3) == pytest.approx(written, rel=0.02)


def test_a_checkpoints_bytes_are_known_without_memory_for_it(make_config):
    assert checkpoint_bytes(make_config(model__width=4096).model, (3, 2048, 2048), 10) > 10**9
