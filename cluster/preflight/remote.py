"""Run the probe on a host over ssh, as `ray up` reaches it.

The result is the probe's report and the difference of the host's clock.
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
"""The time limit for one host. A host that answers needs 2 to 3 s; a loaded one needs longer."""

NOISE = (
    "bash: cannot set terminal process group",
    "bash: no job control",
    "Warning: Permanently added",
)
"""Messages that ssh and an interactive shell print when all is well."""

REASONS = {
    "Permission denied": (
        "refuses the ssh key",
        (
            "Append its public key to ~/.ssh/authorized_keys of that user there, or correct auth "
            "in the file."
        ),
    ),
    "Connection refused": (
        "has its ssh port closed: the connection is refused",
        "Start sshd there, or correct the address.",
    ),
    "timed out": (
        "does not answer",
        "Start it, let ssh through its firewall, or correct the address.",
    ),
    "No route to host": (
        "cannot be reached: no route to it",
        "Correct the address, or connect to its network.",
    ),
    "Network is unreachable": (
        "cannot be reached: there is no network that leads to it",
        "Correct the address, or connect to its network.",
    ),
    "Could not resolve hostname": ("has a name that nobody knows", "Correct the address."),
}
"""Messages of ssh, each with its meaning and remedy for the user."""


@dataclass(frozen=True, kw_only=True)
class HostLogin(Login):
    """The login of a cluster's hosts, and the shell in which a program runs there."""

    container: str = ""
    """The Docker container in which Ray runs; empty if Ray runs on the host itself."""
    before: str = ""
    """Commands that the file runs before it calls Ray, such as activating an environment."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The result for one host: `problem` and `remedy`, or `report`."""

    host: str
    report: Json = field(default_factory=dict)
    ahead_s: float = 0
    """The seconds by which the host's clock is ahead of ours."""
    clock_error_s: float = 0
    """The possible error of `ahead_s` in seconds, which is half of the round trip."""
    problem: str = ""
    remedy: str = ""


def visit(host: str, login: HostLogin, request: Json) -> Visit:
    """Run the probe on a host; a fault of the host becomes its finding and is never raised."""
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
    """Send the probe's text, then the request, and read the host's answers.

    The host reads its clock right after the request arrived. Its clock is compared with ours at the
    middle of the round trip, so the error is at most half of the round trip.
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
    """Read the probe's next answer, skipping lines such as a shell's greeting.

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
    """Build the verbs' own ssh command, with the shell that Ray uses but without a terminal."""
    shell = f"bash --login -c -i {shlex.quote(_in_shell(login, length))}"
    if login.container:
        shell = f"docker exec -i {shlex.quote(login.container)} {shell}"
    return [*ssh.ssh_command(login, host, connect_s=CONNECT_S), shell]


def _in_shell(login: HostLogin, length: int) -> str:
    """Build the shell command that runs the probe on the host.

    It runs the Python that Ray is installed for, else any other, and lets it read the probe.
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
    last = lines[-1] if lines else "it said nothing"
    # The watchdog has killed ssh.
    if code is not None and code < 0:
        return Visit(
            host=host,
            problem=f"does not answer within {LIMIT_S} s",
            remedy="See what keeps it busy, and try again.",
        )
    # 255 is ssh's own exit code; any other is the remote command's.
    if code != 255:
        return Visit(
            host=host,
            problem=f"lets ssh in but cannot run Python 3 ({last})",
            remedy="Install Python and Ray there, on the PATH of a login shell.",
        )
    if ssh.CHANGED_KEY in output:
        return Visit(
            host=host,
            problem="shows another host key than it did before",
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
        problem=f"is not reached by ssh ({last})",
        remedy="Try the same with ssh by hand.",
    )
