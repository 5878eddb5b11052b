"""python -m cluster.down FILE: end a cluster.

On fixed hosts that stops Ray on each of them; a cloud's machines are given back.
"""

import argparse
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import definition, ssh
from cluster.cli import Parser, file_argument, guarded, say
from cluster.errors import NotReady

STOP_S, CLOUD_S = 180, 1800
STILL_THERE = (
    "command -v pgrep >/dev/null || { echo pgrep is missing there >&2; exit 1; }; "
    "pgrep -u $(id -u) -f '[/](raylet|gcs_server)( |$)' >/dev/null && echo yes || echo no"
)
"""Asks a host whether Ray still runs. The brackets keep pgrep from finding this very command."""


def command(path: Path) -> int:
    """Stop everything, and check that it has stopped."""
    at = definition.read(path)
    say(f"stopping the cluster '{at.name}'")
    if at.local:
        stop_hosts(at)
    else:
        give_back(at)
    return 0


def give_back(at: definition.Definition) -> None:
    """Give back a cloud's machines; Ray does all the work.

    Raises:
        NotReady: Ray could not do it; machines may still run and cost money.
    """
    done = ray_down(at, CLOUD_S)
    if done.returncode:
        raise NotReady(
            f"'ray down' failed ({ssh.last_words(done.stdout)}). "
            "Machines may still run and cost: try again, and look at your cloud's console."
        )
    ssh.login_of(at).known_hosts.unlink(missing_ok=True)  # another machine may get the address
    say("all machines were given back")


def stop_hosts(at: definition.Definition) -> None:
    """Stop Ray on every fixed host, and ask each host whether it has stopped.

    `ray down` stops Ray on the head at most and does not report on the other hosts.

    Raises:
        NotReady: Ray may still run somewhere.
    """
    forget = f"rm -f /tmp/ray/cluster-{at.name}.state /tmp/ray/cluster-{at.name}.lock"
    with ThreadPoolExecutor() as pool:
        pool.submit(ray_down, at, STOP_S)  # so that Ray's own record of the hosts stays right
        pool.submit(ssh.run, at, at.head, f"{stop_command(at.content, 'head')}; {forget}", STOP_S)
        ssh.run_on(at, at.workers, stop_command(at.content, "worker"), STOP_S)
    problems = []
    for host, found in ssh.run_on(at, at.hosts, STILL_THERE).items():
        if found.stdout.strip() == "no":
            say(f"  {host}  Ray is stopped")
        elif found.stdout.strip() == "yes":
            problems.append(
                f"Ray still runs on {host}. Try again, or stop it there: "
                f"{stop_command(at.content, 'worker')} --force"
            )
        else:
            problems.append(
                f"{host} cannot be asked ({ssh.reason(found)}); Ray may still run there. "
                "Try again once it is."
            )
    if problems:
        raise NotReady("\n".join(problems))


def stop_command(content: definition.Config, kind: str) -> str:
    """Return the command that stops Ray on a host: the one in the file, else `ray stop`."""
    commands = content.get(f"{kind}_start_ray_commands") or []
    return next(
        (str(one) for one in commands if "ray stop" in str(one) and "ray start" not in str(one)),
        "ray stop",
    )


def ray_down(at: definition.Definition, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run `ray down` and capture its output instead of showing it."""
    words = [*ssh.RAY, "down", "-y", str(at.path)]
    try:
        return subprocess.run(
            words,
            cwd=definition.ROOT,
            env=ssh.ray_environment(at),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, os.EX_TEMPFAIL, f"no end within {timeout_s:g} s")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(prog="python -m cluster.down", description=__doc__)
    file_argument(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, stop the cluster, return the exit code (see `cluster.cli`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args.file))


if __name__ == "__main__":
    raise SystemExit(main())
