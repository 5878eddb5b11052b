import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import torch
from torch import nn

import trainables
from trainables.fairness.groups import Attributes
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training
from trainables.training.world import World

ONE_OF_SEVERAL = """
import json, os, sys
from pathlib import Path
import numpy, torch
from torch import distributed
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.fairness.groups import Attributes
from trainables.training.loop import Training
from trainables.training.world import Distributed

folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
)
arrays = numpy.load(folder / "data.npz")
names = tuple(map(str, range(25)))
attributes = Attributes(("number",), (("even",), ("odd",)), {name: int(name) % 2 for name in names})
train, val = (
    Part(targets_images, targets, names[: len(targets)])
    for targets_images, targets in (
        (arrays[f"{name}_images"], arrays[f"{name}_targets"]) for name in ("train", "val")
    )
)
results = []
for values in json.loads((folder / "configs.json").read_text()):
    dataset = Dataset(
        "made", ("a", "b", "c"), train, val, None, "", attributes=attributes
    )
    training = Training(TrialConfig.from_dict(values), dataset, world=Distributed())
    epochs = [epoch.values for epoch in training.epochs()]
    weights = {name: tensor.tolist() for name, tensor in training.network.state_dict().items()}
    results.append({"epochs": epochs, "weights": weights})
state = Distributed().from_first({"epoch": 5 - rank, "weights": torch.full((2,), float(rank))})
assert state["epoch"] == 5 and not state["weights"].any(), state
print(json.dumps(results), flush=True)
sys.stdin.read()  # until all are done
os._exit(0)
"""


class Several(World):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def train_together(configs, dataset, folder, size):
    """Train each config in several processes; what each process prints, without the times."""
    arrays = {
        f"{name}_{kind}": getattr(getattr(dataset, name), kind)
        for name in ("train", "val")
        for kind in ("images", "targets")
    }
    np.savez(folder / "data.npz", **arrays)
    (folder / "configs.json").write_text(json.dumps([config.to_dict() for config in configs]))
    environment = os.environ | {
        "PYTHONPATH": str(Path(trainables.__file__).parents[1]),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    with contextlib.ExitStack() as stack:
        processes = []
        for rank in range(size):
            errors = stack.enter_context((folder / f"{rank}.errors").open("w"))
            command = [sys.executable, "-c", ONE_OF_SEVERAL, str(folder), str(rank), str(size)]
            processes.append(
                stack.enter_context(
                    subprocess.Popen(
                        command, env=environment, stdin=PIPE, stdout=PIPE, stderr=errors, text=True
                    )
                )
            )
            stack.callback(processes[-1].kill)
        lines = [process.stdout.readline() for process in processes]
    assert all(lines), (folder / "0.errors").read_text() + (folder / "1.errors").read_text()
    return [
        [
            {"epochs": [untimed(epoch) for epoch in result["epochs"]], "weights": result["weights"]}
            for result in json.loads(line)
        ]
        for line in lines
    ]


def untimed(values):
    return {name: value for name, value in values.items() if name != "time/epoch_s"}


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_a_batch_make_it_up_and_differ_by_one_at_most(size, count):
    rows = torch.arange(count)
    shares = [Several(rank, size).slice(rows) for rank in range(size)]
    assert torch.equal(torch.cat(shares), rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_by_itself_changes_nothing():
    network, values = nn.Linear(1, 1), torch.tensor([1.0])
    world = World()
    world.share_buffers(network)
    assert (world.rank, world.size) == (0, 1)
    assert world.wrap(network) is network
    assert torch.equal(world.sum(values), torch.tensor([1.0]))
    assert world.from_first(values) is values


def test_one_of_several_measures_its_share_alone(make_config, make_dataset):
    class Counting(Several):
        def sum(self, values):
            images.append(int(values[-1]))
            return values

    images = []
    list(
        Training(
            make_config(epochs=1), make_dataset(train=24, val=13), world=Counting(1, 2)
        ).epochs()
    )
    assert images == [12, 6]


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize(("batch", "size"), [(5, 2), (7, 3), (6, 2)])
def test_the_mean_of_the_shares_gradients_is_the_gradient_of_the_batch(
    make_config, make_dataset, batch, size, weights
):
    """DistributedDataParallel averages gradients over the processes, however large each share."""
    config = make_config(
        optimizer__name="sgd", batch_size=batch, train__class_weights=weights, epochs=1
    )

    def gradients(world):
        training = Training(config, make_dataset(train=25), world=world)
        rows, changes = training.draws(1)
        training.step(world.slice(rows[0]), changes[0], MetricAverage("loss", device="cpu"))
        return torch.cat([value.grad.flatten() for value in training.network.parameters()])

    mean = torch.stack([gradients(Several(rank, size)) for rank in range(size)]).mean(dim=0)
    torch.testing.assert_close(mean, gradients(World()), rtol=1e-4, atol=1e-7)


def test_two_processes_train_one_network(make_config, make_dataset, tmp_path):
    options, dataset = (
        {"optimizer__name": "sgd", "optimizer__lr": 0.05, "train__class_weights": "balanced"},
        make_dataset(train=25, val=13).sealed,
    )
    names = tuple(map(str, range(25)))
    numbers = {name: int(name) % 2 for name in names}
    dataset = dataclasses.replace(
        dataset,
        train=dataclasses.replace(dataset.train, names=names),
        val=dataclasses.replace(dataset.val, names=names[:13]),
        attributes=Attributes(("number",), (("even",), ("odd",)), numbers),
    )
    grouped = make_config(
        metric="worst_group_accuracy",
        data__name="folder",
        data__groups="numbers.csv",
        **options | {"train__class_weights": "none", "train__group_dro": 0.3},
    )
    regularised = {"augment__mix": "mixup", "augment__policy": "trivial", "train__ema": 0.9}
    regularised |= {"train__smoothing": 0.1, "train__adversarial": 4.0}
    plain, uneven, *others = (
        make_config(metric="macro_f1", **options),
        make_config(batch_size=5, **options),
        make_config(model__layers=6, model__dropout=0.2, augment__jitter=0.2, **options),
        make_config(model__layers=6, **regularised, **options),
    )
    first, second = train_together([plain, uneven, grouped, *others], dataset, tmp_path, 2)
    assert first == second
    for config, result in zip((plain, uneven, grouped), first, strict=False):
        alone = [untimed(epoch.values) for epoch in Training(config, dataset).epochs()]
        assert len(result["epochs"]) == len(alone) == 2
        for together, expected in zip(result["epochs"], alone, strict=True):
            assert together == pytest.approx(expected, rel=1e-4)
