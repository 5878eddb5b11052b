"""The state of a cluster as its dashboard shows it: nodes, resources in use, requests, jobs.

It is read over HTTP, with the token.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import auth
from cluster.errors import Denied, NotReady

TIMEOUT_S = 30
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")

Listed = Mapping[str, Any]
"""A thing that the dashboard lists: a node, a job, resources by name."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster."""

    address: str
    head: bool
    alive: bool
    cpus: float
    gpus: float
    used_cpus: float
    used_gpus: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a cluster that has not ended."""

    name: str
    """Its name; the process and host of a program that joined by itself."""
    status: str
    start_s: float
    """The time at which it started, in seconds since 1970."""
    command: str


@dataclass(frozen=True, kw_only=True)
class State:
    """A cluster at one moment.

    `waiting` lists the requests that do not fit yet, each with its count.
    """

    nodes: tuple[Node, ...]
    waiting: tuple[tuple[str, int], ...]
    jobs: tuple[Job, ...]


def state(url: str) -> State:
    """Ask the dashboard for the cluster's whole state.

    Raises:
        NotReady: nothing answers, or the token is not this cluster's.
    """
    status = (_get(url, "/api/cluster_status").get("data") or {}).get("clusterStatus") or {}
    load = status.get("loadMetricsReport") or {}
    listed = _get(url, "/api/v0/nodes?detail=1")["data"]["result"]["result"]
    return State(
        nodes=tuple(nodes(listed, load.get("usageByNode") or {})),
        waiting=tuple(waiting(load)),
        jobs=tuple(jobs(url)),
    )


def jobs(url: str) -> list[Job]:
    """Return the jobs that have not ended.

    Included are submitted jobs and programs that joined the cluster by its address.
    """
    return [_job(one) for one in _get(url, "/api/jobs/") if one.get("status") not in ENDED]


def _job(one: Listed) -> Job:
    return Job(
        name=_name_of(one),
        status=str(one.get("status") or "").lower(),
        start_s=(one.get("start_time") or 0) / 1000,
        command=str(one.get("entrypoint") or ""),
    )


def _name_of(job: Listed) -> str:
    if job.get("submission_id"):
        return str(job["submission_id"])
    driver = job.get("driver_info") or {}
    return f"{job.get('job_id')} (process {driver.get('pid')} on {driver.get('node_ip_address')})"


def nodes(listed: Iterable[Listed], usage: Mapping[str, Listed]) -> list[Node]:
    """Return the nodes, the head first.

    A host that came back has several entries: the living one counts, else the latest.
    """
    latest: dict[str, Listed] = {}
    for one in sorted(
        listed, key=lambda one: (one["state"] == "ALIVE", one.get("start_time_ms") or 0)
    ):
        latest[one["node_ip"]] = one
    made = [_node(one, usage.get(address) or {}) for address, one in latest.items()]
    return sorted(made, key=lambda node: (not node.head, node.address))


def _node(one: Listed, used: Listed) -> Node:
    total = one.get("resources_total") or {}
    return Node(
        address=one["node_ip"],
        head=bool(one.get("is_head_node")),
        alive=one["state"] == "ALIVE",
        cpus=total.get("CPU", 0),
        gpus=total.get("GPU", 0),
        used_cpus=(used.get("CPU") or (0, 0))[0],
        used_gpus=(used.get("GPU") or (0, 0))[0],
    )


def waiting(load: Listed) -> list[tuple[str, int]]:
    """Return the requests that wait for a place, in words, each with its count.

    They are single tasks and actors, and groups of them.
    """
    found = [(_in_words([shape]), count) for shape, count in load.get("resourceDemand") or ()]
    for group, count in load.get("pgDemand") or ():
        found.append(
            (
                _in_words(
                    [shape for shape, times in group.get("bundles") or () for _ in range(times)]
                ),
                count,
            )
        )
    return found


def _in_words(shapes: Iterable[Listed]) -> str:
    cpus, gpus = (sum(shape.get(name) or 0 for shape in shapes) for name in ("CPU", "GPU"))
    return " and ".join([f"{cpus:g} CPU", *([f"{gpus:g} GPU"] if gpus else [])])


def _get(url: str, path: str) -> Any:
    request = urllib.request.Request(
        url + path, headers={"Authorization": f"Bearer {auth.token()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise Denied(
                "the cluster does not take this token. "
                "Copy ~/.ray/auth_token from whoever started it."
            ) from error
        raise Denied(
            f"the cluster's dashboard answered HTTP {error.code}. Try again in a moment."
        ) from error
    except TimeoutError as error:
        raise _slow() from error
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise _slow() from error
        raise NotReady(
            f"no dashboard answers on the head ({getattr(error, 'reason', error)}). "
            "Start the cluster with: python -m cluster.up FILE"
        ) from error


def _slow() -> Denied:
    return Denied(
        f"the cluster's dashboard did not answer within {TIMEOUT_S:g} s. "
        "It is there and busy: try again in a moment."
    )
