"""A team of workers that trains trials, as a `TorchTrainer` of Ray Train (gloo or nccl)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import ray
from ray import ObjectRef
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.torch.config import _TorchBackend

from trainables.config import TrialConfig
from trainables.messages import Report, encode_reports

if TYPE_CHECKING:
    from trainables.training.world import Distributed


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The resources of one of the workers of a team."""

    threads: int = 1
    gpus: float = 0
    """The number of GPUs that the worker uses; a fraction also limits its memory on the GPU."""
    download: bool = False
    """True if missing pretrained weights may be downloaded."""


def train_loop(setting: dict[str, Any]) -> None:
    """Train one trial after another in this worker, until the team has no more.

    The first worker sends each report, as JSON, to the team. Ray Train polls for reports, and does
    not reply to them. Therefore each worker asks the team after each report whether to continue: a
    trial that should stop trains no further epoch, and no trial waits for the next poll.

    Args:
        setting: `dataset` (a reference to a sealed `Dataset`), `setup` (a `WorkerSetup`), and
            `team`, an actor. Its `next_job(number)` waits for the trial after so many trials, and
            returns its `config` (a `TrialConfig` as a dict), `folder` and `request` (a
            `TrialRequest`), or None if there are no more. Its `report(number, reports)` receives
            the reports, numbered from 1 over all trials; its `passed(number)` waits for the
            decision whether to continue after that report, and returns it. Its `end_job()` learns
            that a trial has no further report.
    """
    from trainables.training.process import prepare
    from trainables.training.world import Distributed

    setup, team = setting["setup"], setting["team"]
    prepare(setup.threads, setup.gpus)
    dataset, device = ray.get(setting["dataset"]), str(get_device())
    world = Distributed(device)
    jobs = reports = 0
    while (job := ray.get(team.next_job.remote(jobs))) is not None:
        jobs += 1
        for report in _reports(job, dataset, setup, world):
            reports += 1
            if world.rank == 0:
                ray.get(team.report.remote(reports, encode_reports([report])))
            if report.outcome is None and not ray.get(team.passed.remote(reports)):
                break
        if world.rank == 0:
            ray.get(team.end_job.remote())


def _reports(
    job: dict[str, Any], dataset: Any, setup: WorkerSetup, world: "Distributed"
) -> Iterator[Report]:
    """Train a trial in this worker, and yield its reports."""
    from trainables.trial import run_trial

    config, request = TrialConfig.from_dict(job["config"]), job["request"]
    if setup.download and config.model.pretrained:
        from trainables.models.weights import fetch

        fetch(config.model)
    node = ray.get_runtime_context().get_node_id()
    folder = request.training_folder(job["folder"], world.rank)
    try:
        yield from run_trial(
            config, dataset, folder, request, device=world.device, world=world, node=node
        )
    finally:
        request.remove_local_folder(job["folder"], world.rank)


def build_trainer(
    dataset: "ObjectRef[Any]",
    *,
    name: str,
    scaling: ScalingConfig,
    team: Any,
    folder: str,
    setup: WorkerSetup = WorkerSetup(),
) -> TorchTrainer:
    """Build a trainer that trains one trial after another data-parallel, as `team` hands them out.

    Each batch is divided among the workers, and each worker's loss is weighted by its share
    (`World.weigh`), so that the gradient equals that of a single worker. The exception is batch
    normalisation, whose statistics are those of a worker's share.

    Args:
        dataset: a reference to a sealed `Dataset` in the object store.
        name: the name of the team for Ray Train.
        scaling: the number of workers, and the resources of each.
        team: an actor that hands out trials, receives the first worker's reports, and decides after
            each report whether to continue (`train_loop`).
        folder: a folder for Ray Train's own files, which this project does not read; all machines
            share it, or none needs it.
        setup: the resources of each worker.
    """
    return TorchTrainer(
        train_loop,
        train_loop_config={"dataset": dataset, "team": team, "setup": setup},
        scaling_config=scaling,
        torch_config=TorchConfig(backend="nccl") if scaling.use_gpu else _GlooConfig("gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=folder,
            # Restarted workers would train the trials again that the team has already trained.
            # After a failure, the search starts another attempt in another team instead.
            failure_config=FailureConfig(max_preemption_failures=0),  # type: ignore[call-arg]
        ),
    )


class _GlooConfig(TorchConfig):
    """The communication by gloo, over the network by which Ray reaches each machine.

    By itself, gloo listens at the address to which the machine's name resolves. On many machines,
    such as Debian's, that is a loopback address, at which no other machine reaches it.
    """

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The class that connects the workers."""
        return _GlooBackend


class _GlooBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Choose each worker's network interface, and connect the workers."""
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Let gloo use the interface that has this machine's address in Ray.

    An interface that the user has chosen (`GLOO_SOCKET_IFNAME`) is kept.
    """
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
