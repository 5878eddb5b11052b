"""A trial on several workers, as a Ray Train `TorchTrainer` (gloo on CPU, nccl on GPU)."""

from pathlib import Path
from typing import Any

from ray import ObjectRef
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from trainables.config import TrialConfig
from trainables.request import TrialRequest
from trainables.worker import WorkerSetup, train_loop


def build_trainer(
    config: TrialConfig,
    dataset: "ObjectRef[Any]",
    folder: Path,
    request: TrialRequest = TrialRequest(),  # noqa: B008 - it is frozen
    *,
    scaling: ScalingConfig,
    gate: Any,
    setup: WorkerSetup = WorkerSetup(),  # noqa: B008
    own: str = "",
) -> TorchTrainer:
    """Build a trainer that trains `config` data-parallel.

    Each batch is divided among the workers, and each worker's loss is weighted by its share
    (`World.weigh`), so that the gradient equals that of a single worker. The exception is batch
    normalisation, whose statistics are those of a worker's share.

    Args:
        config: the trial's config.
        dataset: a reference to a sealed `Dataset` in the object store.
        folder: the trial's folder; all nodes must share it unless the request has a mirror.
        request: as for `run_trial`.
        scaling: the number of workers, and the resources of each.
        gate: an actor that receives the first worker's reports, and decides after each report
            whether to continue (`trainables.worker.train_loop`).
        setup: the resources of each worker.
        own: a folder for Ray Train's own files, which this project does not read; needed if not
            all machines share the trials' folder.
    """
    job = {
        "config": config.to_dict(),
        "dataset": dataset,
        "gate": gate,
        "folder": str(folder),
        "request": request,
        "setup": setup,
    }
    return TorchTrainer(
        train_loop,
        train_loop_config=job,
        scaling_config=scaling,
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        run_config=RunConfig(
            name=f"{folder.name}-{request.attempt}",
            storage_path=own or str(folder.parent.parent / "train"),
            failure_config=_once(),
        ),
    )


def _once() -> FailureConfig:
    """Return the setting that keeps Ray Train from restarting the workers within an attempt.

    Restarted workers would report epochs that the attempt's gate has already passed. After a
    failure, the search starts another attempt instead.
    """
    return FailureConfig(max_preemption_failures=0)  # type: ignore[call-arg]
