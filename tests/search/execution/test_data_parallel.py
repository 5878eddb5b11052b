"""A trial on several workers, as far as it can be seen without any."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray

from search.execution import data_parallel
from search.execution.job import Job
from trainables import trainer
from trainables.config import TrialConfig
from trainables.request import TrialRequest


class Played:
    """Takes any call, and gives itself."""

    def __call__(self, *given: Any, **named: Any) -> "Played":
        return self

    def __getattr__(self, name: str) -> "Played":
        return self


def job_in(folder: Path, attempt: int) -> Job:
    trial = folder / "trials" / "t0001"
    return Job("t0001", TrialConfig().to_dict(), str(trial), TrialRequest(attempt=attempt))


def test_all_trials_read_the_data_that_lie_in_the_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def build(config: TrialConfig, dataset: Any, *given: Any, **about: Any) -> Played:
        read.append(dataset)
        return Played()

    def put(value: Any) -> None:
        raise AssertionError("the data are in the store already")

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(ray, "remote", Played())
    monkeypatch.setattr(ray, "get", lambda reference: None)  # no report, and there will be none
    monkeypatch.setattr(trainer, "build_trainer", build)
    for attempt in (1, 2):
        job = job_in(tmp_path, attempt)
        reference: Any = "a reference"
        data_parallel.train_on_workers(
            {"job": job},
            dataset=[reference],
            device="cpu",
            demand={"cpus": 1, "gpus": 0, "workers": 2},
        )
    assert read == ["a reference"] * 2


def test_what_the_workers_reported_last_is_heard_though_they_have_ended() -> None:
    async def heard() -> list[Any]:
        gate = data_parallel.Gate()
        waiting = asyncio.create_task(gate.next_report())
        await gate.report(1, "first")
        await gate.decide(1, True)
        assert await gate.passed(1)
        await gate.report(2, "last")
        await gate.close()
        return [await waiting, await gate.next_report(), await gate.next_report()]

    assert asyncio.run(heard()) == [
        {"reports": "first", "number": 1},
        {"reports": "last", "number": 2},
        None,
    ]


def test_how_the_training_failed_is_raised_where_the_trial_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def fit(self) -> None:
            raise RuntimeError("a worker died")

    monkeypatch.setattr(ray, "remote", Played())
    monkeypatch.setattr(ray, "get", lambda reference: None)
    monkeypatch.setattr(trainer, "build_trainer", lambda *given, **about: Failing())
    job = job_in(tmp_path, 1)
    reference: Any = "a reference"
    with pytest.raises(RuntimeError, match="a worker died"):
        data_parallel.train_on_workers(
            {"job": job},
            dataset=[reference],
            device="cpu",
            demand={"cpus": 1, "gpus": 0, "workers": 2},
        )
