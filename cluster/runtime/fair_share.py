"""Share one cluster fairly between several searches.

This module lists the searches on the cluster and computes the number of trials that each may run at
once (its places). Each search stores an entry in Ray's control store (GCS), under the job id of its
driver. Entries of dead drivers are ignored and removed; Ray reports which drivers are dead.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

from cluster.runtime.resources import Demand, Resources

NAMESPACE = b"image-classifier-search"
PREFIX = "searches/"


@dataclass(frozen=True, kw_only=True)
class Use:
    """The resources that a search could use at once if no other search ran on the cluster."""

    cpus: float
    gpus: float = 0

    def share_of(self, resources: Resources, demand: Demand) -> float:
        """The fraction of the cluster's scarce resource that this search could use, from 0 to 1.

        The scarce resource is GPUs if a trial of this demand needs GPUs, and CPUs otherwise.
        """
        return _part(self.gpus, resources.gpus) if demand.gpus else _part(self.cpus, resources.cpus)


class Shares:
    """This search's entry in Ray's control store, and the entries of the other searches."""

    def __init__(self) -> None:
        self.key = _key(ray.get_runtime_context().get_job_id())
        self.announced_use: Use | None = None

    def tell(self, use: Use) -> None:
        """Publish the resources that this search could use, for the other searches."""
        if use != self.announced_use:
            _internal_kv_put(
                self.key, json.dumps(asdict(use)).encode(), overwrite=True, namespace=NAMESPACE
            )
            self.announced_use = use

    def search_uses(self) -> list[tuple[Use, bool]]:
        """List the uses of all running searches, the oldest search first.

        Side effect: the entries of searches that have ended are removed.

        Returns:
            For each search its use, and True if it is this search.
        """
        keys = sorted(_internal_kv_list(PREFIX.encode(), namespace=NAMESPACE))
        ended = (
            {_key(job["JobID"]) for job in ray._private.state.jobs() if job["IsDead"]}
            if keys != [self.key]
            else set()
        )
        uses: list[tuple[Use, bool]] = []
        for key in keys:
            if key in ended:
                _internal_kv_del(key, namespace=NAMESPACE)
            elif (use := _read(key)) is not None:
                uses.append((use, key == self.key))
        return uses

    def end(self) -> None:
        """Remove this search's entry; errors are ignored."""
        with suppress(Exception):  # if Ray has ended, the entry no longer exists
            _internal_kv_del(self.key, namespace=NAMESPACE)


def fair_count(total: int, most: Sequence[int], mine: int) -> int:
    """Number of places for the search at position `mine`, at least one.

    The places are divided by max-min fairness: all searches get the same number, but none gets more
    than it can use. The remainder goes to the oldest searches.

    Args:
        total: the number of places on the cluster.
        most: the largest number of places that each search can use, the oldest search first.
        mine: the position of this search in `most`.
    """
    counts, remaining = [0] * len(most), total
    while remaining > 0 and (
        unsatisfied_searches := [
            position for position in range(len(most)) if counts[position] < most[position]
        ]
    ):
        # The smallest unmet need limits a round, so that no search gets more than it can use.
        # If there are fewer places than searches, the oldest get one each.
        each = max(
            1,
            min(
                remaining // len(unsatisfied_searches),
                *(most[position] - counts[position] for position in unsatisfied_searches),
            ),
        )
        for position in unsatisfied_searches[:remaining]:
            counts[position] += each
            remaining -= each
    return max(1, counts[mine])


def share(
    total: int, resources: Resources, demand: Demand, searches: Sequence[tuple[Use, bool]]
) -> int:
    """Number of the `total` places that this search may use for trials of this demand.

    Places that the other searches cannot use are available to this search.

    Args:
        total: the number of trials of this demand that fit on the cluster.
        resources: the resources of the cluster.
        demand: the resources of one trial.
        searches: the result of `Shares.search_uses`. If it lacks this search, the result is
            `total`.
    """
    most = [
        total if is_mine else math.ceil(use.share_of(resources, demand) * total)
        for use, is_mine in searches
    ]
    mine = next((position for position, (_, is_mine) in enumerate(searches) if is_mine), None)
    return total if mine is None else min(total, fair_count(total, most, mine))


def _key(job: str) -> bytes:
    return f"{PREFIX}{job}".encode()


def _read(key: bytes) -> Use | None:
    line: Any = _internal_kv_get(key, namespace=NAMESPACE)
    return Use(**json.loads(line)) if line else None


def _part(needed: float, available: float) -> float:
    return min(1.0, needed / available) if available else float(needed > 0)
