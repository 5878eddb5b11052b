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
from cluster.spot import draining_nodes

HEAD = "node:__internal_head__"
"""The name of the resource with which Ray marks the head."""
BOOTSTRAP = "~/ray_bootstrap_config.yaml"
"""Path of the cluster's file on the head, where `ray up` puts it."""
KUBERAY = "KUBERAY_GEN_RAY_START_CMD"
"""The environment variable in which KubeRay stores the command that started this Ray node. If
KubeRay's own autoscaler runs next to the head, the command contains `--no-monitor`.
"""
NOTHING = Resources(cpus=0)
MAX_REQUESTED = 200
"""The maximum number of places in one request to the autoscaler, and of machines of each kind in
the result of `Growth.largest_cluster`.
"""


def nodes() -> dict[str, dict[str, Any]]:
    """Get Ray's descriptions of the nodes that are alive and not being drained, by node id."""
    draining = draining_nodes()
    return {
        node["NodeID"]: node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in draining
    }


def machines() -> Machines:
    """Collect the resources of the nodes that are alive and not being drained."""
    return Machines.of(_resources(node["Resources"]) for node in nodes().values())


@dataclass(frozen=True, kw_only=True)
class MachineKind:
    """A kind of machine that an autoscaler starts, and the maximum number of such machines."""

    machine: Resources
    most: int


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The limits up to which a cluster may grow.

    Besides its head, a cluster may have at most `kinds[i].most` machines of kind i, and at most
    `most` machines in total.
    """

    head: Resources = NOTHING
    kinds: tuple[MachineKind, ...] = ()
    most: int = MANY
    is_known: bool = True
    """False if there is an autoscaler whose limits are unknown."""

    def largest_cluster(self, demand: Demand) -> Machines:
        """The machines of the largest cluster for trials of this demand, including the head.

        If `most` limits the number of machines, kinds on which more processes of this demand fit
        are added first.
        """
        largest, remaining = [self.head], self.most
        for kind in sorted(self.kinds, key=lambda kind: kind.machine.room(demand), reverse=True):
            count = min(kind.most, remaining, MAX_REQUESTED)
            largest, remaining = largest + [kind.machine] * count, remaining - count
        return Machines.of(largest)

    def room(self, demand: Demand) -> int:
        """Count the trials that fit on the largest cluster at once; `MANY` if that is unknown."""
        return (
            self.largest_cluster(demand).room(demand) // demand.workers if self.is_known else MANY
        )


def growth() -> Growth | None:
    """Look up how far an autoscaler may grow this cluster; None if the cluster cannot grow.

    The limits are read from Ray's cluster configuration if there is one, or else from the file that
    `ray up` puts on the head.
    """
    limits = ray._private.state.state.get_cluster_config()
    if limits is not None and limits.node_group_configs:
        groups = limits.node_group_configs
        return Growth(
            kinds=tuple(
                MachineKind(
                    machine=_resources(group.resources),
                    most=MANY if group.max_count < 0 else group.max_count,
                )
                for group in groups
            )
        )
    path = Path(BOOTSTRAP).expanduser()
    if _is_head() and path.exists():
        config = yaml.safe_load(path.read_text())
        return None if is_fixed(config) else growth_from_file(config)
    return Growth(is_known=False) if "--no-monitor" in os.environ.get(KUBERAY, "") else None


def is_fixed(config: Config) -> bool:
    """True if the number of machines in a cluster's file never changes.

    That is the case if `min_workers` is at least `max_workers` for each type of node.
    """
    return all(
        kind.get("min_workers", 0) >= kind.get("max_workers", 0)
        for kind in config["available_node_types"].values()
    )


def growth_from_file(config: Config) -> Growth:
    """Read the limits from a cluster's file, as `ray up` puts it on the head.

    `ray up` fills in the resources of each type of node if it can look them up. If it could not,
    `is_known` of the result is False.
    """
    types, head = config["available_node_types"], config.get("head_node_type", "")
    most = {name: int(kind.get("max_workers", 0)) for name, kind in types.items()}
    resources = {name: _resources(kind.get("resources") or {}) for name, kind in types.items()}
    is_known = all(kind.get("resources") for name, kind in types.items() if most[name])
    kinds = tuple(MachineKind(machine=resources[name], most=most[name]) for name in types)
    return Growth(
        head=resources.get(head, NOTHING),
        kinds=kinds,
        most=int(config.get("max_workers", MANY)),
        is_known=is_known,
    )


def _resources(amounts: Any) -> Resources:
    return Resources(cpus=amounts.get("CPU", 0), gpus=amounts.get("GPU", 0))


def _is_head() -> bool:
    here = nodes().get(ray.get_runtime_context().get_node_id())
    return here is not None and HEAD in here["Resources"]


class CapacityRequest:
    """A request for more machines to an autoscaler, made by pending placement groups.

    No trial runs in these groups. Ray removes them when this process ends, even if it is killed. By
    contrast, a request by Ray's `request_resources` would remain, and keep machines running.
    """

    def __init__(self) -> None:
        self.places: list[PlacementGroup] = []
        self.demand = Demand()

    def ask(self, count: int, demand: Demand) -> None:
        """Change the request to places for `count` trials, limited to `MAX_REQUESTED`.

        A placement group that has been created is removed, so that trials can use its resources.
        """
        if demand != self.demand:
            self.end()
            self.demand = demand
        for place in [
            place for place in self.places if placement_group_table(place).get("state") == "CREATED"
        ]:
            self._release(place)
        place_count = max(0, min(count, MAX_REQUESTED))
        for place in self.places[place_count:]:
            self._release(place)
        bundle = {
            name: amount for name, amount in (("CPU", demand.cpus), ("GPU", demand.gpus)) if amount
        }
        self.places += [
            placement_group([bundle] * demand.workers)
            for _ in range(place_count - len(self.places))
        ]

    def end(self) -> None:
        """Withdraw the whole request."""
        for place in list(self.places):
            self._release(place)

    def _release(self, place: PlacementGroup) -> None:
        self.places.remove(place)
        remove_placement_group(place)
