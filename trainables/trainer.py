"""A team of workers that trains trials, as a `TorchTrainer` of Ray Train (gloo or nccl)."""

import os
import socket
from typing import Any

import psutil
import ray
from ray import ObjectRef
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend

from trainables.worker import WorkerSetup, train_loop


def build_trainer(
    dataset: "ObjectRef[Any]",
    *,
    name: str,
    scaling: ScalingConfig,
    team: Any,
    folder: str,
    setup: WorkerSetup = WorkerSetup(),  # noqa: B008 - it is frozen
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
            each report whether to continue (`trainables.worker.train_loop`).
        folder: a folder for Ray Train's own files, which this project does not read; all machines
            share it, or none needs it.
        setup: the resources of each worker.
    """
    return TorchTrainer(
        train_loop,
        train_loop_config={"dataset": dataset, "team": team, "setup": setup},
        scaling_config=scaling,
        torch_config=TorchConfig(backend="nccl") if scaling.use_gpu else _GlooConfig("gloo"),
        run_config=RunConfig(name=name, storage_path=folder, failure_config=_once()),
    )


def _once() -> FailureConfig:
    """Return the setting that keeps Ray Train from restarting the workers within an attempt.

    Restarted workers would train the trials again that the team has already trained. After a
    failure, the search starts another attempt in another team instead.
    """
    return FailureConfig(max_preemption_failures=0)  # type: ignore[call-arg]


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
    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_of(address: str) -> str:
    """Return the network interface that has this IP address; empty if none has."""
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if each.family in (socket.AF_INET, socket.AF_INET6) and each.address == address:
                return name
    return ""
