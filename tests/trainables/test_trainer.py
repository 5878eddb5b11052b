"""The workers of a team: they find each other, and train one trial after another."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from trainables import trainer
from trainables.config import TrialConfig
from trainables.messages import Report, TrialRequest, decode_reports
from trainables.trainer import choose_interface


class Team:
    """Hands out jobs, takes reports, and lets nobody pass after the last of these."""

    def __init__(self, jobs: list[dict[str, Any]], last: int) -> None:
        self.jobs, self.last, self.told = jobs, last, list[object]()

    def __getattr__(self, method: str) -> Any:
        return type("Method", (), {"remote": staticmethod(getattr(self, f"do_{method}"))})

    def do_next_job(self, number: int) -> dict[str, Any] | None:
        return self.jobs[number] if number < len(self.jobs) else None

    def do_report(self, number: int, reports: str) -> None:
        self.told += [(number, report.epoch) for report in decode_reports(reports)]

    def do_passed(self, number: int) -> bool:
        return number < self.last

    def do_end_job(self) -> None:
        self.told.append("over")


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_worker_alone_reports_and_all_stop_when_told(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, int]] = []

    def run(config: Any, dataset: Any, folder: Path, request: Any, **about: Any) -> Any:
        for epoch in range(1, 4):
            trained.append((folder.name, epoch))
            yield Report(epoch, {"val/accuracy": 0.5}, outcome="completed" if epoch == 3 else None)

    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(
        "ray.get_runtime_context",
        lambda: type("Context", (), {"get_node_id": staticmethod(lambda: "node")}),
    )
    monkeypatch.setattr("trainables.trainer.get_device", lambda: "cpu")
    monkeypatch.setattr("trainables.training.process.prepare", lambda threads, gpus: None)
    monkeypatch.setattr("trainables.trial.run_trial", run)
    monkeypatch.setattr(
        "trainables.training.world.Distributed",
        lambda device: type("World", (), {"rank": rank, "size": 2, "device": device}),
    )
    jobs = [
        {
            "config": TrialConfig().to_dict(),
            "folder": str(tmp_path / name),
            "request": TrialRequest(),
        }
        for name in ("a", "b")
    ]
    team = Team(jobs, last=5)
    trainer.train_loop({"dataset": None, "team": team, "setup": trainer.WorkerSetup()})
    assert trained == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    reports = [(1, 1), (2, 2), (3, 3), "over", (4, 1), (5, 2), "over"]
    assert team.told == (reports if rank == 0 else [])


def test_the_interface_is_that_of_the_address_unless_the_user_chose_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    choose_interface()
    loopback = os.environ["GLOO_SOCKET_IFNAME"]
    assert "127.0.0.1" in [each.address for each in psutil.net_if_addrs()[loopback]]
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    # An address for documentation, which no machine has.
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.1")
    choose_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
