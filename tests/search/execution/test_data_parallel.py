"""A trial on several workers: what their team does, and that it trains one trial after another."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from search.execution.data_parallel import Team, Teams, TeamSetup
from search.execution.job import Job
from search.execution.tune import _decide
from search.journal.journal import FILE_NAME, read
from tests.conftest import Command
from tests.support.real import wait_for
from trainables import trainer
from trainables.checkpoints.heartbeat import last_beats
from trainables.config import TrialConfig
from trainables.messages import TrialRequest

SETUP = TeamSetup(["a reference"], "cpu", workers=2, cpus=1, gpus=0)  # type: ignore[list-item]


def job_of(trial: str, attempt: int = 1) -> Job:
    return Job(trial, TrialConfig().to_dict(), f"/s/trials/{trial}", TrialRequest(attempt=attempt))


class Handle:
    """Calls the methods of an object as those of an actor are called, in this event loop."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self.actor, name)
        return type("Method", (), {"remote": staticmethod(method)})


class PlayedTeam:
    """A team whose workers are played."""

    def __init__(self) -> None:
        self.first, self.is_closed, self.is_well = "", False, True

    async def start(self, setup: TeamSetup, job: Job) -> None:
        self.first = job.trial

    async def is_alive(self) -> bool:
        return self.is_well

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[PlayedTeam]:
    """The teams that have been started, in this order."""
    teams: list[PlayedTeam] = []

    class Options:
        def options(self, *, name: str, num_cpus: int) -> "Options":
            return self

        def remote(self) -> Handle:
            teams.append(PlayedTeam())
            return Handle(teams[-1])

    monkeypatch.setattr(ray, "remote", lambda actor_class: Options())
    monkeypatch.setattr(ray, "kill", lambda handle: None)
    return teams


def test_a_team_hands_out_one_trial_after_another() -> None:
    async def play() -> list[Any]:
        team, told = Team(), list[Any]()
        waiting = asyncio.create_task(team.next_report())
        worker = asyncio.create_task(team.next_job(0))
        await team.submit({"folder": "first"})
        told.append(await worker)
        await team.report(1, "one")
        await team.decide(1, True)
        assert await team.passed(1)
        await team.report(2, "two")
        await team.end_job()
        told += [await waiting, await team.next_report(), await team.next_report()]
        worker = asyncio.create_task(team.next_job(1))
        await team.submit({"folder": "second"})
        told.append(await worker)
        waiting = asyncio.create_task(team.next_report())
        await team.report(3, "three")
        told.append(await waiting)
        await team.decide(3, False)
        assert not await team.passed(3)
        await team.end_job()
        told.append(await team.next_report())
        worker, closing = asyncio.create_task(team.next_job(2)), asyncio.create_task(team.close())
        told.append(await worker)
        await team._end(None)
        await closing
        assert not await team.is_alive()
        return told

    assert asyncio.run(play()) == [
        {"folder": "first"},
        {"reports": "one", "number": 1},
        {"reports": "two", "number": 2},
        None,
        {"folder": "second"},
        {"reports": "three", "number": 3},
        None,
        None,
    ]


def test_workers_that_wait_for_a_decision_end_when_their_team_is_closed() -> None:
    """A search that is broken off decides no more."""

    async def play() -> None:
        team = Team()
        await team.submit({})
        await team.report(1, "one")
        waiting = asyncio.create_task(team.passed(1))
        closing = asyncio.create_task(team.close())
        assert not await waiting
        assert await team.next_job(1) is None
        await team._end(None)
        await closing

    asyncio.run(play())


def test_the_error_that_ended_the_workers_is_raised_where_the_trial_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing:
        def fit(self) -> None:
            raise RuntimeError("a worker died")

    built: list[Any] = []
    monkeypatch.setattr(
        trainer, "build_trainer", lambda dataset, **about: (built.append(dataset), Failing())[1]
    )
    monkeypatch.setattr(ray, "get_runtime_context", lambda: type("Own", (), {"current_actor": 0}))

    async def play() -> None:
        team = Team()
        await team.start(SETUP, job_of("t0001"))
        await team.submit({})
        with pytest.raises(RuntimeError, match="a worker died"):
            await team.next_report()
        assert not await team.is_alive()

    asyncio.run(play())
    assert built == ["a reference"], "all teams read the data that lie in the object store"


def test_a_team_trains_the_next_trial_and_no_more_teams_than_may_be_are_started(
    started: list[PlayedTeam],
) -> None:
    async def play() -> None:
        teams = Teams(SETUP, most=2)
        first, second = [await teams.take(job_of(trial)) for trial in ("t1", "t2")]
        assert first != second
        waiting = asyncio.create_task(teams.take(job_of("t3")))
        await asyncio.sleep(0)
        assert not waiting.done()
        await teams.give_back("t2", is_sound=True)
        assert await waiting == second
        await teams.give_back("t1", is_sound=True)
        await teams.give_back("t1", is_sound=False)  # it has none any more
        assert await teams.take(job_of("t4")) == first
        await teams.close()

    asyncio.run(play())
    assert [team.first for team in started] == ["t1", "t2"]
    assert all(team.is_closed for team in started)


def test_a_team_that_failed_or_died_is_replaced(started: list[PlayedTeam]) -> None:
    async def play() -> None:
        teams = Teams(SETUP, most=1)
        names = [await teams.take(job_of("t1"))]
        await teams.give_back("t1", is_sound=False)
        names.append(await teams.take(job_of("t1", attempt=2)))
        names.append(await teams.take(job_of("t1", attempt=3)))  # nobody has given it back
        await teams.give_back("t1", is_sound=True)
        started[-1].is_well = False
        names.append(await teams.take(job_of("t2")))
        assert len(set(names)) == 4

    asyncio.run(play())
    assert [team.is_closed for team in started] == [True, True, True, False]


def test_teams_end_when_there_is_room_for_fewer(started: list[PlayedTeam]) -> None:
    async def play() -> None:
        teams = Teams(SETUP, most=3)
        for trial in ("t1", "t2", "t3"):
            await teams.take(job_of(trial))
        await teams.give_back("t1", is_sound=True)
        await teams.keep(2)
        assert [team.is_closed for team in started] == [True, False, False]
        await teams.keep(1)  # both train
        await teams.give_back("t2", is_sound=True)
        assert [team.is_closed for team in started] == [True, True, False]

    asyncio.run(play())


WORDS = [
    *("--space", "smoke", "--algorithm", "random", "--scheduler", "fifo", "--name", "team"),
    *("--workers", "2", "--cpus-per-trial", "0.5", "--concurrency", "1"),
    *("--set", "model.width=4"),
]


@pytest.mark.usefixtures("database")
@pytest.mark.slow(60)
def test_the_workers_train_one_trial_after_another(tmp_path: Path, command: Command) -> None:
    done = command("search.run", *WORDS, "--set", "epochs=1", "--trials", 3)
    assert done.returncode == 0, done.stderr
    home = tmp_path / "searches" / "team"
    beats = last_beats([home / "trials" / f"t000{number}" for number in (1, 2, 3)])
    assert None not in beats
    assert len({beat.pid for beat in beats if beat is not None}) == 1
    events = read(home / FILE_NAME)
    assert [event.kind for event in events].count("epoch") == 3


@pytest.mark.usefixtures("database")
@pytest.mark.slow(90)
@pytest.mark.long
def test_a_trial_whose_worker_dies_goes_on_in_another_team(tmp_path: Path) -> None:
    home = tmp_path / "searches" / "team"

    def epochs(trial: str) -> list[int]:
        if not (home / FILE_NAME).exists():
            return []
        events = [event.data for event in read(home / FILE_NAME) if event.kind == "epoch"]
        return [data.epoch for data in events if data.trial == trial]  # type: ignore[attr-defined]

    def pid_of(trial: str) -> int:
        (beat,) = last_beats([home / "trials" / trial])
        return 0 if beat is None else beat.pid

    words = [*WORDS, "--set", "epochs=40", "--trials", "3", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "search.run", *words],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        wait_for(lambda: len(epochs("t0002")) > 2, running)
        first = pid_of("t0002")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(epochs("t0003")) > 0, running)
        later = pid_of("t0003")
        told = running.communicate()[0]
    assert running.returncode == 0, told
    assert first != later
    events = read(home / FILE_NAME)
    assert {event.trial: event.data.kind for event in events if event.kind == "retried"} == {  # type: ignore[attr-defined]
        "t0002": "lost"
    }
    for trial in ("t0001", "t0002", "t0003"):
        assert epochs(trial) == list(range(1, 41)), "none is missing, and none is told twice"
    assert "3 completed" in told or '"completed": 3' in told


def test_to_decide_for_a_team_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[str] = []

    def gone(name: str) -> Any:
        sought.append(name)
        raise ValueError(f"Failed to look up actor with name '{name}'")

    monkeypatch.setattr(ray, "get_actor", gone)
    _decide("team 1", 1, True)
    assert sought == ["team 1"]
