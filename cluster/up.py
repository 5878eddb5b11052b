"""python -m cluster.up FILE: start a cluster, and wait until its workers are there."""

import argparse
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import auth, dashboard, definition, ssh
from cluster.cli import Parser, file_argument, guarded, say, seconds
from cluster.errors import Denied, NotReady, Refused

POLL_S = 2.0
STEPS = {
    "Waiting for SSH": "waiting for ssh on the head",
    "Processing file mounts": "copying the token and files to the head",
    "Running setup commands": (
        "setting the head up; the first time this installs everything and takes minutes"
    ),
    "Starting the Ray runtime": "starting Ray on the head",
}
"""The steps that Ray's launcher reports, and the words that we print for them."""


def command(args: argparse.Namespace) -> int:
    """Start the cluster, and report each step."""
    began = time.monotonic()
    at = definition.read(args.file)
    if auth.ensure():
        say(
            f"made a token, {auth.token_file()}: "
            "whoever has it can use the cluster, so keep it to yourself"
        )
    if at.local:
        check_hosts(at)
        give_keys(at)
    if not args.restart:
        refuse_to_interrupt(at)
    ray_up(at)
    with ssh.tunnel(at) as url:
        wait_for_workers(at, url, args.timeout)
    say(f"'{at.name}' is up after {time.monotonic() - began:.0f} s")
    shown = ssh.relative_to_here(at.path)
    say(
        f"a search:    python -m cluster.submit {shown} -- python -m search.run --space table3 "
        "--storage s3://BUCKET/PREFIX --tracking http://HOST:5000"
    )
    say(f"what it does: python -m cluster.status {shown}")
    say(f"its end:      python -m cluster.down {shown}")
    return 0


def check_hosts(at: definition.Definition) -> None:
    """Check that each host lets us in, before Ray tries for minutes.

    Raises:
        NotReady: the head does not, or too few workers do; each is named with the reason.
    """
    say(f"asking {len(at.hosts)} hosts for ssh and rsync")
    done = ssh.run_on(at, at.hosts, "command -v rsync >/dev/null || echo missing")
    problems = {
        host: f"{host} is not reached by ssh as {at.user} with {at.key} ({ssh.reason(one)})."
        for host, one in done.items()
        if one.returncode
    }
    problems |= {
        host: f"{host} has no rsync. Install it there."
        for host, one in done.items()
        if not one.returncode and one.stdout.strip()
    }
    if at.head in problems or len(at.workers) - len(problems) < at.least_workers:
        hint = "A cluster starts without some of its workers if the file says so: min_workers."
        raise NotReady(
            "\n".join([*problems.values(), *([hint] if at.head not in problems else [])])
        )
    for problem in problems.values():
        say(f"  {problem} It may join later.")


def give_keys(at: definition.Definition) -> None:
    """Give the head the host keys that the workers have shown here.

    The head needs them because it copies the token to the workers.

    Raises:
        NotReady: the head does not take the file.
    """
    own = ssh.login_of(at).known_hosts
    # The file is missing if the keys are known to the whole machine, or vouched for by a CA.
    keys = shlex.quote(own.read_text() if own.exists() else "")
    done = ssh.run(
        at, at.head, f"umask 077; mkdir -p ~/.ray && printf %s {keys} >~/.ray/known_hosts"
    )
    if done.returncode:
        raise NotReady(f"{at.head} takes no file ({ssh.reason(done)}). Mend that, and try again.")


def refuse_to_interrupt(at: definition.Definition) -> None:
    """Refuse to start a cluster on which jobs run: `ray up` restarts Ray and would end them.

    Raises:
        Refused: jobs run on the cluster now.
        Denied: the cluster is there, but does not list its jobs or is too slow to do so.
    """
    try:
        with ssh.tunnel(at) as url:
            running = [job.name for job in dashboard.jobs(url)]
    except Denied:
        raise
    except NotReady:  # no cluster yet
        return
    if running:
        raise Refused(
            f"'{at.name}' is up and runs {', '.join(running)}; to start it again would end that. "
            "Wait for its end, or use --restart."
        )


def ray_up(at: definition.Definition) -> None:
    """Run `ray up`; its output goes to a file, and its steps are shown to the user.

    Raises:
        NotReady: it failed.
    """
    words = [*ssh.RAY, "up", "-y", "--log-style", "pretty", "--log-color", "false", str(at.path)]
    environment = {**ssh.ray_environment(at), "PYTHONUNBUFFERED": "1"}
    last = ""
    with tempfile.NamedTemporaryFile("w", prefix="cluster-up-", suffix=".log", delete=False) as log:
        with subprocess.Popen(
            words,
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
                for theirs, ours in STEPS.items():
                    if theirs in line:
                        say(ours)
                last = plain(line) or last
                if ssh.CHANGED in line:  # Ray would try for minutes
                    process.terminate()
                    last = (
                        "the head shows another host key than before. "
                        f"{ssh.login_of(at).changed(at.head or 'HEAD')}"
                    )
                    break
        if process.returncode:
            raise NotReady(f"'ray up' failed ({last}). All that it said is in {log.name}")
    Path(log.name).unlink()


def plain(line: str) -> str:
    """Return a line of Ray's launcher without colours and rules; empty if nothing is left."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip().strip("!-").strip()


def wait_for_workers(at: definition.Definition, url: str, timeout_s: float) -> None:
    """Wait until as many workers are alive as the file asks for; print each as it joins.

    Raises:
        NotReady: some are missing after that time.
    """
    end, seen = time.monotonic() + timeout_s, set[str]()
    if at.least_workers:
        say(f"waiting for {at.least_workers} workers; the first time each installs everything too")
    while True:
        try:
            alive = [node for node in dashboard.state(url).nodes if node.alive and not node.head]
        except NotReady:  # the dashboard comes up after Ray
            alive = []
            if time.monotonic() > end:
                raise
        for node in alive:
            if node.address not in seen:
                say(f"  {node.address} is there: {node.cpus:g} CPUs, {node.gpus:g} GPUs")
                seen.add(node.address)
        if len(alive) >= at.least_workers:
            return
        if time.monotonic() > end:
            missing = [host for host in at.workers if host not in seen]
            named = f": {', '.join(missing)}" if missing else ""
            look = f"ray exec {at.path} 'tail -n 50 /tmp/ray/session_latest/logs/monitor.*'"
            raise NotReady(
                f"{len(alive)} of {at.least_workers} workers are there after {timeout_s:g} s; "
                f"missing{named}. To see why: {look}"
            )
        time.sleep(POLL_S)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(
        prog="python -m cluster.up",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    file_argument(made)
    made.add_argument(
        "--timeout",
        type=seconds,
        default=1800,
        metavar="SECONDS",
        help="how long the workers may take",
    )
    made.add_argument(
        "--restart",
        action="store_true",
        help="start a running cluster again, though that ends the jobs that run on it",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, start the cluster, return the exit code (see `cluster.cli`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
