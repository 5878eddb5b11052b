"""The code that runs in the processes that train and evaluate, with or without Ray.

Such a process receives jobs (`search.execution.job`). Reports are returned as JSON text, since Tune
would flatten and inspect dictionaries. `search.execution.worker` adds the parts that need Ray.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from search.execution.job import EvaluationReply, Job, checkpoint_in, keep, patiently
from search.preflight.shadows import put_libraries_first
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

if TYPE_CHECKING:
    from trainables.messages import Report

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

BEYOND_REPAIR = ("AcceleratorError", "PartialUpdateError")
"""Names of errors after which a process must not be reused: its CUDA context is broken, or fused
weights were only partly copied back to their trials.
"""


def in_use(
    method: "Callable[Concatenate[Any, Parameters], Returned]",
) -> "Callable[Concatenate[Any, Parameters], Returned]":
    """Decorate a method so that the process counts as in use during the whole call.

    A worker that was not in use for long ends itself (`TrialWorker._leave_when_unused`).
    """

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
    """A process that trains and evaluates one job after another, with torch imported once."""

    def __init__(self, *, device: str, threads: int, gpus: float = 0) -> None:
        """Import torch, and configure it for this process.

        Args:
            device: `cpu` or `cuda`.
            threads: the number of torch's threads.
            gpus: the number of GPUs that the process holds; if it is a fraction, the process uses
                at most this share of the GPU's memory.
        """
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
        """Release the data and the memory, and restore torch's settings."""
        self._let_go()
        self._process.restore(self._before)

    def _let_go(self) -> None:
        """Release the data, the cached outputs and the unused memory."""
        import trainables.checkpoints.remembered

        self._dataset = None
        trainables.checkpoints.remembered.OUTPUT_CACHE.forget()
        self._process.give_back_memory()

    def open(self, dataset: Dataset) -> None:
        """Set the data to train on; with Ray, all processes of a node share its memory."""
        self._dataset = dataset

    def _share_data(self, dataset: Dataset) -> Dataset:
        """Return the data that this process uses; if it has none, use `dataset` from now on.

        All calls of a search pass equal data, but with Ray each call receives a different object.
        If only the first object is used, caches and copies on a GPU stay valid for all trials.
        """
        if self._dataset is None:
            self._dataset = dataset
        return self._dataset

    @property
    def _node(self) -> str:
        """The id of this node in Ray, for the hang detector; empty without Ray."""
        return ""

    def _hear_error(self, error: BaseException) -> None:
        """React to an error of an evaluation: a subclass may end the process."""

    def begin(self, job: Job, together: Any = None) -> "Iterator[Report]":
        """Start or continue the trial of a job, and return an iterator of its reports.

        Missing pretrained weights are downloaded first, if the job allows it.

        Args:
            job: the description of the trial.
            together: passed to `run_trial`, to fuse the trial with others.
        """
        if self._dataset is None:
            raise RuntimeError("this process has no data to train on")
        config, request = TrialConfig.from_dict(job.config), job.request
        if job.download:
            fetch_weights(config)
        folder = request.training_folder(job.folder)
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
        """Check a trial's checkpoint, and describe its damage; empty if it is intact."""
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
        """Evaluate the checkpoint of a trial's epoch on the test set.

        The reply has no pictures; the complete evaluation is stored in the trial's folder.

        Raises:
            ValueError: the data set has no test set.
        """
        if dataset.test is None:
            raise ValueError("this data set was loaded without its test set")
        return self._evaluated(job, dataset, epoch, "test")

    @in_use
    def validate(self, job: Job, dataset: Dataset, epoch: int) -> EvaluationReply:
        """Evaluate the checkpoint of a trial's epoch on the validation set.

        The reply has neither curves nor pictures. The complete evaluation is stored in the trial's
        folder; `search.views.page.artifacts.draw` draws the pictures of the best trials from it.
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
        """Evaluate a trial's checkpoint on a part of the data, and store the complete evaluation.

        The reply contains only what the journal records, or the damage of the checkpoint.
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
    def stress(self, job: Job, dataset: Dataset, epoch: int, test: str) -> EvaluationReply:
        """Measure a trial's checkpoint in a test of `--evaluate` (`measure_robustness`)."""
        from trainables.robustness.measure import measure_robustness

        def measure(config: TrialConfig, shared: Dataset, path: Path) -> EvaluationReply:
            return EvaluationReply(
                measure_robustness(config, shared, path, test, device=self._device)
            )

        return self._measure(job, dataset, epoch, measure)

    @in_use
    def average(
        self, job: Job, dataset: Dataset, members: list[tuple[Job, int]], epoch: int
    ) -> EvaluationReply:
        """Save the mean of the weights of several trainings, and compare it with them.

        Args:
            job: the description of the new network, which names its folder.
            dataset: the data.
            members: the jobs of the trainings, each with the epoch of its checkpoint.
            epoch: the number of the new checkpoint.

        Returns:
            The fields of `ComparedModel`, or the damage of a training's checkpoint.
        """
        from trainables.evaluation.combine import average_trainings

        return self._join(job, dataset, members, epoch, average_trainings)

    @in_use
    def combine(
        self, job: Job, dataset: Dataset, members: list[tuple[Job, int]], epoch: int
    ) -> EvaluationReply:
        """Save an ensemble of several trainings, the best first, and compare it with the best.

        The arguments are those of `average`. The reply has the fields of `ComparedModel`, or the
        damage of a training's checkpoint.
        """
        from trainables.evaluation.combine import combine_trainings

        return self._join(job, dataset, members, epoch, combine_trainings)

    def _join(
        self,
        job: Job,
        dataset: Dataset,
        members: list[tuple[Job, int]],
        epoch: int,
        join: Callable[..., Any],
    ) -> EvaluationReply:
        """Save a model that is made of several trainings, with the function `join`."""
        from trainables.checkpoints.checkpoint import CheckpointError, name

        config, request = TrialConfig.from_dict(job.config), job.request
        folder = request.training_folder(job.folder)
        try:
            with ExitStack() as opened:
                paths = [opened.enter_context(checkpoint_in(*member)) for member in members]
                compared = join(
                    config, self._share_data(dataset), paths, folder, epoch, device=self._device
                )
            if (mirror := request.mirror) is not None:
                patiently(lambda: mirror.push(folder, [name(epoch)]))
        except CheckpointError as error:
            return EvaluationReply(damaged=str(error))
        except Exception as error:
            self._hear_error(error)
            raise
        finally:
            request.remove_local_folder(job.folder)
        return EvaluationReply(compared._asdict())

    @in_use
    def get_ready(self) -> EvaluationReply:
        """Import the modules for evaluation, so that the imports are not timed later.

        The reply names the trials whose validation outputs are cached (`remembered`).
        """
        import trainables.checkpoints.remembered
        import trainables.evaluation.cost

        return EvaluationReply(
            remembered=frozenset(trainables.checkpoints.remembered.OUTPUT_CACHE.trials)
        )

    @in_use
    def cost(self, job: Job, dataset: Dataset, epoch: int) -> EvaluationReply:
        """Measure the inference cost of a trial's checkpoint.

        Nothing else should run on the machine meanwhile, since times are measured.
        """
        from trainables.evaluation.cost import cost

        def measure(config: TrialConfig, shared: Dataset, path: Path) -> EvaluationReply:
            return EvaluationReply(cost=cost(config, shared, path, device=self._device))

        return self._measure(job, dataset, epoch, measure)

    def _measure(
        self,
        job: Job,
        dataset: Dataset,
        epoch: int,
        measure: Callable[[TrialConfig, Dataset, Path], EvaluationReply],
    ) -> EvaluationReply:
        """Measure a trial's checkpoint; the reply may be that it is damaged."""
        from trainables.checkpoints.checkpoint import CheckpointError

        try:
            with checkpoint_in(job, epoch) as path:
                config = TrialConfig.from_dict(job.config)
                return measure(config, self._share_data(dataset), path)
        except CheckpointError as error:
            return EvaluationReply(damaged=str(error))
        except Exception as error:
            self._hear_error(error)
            raise


def at_once(reports: "Iterator[Report]") -> "list[Report]":
    """Return the next report, and the following ones that need no training in between.

    Epochs that are restored from a checkpoint are reported in this way.
    """
    batch = [next(reports)]
    while batch[-1].more:
        batch.append(next(reports))
    return batch


def fetch_weights(config: TrialConfig) -> None:
    """Download the pretrained weights of a trial, if it uses any and this machine lacks them.

    Raises:
        ConfigError: the model has no such weights.
        Unavailable: the download failed.
    """
    if config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
