"""Processes of Ray's that train: one trial after another, or several as one network."""

import os
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import ray

from cluster.spot import draining_nodes
from search.execution.job import Job
from search.execution.process import BEYOND_REPAIR, Process, at_once, in_use
from trainables.checkpoints.remote import forget
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.messages import Report, encode_reports
from trainables.values import Json

STAY_S, LEFT_S, LOOK_S = 300, 3600, 5
"""Seconds that a worker on a cluster waits for another search, and for its own, which may have been
killed; and seconds between two looks at that.
"""

TuneResult = dict[str, Any]
"""A trial's result to Tune: its reports."""


class NodeLeaves(RuntimeError):
    """The machine is about to be taken away; its trials are to go on elsewhere."""


def _refuse_if_node_leaves() -> None:
    """Stop between two epochs, with all so far saved, if this node is drained.

    Raises:
        NodeLeaves: this node is drained.
    """
    if ray.get_runtime_context().get_node_id() in draining_nodes():
        raise NodeLeaves("its machine is about to be taken away")


def _end_beyond_repair(error: BaseException) -> None:
    """End this process if it is fit for nothing after this error: another takes its place."""
    if type(error).__name__ in BEYOND_REPAIR:
        os._exit(1)


def _forget(job: Job) -> None:
    """Keep nothing on this machine of a trial that is kept elsewhere."""
    forget(job.folder, job.request.mirror, job.request.attempt)


class RayProcess(Process):
    """A process that trains and that Ray has started."""

    @property
    def _node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def _hear_error(self, error: BaseException) -> None:
        _end_beyond_repair(error)

    def plan(
        self,
        configs: list[Json],
        dataset: Dataset,
        *,
        trials: int,
        processes: dict[int, float],
    ) -> Json:
        """Return the `TrainingPlan` for trials like these, so many at once, as plain values.

        `processes` is what `planner.plan` takes under this name.
        """
        from trainables.fusion.planner import plan
        from trainables.fusion.shapes import same_shape_fraction
        from trainables.fusion.stack import shape_of

        trial_configs = [TrialConfig.from_dict(config) for config in configs]
        share = same_shape_fraction([shape_of(config) for config in trial_configs])
        return dict(
            vars(
                plan(
                    trial_configs[0],
                    dataset,
                    device=self._device,
                    trials=trials,
                    share=share,
                    processes=processes,
                )
            )
        )

    def rate(self, config: Json, dataset: Dataset) -> float:
        """Return the images a second of a training here, beside whatever else runs."""
        from trainables.fusion.planner import rate

        return rate(TrialConfig.from_dict(config), dataset, self._device)

    def get_current_ip_pid(self, place: str = "") -> tuple[str, int]:
        """Return the address of this process's node, and its pid."""
        return ray.util.get_node_ip_address(), os.getpid()

    def get_auto_filled_metrics(
        self, place: str = "", debug_metrics_only: bool = True
    ) -> TuneResult:
        """The result of a trial that has not reported yet, as Tune asks for it."""
        return {"done": False}


class TrialWorker(RayProcess):
    """Trains one trial after another; nothing of one reaches the next.

    It has the methods that Tune calls on a trainable of its class API, but does not inherit from
    that class: to import Tune would cost each process a second.
    """

    def __init__(self, *, device: str, threads: int, gpus: float = 0, moves: bool = False) -> None:
        """Prepare the worker; with `moves`, trials are given back when the node is drained."""
        super().__init__(device=device, threads=threads, gpus=gpus)
        self._moves = moves
        self._job: Job | None = None
        self._reports: Iterator[Report] | None = None
        self._broken = False
        self._claim = ""
        self._guard: Thread | None = None

    def reset(self, job: Job) -> bool:
        """Take the next trial."""
        self._forget()
        self._job, self._reports = job, None
        return True

    @in_use
    def train(self) -> TuneResult:
        """Go on to the next reports, usually one, an epoch further.

        An error of the trial ends the process with it: nothing of a broken trial reaches the next.
        """
        self._broken = True
        if self._moves:
            _refuse_if_node_leaves()
        assert self._job is not None
        self._reports = self._reports or self.begin(self._job)
        reports = at_once(self._reports)
        self._broken = False
        return {"reports": encode_reports(reports), "done": False}

    def stop(self) -> None:
        """Forget the trial."""
        self._forget()
        if self._broken:
            ray.actor.exit_actor()
        self._job, self._reports = None, None

    def _forget(self) -> None:
        """Keep nothing on this machine of a trial that is kept elsewhere."""
        if self._job is not None:
            _forget(self._job)

    def claim(self, claim: str) -> bool:
        """Belong to the search that makes this claim, and return True, unless another one does."""
        if self._claim:
            return False
        self._claim, self._used = claim, time.monotonic()
        if self._guard is None:
            self._guard = Thread(target=self._leave_when_unused, daemon=True)
            self._guard.start()
        return True

    def release(self, claim: str = "") -> None:
        """Belong to nobody, if the claim is this one; an empty claim always releases the worker."""
        if claim in ("", self._claim):
            self._forget()
            self._claim, self._job, self._reports = "", None, None
            self._used = time.monotonic()
            self._let_go()

    def _leave_when_unused(self) -> None:
        """End this process when it has been unused for long.

        It outlives the search that started it, and the search that should end it may have been
        killed.
        """
        while time.monotonic() - self._used < (LEFT_S if self._claim else STAY_S):
            time.sleep(LOOK_S)
        os._exit(0)


class FusedWorker(RayProcess):
    """Trains several trials at once, those of one shape as one network.

    Each trial has a place here, and a thread while it trains.
    """

    def __init__(
        self, *, device: str, threads: int, dataset: Dataset, gpus: float = 0, moves: bool = False
    ) -> None:
        from trainables.fusion.rounds import FusionRounds

        super().__init__(device=device, threads=threads, gpus=gpus)
        self._moves = moves
        self._together, self._dataset = FusionRounds(), dataset
        self._jobs: dict[str, Job] = {}
        self._reports: dict[str, Iterator[Report]] = {}

    def reset(self, place: str, job: Job) -> bool:
        """Take the next trial at this place; a worker whose node leaves takes none."""
        if self._moves:
            _refuse_if_node_leaves()
        self.stop(place)
        self._jobs[place] = job
        self._together.join(job.trial)
        return True

    def train(self, place: str, is_begun: bool = True) -> TuneResult:
        """Go on to the next reports of the trial at this place.

        `is_begun` is the answer of `reset`, so that Ray calls this only after the worker has the
        trial. An error of the trial ends that trial alone, unless it leaves the process unfit
        for all: then the process ends, and all its trials are tried again elsewhere.
        """
        job = self._jobs[place]
        if place not in self._reports:
            self._reports[place] = self.begin(job, self._together)
        try:
            if self._moves:
                _refuse_if_node_leaves()
            reports = at_once(self._reports[place])
        except BaseException as error:
            _end_beyond_repair(error)
            self.stop(place)
            raise
        if reports[-1].outcome is not None:
            self._together.leave(job.trial)
        return {"reports": encode_reports(reports), "done": False, "note": self._together.note()}

    def stop(self, place: str) -> None:
        """Forget the trial at this place."""
        if (job := self._jobs.pop(place, None)) is not None:
            self._together.leave(job.trial)
            _forget(job)
        self._reports.pop(place, None)
