"""The actors that train: one trial after another, or several fused into one network."""

import os
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import ray

from cluster.spot import draining_nodes
from search.execution.job import Job
from search.execution.process import BEYOND_REPAIR, Process, at_once, in_use
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.messages import Report, encode_reports
from trainables.values import Json

STAY_S, LEFT_S, LOOK_S = 300, 3600, 5
"""Seconds after which an unused worker on a cluster ends: `STAY_S` if no search has claimed it, and
`LEFT_S` otherwise, since that search may have been killed. A worker checks this every `LOOK_S`
seconds.
"""

TuneResult = dict[str, Any]
"""A result in the form that Tune's class API expects, with encoded reports under `reports`."""


class NodeLeaves(RuntimeError):
    """The node is being drained, so its trials should continue on other nodes."""


def _refuse_if_node_leaves() -> None:
    """Check that this node is not being drained.

    This is called between epochs, when the last checkpoint is complete.

    Raises:
        NodeLeaves: this node is being drained.
    """
    if ray.get_runtime_context().get_node_id() in draining_nodes():
        raise NodeLeaves("its machine is about to be reclaimed")


def _end_beyond_repair(error: BaseException) -> None:
    """End this process if it must not be reused after this error, so that it is replaced."""
    if type(error).__name__ in BEYOND_REPAIR:
        os._exit(1)


class RayProcess(Process):
    """A `Process` that is an actor of Ray, with the methods that Tune and the planner call."""

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
        """Choose the fastest way to train trials (`TrainingPlan`), by measurements in this process.

        Args:
            configs: sampled configurations; the first is measured.
            dataset: the data.
            trials: the maximal number of trials to fuse.
            processes: maps numbers of processes on one GPU to their total images per second.

        Returns:
            The fields of the plan by name.
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
        """Measure the images per second of a training in this process.

        Other processes may train on the same GPU meanwhile.
        """
        from trainables.fusion.planner import rate

        return rate(TrialConfig.from_dict(config), dataset, self._device)

    def get_current_ip_pid(self, place: str = "") -> tuple[str, int]:
        """Return the IP address of this node and the pid of this process; called by Tune."""
        return ray.util.get_node_ip_address(), os.getpid()

    def get_auto_filled_metrics(
        self, place: str = "", debug_metrics_only: bool = True
    ) -> TuneResult:
        """Return a result without reports; called by Tune for a trial that has not reported yet."""
        return {"done": False}


class TrialWorker(RayProcess):
    """An actor that trains one trial after another, without state that trials share.

    It has the methods that Tune calls on a `Trainable`, but does not inherit from that class, since
    importing Tune would take a second in each process.
    """

    def __init__(self, *, device: str, threads: int, gpus: float = 0, moves: bool = False) -> None:
        """Prepare the process.

        Args:
            device: `cpu` or `cuda`.
            threads: the number of torch's threads.
            gpus: the number of GPUs that the process holds.
            moves: True if a trial should fail with `NodeLeaves` when its node is being drained.
        """
        super().__init__(device=device, threads=threads, gpus=gpus)
        self._moves = moves
        self._job: Job | None = None
        self._reports: Iterator[Report] | None = None
        self._broken = False
        self._claim = ""
        self._guard: Thread | None = None

    def reset(self, job: Job) -> bool:
        """Replace the trial of this worker by the one in `job`; return True for success."""
        self._forget()
        self._job, self._reports = job, None
        return True

    @in_use
    def train(self) -> TuneResult:
        """Continue the trial until its next report, usually after one epoch.

        After an error, `stop` ends the process, so that the next trial starts in a clean one.

        Raises:
            NodeLeaves: the node is being drained, so the trial must continue on another one.
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
        """Drop the trial; end the process if its last call of `train` raised an error."""
        self._forget()
        if self._broken:
            ray.actor.exit_actor()
        self._job, self._reports = None, None

    def _forget(self) -> None:
        if self._job is not None:
            self._job.request.remove_local_folder(self._job.folder)

    def claim(self, claim: str) -> bool:
        """Reserve the worker for a search; return False if another search has reserved it.

        The first claim also starts the thread that ends the process when it is unused for long.

        Args:
            claim: an id that is unique for each search.
        """
        if self._claim:
            return False
        self._claim, self._used = claim, time.monotonic()
        if self._guard is None:
            self._guard = Thread(target=self._leave_when_unused, daemon=True)
            self._guard.start()
        return True

    def release(self, claim: str = "") -> None:
        """Release the worker and its data, so that another search can claim it.

        Nothing happens if the worker is reserved under another claim; an empty `claim` matches any.
        """
        if claim in ("", self._claim):
            self._forget()
            self._claim, self._job, self._reports = "", None, None
            self._used = time.monotonic()
            self._let_go()

    def _leave_when_unused(self) -> None:
        """Wait until this process has been unused for too long, then end it.

        This is necessary because a detached actor outlives its search, and a search that was killed
        cannot release it.
        """
        while time.monotonic() - self._used < (LEFT_S if self._claim else STAY_S):
            time.sleep(LOOK_S)
        os._exit(0)


class FusedWorker(RayProcess):
    """An actor that trains several trials at once; trials of the same shape are fused.

    Fused trials are trained as one network. Each trial occupies a place, which is identified by a
    name, and has its own thread.
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
        """Replace the trial at this place by the one in `job`; return True for success.

        Raises:
            NodeLeaves: the node is being drained, and the worker was created with `moves`.
        """
        if self._moves:
            _refuse_if_node_leaves()
        self.stop(place)
        self._jobs[place] = job
        self._together.join(job.trial)
        return True

    def train(self, place: str, is_begun: bool = True) -> TuneResult:
        """Continue the trial at this place until its next report.

        Most errors stop only this trial. After an error in `BEYOND_REPAIR`, the process ends, and
        all its trials are retried elsewhere.

        Args:
            place: the name of the place.
            is_begun: the answer of `reset`. It is not used: as an argument, it makes Ray wait for
                `reset` before it calls this method.
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
        """Drop the trial at this place, if there is one."""
        if (job := self._jobs.pop(place, None)) is not None:
            self._together.leave(job.trial)
            job.request.remove_local_folder(job.folder)
        self._reports.pop(place, None)
