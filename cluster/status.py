"""python -m cluster.status FILE: show which nodes are up and which jobs run.

It also shows what the nodes do and what waits for a place.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import definition, ssh
from cluster.cli import Parser, file_argument, guarded, say
from cluster.dashboard import Job, Node, State, state

LONGEST = 100
"""The number of characters of a job's command that are shown."""


def command(path: Path) -> int:
    """Ask the cluster for its state, and print it."""
    at = definition.read(path)
    with ssh.tunnel(at) as url:
        now = state(url)
    for line in lines(at, now):
        say(line)
    return 0


def lines(at: definition.Definition, now: State) -> list[str]:
    """Return a description of the cluster, line by line."""
    missing = [host for host in at.workers if host not in {node.address for node in now.nodes}]
    living = [node for node in now.nodes if node.alive and not node.head]
    said = [
        f"{at.name}: {len(living)} worker{'s' * (len(living) != 1)} alive"
        + (f", at least {at.least_workers} wanted" if len(living) < at.least_workers else "")
    ]
    said += [_node(node) for node in now.nodes]
    said += [f"  worker {host}  never joined" for host in missing]
    said += [f"waiting for a place: {count} x {what}" for what, count in now.waiting] or [
        "nothing waits for a place"
    ]
    return said + ([_job(job) for job in now.jobs] or ["no job runs"])


def _node(node: Node) -> str:
    gpus = f", {node.used_gpus:g} of {node.gpus:g} GPUs" if node.gpus else ""
    doing = (
        f"alive  {node.used_cpus:g} of {node.cpus:g} CPUs{gpus} in use" if node.alive else "dead"
    )
    return f"  {'head  ' if node.head else 'worker'} {node.address}  {doing}"


def _job(job: Job) -> str:
    since = time.strftime("%H:%M", time.localtime(job.start_s))
    return (
        f"job {job.name}  {job.status} since {since}  "
        f"{job.command[:LONGEST]}{'...' if len(job.command) > LONGEST else ''}"
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(prog="python -m cluster.status", description=__doc__)
    file_argument(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, print the state, return the exit code (see `cluster.cli`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args.file))


if __name__ == "__main__":
    raise SystemExit(main())
