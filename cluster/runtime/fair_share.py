"""The sharing of one cluster by several searches.

This module knows the searches on the cluster and how many places each may take. Each search stores
an entry in the cluster's own store (Ray's GCS) under the job id that Ray has given its driver. The
entry of a driver that has ended, was killed, or lost its machine no longer counts: Ray knows which
drivers are dead.
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
    """The resources that a search could use at once if it had the cluster for itself."""

    cpus: float
    gpus: float = 0

    def part_of(self, have: Resources, demand: Demand) -> float:
        """Return the share of the cluster's scarce resource that this use amounts to, from 0 to 1.

        The scarce resource is the one that the demand needs most: the GPUs, or the CPUs if it needs
        no GPU.
        """
        return _part(self.gpus, have.gpus) if demand.gpus else _part(self.cpus, have.cpus)


class Shares:
    """The entry of this driver's search, and those of the others."""

    def __init__(self) -> None:
        self.key = _key(ray.get_runtime_context().get_job_id())
        self.told: Use | None = None

    def tell(self, use: Use) -> None:
        """Let the other searches know what this one could use."""
        if use != self.told:
            _internal_kv_put(
                self.key, json.dumps(asdict(use)).encode(), overwrite=True, namespace=NAMESPACE
            )
            self.told = use

    def known(self) -> list[tuple[Use, bool]]:
        """Return the use of each living search, the oldest first, and whether it is this search.

        The entries of searches that have ended are removed.
        """
        found = sorted(_internal_kv_list(PREFIX.encode(), namespace=NAMESPACE))
        ended = (
            {_key(job["JobID"]) for job in ray._private.state.jobs() if job["IsDead"]}
            if found != [self.key]
            else set()
        )
        lines: list[tuple[Use, bool]] = []
        for key in found:
            if key in ended:
                _internal_kv_del(key, namespace=NAMESPACE)
            elif (use := _read(key)) is not None:
                lines.append((use, key == self.key))
        return lines

    def end(self) -> None:
        """Remove this search's entry: it needs nothing any more."""
        with suppress(Exception):  # Ray is gone, and the entry with it
            _internal_kv_del(self.key, namespace=NAMESPACE)


def fair(total: int, most: Sequence[int], mine: int) -> int:
    """Return the number of places that the search at position `mine` may take, at least one.

    All searches get the same number, but none gets more than it can use (`most`). The remainder of
    the division goes to the first ones, which are the oldest.
    """
    given, left = [0] * len(most), total
    while left > 0 and (hungry := [one for one in range(len(most)) if given[one] < most[one]]):
        each = max(1, min(left // len(hungry), *(most[one] - given[one] for one in hungry)))
        for one in hungry[:left]:
            given[one] += each
            left -= each
    return max(1, given[mine])


def share(total: int, have: Resources, demand: Demand, searches: Sequence[tuple[Use, bool]]) -> int:
    """Return this search's number of the `total` places for trials of this demand.

    The places that the other searches cannot use are left to this one.
    """
    most = [
        total if is_mine else math.ceil(use.part_of(have, demand) * total)
        for use, is_mine in searches
    ]
    mine = next((number for number, (_, is_mine) in enumerate(searches) if is_mine), None)
    return total if mine is None else min(total, fair(total, most, mine))


def _key(job: str) -> bytes:
    return f"{PREFIX}{job}".encode()


def _read(key: bytes) -> Use | None:
    line: Any = _internal_kv_get(key, namespace=NAMESPACE)
    return Use(**json.loads(line)) if line else None


def _part(wanted: float, have: float) -> float:
    return min(1.0, wanted / have) if have else float(wanted > 0)
