"""The bridge between a search and a training: the code that runs in the workers.

A job (`search.execution.job`) crosses over; a report crosses back as JSON, so that Tune neither
flattens nor judges it.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import wraps
from threading import Thread
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import ray

from cluster.spot import leaving
from search.execution.job import Job, checkpoint_in, keep, mirror_of, request_of
from search.preflight.shadows import put_libraries_first
from trainables.checkpoints.remote import folder_here, forget
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from trainables.messages import Report

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

STAY_S, LEFT_S, LOOK_S = 300, 3600, 5
"""Seconds that a worker on a cluster waits for another search, and for its own, which may have been
killed; and seconds between two looks at that.
"""

MATRIX_CLASSES = 100
"""With more classes than these, a confusion matrix is too large for the journal."""

BEYOND_REPAIR = ("AcceleratorError", "PartialUpdateError")
"""Errors, by name, after which nothing in a process can be relied on: of a GPU's context, and of
fused weights that were only partly handed back.
"""


def without_pictures(found: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation without what is only there to be looked at.

    That is the images, and the reliability diagram's bins.
    """
    return {name: value for name, value in found.items() if name not in ("wrong", "bins")}


def without_curves(found: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation as the journal takes it for each trial.

    Of each curve only the area is kept; pictures and a confusion matrix of very many classes are
    left out.
    """
    large = {"confusion_matrix"} if len(found["classes"]) > MATRIX_CLASSES else set()
    kept = {
        name: value
        for name, value in without_pictures(found).items()
        if name not in {"roc", *large}
    }
    return {**kept, "auc": {name: curve["auc"] for name, curve in found["roc"].items()}}


class NodeLeaves(RuntimeError):
    """The machine is about to be taken away; its trials are to go on elsewhere."""


def _refuse_if_node_leaves() -> None:
    """Stop between two epochs, with all so far saved, if this node is drained.

    Raises:
        NodeLeaves: this node is drained.
    """
    if ray.get_runtime_context().get_node_id() in leaving():
        raise NodeLeaves("its machine is about to be taken away")


def _end_beyond_repair(error: BaseException) -> None:
    """End this process if it is fit for nothing after this error: another takes its place."""
    if type(error).__name__ in BEYOND_REPAIR:
        os._exit(1)


def _in_use(
    method: "Callable[Concatenate[Any, Given], Answer]",
) -> "Callable[Concatenate[Any, Given], Answer]":
    """Count the process as in use while it runs this method, however long that takes."""

    @wraps(method)
    def wrapped(self: Any, /, *given: Given.args, **named: Given.kwargs) -> Answer:
        self._used = math.inf
        try:
            return method(self, *given, **named)
        finally:
            self._used = time.monotonic()

    return wrapped


class Process:
    """A process that trains: torch is imported and the data mapped once."""

    def __init__(self, *, device: str, threads: int, gpus: float = 0) -> None:
        """Prepare the process; `gpus` is what it holds, and a part of a GPU is not exceeded."""
        put_libraries_first()
        import trainables.training.process
        import trainables.trial

        trainables.training.process.prepare(threads, gpus if device == "cuda" else 0)
        self._process, self._run, self._device = (
            trainables.training.process,
            trainables.trial,
            device,
        )
        self._dataset: Dataset | None = None
        self._used = time.monotonic()

    def _kept(self, dataset: Dataset) -> Dataset:
        """Return the data that the process trains on already, or else take these from now on.

        What was computed from them, or lies on a GPU, serves all trials. All calls of a search
        bring the same data, but each a copy of its own.
        """
        if self._dataset is None:
            self._dataset = dataset
        return self._dataset

    @_in_use
    def damage(self, job: Job, epoch: int) -> str:
        """Return what is wrong with one trial's checkpoint; empty if it is whole."""
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.evaluate import check

        try:
            with checkpoint_in(job, epoch) as path:
                check(path)
        except CheckpointError as error:
            return str(error)
        return ""

    @_in_use
    def evaluate(self, job: Job, dataset: Dataset, epoch: int) -> dict[str, Any]:
        """Open the test part for one trial's checkpoint.

        `test` is the evaluation without its pictures, which are in the trial's folder; or `damaged`
        says what is wrong with the checkpoint.
        """
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.evaluate import evaluate

        if dataset.test is None:
            raise ValueError("the data set's test part is sealed")
        try:
            with checkpoint_in(job, epoch) as path:
                found = evaluate(
                    TrialConfig.from_dict(job["config"]),
                    dataset,
                    dataset.test,
                    path,
                    device=self._device,
                )
        except CheckpointError as error:
            return {"damaged": str(error)}
        keep(job, "test.json", found)
        return {"test": without_pictures(found)}

    @_in_use
    def validate(self, job: Job, dataset: Dataset, epoch: int) -> dict[str, Any]:
        """Evaluate one trial's checkpoint on the validation part.

        `val` is the evaluation without its curves and pictures; or `damaged` says what is wrong
        with the checkpoint. The evaluation with both is in the trial's folder, for a person; those
        of the best trials reach MLflow with their pictures (`evidence.draw`).
        """
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.evaluate import evaluate

        dataset = self._kept(dataset)
        try:
            with checkpoint_in(job, epoch) as path:
                found = evaluate(
                    TrialConfig.from_dict(job["config"]),
                    dataset,
                    dataset.val,
                    path,
                    device=self._device,
                )
        except CheckpointError as error:
            return {"damaged": str(error)}
        except Exception as error:
            _end_beyond_repair(error)
            raise
        keep(job, "val.json", found)
        return {"val": without_curves(found)}

    @_in_use
    def get_ready(self) -> dict[str, Any]:
        """Import what an evaluation needs, while nothing is timed.

        The `remembered` trials are those whose evaluation takes next to no time here.
        """
        import trainables.checkpoints.remembered
        import trainables.evaluation.cost

        return {"remembered": trainables.checkpoints.remembered.MEMORY.trials}

    @_in_use
    def cost(self, job: Job, dataset: Dataset, epoch: int) -> dict[str, Any]:
        """Measure what one trial's checkpoint costs to use, here and with nothing else running.

        The result is under `cost`; or `damaged` says what is wrong with the checkpoint.
        """
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.cost import cost

        try:
            with checkpoint_in(job, epoch) as path:
                return {
                    "cost": cost(
                        TrialConfig.from_dict(job["config"]),
                        self._kept(dataset),
                        path,
                        device=self._device,
                    )
                }
        except CheckpointError as error:
            return {"damaged": str(error)}
        except Exception as error:
            _end_beyond_repair(error)
            raise

    def plan(
        self,
        configs: list[dict[str, Any]],
        dataset: Dataset,
        *,
        trials: int,
        processes: dict[int, float],
    ) -> dict[str, Any]:
        """Return the `Plan` for trials like these, so many at once, as plain values.

        `processes` is what `planner.plan` takes under this name.
        """
        from trainables.fusion.planner import plan
        from trainables.fusion.shapes import same_shape_fraction
        from trainables.fusion.stack import shape_of

        made = [TrialConfig.from_dict(config) for config in configs]
        share = same_shape_fraction([shape_of(config) for config in made])
        return dict(
            vars(
                plan(
                    made[0],
                    dataset,
                    device=self._device,
                    trials=trials,
                    share=share,
                    processes=processes,
                )
            )
        )

    def rate(self, config: dict[str, Any], dataset: Dataset) -> float:
        """Return the images a second of a training here, beside whatever else runs."""
        from trainables.fusion.planner import rate

        return rate(TrialConfig.from_dict(config), dataset, self._device)

    def get_current_ip_pid(self, place: str = "") -> tuple[str, int]:
        """Return the address of this process's node, and its pid."""
        return ray.util.get_node_ip_address(), os.getpid()

    def get_auto_filled_metrics(
        self, place: str = "", debug_metrics_only: bool = True
    ) -> dict[str, Any]:
        """Return what Tune knows of a trial that has not reported yet."""
        return {"done": False}


class TrialWorker(Process):
    """Trains one trial after another; nothing of one reaches the next.

    It has the methods that Tune calls on a trainable of its class API, but does not inherit from
    that class: to import Tune would cost each process a second.
    """

    def __init__(self, *, device: str, threads: int, gpus: float = 0, moves: bool = False) -> None:
        """Prepare the worker; with `moves`, trials are given back when the node is drained."""
        super().__init__(device=device, threads=threads, gpus=gpus)
        self._moves = moves
        self._job: Job = {}
        self._reports: Iterator[Report] | None = None
        self._broken = False
        self._claim = ""
        self._guard: Thread | None = None

    def open(self, dataset: Dataset) -> None:
        """Train on this data set, which lies in the memory that all processes of the node share."""
        self._dataset = dataset

    def reset(self, new_config: Job, storage: Any = None) -> bool:
        """Take the next trial."""
        self._forget()
        self._job, self._reports = new_config, None
        return True

    @_in_use
    def train(self) -> dict[str, Any]:
        """Go on to the next reports, usually one, an epoch further.

        An error of the trial ends the process with it: nothing of a broken trial reaches the next.
        """
        self._broken = True
        if self._moves:
            _refuse_if_node_leaves()
        self._reports = self._reports or begin(self._run, self._job, self._dataset, self._device)
        reports = at_once(self._reports)
        self._broken = False
        return {"reports": told(reports), "done": False}

    def stop(self) -> None:
        """Forget the trial."""
        self._forget()
        if self._broken:
            ray.actor.exit_actor()
        self._job, self._reports = {}, None

    def _forget(self) -> None:
        """Keep nothing on this machine of a trial that is kept elsewhere."""
        if self._job:
            forget(self._job["folder"], mirror_of(self._job), self._job["attempt"])

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
            import trainables.checkpoints.remembered

            self._forget()
            self._claim, self._dataset, self._job, self._reports = "", None, {}, None
            self._used = time.monotonic()
            trainables.checkpoints.remembered.MEMORY.forget()
            self._process.give_back_memory()

    def _leave_when_unused(self) -> None:
        """End this process when it has been unused for long.

        It outlives the search that started it, and the search that should end it may have been
        killed.
        """
        while time.monotonic() - self._used < (LEFT_S if self._claim else STAY_S):
            time.sleep(LOOK_S)
        os._exit(0)


class FusedWorker(Process):
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

    def reset(self, place: str, new_config: Job, storage: Any = None) -> bool:
        """Take the next trial at this place; a worker whose node leaves takes none."""
        if self._moves:
            _refuse_if_node_leaves()
        self.stop(place)
        self._jobs[place] = new_config
        self._together.join(new_config["trial"])
        return True

    def train(self, place: str, heard: bool = True) -> dict[str, Any]:
        """Go on to the next reports of the trial at this place.

        `heard` is the answer of `reset`, so that Ray calls this only after the worker has heard of
        the trial. An error of the trial ends that trial alone, unless it leaves the process unfit
        for all: then the process ends, and all its trials are tried again elsewhere.
        """
        job = self._jobs[place]
        if place not in self._reports:
            self._reports[place] = begin(
                self._run, job, self._dataset, self._device, self._together
            )
        try:
            if self._moves:
                _refuse_if_node_leaves()
            reports = at_once(self._reports[place])
        except BaseException as error:
            _end_beyond_repair(error)
            self.stop(place)
            raise
        if reports[-1].outcome is not None:
            self._together.leave(job["trial"])
        return {"reports": told(reports), "done": False, "note": self._together.note()}

    def stop(self, place: str) -> None:
        """Forget the trial at this place."""
        if (job := self._jobs.pop(place, None)) is not None:
            self._together.leave(job["trial"])
            forget(job["folder"], mirror_of(job), job["attempt"])
        self._reports.pop(place, None)


def at_once(reports: "Iterator[Report]") -> "list[Report]":
    """Return the next report, and those after it that need no further training.

    Epochs that are known already are told together.
    """
    found = [next(reports)]
    while found[-1].more:
        found.append(next(reports))
    return found


def told(reports: "list[Report]") -> str:
    """Return the reports as they cross back: JSON."""
    return json.dumps([report.to_dict() for report in reports])


def fetch_weights(config: TrialConfig) -> None:
    """Bring the weights that a trial begins with to this machine, if it does not have them yet.

    Raises:
        ConfigError, Unavailable: they are not to be had.
    """
    if config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)


def begin(
    run: Any, job: Job, dataset: Dataset | None, device: str, together: Any = None
) -> "Iterator[Report]":
    """Start a job's trial, and return its reports from here on.

    `run` is the module that trains.
    """
    if dataset is None:
        raise RuntimeError("a trial needs data")
    config, request = TrialConfig.from_dict(job["config"]), request_of(job)
    if job["download"]:
        fetch_weights(config)
    folder = folder_here(job["folder"], request.mirror, request.attempt)
    node = ray.get_runtime_context().get_node_id()
    reports: Iterator[Report] = run.run_trial(
        config, dataset, folder, request, device=device, node=node, together=together
    )
    return reports
