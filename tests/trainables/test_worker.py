"""A worker of several, as far as it can be seen without the others."""

from pathlib import Path
from typing import Any

import pytest
import ray

from trainables import worker
from trainables.config import TrialConfig
from trainables.messages import Report, decode_reports
from trainables.request import TrialRequest


class Gate:
    """Takes reports, and lets nobody pass after the last of these."""

    def __init__(self, last: int) -> None:
        self.last, self.told = last, list[tuple[int, int]]()

    def __getattr__(self, method: str) -> Any:
        return type("Method", (), {"remote": staticmethod(getattr(self, f"do_{method}"))})

    def do_report(self, number: int, reports: str) -> None:
        self.told += [(number, report.epoch) for report in decode_reports(reports)]

    def do_passed(self, number: int) -> bool:
        return number < self.last


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_worker_alone_reports_and_all_stop_when_told(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def run(*given: Any, **about: Any) -> Any:
        for epoch in range(1, 6):
            trained.append(epoch)
            yield Report(epoch, {"val/accuracy": 0.5}, outcome="completed" if epoch == 5 else None)

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(
        "ray.get_runtime_context",
        lambda: type("Context", (), {"get_node_id": staticmethod(lambda: "node")}),
    )
    monkeypatch.setattr("ray.train.torch.get_device", lambda: "cpu")
    monkeypatch.setattr("trainables.training.process.prepare", lambda threads, gpus: None)
    monkeypatch.setattr("trainables.trial.run_trial", run)
    monkeypatch.setattr(
        "trainables.training.world.Distributed",
        lambda device: type("World", (), {"rank": rank, "size": 2}),
    )
    for last, epochs in ((3, [1, 2, 3]), (9, [1, 2, 3, 4, 5])):
        trained.clear()
        gate = Gate(last)
        worker.train_loop(
            {
                "config": TrialConfig().to_dict(),
                "dataset": None,
                "folder": str(tmp_path),
                "gate": gate,
                "request": TrialRequest(),
                "setup": worker.WorkerSetup(),
            }
        )
        assert trained == epochs
        assert gate.told == ([(epoch, epoch) for epoch in epochs] if rank == 0 else [])
