"""The number of a cluster's places that each search may take."""

import pytest

from cluster.runtime.fair_share import Use, fair_count, share
from cluster.runtime.resources import Demand, Machines, Resources


@pytest.mark.parametrize(
    ("total", "most", "each"),
    [
        (8, [8], [8]),
        (8, [8, 8], [4, 4]),
        (5, [5, 5], [3, 2]),  # the rest to the oldest
        (7, [7, 7, 7], [3, 2, 2]),
        (8, [8, 1], [7, 1]),  # what one cannot use is for the other
        (8, [2, 8, 8], [2, 3, 3]),
        (8, [1, 1], [1, 1]),
        (1, [1, 1, 1], [1, 1, 1]),  # at least one: whoever finds a place
        (2, [2, 2, 2], [1, 1, 1]),
        (10**6, [10**6, 3], [10**6 - 3, 3]),
    ],
)
def test_all_get_the_same_as_far_as_they_can_use_it(
    total: int, most: list[int], each: list[int]
) -> None:
    assert [fair_count(total, most, mine) for mine in range(len(most))] == each


def test_searches_of_different_demands_share_by_what_is_scarce() -> None:
    """The cluster has eight cards and 64 CPUs.

    A search that needs cards leaves some to others that do, and none to one that needs CPUs alone;
    and the reverse.
    """
    have = Machines.of([Resources(cpus=8, gpus=1)] * 8)
    card, cpu = Demand(cpus=1, gpus=0.25), Demand(cpus=1)
    assert (have.room(card), have.room(cpu)) == (32, 64)
    cards, half = Use(cpus=32, gpus=8), Use(cpus=32)
    assert share(32, have, card, [(cards, True), (half, False)]) == 32
    assert share(32, have, card, [(cards, False), (cards, True)]) == 16
    assert share(32, have, card, [(Use(cpus=1, gpus=0.25), False), (cards, True)]) == 31
    assert share(64, have, cpu, [(Use(cpus=8, gpus=8), False), (Use(cpus=64), True)]) == 56
    assert share(64, have, cpu, [(half, True), (half, False)]) == 32


def test_who_is_alone_has_all_and_nobody_has_a_place_where_there_is_none() -> None:
    have = Machines.of([Resources(cpus=2)])
    demand = Demand()
    assert share(2, have, demand, [(Use(cpus=1), True)]) == 2
    assert share(2, have, demand, []) == 2
    assert share(0, Machines.of([]), demand, [(Use(cpus=1), False), (Use(cpus=1), True)]) == 0
