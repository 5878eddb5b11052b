"""Run the probe on a host over ssh, with the login that `ray up` uses.

The result is the report of the probe (`cluster.preflight.probe`), and the difference between the
host's clock and ours.
"""

import importlib.util
import json
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import IO, Any

from cluster import ssh
from cluster.preflight.probe import MARK, Json
from cluster.ssh import Login

CONNECT_S = 5
LIMIT_S = 40
"""The time limit for one host, in seconds. An idle host takes 2 to 3 s, a loaded one longer."""

NOISE = (
    "bash: cannot set terminal process group",
    "bash: no job control",
    "Warning: Permanently added",
)
"""Beginnings of harmless messages from ssh and interactive shells."""

REASONS = {
    "Permission denied": (
        "the host refuses the ssh key",
        (
            "Append its public key to ~/.ssh/authorized_keys of that user on the host, or correct "
            "auth in the file."
        ),
    ),
    "Connection refused": (
        "the host refuses connections to its ssh port",
        "Start sshd on the host, or correct the address.",
    ),
    "timed out": (
        "the host does not respond",
        "Start it, allow ssh in its firewall, or correct the address.",
    ),
    "No route to host": (
        "there is no route to the host",
        "Correct the address, or connect to its network.",
    ),
    "Network is unreachable": (
        "the network of the host cannot be reached",
        "Correct the address, or connect to its network.",
    ),
    "Could not resolve hostname": ("the host name cannot be resolved", "Correct the address."),
}
"""Maps a part of ssh's error message to our description of the problem, and its remedy."""


@dataclass(frozen=True, kw_only=True)
class HostLogin(Login):
    """The login of a cluster's hosts, and how to enter Ray's environment on them."""

    container: str = ""
    """The Docker container in which Ray runs; empty if Ray runs on the host itself."""
    before: str = ""
    """Commands that put Ray's environment on the PATH, each followed by `; `."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The result for one host: its `report`, or a `problem` and `remedy` if there is none."""

    host: str
    report: Json = field(default_factory=dict)
    ahead_s: float = 0
    """The seconds by which the host's clock is ahead of ours."""
    clock_error_s: float = 0
    """The largest possible error of `ahead_s` in seconds: half of the round trip."""
    problem: str = ""
    remedy: str = ""


def visit(host: str, login: HostLogin, request: Json) -> Visit:
    """Run the probe on a host. A failure is not raised, but described in the result's `problem`."""
    source = _source()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            _command(host, login, len(source)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        watchdog = Timer(LIMIT_S, ssh.end_group, [process])
        watchdog.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            return _converse(
                host, process.stdin, process.stdout, source, json.dumps({**request, "host": host})
            )
        except (EOFError, BrokenPipeError):
            process.wait()
            errors.seek(0)
            return _failed_visit(
                host, login, process.returncode, errors.read().decode(errors="replace")
            )
        finally:
            watchdog.cancel()
            ssh.end_group(process)
            process.communicate()


def _converse(host: str, stdin: IO[str], stdout: IO[str], source: str, request: str) -> Visit:
    """Send the probe's source, then the request, and read the host's answers.

    The host reads its clock right after the request has arrived. This time is compared with our
    time at the middle of the round trip, so the error is at most half of the round trip.

    Raises:
        EOFError: the host's output has ended early.
        BrokenPipeError: the connection broke while sending.
    """
    stdin.write(source)
    stdin.flush()
    _next(stdout)
    sent, start = time.time(), time.monotonic()
    stdin.write(f"{request}\n")
    stdin.flush()
    clock = float(_next(stdout))
    round_trip_s = time.monotonic() - start
    return Visit(
        host=host,
        ahead_s=clock - (sent + round_trip_s / 2),
        clock_error_s=round_trip_s / 2,
        report=_next(stdout),
    )


def _next(stdout: IO[str]) -> Any:
    """Read the probe's next answer; other lines, such as a shell's greeting, are skipped.

    Raises:
        EOFError: the output has ended.
    """
    for line in stdout:
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    raise EOFError


def _source() -> str:
    spec = importlib.util.find_spec("cluster.preflight.probe")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


def _command(host: str, login: HostLogin, length: int) -> list[str]:
    """Build the ssh command for a host; the probe runs in a login shell, as Ray's commands do.

    `length` is the number of characters of the probe's source.
    """
    shell = f"bash --login -c -i {shlex.quote(_in_shell(login, length))}"
    if login.container:
        shell = f"docker exec -i {shlex.quote(login.container)} {shell}"
    return [*ssh.ssh_command(login, host, connect_s=CONNECT_S), shell]


def _in_shell(login: HostLogin, length: int) -> str:
    """Build the shell command that runs the probe on the host.

    The command starts the Python interpreter that has Ray, or else python3. The interpreter reads
    the probe's source from stdin.
    """
    read = f"import sys; exec(sys.stdin.read({length}))"
    find = (
        'python="$(dirname "$(command -v ray || echo /none/ray)")/python"; '
        '[ -x "$python" ] || python=python3'
    )
    return f'source ~/.bashrc; {login.before} {find}; exec "$python" -c {shlex.quote(read)}'


def _failed_visit(host: str, login: HostLogin, code: int | None, output: str) -> Visit:
    lines = [
        line.strip() for line in output.splitlines() if line.strip() and not line.startswith(NOISE)
    ]
    last = lines[-1] if lines else "no message"
    # A negative code means that ssh was killed by a signal. The watchdog sends it after LIMIT_S.
    if code is not None and code < 0:
        return Visit(
            host=host,
            problem=f"the host did not respond within {LIMIT_S} s",
            remedy="Check what keeps it busy, and try again.",
        )
    # 255 is ssh's own exit code; any other code is that of the remote command.
    if code != 255:
        return Visit(
            host=host,
            problem=f"the login by ssh works, but Python 3 cannot be run ({last})",
            remedy="Install Python and Ray on the host, on the PATH of a login shell.",
        )
    if ssh.CHANGED_KEY in output:
        return Visit(
            host=host,
            problem="the host's key has changed since the first connection",
            remedy=f"{login.changed_key_advice(host)}.",
        )
    for words, (problem, remedy) in REASONS.items():
        if words in output:
            detail = (
                f" {login.key or '(the default ones)'} for user {login.user}"
                if words == "Permission denied"
                else ""
            )
            return Visit(host=host, problem=f"{problem}{detail}", remedy=remedy)
    return Visit(
        host=host,
        problem=f"the host cannot be reached by ssh ({last})",
        remedy="Try to connect to it with ssh by hand.",
    )
