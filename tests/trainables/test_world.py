import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import trainables
from trainables.loop import Training
from trainables.world import World

ONE_OF_SEVERAL = """
import json, sys
from pathlib import Path
import numpy, torch
from torch import distributed
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.loop import Training
from trainables.world import Distributed

folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
arrays = numpy.load(folder / "data.npz")
train, val = (Part(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "val"))
config = TrialConfig.from_dict(json.loads((folder / "config.json").read_text()))
training = Training(config, Dataset("made", ("a", "b", "c"), train, val, None, ""), world=Distributed())
values = [{name: value for name, value in epoch.values.items() if name != "time/epoch_s"} for epoch in training.epochs()]
weights = {name: tensor.tolist() for name, tensor in training.network.state_dict().items()}
(folder / f"{rank}.json").write_text(json.dumps({"values": values, "weights": weights}))
distributed.destroy_process_group()
"""


class Several(World):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def train_together(config, dataset, folder, size):
    """Train in several processes; what each of them reports and ends with."""
    arrays = {f"{name}_{kind}": getattr(getattr(dataset, name), kind) for name in ("train", "val") for kind in ("images", "labels")}
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    np.savez(folder / "data.npz", **arrays)
    environment = os.environ | {"PYTHONPATH": str(Path(trainables.__file__).parents[1]), "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "default"}
    commands = [[sys.executable, "-c", ONE_OF_SEVERAL, str(folder), str(rank), str(size)] for rank in range(size)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, outputs
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


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


@pytest.mark.parametrize("layers", [5, 6])
def test_two_processes_train_one_network(layers, make_config, make_dataset, tmp_path):
    config, dataset = make_config(model__layers=layers, optimizer__name="sgd", optimizer__lr=0.05), make_dataset(train=24, val=13).sealed
    first, second = train_together(config, dataset, tmp_path, 2)
    assert first == second
    if layers <= 5:  # beyond, each process normalises its own half of a batch
        alone = [{name: value for name, value in epoch.values.items() if name != "time/epoch_s"} for epoch in Training(config, dataset).epochs()]
        assert len(alone) == 2
        for together, expected in zip(first["values"], alone, strict=True):
            assert together == pytest.approx(expected, rel=1e-4)
