"""Reach a cluster's hosts: run commands by ssh, and open a tunnel to the dashboard.

The dashboard listens on the head's 127.0.0.1 only. A host's key is stored in a file of the cluster
when it is first seen, and any other key is refused from then on. Output that a host's shell prints
by itself, before or after the command, is left out. A host that never finishes is not waited for
without a limit.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from typing import Any

from cluster import auth
from cluster.cli import expanded
from cluster.definition import ROOT, Definition
from cluster.errors import Denied, NotReady

DASHBOARD_PORT = 8265
CONNECT_S, OPEN_S = 10, 60
RAY = (sys.executable, "-m", "ray.scripts.scripts")


PROGRAMS = ROOT / "cluster" / "bin"
"""The folder with the ssh program that Ray's own commands call."""
BEGINS, ENDS = "cluster-answer-begins", "cluster-answer-ends"
"""Lines printed before and after a command's output."""
CHANGED = "Host key verification failed"
"""The message of ssh when a host shows another key than before."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """The credentials and the way by which all hosts of a cluster are entered."""

    user: str
    key: str = ""
    proxy_command: str = ""
    cluster: str = ""
    """The cluster's name; the file with the hosts' keys is named after it."""

    @property
    def known_hosts(self) -> Path:
        """The file with the keys that the cluster's hosts have shown; it lies beside the token."""
        return auth.token_file().with_name(
            f"known_hosts-{re.sub(r'[^A-Za-z0-9._-]', '_', self.cluster)}"
        )

    def changed(self, host: str) -> str:
        """Return the advice for a host that shows another key than before."""
        return (
            "If it was set up anew, forget the old key: ssh-keygen -f "
            f"{shlex.quote(str(self.known_hosts))} -R {host}"
        )


def login_of(at: Definition) -> Login:
    """Return the login that a cluster's file describes."""
    return Login(
        user=at.user, key=str(at.key or ""), proxy_command=at.proxy_command, cluster=at.name
    )


def words(login: Login, host: str, *options: str, connect_s: float = CONNECT_S) -> list[str]:
    """Return the ssh command that opens a session on a host without asking the user anything."""
    login.known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
    known_hosts = str(login.known_hosts).replace("%", "%%")
    given = {"BatchMode": "yes", "ConnectTimeout": f"{connect_s:g}", "LogLevel": "ERROR"}
    given |= {
        "StrictHostKeyChecking": "accept-new",
        "HashKnownHosts": "no",
        "UserKnownHostsFile": f'"{known_hosts}"',
    }
    given |= {"ServerAliveInterval": "5", "ServerAliveCountMax": "3", "ExitOnForwardFailure": "yes"}
    given |= {"ProxyCommand": login.proxy_command} if login.proxy_command else {}
    given |= {"IdentitiesOnly": "yes"} if login.key else {}
    key = ["-i", str(expanded(login.key))] if login.key else []
    return [
        "ssh",
        "-T",
        *(word for name, value in given.items() for word in ("-o", f"{name}={value}")),
        *key,
        *options,
        f"{login.user}@{host}",
    ]


def run(
    at: Definition, host: str, command: str, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run a command on a host, in bash.

    Exit code 255 means that the host was not reached or did not run the command, for whatever
    reason.
    """
    pipe, asked = subprocess.PIPE, words(login_of(at), host)
    with subprocess.Popen(
        [*asked, marked(command)],
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            said, complaint = "", f"no answer within {timeout_s:g} s"
        finally:
            end_group(process)
    code = process.returncode
    if code == 255 or complaint.startswith("no answer within"):
        return subprocess.CompletedProcess(asked, 255, "", told(login_of(at), host, complaint))
    if f"{BEGINS}\n" not in said:
        heard = " ".join((complaint or said).split())[-200:] or "nothing"
        return subprocess.CompletedProcess(
            asked, 255, "", f"its shell ran nothing of what was asked, and said: {heard}"
        )
    return subprocess.CompletedProcess(asked, code, between(said), between(complaint))


def marked(command: str) -> str:
    """Return the command with a line printed before and after its output."""
    start = f"printf '\\n%s\\n' {BEGINS}"
    inner = f"{start}; {start} >&2; ({command}\n); code=$?; printf '\\n%s\\n' {ENDS}; exit $code"
    return f"bash -c {shlex.quote(inner)}"


def between(said: str) -> str:
    """Return the output between the two marker lines.

    A shell may print a greeting before and a goodbye after them.
    """
    return said.partition(f"{BEGINS}\n")[2].partition(f"\n{ENDS}\n")[0]


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Kill an ssh process together with its proxy command, which may hold our pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def told(login: Login, host: str, said: str) -> str:
    """Return the message of ssh, or advice if a host shows another key than before."""
    return (
        f"it shows another host key than before. {login.changed(host)}" if CHANGED in said else said
    )


def run_on(
    at: Definition, hosts: Sequence[str], command: str, timeout_s: float = 60
) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """Run the same command on several hosts at once."""
    if not hosts:
        return {}
    with ThreadPoolExecutor(max_workers=min(32, len(hosts))) as pool:
        return dict(
            zip(hosts, pool.map(lambda host: run(at, host, command, timeout_s), hosts), strict=True)
        )


def reason(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line of a finished command's output."""
    return ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"])[
        -1
    ]


def ray_environment(at: Definition) -> dict[str, str]:
    """Return the environment variables for Ray's own commands.

    They set a token, no usage report, our own ssh program, and the autoscaler that starts the
    workers of fixed hosts.
    """
    fixed = (
        {"RAY_UP_enable_autoscaler_v2": "0", "AUTOSCALER_NODE_START_WAIT_S": "120"}
        if at.local
        else {}
    )
    own = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CLUSTER_KNOWN_HOSTS": str(login_of(at).known_hosts),
    }
    return {**os.environ, **own, "RAY_USAGE_STATS_ENABLED": "0", **auth.MODE, **fixed}


@contextmanager
def tunnel(at: Definition) -> Iterator[str]:
    """Open a tunnel to the dashboard and yield its local address.

    Raises:
        NotReady: the head is not reached.
    """
    if at.local and not at.proxy_command and _is_here(at.head):
        yield f"http://127.0.0.1:{DASHBOARD_PORT}"
        return
    port = _free_port()
    with (_own_tunnel if at.local else _rays_tunnel)(at, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _own_tunnel(at: Definition, port: int) -> Iterator[None]:
    """Open the tunnel by ssh.

    The far end waits until our end of the pipe closes, so the tunnel ends with this process,
    however that ends.

    Raises:
        Denied: the head is not reached, or does not open the tunnel.
    """
    ask = shlex.quote(f"printf '\\n%s\\n' {BEGINS}; exec cat")
    command = [
        *words(login_of(at), at.head, "-L", f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD_PORT}"),
        f"bash -c {ask}",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        late = Event()

        def give_up() -> None:
            late.set()
            end_group(process)

        watchdog = Timer(OPEN_S, give_up)
        watchdog.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            if BEGINS not in map(str.strip, process.stdout):
                end_group(process)
                said = (
                    f"no answer within {OPEN_S:g} s"
                    if late.is_set()
                    else told(login_of(at), at.head, process.stderr.read()).strip() or "no answer"
                )
                raise Denied(
                    f"the head {at.head} is not reached by ssh as {at.user} "
                    f"({last_words(said)}). Try: ssh -i {at.key} {at.user}@{at.head}"
                )
            watchdog.cancel()
            yield
        finally:
            watchdog.cancel()
            end_group(process)


@contextmanager
def _rays_tunnel(at: Definition, port: int) -> Iterator[None]:
    """Open the tunnel by Ray, which knows a cloud's head and its key."""
    command = [
        *RAY,
        "dashboard",
        "--port",
        str(port),
        "--remote-port",
        str(DASHBOARD_PORT),
        str(at.path),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ray_environment(at),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 120
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                said = (
                    ""
                    if process.poll() is None or process.stdout is None
                    else process.stdout.read()
                )
                raise NotReady(
                    f"the head of '{at.name}' is not reached ({last_words(said)}). "
                    f"Is the cluster up? Start it with: python -m cluster.up {at.path}"
                )
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def last_words(said: str) -> str:
    """Return the last line of a program's output."""
    return (said.strip().splitlines() or ["no answer"])[-1].strip()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _is_here(host: str) -> bool:
    """Return whether a host's address belongs to this machine, which is when it can be bound."""
    with socket.socket() as one:
        try:
            one.bind((host, 0))
        except OSError:
            return False
        return True


def relative_to_here(path: Path) -> str:
    """Return the path as the user would write it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
