"""Several searches on one cluster: which there are, and how many of its places each may take.

Each leaves a line in the cluster's own store (Ray's GCS) under the number that Ray has given its
driver. The line of a driver that has ended, or was killed, or whose machine is lost, counts no
more: Ray knows.
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
    """What a search could use at once, if it had the cluster for itself."""

    cpus: float
    gpus: float = 0

    def part_of(self, have: Resources, demand: Demand) -> float:
        """Which part that is of what such a demand needs most: of the GPUs, or of the CPUs where it
        needs no GPU.
        """
        return _part(self.gpus, have.gpus) if demand.gpus else _part(self.cpus, have.cpus)


class Shares:
    """The line of this driver's search, and those of the others."""

    def __init__(self) -> None:
        self.key = _key(ray.get_runtime_context().get_job_id())
        self.told: Use | None = None

    def tell(self, use: Use) -> None:
        """Let the others know what this search could use."""
        if use != self.told:
            _internal_kv_put(
                self.key, json.dumps(asdict(use)).encode(), overwrite=True, namespace=NAMESPACE
            )
            self.told = use

    def known(self) -> list[tuple[Use, bool]]:
        """What each search that lives could use, the oldest first, and whether it is this one. What
        those that ended left is removed.
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
        """This search needs nothing any more."""
        with suppress(Exception):  # Ray is gone, and the line with it
            _internal_kv_del(self.key, namespace=NAMESPACE)


def fair(total: int, most: Sequence[int], mine: int) -> int:
    """How many of so many places the search at position `mine` may take, at least one: all get the
    same, but nobody more than it can use (`most`), and what does not divide goes to the first,
    which are the oldest.
    """
    given, left = [0] * len(most), total
    while left > 0 and (hungry := [one for one in range(len(most)) if given[one] < most[one]]):
        each = max(1, min(left // len(hungry), *(most[one] - given[one] for one in hungry)))
        for one in hungry[:left]:
            given[one] += each
            left -= each
    return max(1, given[mine])


def share(total: int, have: Resources, demand: Demand, searches: Sequence[tuple[Use, bool]]) -> int:
    """How many of the `total` places that trials of this demand find on such machines are this
    search's: the others leave what they cannot use.
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
