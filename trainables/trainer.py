"""A trial on several workers, as a Ray Train `TorchTrainer` (gloo on CPU, nccl on GPU)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import ObjectRef
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from trainables.checkpoints.lineage import WarmStartSource
from trainables.checkpoints.remote import Mirror
from trainables.config import TrialConfig
from trainables.worker import train_loop


def build_trainer(
    config: TrialConfig,
    dataset: "ObjectRef[Any]",
    folder: Path,
    *,
    scaling: ScalingConfig,
    gate: Any,
    attempt: int = 1,
    known: int = 0,
    beginnings: Sequence[WarmStartSource] = (),
    milestones: Sequence[int] = (),
    with_cost: bool = False,
    download: bool = False,
    threads: int = 1,
    mirror: Mirror | None = None,
    own: str = "",
    gpus: float = 0,
) -> TorchTrainer:
    """Build a trainer that runs `config` data-parallel.

    The batch is shared among the workers, so the gradient is nearly that of one worker (each counts
    alike).

    Args:
        config: the trial.
        dataset: a reference to a sealed `Dataset` in the object store.
        folder: where the checkpoints go; every node must see it, or there is a mirror.
        scaling: how many workers, with what each.
        gate: an actor that takes the first worker's reports, and says after each whether to go on
            (`trainables.worker.train_loop`).
        attempt: counts how often this trial was begun.
        known: the last epoch that the search has heard of.
        beginnings: as of `run_trial`.
        milestones: as of `run_trial`.
        with_cost: as of `run_trial`.
        download: fetch weights to begin with where they are missing.
        threads: of each worker.
        mirror: where the checkpoints are kept, if the workers' machines see no folder in common.
        own: a folder for what Ray Train writes itself, which nobody reads, where not all machines
            see the trials' folder.
        gpus: of each worker; of a part of one it takes no more memory than that part.
    """
    about = {
        "beginnings": list(beginnings),
        "milestones": list(milestones),
        "with_cost": with_cost,
        "download": download,
    }
    job = {
        "config": config.to_dict(),
        "dataset": dataset,
        "gate": gate,
        "folder": str(folder),
        "attempt": attempt,
        "known": known,
        **about,
        "threads": threads,
        "mirror": mirror,
        "gpus": gpus,
    }
    return TorchTrainer(
        train_loop,
        train_loop_config=job,
        scaling_config=scaling,
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        run_config=RunConfig(
            name=f"{folder.name}-{attempt}",
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
