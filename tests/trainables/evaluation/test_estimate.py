import pytest
import torch

from tests.support.networks import OWN
from trainables.config import TrialConfig
from trainables.evaluation import estimate
from trainables.evaluation.estimate import checkpoint_bytes, epoch_seconds
from trainables.trial import run_trial


@pytest.fixture(autouse=True)
def threads_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", OWN)
def test_every_models_epoch_is_estimated(name, make_config, make_dataset):
    assert 0 < epoch_seconds(make_config(model__name=name), make_dataset()) < 10


def test_a_familys_epoch_is_estimated(make_dataset):
    assert (
        0
        < epoch_seconds(
            TrialConfig().override({"model.name": "mobilenet_v3_small", "batch_size": 8}),
            make_dataset(),
        )
        < 10
    )


def test_the_estimate_grows_with_the_images_at_a_third_for_validation(
    make_config, make_dataset, monkeypatch
):
    clock = iter([0.0, 0.6] * 3)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    per_image = 0.6 / 3 / 8
    assert epoch_seconds(
        make_config(batch_size=8), make_dataset(train=24, val=12)
    ) == pytest.approx(per_image * (24 + 4))
    assert epoch_seconds(
        make_config(batch_size=8), make_dataset(train=240, val=12)
    ) == pytest.approx(per_image * (240 + 4))
    assert epoch_seconds(
        make_config(batch_size=8), make_dataset(train=24, val=120)
    ) == pytest.approx(per_image * (24 + 40))


def test_a_batch_larger_than_the_training_part_is_estimated_by_its_images(
    make_config, make_dataset, monkeypatch
):
    clock = iter([0.0, 0.6])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    assert epoch_seconds(
        make_config(batch_size=1000), make_dataset(train=24, val=12)
    ) == pytest.approx(0.6 / 3 / 24 * 28)


def test_the_estimate_runs_on_the_threads_asked_for_and_leaves_the_random_state(
    make_config, make_dataset
):
    state = torch.get_rng_state()
    epoch_seconds(make_config(), make_dataset(), threads=2)
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
