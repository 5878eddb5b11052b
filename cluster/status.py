"""python -m cluster.status FILE: show which nodes are up and which jobs run.

It also shows which resources are in use and which requests wait for resources.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import definition, ssh
from cluster.cli import Parser, file_argument, say
from cluster.dashboard import ClusterJob, ClusterNode, ClusterState, state
from cluster.guard import guarded

MAX_COMMAND_CHARS = 100
"""A job's command is truncated to this number of characters."""


def command(path: Path) -> int:
    """Print the cluster's state, as its dashboard reports it."""
    cluster = definition.read(path)
    with ssh.tunnel(cluster) as url:
        snapshot = state(url)
    for line in lines(cluster, snapshot):
        say(line)
    return 0


def lines(cluster: definition.Definition, snapshot: ClusterState) -> list[str]:
    """Describe the cluster in lines: its size, each node, waiting requests, and jobs."""
    missing = [
        host for host in cluster.workers if host not in {node.address for node in snapshot.nodes}
    ]
    living = [node for node in snapshot.nodes if node.is_alive and not node.is_head]
    description = [
        f"{cluster.name}: {len(living)} worker{'s' * (len(living) != 1)} alive"
        + (
            f", at least {cluster.least_workers} required"
            if len(living) < cluster.least_workers
            else ""
        )
    ]
    description += [_node_line(node) for node in snapshot.nodes]
    description += [f"  worker {host}  has not joined" for host in missing]
    description += [
        f"waiting for resources: {count} x {what}" for what, count in snapshot.pending_requests
    ] or ["no request waits for resources"]
    return description + ([_job_line(job) for job in snapshot.jobs] or ["no job is running"])


def _node_line(node: ClusterNode) -> str:
    gpus = f", {node.used_gpus:g} of {node.gpus:g} GPUs" if node.gpus else ""
    usage = (
        f"alive  {node.used_cpus:g} of {node.cpus:g} CPUs{gpus} in use" if node.is_alive else "dead"
    )
    return f"  {'head  ' if node.is_head else 'worker'} {node.address}  {usage}"


def _job_line(job: ClusterJob) -> str:
    since = time.strftime("%H:%M", time.localtime(job.start_s))
    return (
        f"job {job.name}  {job.status} since {since}  "
        f"{job.command[:MAX_COMMAND_CHARS]}{'...' if len(job.command) > MAX_COMMAND_CHARS else ''}"
    )


def parser() -> argparse.ArgumentParser:
    """Define the arguments of `python -m cluster.status`."""
    parser = Parser(prog="python -m cluster.status", description=__doc__)
    file_argument(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the state, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args.file))


if __name__ == "__main__":
    raise SystemExit(main())
