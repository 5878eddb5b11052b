"""python -m cluster.up FILE: start a cluster, and wait until its workers have joined."""

import argparse
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import auth, dashboard, definition, ssh
from cluster.cli import Parser, file_argument, say, seconds
from cluster.errors import Denied, NotReady, Refused
from cluster.guard import guarded

POLL_S = 2.0
STEPS = {
    "Waiting for SSH": "waiting for ssh on the head",
    "Processing file mounts": "copying the token and files to the head",
    "Running setup commands": (
        "setting up the head; the first time, this installs everything and takes several minutes"
    ),
    "Starting the Ray runtime": "starting Ray on the head",
}
"""Maps a text in the output of `ray up` to the line that we print for it."""


def command(args: argparse.Namespace) -> int:
    """Start the cluster, and print each step."""
    start = time.monotonic()
    cluster = definition.read(args.file)
    if auth.ensure():
        say(
            f"created a token in {auth.token_file()}; "
            "keep it secret, because anybody who has it can use the cluster"
        )
    if cluster.is_local:
        check_hosts(cluster)
        give_keys(cluster)
    if not args.restart:
        refuse_to_interrupt(cluster)
    ray_up(cluster)
    with ssh.tunnel(cluster) as url:
        wait_for_workers(cluster, url, args.timeout)
    say(f"the cluster '{cluster.name}' is up after {time.monotonic() - start:.0f} s")
    file = ssh.relative_to_here(cluster.path)
    say(
        f"run a search:          python -m cluster.submit {file} -- python -m search.run "
        "--space table3 --storage s3://BUCKET/PREFIX --tracking http://HOST:5000"
    )
    say(f"show the cluster:      python -m cluster.status {file}")
    say(f"shut down the cluster: python -m cluster.down {file}")
    return 0


def check_hosts(cluster: definition.Definition) -> None:
    """Check that each host accepts our ssh login and has rsync.

    Without this check, `ray up` would try for minutes to reach a host that fails it. If
    `min_workers` allows the cluster to start without the workers that fail, they are only reported.

    Raises:
        NotReady: the head or too many workers fail the check; the text has the reason for each.
    """
    say(f"checking ssh and rsync on {len(cluster.hosts)} host{'s' * (len(cluster.hosts) != 1)}")
    results = ssh.run_on(cluster, cluster.hosts, "command -v rsync >/dev/null || echo missing")
    problems = {
        host: (
            f"{host} cannot be reached by ssh as {cluster.user} with {cluster.key} "
            f"({ssh.reason(result)})."
        )
        for host, result in results.items()
        if result.returncode
    }
    problems |= {
        host: f"rsync is not installed on {host}. Install it there."
        for host, result in results.items()
        if not result.returncode and result.stdout.strip()
    }
    if cluster.head in problems or len(cluster.workers) - len(problems) < cluster.least_workers:
        hint = "To start the cluster without some of its workers, set min_workers in its file."
        raise NotReady(
            "\n".join([*problems.values(), *([hint] if cluster.head not in problems else [])])
        )
    for problem in problems.values():
        say(f"  {problem} The cluster starts without this host, which can join later.")


def give_keys(cluster: definition.Definition) -> None:
    """Copy the host keys that this machine has stored to the head.

    The head needs the keys of the workers, because it copies the token to them over ssh.

    Raises:
        NotReady: the file could not be written on the head.
    """
    known_hosts = ssh.login_of(cluster).known_hosts
    # The file does not exist if the machine's own known hosts or a CA cover all hosts.
    keys = shlex.quote(known_hosts.read_text() if known_hosts.exists() else "")
    result = ssh.run(
        cluster, cluster.head, f"umask 077; mkdir -p ~/.ray && printf %s {keys} >~/.ray/known_hosts"
    )
    if result.returncode:
        raise NotReady(
            f"the host keys could not be copied to {cluster.head} ({ssh.reason(result)}). "
            "Fix the problem, and run the command again."
        )


def refuse_to_interrupt(cluster: definition.Definition) -> None:
    """Refuse to start a cluster on which jobs run, because `ray up` restarts Ray and ends them.

    Raises:
        Refused: jobs are running on the cluster.
        Denied: the cluster is running, but does not list its jobs, or not in time.
    """
    try:
        with ssh.tunnel(cluster) as url:
            running = [job.name for job in dashboard.jobs(url)]
    # Denied is a subclass of NotReady, but it means that the cluster is running.
    except Denied:
        raise
    except NotReady:  # there is no cluster yet
        return
    if running:
        raise Refused(
            f"'{cluster.name}' is running jobs that a restart would stop: {', '.join(running)}. "
            "Wait until the jobs have finished, or pass --restart to stop them."
        )


def ray_up(cluster: definition.Definition) -> None:
    """Run `ray up`, and print its steps (see `STEPS`).

    The output of `ray up` is written to a log file, which is removed if the start succeeds.

    Raises:
        NotReady: `ray up` failed; the message names the log file.
    """
    command = [
        *ssh.RAY,
        "up",
        "-y",
        "--log-style",
        "pretty",
        "--log-color",
        "false",
        str(cluster.path),
    ]
    environment = {**ssh.ray_environment(cluster), "PYTHONUNBUFFERED": "1"}
    last = ""
    with tempfile.NamedTemporaryFile("w", prefix="cluster-up-", suffix=".log", delete=False) as log:
        with subprocess.Popen(
            command,
            cwd=definition.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                for step, description in STEPS.items():
                    if step in line:
                        say(description)
                last = plain_text(line) or last
                if ssh.CHANGED_KEY in line:  # stop here, because Ray would try for minutes
                    process.terminate()
                    last = (
                        "the head's host key has changed since the first connection. "
                        f"{ssh.login_of(cluster).changed_key_advice(cluster.head or 'HEAD')}"
                    )
                    break
        if process.returncode:
            raise NotReady(f"'ray up' failed ({last}). The complete output is in {log.name}")
    Path(log.name).unlink()


def plain_text(line: str) -> str:
    """Remove colours and horizontal rules from a line of `ray up`; the result may be empty."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip().strip("!-").strip()


def wait_for_workers(cluster: definition.Definition, url: str, timeout_s: float) -> None:
    """Wait until at least `least_workers` workers are alive; print each as it joins.

    Raises:
        NotReady: workers are missing after `timeout_s`, or the dashboard does not respond by then.
    """
    deadline, joined_addresses = time.monotonic() + timeout_s, set[str]()
    if cluster.least_workers:
        say(
            f"waiting for {cluster.least_workers} worker{'s' * (cluster.least_workers != 1)}; "
            "at its first start, each worker also installs all packages"
        )
    while True:
        try:
            alive = [
                node for node in dashboard.state(url).nodes if node.is_alive and not node.is_head
            ]
        except NotReady:  # the dashboard starts after Ray
            alive = []
            if time.monotonic() > deadline:
                raise
        for node in alive:
            if node.address not in joined_addresses:
                say(
                    f"  {node.address} has joined the cluster (CPUs: {node.cpus:g}, "
                    f"GPUs: {node.gpus:g})"
                )
                joined_addresses.add(node.address)
        if len(alive) >= cluster.least_workers:
            return
        if time.monotonic() > deadline:
            missing = [host for host in cluster.workers if host not in joined_addresses]
            names = f" (missing: {', '.join(missing)})" if missing else ""
            log_command = (
                f"ray exec {cluster.path} 'tail -n 50 /tmp/ray/session_latest/logs/monitor.*'"
            )
            raise NotReady(
                f"only {len(alive)} of {cluster.least_workers} workers have joined within "
                f"{timeout_s:g} s{names}. To find out why, run: {log_command}"
            )
        time.sleep(POLL_S)


def parser() -> argparse.ArgumentParser:
    """Define the arguments of `python -m cluster.up`."""
    parser = Parser(
        prog="python -m cluster.up",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    file_argument(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=1800,
        metavar="SECONDS",
        help="the time within which the workers must join",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="restart a running cluster, which stops the jobs that run on it",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, start the cluster, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
