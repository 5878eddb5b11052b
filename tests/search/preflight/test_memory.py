"""The memory of trials, on machines of several sizes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cluster.errors import NotReady
from cluster.runtime.resources import Resources
from search.design.experiment import Experiment
from search.preflight import disk
from search.preflight import memory as module
from search.preflight.memory import RAY_BYTES, TrialMemory, check_trials, trial_memory
from search.space import Choice, SearchSpace
from tests.support.played import changed
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.evaluation import estimate as counted
from trainables.evaluation.estimate import size_for, training_bytes

SIDE = 32
DATASET = Dataset(
    "made",
    ("a", "b"),
    *[Part(np.zeros((256, SIDE, SIDE, 3), np.uint8), np.zeros(256, np.int64))] * 3,
    "f00d",
)
IMAGES = DATASET.train.nbytes
FOUR = Resources(cpus=4)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The bytes that are free for trials, as the machine tells them."""
    machine = SimpleNamespace(free=0)
    monkeypatch.setattr(disk, "free_memory", lambda: machine.free + RAY_BYTES + IMAGES)
    return machine


@pytest.fixture
def wide(experiment: Experiment) -> Experiment:
    """A search of networks of two widths and two batch sizes."""
    space = SearchSpace(
        {
            "model.width": Choice(8, 64),
            "batch_size": Choice(16, 128),
            "optimizer.lr": Choice(0.01, 0.1),
        },
        base={"model.name": "deep_cnn"},
    )
    return changed(experiment, space=space, base=TrialConfig().override(space.base))


def most(experiment: Experiment) -> int:
    return max(training_bytes(config, DATASET) for config in experiment.edges)


def test_the_trial_that_takes_most_counts(wide: Experiment, free: SimpleNamespace) -> None:
    found = trial_memory(wide, DATASET, 2)
    assert found is not None
    assert found.needed == most(wide)
    assert (found.config.batch_size, found.config.model.options["width"]) == (128, 64)


@pytest.mark.parametrize("at_once", [1, 3, 4, 9])
def test_as_many_run_at_once_as_fit(wide: Experiment, free: SimpleNamespace, at_once: int) -> None:
    free.free = at_once * most(wide)
    local, notes = check_trials(wide, DATASET, FOUR)
    assert local.cpus == min(4, at_once)
    assert len(notes) == (at_once < 4)
    if notes:
        assert notes[0].startswith(
            f"note: {at_once} instead of 4 trials run at once: a trial of deep_"
        )
        assert "with batch size 128 needs up to about" in notes[0]


def test_one_that_does_not_fit_is_refused_with_what_to_do(
    wide: Experiment, free: SimpleNamespace
) -> None:
    free.free = round(module.SURELY * most(wide)) - 1
    with pytest.raises(NotReady, match=r"deep_cnn.* GB is free\. Use smaller batches \(--set"):
        check_trials(wide, DATASET, FOUR)


def test_one_that_may_not_fit_is_tried_alone_with_a_warning(
    wide: Experiment, free: SimpleNamespace
) -> None:
    free.free = most(wide) - 1
    local, (note,) = check_trials(wide, DATASET, FOUR)
    assert local.cpus == 1
    assert note.startswith(
        "warning: the memory may be too small even for one trial at once: a trial of deep_"
    )


def test_who_says_how_many_is_warned(wide: Experiment, free: SimpleNamespace) -> None:
    free.free = 2 * most(wide)
    local, (note,) = check_trials(changed(wide, concurrency=3), DATASET, FOUR)
    assert local == FOUR
    assert note.startswith("warning: 3 trials at once may be too many: a trial of deep_cnn")
    assert "is free. Use --concurrency 2, or smaller batches" in note
    assert check_trials(changed(wide, concurrency=2), DATASET, FOUR) == (FOUR, [])


def test_the_workers_of_a_trial_count_each(wide: Experiment, free: SimpleNamespace) -> None:
    two = changed(wide, demand=changed(wide.demand, workers=2))
    free.free = 3 * most(wide)
    assert check_trials(two, DATASET, FOUR)[0].cpus == 2
    free.free = most(wide)  # half of what two take
    with pytest.raises(NotReady):
        check_trials(two, DATASET, FOUR)


def test_of_several_sizes_of_images_the_largest_counts(
    experiment: Experiment, free: SimpleNamespace
) -> None:
    space = SearchSpace(
        {"model.input_size": Choice(64, 160, 96), "batch_size": Choice(4, 8)},
        base={"model.name": "mobilenet_v2"},
    )
    search = changed(experiment, space=space, base=TrialConfig().override(space.base))
    found = trial_memory(search, DATASET, 2)
    assert found is not None
    assert (found.config.model.input_size, found.config.batch_size) == (160, 8)
    assert found.needed == pytest.approx(most(search), rel=0.03)


@pytest.mark.parametrize(
    "changes", [{"device": "cuda"}, {"address": "10.0.0.1:6379"}], ids=["a GPU", "a cluster"]
)
def test_only_this_machines_memory_counts(
    wide: Experiment, free: SimpleNamespace, changes: dict[str, str]
) -> None:
    if "device" in changes:
        changes = {**changes, "demand": changed(wide.demand, gpus=1.0)}
    assert check_trials(changed(wide, **changes), DATASET, FOUR) == (FOUR, [])


def test_nothing_is_counted_where_there_is_ample(
    wide: Experiment, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "training_bytes", lambda *given: pytest.fail("counted"))
    free.free = 4 * (module.AMPLE + module.AMPLE_FOR_PIXEL * SIDE * SIDE * 128)
    assert check_trials(wide, DATASET, FOUR) == (FOUR, [])


def test_a_training_takes_its_weights_their_moments_and_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counted, "has_bf16", lambda: False)
    monkeypatch.setattr(counted, "eval_batch", lambda *given: 1)
    config = TrialConfig().override({"model.name": "deep_cnn", "optimizer.name": "adam"})
    size = size_for(config, DATASET)

    def taken(**changes: object) -> int:
        return training_bytes(config.override(changes), DATASET)

    adam, sgd = (taken(**{"optimizer.name": name}) for name in ("adam", "sgd"))
    assert adam - sgd == 4 * size.weights
    more = taken(batch_size=64) - taken(batch_size=32)
    assert more == pytest.approx(32 * counted.SLACK * size.trained_image, abs=2)
    assert taken(batch_size=64, precision="bf16") < taken(batch_size=64)


def test_what_is_kept_of_an_image_is_what_the_layers_put_out() -> None:
    """Of the first layer at least, in float32; and a forward pass alone holds less."""
    config = TrialConfig().override({"model.name": "resnet18"})
    size = size_for(config, DATASET)
    assert size.trained_image > 4 * 64 * (SIDE // 2) ** 2
    assert size.tested_image < size.trained_image / 2
    assert size.work == pytest.approx(2 * 37e6, rel=0.1)


def test_attention_keeps_no_matrix_of_tokens_by_tokens() -> None:
    tokens, width = 400, 16

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = torch.nn.MultiheadAttention(width, 4, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images.flatten(1, 2)
            found: torch.Tensor = self.attend(rows, rows, rows, need_weights=False)[0]
            return found

    with torch.device("meta"):
        network = Attention()
    kept, work = counted._measure_pass(network, (20, tokens // 20, width), train=True)
    assert 4 * tokens * width * 4 < kept < 4 * tokens * tokens
    assert work == 2 * (4 * tokens * width**2 + 2 * tokens**2 * width)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("deep_cnn", "smaller batches (--set batch_size=N) or smaller images (--set data."),
        ("probe_resnet18", "smaller images (--set model.input_size=N)"),
    ],
)
def test_the_remedy_is_one_that_counts(name: str, remedy: str) -> None:
    config = TrialConfig().override({"model.name": name})
    estimate = TrialMemory(needed=2, free=1, config=config, at_once=1)
    assert estimate.remedy.startswith(remedy)
