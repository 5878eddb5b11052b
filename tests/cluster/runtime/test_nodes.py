"""The resources of a cluster, and the limits to which its autoscaler may grow it."""

from typing import Any

import pytest

from cluster.errors import NotReady
from cluster.runtime.nodes import Growth, MachineKind, growth_from_file, is_fixed
from cluster.runtime.resources import MANY, Demand, Machines, Resources, slots

HEAD = {"resources": {"CPU": 0}, "max_workers": 0}
CARD = Demand(cpus=4, gpus=1)


def file(most: int | None = None, head: dict[str, Any] = HEAD, **kinds: Any) -> dict[str, Any]:
    return {"head_node_type": "head", "available_node_types": {"head": head, **kinds}} | (
        {"max_workers": most} if most is not None else {}
    )


def kind(cpus: float, gpus: float, most: int) -> dict[str, Any]:
    return {"resources": {"CPU": cpus, "GPU": gpus}, "max_workers": most}


def test_a_process_needs_room_on_one_machine() -> None:
    two = Machines.of([Resources(cpus=4), Resources(cpus=4)])
    assert slots(two, Demand(cpus=3)) == 2
    assert slots(two, Demand(cpus=2, workers=4)) == 1
    with pytest.raises(
        NotReady,
        match=(
            r"needs 6 CPUs and 0 GPUs, but there are 8 CPUs and 0 GPUs on 2 machines, and each "
            r"process must fit on a single machine\."
        ),
    ):
        slots(two, Demand(cpus=6))


@pytest.mark.parametrize(
    ("config", "room"),
    [
        (file(g5=kind(8, 1, 8)), 8),
        (
            file(8, spot=kind(8, 1, 8), on_demand=kind(8, 1, 8)),
            8,
        ),  # not 16: no more than eight workers in all
        (file(2, large=kind(64, 8, 1), small=kind(8, 1, 4)), 9),
        (file(8, head=kind(8, 1, 0), g5=kind(8, 1, 2)), 3),  # the head trains as well
        (file(8, cpu=kind(16, 0, 8)), 0),
        (file(8, unknown={"max_workers": 8}), MANY),
    ],
)
def test_a_clusters_file_says_how_far_it_may_grow(config: dict[str, Any], room: int) -> None:
    assert growth_from_file(config).room(CARD) == room


def test_fixed_hosts_are_no_autoscalers() -> None:
    """All of them are started in any case, so a request would only take places from trials.

    Ray makes such a kind of `provider: local`.
    """
    fixed = {"local.cluster.node": {"resources": {}, "min_workers": 2, "max_workers": 2}}
    assert is_fixed(
        {"head_node_type": "local.cluster.node", "available_node_types": fixed, "max_workers": 2}
    )
    assert not is_fixed(file(8, spot=kind(8, 1, 8)))


def test_a_trial_of_several_processes_needs_several_places() -> None:
    growth = Growth(kinds=(MachineKind(machine=Resources(cpus=8, gpus=2), most=3),))
    assert growth.room(Demand(cpus=1, gpus=1, workers=4)) == 1
    assert growth.largest_cluster(CARD).gpus == 6
