"""python -m cluster.down FILE: shut down a cluster.

On fixed hosts, this stops Ray on each of them. In a cloud, it terminates the machines.
"""

import argparse
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import definition, ssh
from cluster.cli import Parser, file_argument, say
from cluster.errors import NotReady
from cluster.guard import guarded

STOP_S, CLOUD_S = 180, 1800
STILL_THERE = (
    "command -v pgrep >/dev/null || { echo pgrep is not installed >&2; exit 1; }; "
    "pgrep -u $(id -u) -f '[/](raylet|gcs_server)( |$)' >/dev/null && echo yes || echo no"
)
"""Shell command that prints "yes" if Ray still runs on a host, or else "no".

The brackets keep pgrep from matching the shell that runs this command.
"""


def command(path: Path) -> int:
    """Stop the cluster: Ray on fixed hosts, or all machines in a cloud."""
    cluster = definition.read(path)
    say(f"stopping the cluster '{cluster.name}'")
    if cluster.is_local:
        stop_hosts(cluster)
    else:
        give_back(cluster)
    return 0


def give_back(cluster: definition.Definition) -> None:
    """Terminate all of the cluster's machines in a cloud with `ray down`.

    Raises:
        NotReady: `ray down` failed; machines may still run and cost money.
    """
    result = ray_down(cluster, CLOUD_S)
    if result.returncode:
        raise NotReady(
            f"'ray down' failed ({ssh.last_line(result.stdout)}). "
            "Machines may still be running and cost money. Run the command again, and check the "
            "machines in your cloud's console."
        )
    ssh.login_of(cluster).known_hosts.unlink(missing_ok=True)  # a new machine may get this address
    say("all machines were terminated")


def stop_hosts(cluster: definition.Definition) -> None:
    """Stop Ray on every fixed host, and verify on each that it has stopped.

    `ray down` is not enough: it may stop Ray only on the head, and does not report on other hosts.

    Raises:
        NotReady: Ray may still run on a host.
    """
    forget = f"rm -f /tmp/ray/cluster-{cluster.name}.state /tmp/ray/cluster-{cluster.name}.lock"
    with ThreadPoolExecutor() as pool:
        pool.submit(ray_down, cluster, STOP_S)  # updates Ray's own record of the hosts
        pool.submit(
            ssh.run,
            cluster,
            cluster.head,
            f"{stop_command(cluster.content, 'head')}; {forget}",
            STOP_S,
        )
        ssh.run_on(cluster, cluster.workers, stop_command(cluster.content, "worker"), STOP_S)
    problems = []
    for host, result in ssh.run_on(cluster, cluster.hosts, STILL_THERE).items():
        if result.stdout.strip() == "no":
            say(f"  {host}  Ray is stopped")
        elif result.stdout.strip() == "yes":
            problems.append(
                f"Ray is still running on {host}. Try again, or stop it there with: "
                f"{stop_command(cluster.content, 'worker')} --force"
            )
        else:
            problems.append(
                f"{host} could not be checked ({ssh.reason(result)}). Ray may still be running "
                "there. Fix this, and try again."
            )
    if problems:
        raise NotReady("\n".join(problems))


def stop_command(content: definition.Config, kind: str) -> str:
    """Find the command that stops Ray on a host: the one in the file, or else `ray stop`.

    Args:
        content: the cluster's file.
        kind: "head" or "worker".
    """
    commands = content.get(f"{kind}_start_ray_commands") or []
    return next(
        (
            str(command)
            for command in commands
            if "ray stop" in str(command) and "ray start" not in str(command)
        ),
        "ray stop",
    )


def ray_down(
    cluster: definition.Definition, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run `ray down` and capture its output; a time-out becomes exit code `EX_TEMPFAIL`."""
    command = [*ssh.RAY, "down", "-y", str(cluster.path)]
    try:
        return subprocess.run(
            command,
            cwd=definition.ROOT,
            env=ssh.ray_environment(cluster),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, os.EX_TEMPFAIL, f"it did not finish within {timeout_s:g} s"
        )


def parser() -> argparse.ArgumentParser:
    """Define the arguments of `python -m cluster.down`."""
    parser = Parser(prog="python -m cluster.down", description=__doc__)
    file_argument(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, stop the cluster, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args.file))


if __name__ == "__main__":
    raise SystemExit(main())
