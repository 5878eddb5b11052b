"""Read a cluster's state (nodes, resources in use, requests, jobs) from its dashboard.

The dashboard is read over HTTP, with the token.
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

Entry = Mapping[str, Any]
"""An entry of a list that the dashboard serves: a node, a job, or resources by name."""


@dataclass(frozen=True, kw_only=True)
class ClusterNode:
    """One machine of a cluster."""

    address: str
    is_head: bool
    is_alive: bool
    cpus: float
    gpus: float
    used_cpus: float
    used_gpus: float


@dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """A job on a cluster that has not finished."""

    name: str
    """The submission id. A program that joined the cluster without `cluster.submit` has no such id;
    its name consists of its Ray job id, process and host.
    """
    status: str
    start_s: float
    """Start time in seconds since 1970; 0 if unknown."""
    command: str


@dataclass(frozen=True, kw_only=True)
class ClusterState:
    """A snapshot of a cluster.

    `pending_requests` lists the requests that wait for resources, as (description, number of equal
    requests).
    """

    nodes: tuple[ClusterNode, ...]
    pending_requests: tuple[tuple[str, int], ...]
    jobs: tuple[ClusterJob, ...]


def state(url: str) -> ClusterState:
    """Read a snapshot of the cluster from the dashboard at `url`.

    Raises:
        NotReady: no dashboard responds, or there is no token.
        Denied: the dashboard refuses the token, fails, or does not respond in time.
    """
    status = (_get(url, "/api/cluster_status").get("data") or {}).get("clusterStatus") or {}
    load = status.get("loadMetricsReport") or {}
    node_entries = _get(url, "/api/v0/nodes?detail=1")["data"]["result"]["result"]
    return ClusterState(
        nodes=tuple(nodes(node_entries, load.get("usageByNode") or {})),
        pending_requests=tuple(pending_requests(load)),
        jobs=tuple(jobs(url)),
    )


def jobs(url: str) -> list[ClusterJob]:
    """List the jobs that have not finished.

    They include programs that joined the cluster by its address, without `cluster.submit`.
    """
    return [_job(job) for job in _get(url, "/api/jobs/") if job.get("status") not in ENDED]


def _job(job: Entry) -> ClusterJob:
    return ClusterJob(
        name=_name_of(job),
        status=str(job.get("status") or "").lower(),
        start_s=(job.get("start_time") or 0) / 1000,
        command=str(job.get("entrypoint") or ""),
    )


def _name_of(job: Entry) -> str:
    if job.get("submission_id"):
        return str(job["submission_id"])
    driver = job.get("driver_info") or {}
    return f"{job.get('job_id')} (process {driver.get('pid')} on {driver.get('node_ip_address')})"


def nodes(entries: Iterable[Entry], usage: Mapping[str, Entry]) -> list[ClusterNode]:
    """Parse the dashboard's entries of nodes; the head is first, and the others follow by address.

    A host that was restarted has several entries. The living one is used, or else the latest one.

    Args:
        entries: the dashboard's entries, one for each start of a node.
        usage: the resources in use, by the node's address.
    """
    latest: dict[str, Entry] = {}
    for entry in sorted(
        entries, key=lambda entry: (entry["state"] == "ALIVE", entry.get("start_time_ms") or 0)
    ):
        # In this order, the last entry of an address is the one to use.
        latest[entry["node_ip"]] = entry
    cluster_nodes = [_node(entry, usage.get(address) or {}) for address, entry in latest.items()]
    return sorted(cluster_nodes, key=lambda node: (not node.is_head, node.address))


def _node(entry: Entry, used: Entry) -> ClusterNode:
    total = entry.get("resources_total") or {}
    return ClusterNode(
        address=entry["node_ip"],
        is_head=bool(entry.get("is_head_node")),
        is_alive=entry["state"] == "ALIVE",
        cpus=total.get("CPU", 0),
        gpus=total.get("GPU", 0),
        used_cpus=(used.get("CPU") or (0, 0))[0],
        used_gpus=(used.get("GPU") or (0, 0))[0],
    )


def pending_requests(load: Entry) -> list[tuple[str, int]]:
    """List the requests that wait for resources, as (description, number of equal requests).

    A request is for a task, an actor or a placement group.
    """
    requests = [(_in_words([shape]), count) for shape, count in load.get("resourceDemand") or ()]
    for group, count in load.get("pgDemand") or ():
        requests.append(
            (
                _in_words(
                    [shape for shape, times in group.get("bundles") or () for _ in range(times)]
                ),
                count,
            )
        )
    return requests


def _in_words(shapes: Iterable[Entry]) -> str:
    cpus, gpus = (sum(shape.get(name) or 0 for shape in shapes) for name in ("CPU", "GPU"))
    return " and ".join([f"{cpus:g} CPU", *([f"{gpus:g} GPU"] if gpus else [])])


def _get(url: str, path: str) -> Any:
    request = urllib.request.Request(
        url + path, headers={"Authorization": f"Bearer {auth.token()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise Denied(
                "the cluster rejected this machine's token. "
                "Copy ~/.ray/auth_token from the machine of the person who started the cluster."
            ) from error
        raise Denied(
            f"the cluster's dashboard responded with HTTP {error.code}. Try again in a moment."
        ) from error
    except TimeoutError as error:
        raise _slow_dashboard() from error
    except (OSError, ValueError) as error:
        # urllib wraps a time-out while connecting in a URLError.
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise _slow_dashboard() from error
        raise NotReady(
            "the dashboard on the cluster's head node does not respond "
            f"({getattr(error, 'reason', error)}). "
            "If the cluster is not running, start it with: python -m cluster.up FILE"
        ) from error


def _slow_dashboard() -> Denied:
    return Denied(
        f"the cluster's dashboard is running, but did not respond within {TIMEOUT_S:g} s. "
        "Try again in a moment."
    )
