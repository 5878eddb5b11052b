"""The bridge between a search and a training: the code that runs where trials train.

A job (`search.execution.job`) crosses over; a report crosses back as JSON, so that Tune neither
flattens nor judges it. Nothing here needs Ray: `worker` adds what a process of Ray's has.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from search.execution.job import EvaluationReply, Job, checkpoint_in, keep
from search.preflight.shadows import put_libraries_first
from trainables.checkpoints.remote import folder_here
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from trainables.messages import Report

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

BEYOND_REPAIR = ("AcceleratorError", "PartialUpdateError")
"""Errors, by name, after which nothing in a process can be relied on: of a GPU's context, and of
fused weights that were only partly handed back.
"""


def in_use(
    method: "Callable[Concatenate[Any, Parameters], Returned]",
) -> "Callable[Concatenate[Any, Parameters], Returned]":
    """Count the process as in use while it runs this method, however long that takes."""

    @wraps(method)
    def wrapped(
        self: Any, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Returned:
        self._used = math.inf
        try:
            return method(self, *arguments, **options)
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

        self._before = trainables.training.process.prepare(threads, gpus if device == "cuda" else 0)
        self._process, self._run, self._device = (
            trainables.training.process,
            trainables.trial,
            device,
        )
        self._dataset: Dataset | None = None
        self._used = time.monotonic()

    def close(self) -> None:
        """Let go of the data and the memory, and set torch as it was before."""
        self._let_go()
        self._process.restore(self._before)

    def _let_go(self) -> None:
        """Forget the data and what was computed from them, and give the memory back."""
        import trainables.checkpoints.remembered

        self._dataset = None
        trainables.checkpoints.remembered.OUTPUT_CACHE.forget()
        self._process.give_back_memory()

    def open(self, dataset: Dataset) -> None:
        """Train on this data set; all processes of a node share the memory in which it lies."""
        self._dataset = dataset

    def _share_data(self, dataset: Dataset) -> Dataset:
        """Return the data that the process trains on already, or else take these from now on.

        What was computed from them, or lies on a GPU, serves all trials. All calls of a search
        bring the same data, but each a copy of its own.
        """
        if self._dataset is None:
            self._dataset = dataset
        return self._dataset

    @property
    def _node(self) -> str:
        """An identifier of this machine, for who watches the heartbeat; empty if nobody does."""
        return ""

    def _hear_error(self, error: BaseException) -> None:
        """Hear of an error of an evaluation, after which the process may be unfit for others."""

    def begin(self, job: Job, together: Any = None) -> "Iterator[Report]":
        """Start a job's trial, and return its reports from here on.

        `together` is as `run_trial` takes it.
        """
        if self._dataset is None:
            raise RuntimeError("a trial needs data")
        config, request = TrialConfig.from_dict(job.config), job.request
        if job.download:
            fetch_weights(config)
        folder = folder_here(job.folder, request.mirror, request.attempt)
        reports: Iterator[Report] = self._run.run_trial(
            config,
            self._dataset,
            folder,
            request,
            device=self._device,
            node=self._node,
            together=together,
        )
        return reports

    @in_use
    def damage(self, job: Job, epoch: int) -> str:
        """Return the fault of one trial's checkpoint; empty if it is whole."""
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.evaluate import check

        try:
            with checkpoint_in(job, epoch) as path:
                check(path)
        except CheckpointError as error:
            return str(error)
        return ""

    @in_use
    def evaluate(self, job: Job, dataset: Dataset, epoch: int) -> EvaluationReply:
        """Open the test part for one trial's checkpoint.

        The answer is the evaluation without its pictures, which are in the trial's folder.
        """
        if dataset.test is None:
            raise ValueError("the data set's test part is sealed")
        return self._evaluated(job, dataset, epoch, "test")

    @in_use
    def validate(self, job: Job, dataset: Dataset, epoch: int) -> EvaluationReply:
        """Evaluate one trial's checkpoint on the validation part.

        The answer is the evaluation without its curves and pictures. The evaluation with both is in
        the trial's folder, from which the best trials' pictures are drawn
        (`search.views.page.artifacts.draw`).
        """
        try:
            return self._evaluated(job, self._share_data(dataset), epoch, "val")
        except Exception as error:
            self._hear_error(error)
            raise

    def _evaluated(
        self,
        job: Job,
        dataset: Dataset,
        epoch: int,
        part: Literal["val", "test"],
    ) -> EvaluationReply:
        """Evaluate one trial's checkpoint on a part, and keep all of it in the trial's folder.

        The answer is what the journal takes of it.
        """
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.evaluate import brief, evaluate, plain

        config, images = TrialConfig.from_dict(job.config), getattr(dataset, part)
        try:
            with checkpoint_in(job, epoch) as path:
                evaluation = evaluate(config, dataset, images, path, device=self._device)
        except CheckpointError as error:
            return EvaluationReply(damaged=str(error))
        keep(job, f"{part}.json", evaluation)
        return EvaluationReply((brief if part == "val" else plain)(config, evaluation))

    @in_use
    def get_ready(self) -> EvaluationReply:
        """Import what an evaluation needs, while nothing is timed."""
        import trainables.checkpoints.remembered
        import trainables.evaluation.cost

        return EvaluationReply(
            remembered=frozenset(trainables.checkpoints.remembered.OUTPUT_CACHE.trials)
        )

    @in_use
    def cost(self, job: Job, dataset: Dataset, epoch: int) -> EvaluationReply:
        """Measure what one trial's checkpoint costs to use, here and with nothing else running."""
        from trainables.checkpoints.checkpoint import CheckpointError
        from trainables.evaluation.cost import cost

        try:
            with checkpoint_in(job, epoch) as path:
                return EvaluationReply(
                    cost=cost(
                        TrialConfig.from_dict(job.config),
                        self._share_data(dataset),
                        path,
                        device=self._device,
                    )
                )
        except CheckpointError as error:
            return EvaluationReply(damaged=str(error))
        except Exception as error:
            self._hear_error(error)
            raise


def at_once(reports: "Iterator[Report]") -> "list[Report]":
    """Return the next report, and those after it that need no further training.

    Epochs that are known already are told together.
    """
    batch = [next(reports)]
    while batch[-1].more:
        batch.append(next(reports))
    return batch


def fetch_weights(config: TrialConfig) -> None:
    """Bring the weights that a trial begins with to this machine, if it does not have them yet.

    Raises:
        ConfigError, Unavailable: they are not to be had.
    """
    if config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
