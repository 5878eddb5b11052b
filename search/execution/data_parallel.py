"""Data-parallel training with Ray Train: a trial on several workers.

The workers of a trial form a team, which trains one trial after another: to start its processes
takes longer than many a training. After each epoch, the workers wait until the search has decided
whether the trial continues.
"""

import asyncio
import os
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import ray

from search.execution.job import JOB, Handed, Job
from search.execution.worker import TuneResult
from trainables.values import Json

LOOK_S = 0.1
"""Seconds between two checks by Ray Train whether the workers have finished. With its default of 2
seconds, each team would finish up to 2 seconds later.
"""
ALIVE_S, END_S = 5.0, 20.0
"""The maximum seconds for a team to answer that it is alive, and to end."""


@dataclass(frozen=True)
class TeamSetup:
    """The facts that all teams of a search have in common."""

    dataset: "list[ray.ObjectRef[Any]]"
    """A list with one reference to the data; a reference outside of a list would be resolved."""
    device: str
    """`cpu` or `cuda`."""
    workers: int
    cpus: float
    gpus: float
    """The CPUs and the GPUs of each worker."""


class Team:
    """An actor between the workers of a team and the search.

    It hands out trials to the workers, and forwards the reports of the first worker. After each
    report, all workers wait until the search has decided whether the trial continues.

    If the decision is to stop, the workers wait for the next trial. If they were killed instead, a
    cleanup process of Ray would have to remove their placement group. Ray's process cannot find the
    group if two clusters share a machine.

    Ray's own way to forward reports (`TuneReportCallback`) deadlocks if training ends before its
    last report has been fetched: one thread then waits for space in a queue that only the same
    thread empties.
    """

    def __init__(self) -> None:
        self._reports: deque[TuneResult] = deque()
        self._decided: dict[int, bool] = {}
        self._jobs: list[Json] = []
        self._is_over = self._is_closing = self._has_ended = False
        self._error: BaseException | None = None
        self._news = asyncio.Condition()

    async def start(self, setup: TeamSetup, job: Job) -> None:
        """Start the workers, whose first trial is this job."""
        loop, own = asyncio.get_running_loop(), ray.get_runtime_context().current_actor

        def end(error: BaseException | None) -> None:
            asyncio.run_coroutine_threadsafe(self._end(error), loop)

        Thread(target=_fit, args=(setup, job, own, end), daemon=True).start()

    async def _end(self, error: BaseException | None) -> None:
        async with self._news:
            self._error, self._has_ended = error, True
            self._news.notify_all()

    async def is_alive(self) -> bool:
        """True until the workers have ended."""
        return not self._has_ended

    async def submit(self, job: Json) -> None:
        """Give the workers their next trial."""
        async with self._news:
            self._jobs.append(job)
            self._is_over = False
            self._news.notify_all()

    async def next_job(self, number: int) -> Json | None:
        """Wait for the trial after this number of trials; None if there will be no more."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._jobs) > number or self._is_closing)
            return self._jobs[number] if len(self._jobs) > number else None

    async def end_job(self) -> None:
        """Declare that no further report on the present trial follows."""
        async with self._news:
            self._is_over = True
            self._news.notify_all()

    async def report(self, number: int, reports: str) -> None:
        """Queue a report for the search.

        Args:
            number: the number of the report, from 1 for the first one of the team.
            reports: a list with the report, encoded by `encode_reports`.
        """
        async with self._news:
            self._reports.append({"reports": reports, "number": number})
            self._news.notify_all()

    async def next_report(self) -> TuneResult | None:
        """Wait for the next report on the present trial and return it; None after the last one.

        Raises the error by which the workers have ended.
        """
        async with self._news:
            await self._news.wait_for(lambda: self._reports or self._is_over or self._has_ended)
            if self._reports:
                return self._reports.popleft()
            if self._error is not None:
                raise self._error
            return None

    async def decide(self, number: int, go_on: bool) -> None:
        """Release the workers that wait after a report.

        Args:
            number: the number of the report.
            go_on: True if they should continue, False if they should stop.
        """
        async with self._news:
            self._decided[number] = go_on
            self._news.notify_all()

    async def passed(self, number: int) -> bool:
        """Wait for the decision after a report; return True if the workers should continue."""
        async with self._news:
            await self._news.wait_for(lambda: number in self._decided or self._is_closing)
            return self._decided.get(number, False)

    async def close(self) -> None:
        """Let the workers end after their epoch, and wait until they have ended."""
        async with self._news:
            self._is_closing = True
            self._news.notify_all()
            await self._news.wait_for(lambda: self._has_ended)


def _fit(setup: TeamSetup, job: Job, team: Any, end: Any) -> None:
    """Run the workers of a team until it is closed, and pass on the error that ended them."""
    try:
        # Ray Train reads this variable in this process.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(LOOK_S))
        from ray.train import ScalingConfig

        from trainables.trainer import WorkerSetup, build_trainer

        is_cuda = setup.device == "cuda"
        each = {"CPU": setup.cpus} | ({"GPU": setup.gpus} if is_cuda else {})
        with tempfile.TemporaryDirectory(prefix="train-") as own:
            build_trainer(
                setup.dataset[0],
                name=f"team-{uuid4().hex[:12]}",
                scaling=ScalingConfig(
                    num_workers=setup.workers, use_gpu=is_cuda, resources_per_worker=each
                ),
                team=team,
                setup=WorkerSetup(
                    threads=max(1, int(setup.cpus)),
                    gpus=setup.gpus if is_cuda else 0,
                    download=job.download,
                ),
                folder=own
                if job.request.mirror is not None
                else str(Path(job.folder).parent.parent / "train"),
            ).fit()
    except BaseException as error:  # noqa: BLE001 - `Team.next_report` raises it
        end(error)
    else:
        end(None)


class Teams:
    """An actor with the teams of a search: those that train, and those that wait for a trial."""

    def __init__(self, setup: TeamSetup, most: int) -> None:
        """Start without teams.

        Args:
            setup: the facts that all teams have in common.
            most: the number of teams that may exist at once.
        """
        self._setup, self._most = setup, most
        self._teams: dict[str, Any] = {}
        """The teams by name; Ray ends an actor when no handle to it is left."""
        self._idle: list[str] = []
        self._busy: dict[str, str] = {}
        """The team of each trial that is being trained."""
        self._news = asyncio.Condition()

    async def take(self, job: Job) -> str:
        """Wait until a team has nothing to do or there is room for another one; return its name.

        A team of an earlier attempt of this trial ends.
        """
        await self.give_back(job.trial, is_sound=False)
        while True:
            async with self._news:
                await self._news.wait_for(lambda: self._idle or len(self._busy) < self._most)
                is_new = not self._idle
                name = f"team {uuid4().hex}" if is_new else self._idle.pop()
                self._busy[job.trial] = name
            if is_new:
                team: Any = ray.remote(Team).options(name=name, num_cpus=0).remote()
                self._teams[name] = team
                await team.start.remote(self._setup, job)
                return name
            if await _answers(self._teams[name]):
                return name
            await self.give_back(job.trial, is_sound=False)

    async def give_back(self, trial: str, *, is_sound: bool) -> None:
        """Take back the team of a trial, if it has one; a team that is not sound ends."""
        async with self._news:
            name = self._busy.pop(trial, "")
            is_needed = len(self._idle) + len(self._busy) < self._most
            if name and is_sound and is_needed:
                self._idle.append(name)
            self._news.notify_all()
        if name and not (is_sound and is_needed):
            await _end(self._teams.pop(name))

    async def keep(self, most: int) -> None:
        """Change the number of teams that may exist at once; idle ones beyond it end."""
        async with self._news:
            self._most = most
            extra = max(0, len(self._idle) + len(self._busy) - most)
            ending, self._idle = self._idle[:extra], self._idle[extra:]
            self._news.notify_all()
        await asyncio.gather(*(_end(self._teams.pop(name)) for name in ending))

    async def close(self) -> None:
        """End all teams."""
        async with self._news:
            teams = list(self._teams.values())
            self._teams, self._idle, self._busy = {}, [], {}
        await asyncio.gather(*map(_end, teams))


async def _answers(team: Any) -> bool:
    """True if a team is alive and its workers are."""
    try:
        return bool(await asyncio.wait_for(team.is_alive.remote(), ALIVE_S))
    except (TimeoutError, ray.exceptions.RayError):
        return False


async def _end(team: Any) -> None:
    """Let the workers of a team end, or kill it if they do not."""
    with suppress(TimeoutError, ray.exceptions.RayError):
        await asyncio.wait_for(team.close.remote(), END_S)
    ray.kill(team)


def train_on_workers(config: Handed, *, teams: str) -> None:
    """Train one trial on several workers, and forward its reports to Tune.

    Args:
        config: the trial's config in Tune, with its job.
        teams: the name of the actor with the search's teams.
    """
    from ray import tune

    job: Job = config[JOB]
    all_teams: Any = ray.get_actor(teams)
    name: str = ray.get(all_teams.take.remote(job))
    is_sound = False
    try:
        team: Any = ray.get_actor(name)
        plain = {"config": job.config, "folder": job.folder, "request": job.request}
        ray.get(team.submit.remote(plain))
        while (report := ray.get(team.next_report.remote())) is not None:
            tune.report({**report, "team": name})
        is_sound = True
    finally:
        # Before the next trial asks for a team: without this one there may be no room for it.
        with suppress(ray.exceptions.RayError):
            ray.get(all_teams.give_back.remote(job.trial, is_sound=is_sound))
