"""A worker's own affairs, in this process: the data it keeps, and when it counts as unused."""

import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.execution.job import Job
from search.execution.pool import Workers
from search.execution.worker import TrialWorker
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.messages import TrialRequest
from trainables.training.loop import Training

CONFIG = TrialConfig().override(
    {"model.width": 2, "model.layers": 3, "data.train_limit": 100, "data.val_limit": 50}
)


class Read:
    """A job that notes, each time it is read, since when its worker counts as unused."""

    def __init__(self, worker: TrialWorker, job: Job) -> None:
        self.worker, self.job, self.used = worker, job, list[float]()

    def __getattr__(self, name: str) -> Any:
        self.used.append(self.worker._used)
        return getattr(self.job, name)


def job_in(folder: Path) -> Job:
    return Job("t0001", CONFIG.to_dict(), str(folder), TrialRequest())


@pytest.fixture
def worker() -> TrialWorker:
    """One that was last used at the beginning of time."""
    made = TrialWorker(device="cpu", threads=1)
    made._used = 0.0
    return made


@pytest.mark.parametrize(
    ("device", "part", "options", "limits"),
    [
        ("cuda", 0.25, {"num_gpus": 0.25}, [0.25]),
        ("cuda", 1, {"num_gpus": 1}, []),
        ("cuda", 1, {"num_gpus": 0.25}, []),
        ("cpu", 0, {}, []),
    ],
)
def test_a_worker_keeps_to_the_part_of_a_gpu_that_was_asked_for(
    device: str,
    part: float,
    options: dict[str, float],
    limits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a GPU: a worker that is started in this process tells torch, which is played. Where
    the planner puts several on a card, none is held back.
    """
    told: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(
        "torch.cuda.mem_get_info", lambda: (0, 10**15)
    )  # beside which a context is nothing
    monkeypatch.setattr(
        "ray.remote", lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=kind))
    )
    Workers._new(
        cast("Workers", SimpleNamespace(part=part, _arguments={"device": device, "threads": 1})),
        **options,
    )
    assert told == pytest.approx(limits, abs=1e-3)


@pytest.mark.parametrize("method", ["evaluate", "validate", "cost"])
def test_a_worker_that_evaluates_is_in_use(
    worker: TrialWorker, tmp_path: Path, method: str
) -> None:
    job, began = Read(worker, job_in(tmp_path)), time.monotonic()
    assert getattr(worker, method)(job, load(CONFIG.data), 1).damaged
    assert set(job.used) == {math.inf}
    assert began <= worker._used <= time.monotonic()


def test_a_worker_that_gets_ready_is_in_use(worker: TrialWorker) -> None:
    began = time.monotonic()
    worker.get_ready()
    assert worker._used >= began


@pytest.mark.parametrize("opened", [True, False])
def test_a_worker_computes_what_its_data_say_once(
    worker: TrialWorker, tmp_path: Path, opened: bool
) -> None:
    """Each call brings a copy of the data, of which it needs none but the first, if that."""
    kept, *copies = (load(CONFIG.data).sealed for _ in range(3))
    path = checkpoint.save(tmp_path, Training(CONFIG, load(CONFIG.data)).state(), {})
    job = job_in(path.parent)
    if opened:
        worker.open(kept)
    else:
        worker.validate(job, kept, 0)
    found = worker.validate(job, copies[0], 0)
    worker.cost(job, copies[1], 0)
    assert "channel_statistics" in vars(kept)
    assert not any("channel_statistics" in vars(copy) for copy in copies)
    assert (
        json.loads((tmp_path / "evidence" / "val.json").read_text())["accuracy"]
        == found.found["accuracy"]
    )


def test_an_evaluation_leaves_its_pictures_in_the_trials_folder_alone(
    worker: TrialWorker, tmp_path: Path
) -> None:
    dataset = load(CONFIG.data)
    path = checkpoint.save(tmp_path, Training(CONFIG, dataset).state(), {})
    job = job_in(path.parent)
    answers = {
        "val": worker.validate(job, dataset.sealed, 0).found,
        "test": worker.evaluate(job, dataset, 0).found,
    }
    for part, answer in answers.items():
        kept = json.loads((tmp_path / "evidence" / f"{part}.json").read_text())
        assert len(kept["wrong"]) == 12
        assert sum(kept["bins"]["images"]) == answer["images"]
        assert not {"wrong", "bins"} & answer.keys()
        assert kept["confusion_matrix"] == answer["confusion_matrix"]
