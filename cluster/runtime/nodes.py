"""The machines of a running cluster, and those that its autoscaler may still add."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from cluster.definition import Config
from cluster.runtime.resources import MANY, Demand, Machines, Resources
from cluster.spot import leaving

HEAD = "node:__internal_head__"
BOOTSTRAP = "~/ray_bootstrap_config.yaml"
"""The path at which `ray up` leaves the cluster's file, on its head."""
KUBERAY = "KUBERAY_GEN_RAY_START_CMD"
"""The environment variable in which KubeRay leaves the command that started this Ray node. If the
autoscaler runs beside the head, that command starts Ray without a monitor of its own.
"""
NOTHING = Resources(cpus=0)
MAX_CALLED = 200
"""The maximum number of places that are requested at a time."""


def nodes() -> dict[str, dict[str, Any]]:
    """Return the living nodes that are not about to leave, as Ray describes them, by id."""
    gone = leaving()
    return {
        node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in gone
    }


def machines() -> Machines:
    """Return the resources of these nodes."""
    return Machines.of(_resources(node["Resources"]) for node in nodes().values())


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of machine that an autoscaler starts, and the maximum number of them."""

    machine: Resources
    most: int


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The limits to which a cluster may grow.

    Beside its head it may have the given number of each kind, and no more than `most` machines in
    all.
    """

    head: Resources = NOTHING
    kinds: tuple[Kind, ...] = ()
    most: int = MANY
    is_known: bool = True
    """False if there is an autoscaler that does not tell what it may start."""

    def to(self, demand: Demand) -> Machines:
        """Return the largest cluster for trials of this demand.

        The kinds with the most room for the demand are taken first.
        """
        found, left = [self.head], self.most
        for kind in sorted(self.kinds, key=lambda kind: kind.machine.room(demand), reverse=True):
            count = min(kind.most, left, MAX_CALLED)
            found, left = found + [kind.machine] * count, left - count
        return Machines.of(found)

    def room(self, demand: Demand) -> int:
        """Return the number of trials that may run at once."""
        return self.to(demand).room(demand) // demand.workers if self.is_known else MANY


def growth() -> Growth | None:
    """Return the limits to which an autoscaler may grow this cluster; None without an autoscaler.

    A cluster may report them itself; otherwise they are in the file that `ray up` leaves on the
    head.
    """
    told = ray._private.state.state.get_cluster_config()
    if told is not None and told.node_group_configs:
        groups = told.node_group_configs
        return Growth(
            kinds=tuple(
                Kind(
                    machine=_resources(group.resources),
                    most=MANY if group.max_count < 0 else group.max_count,
                )
                for group in groups
            )
        )
    path = Path(BOOTSTRAP).expanduser()
    if _is_head() and path.exists():
        config = yaml.safe_load(path.read_text())
        return None if is_fixed(config) else of_file(config)
    return Growth(is_known=False) if "--no-monitor" in os.environ.get(KUBERAY, "") else None


def is_fixed(config: Config) -> bool:
    """Return whether a cluster's file names all machines that there will ever be.

    Those are started whether anything asks for them or not.
    """
    return all(
        kind.get("min_workers", 0) >= kind.get("max_workers", 0)
        for kind in config["available_node_types"].values()
    )


def of_file(config: Config) -> Growth:
    """Return the limits that a cluster's file sets.

    `ray up` fills in the resources of each kind of machine, if it knows them.
    """
    types, head = config["available_node_types"], config.get("head_node_type", "")
    most = {name: int(kind.get("max_workers", 0)) for name, kind in types.items()}
    have = {name: _resources(kind.get("resources") or {}) for name, kind in types.items()}
    is_known = all(kind.get("resources") for name, kind in types.items() if most[name])
    kinds = tuple(Kind(machine=have[name], most=most[name]) for name in types)
    return Growth(
        head=have.get(head, NOTHING),
        kinds=kinds,
        most=int(config.get("max_workers", MANY)),
        is_known=is_known,
    )


def _resources(of_ray: Any) -> Resources:
    return Resources(cpus=of_ray.get("CPU", 0), gpus=of_ray.get("GPU", 0))


def _is_head() -> bool:
    here = nodes().get(ray.get_runtime_context().get_node_id())
    return here is not None and HEAD in here["Resources"]


class CapacityRequest:
    """A request to an autoscaler for room, made all at once by placement groups that stay unused.

    The placement groups end with this process, however it ends. A request by Ray's
    `request_resources` would stay, and keep machines running.
    """

    def __init__(self) -> None:
        self.places: list[PlacementGroup] = []
        self.demand = Demand()

    def ask(self, count: int, demand: Demand) -> None:
        """Request places for so many trials from now on.

        A place that has been created is released, for whichever trial needs it.
        """
        if demand != self.demand:
            self.end()
            self.demand = demand
        for place in [
            place for place in self.places if placement_group_table(place).get("state") == "CREATED"
        ]:
            self._let_go(place)
        wanted = max(0, min(count, MAX_CALLED))
        for place in self.places[wanted:]:
            self._let_go(place)
        each = {
            name: amount for name, amount in (("CPU", demand.cpus), ("GPU", demand.gpus)) if amount
        }
        self.places += [
            placement_group([each] * demand.workers) for _ in range(wanted - len(self.places))
        ]

    def end(self) -> None:
        """Withdraw the whole request."""
        for place in list(self.places):
            self._let_go(place)

    def _let_go(self, place: PlacementGroup) -> None:
        self.places.remove(place)
        remove_placement_group(place)
