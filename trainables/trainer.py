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
    """Build a trainer that runs `config` data-parallel.

    The batch is shared among the workers, and each counts by its share (`World.weigh`), so the
    gradient is that of one worker, but for batch normalisation, whose statistics are of a share.

    Args:
        config: the trial.
        dataset: a reference to a sealed `Dataset` in the object store.
        folder: where the checkpoints go; every node must see it, or there is a mirror.
        request: as of `run_trial`.
        scaling: how many workers, with what each.
        gate: an actor that takes the first worker's reports, and says after each whether to go on
            (`trainables.worker.train_loop`).
        setup: what each worker computes with.
        own: a folder for what Ray Train writes itself, which nobody reads, where not all machines
            see the trials' folder.
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
    """Return the setting by which Ray Train never runs the workers twice within an attempt.

    The attempt's gate has already let the first epochs through, so that after a failure the search
    begins another attempt instead.
    """
    return FailureConfig(max_preemption_failures=0)  # type: ignore[call-arg]
