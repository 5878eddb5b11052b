"""Reach a cluster's hosts: run commands by ssh, and open a tunnel to the dashboard.

The dashboard listens only on 127.0.0.1 of the head. At the first connection, a host's key is stored
in the cluster's own file of known hosts. From then on, any other key of this host is refused. Text
that a host's shell prints before or after a command, such as a greeting, is removed. Every wait for
a host has a time limit.
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
from cluster.cli import expand_path
from cluster.definition import ROOT, Definition
from cluster.errors import Denied, NotReady

DASHBOARD_PORT = 8265
CONNECT_S, OPEN_S = 10, 60
"""The time limits for a connection by ssh, and for opening a tunnel, in seconds."""
RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command `ray`, run by the same Python as this process."""


PROGRAMS = ROOT / "cluster" / "bin"
"""The folder of our wrapper of `ssh`. Ray's commands use it, because the folder is first on their
PATH.
"""
BEGIN_LINE, END_LINE = "cluster-answer-begins", "cluster-answer-ends"
"""Marker lines that a host prints before and after a command's output."""
CHANGED_KEY = "Host key verification failed"
"""The message of ssh if a host's key is not the stored one."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """The user, the key and the proxy command with which ssh logs in to a cluster's hosts."""

    user: str
    key: str = ""
    proxy_command: str = ""
    cluster: str = ""
    """The cluster's name, which is part of the name of the file with the hosts' keys."""

    @property
    def known_hosts(self) -> Path:
        """Path of the file with the keys of the cluster's hosts, next to the token."""
        return auth.token_file().with_name(
            f"known_hosts-{re.sub(r'[^A-Za-z0-9._-]', '_', self.cluster)}"
        )

    def changed_key_advice(self, host: str) -> str:
        """Explain how to remove a host's stored key, for the user whose host has a new key."""
        return (
            "If the host was set up again, remove the old key: ssh-keygen -f "
            f"{shlex.quote(str(self.known_hosts))} -R {host}"
        )


def login_of(cluster: Definition) -> Login:
    """Build the login from a cluster's file."""
    return Login(
        user=cluster.user,
        key=str(cluster.key or ""),
        proxy_command=cluster.proxy_command,
        cluster=cluster.name,
    )


def ssh_command(login: Login, host: str, *options: str, connect_s: float = CONNECT_S) -> list[str]:
    """Build an ssh command that never prompts the user; the caller appends the remote command.

    Side effect: creates the folder of the file of known hosts if it is missing.

    Args:
        login: the user, the key and the proxy command.
        host: the host's name or address.
        *options: further options of ssh.
        connect_s: the time limit for the connection, in seconds.
    """
    login.known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
    # ssh expands `%` in this option.
    known_hosts = str(login.known_hosts).replace("%", "%%")
    # accept-new stores a host's key at the first connection, and later refuses any other key.
    settings = {"BatchMode": "yes", "ConnectTimeout": f"{connect_s:g}", "LogLevel": "ERROR"}
    settings |= {
        "StrictHostKeyChecking": "accept-new",
        "HashKnownHosts": "no",
        "UserKnownHostsFile": f'"{known_hosts}"',
    }
    settings |= {
        # If the host no longer responds, the connection ends after 15 s.
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ExitOnForwardFailure": "yes",
    }
    settings |= {"ProxyCommand": login.proxy_command} if login.proxy_command else {}
    settings |= {"IdentitiesOnly": "yes"} if login.key else {}
    key = ["-i", str(expand_path(login.key))] if login.key else []
    return [
        "ssh",
        "-T",
        *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        *key,
        *options,
        f"{login.user}@{host}",
    ]


def run(
    cluster: Definition, host: str, command: str, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run a command on a host, in bash.

    No exception is raised. If the host was not reached, did not run the command, or did not finish
    it within `timeout_s`, the exit code is 255, and `stderr` contains the reason.
    """
    pipe, arguments = subprocess.PIPE, ssh_command(login_of(cluster), host)
    with subprocess.Popen(
        [*arguments, with_markers(command)],
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            output, complaint = "", f"no answer within {timeout_s:g} s"
        finally:
            end_group(process)
    code = process.returncode
    if code == 255 or complaint.startswith("no answer within"):
        return subprocess.CompletedProcess(
            arguments, 255, "", failure_text(login_of(cluster), host, complaint)
        )
    if f"{BEGIN_LINE}\n" not in output:
        excerpt = " ".join((complaint or output).split())[-200:] or "nothing"
        return subprocess.CompletedProcess(
            arguments, 255, "", f"its shell did not run the command, and printed: {excerpt}"
        )
    return subprocess.CompletedProcess(
        arguments, code, between_markers(output), between_markers(complaint)
    )


def with_markers(command: str) -> str:
    """Wrap the command so that a marker line is printed before and after its output."""
    start = f"printf '\\n%s\\n' {BEGIN_LINE}"
    inner = (
        f"{start}; {start} >&2; ({command}\n); code=$?; printf '\\n%s\\n' {END_LINE}; exit $code"
    )
    return f"bash -c {shlex.quote(inner)}"


def between_markers(output: str) -> str:
    """Extract the text between the two marker lines; empty if the first marker is missing.

    A login shell may print other text before and after them.
    """
    return output.partition(f"{BEGIN_LINE}\n")[2].partition(f"\n{END_LINE}\n")[0]


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Kill an ssh process and its proxy command, which would otherwise keep our pipes open.

    The process must lead its own process group (`start_new_session`).
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def failure_text(login: Login, host: str, message: str) -> str:
    """Return our own message if the host's key is not the stored one, or else ssh's message."""
    return (
        f"the host's key has changed since the first connection. {login.changed_key_advice(host)}"
        if CHANGED_KEY in message
        else message
    )


def run_on(
    cluster: Definition, hosts: Sequence[str], command: str, timeout_s: float = 60
) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """Run the same command on several hosts in parallel, and return the results by host.

    See `run` for the results.
    """
    if not hosts:
        return {}
    with ThreadPoolExecutor(max_workers=min(32, len(hosts))) as pool:
        return dict(
            zip(
                hosts,
                pool.map(lambda host: run(cluster, host, command, timeout_s), hosts),
                strict=True,
            )
        )


def reason(result: "subprocess.CompletedProcess[str]") -> str:
    """Last line of a command's stderr, or else of its stdout, or else its exit code."""
    return (
        (result.stderr or result.stdout).strip().splitlines() or [f"exit code {result.returncode}"]
    )[-1]


def ray_environment(cluster: Definition) -> dict[str, str]:
    """Build the environment variables for Ray's own commands.

    The variables require a token, disable usage reports, put our ssh wrapper first on the PATH and,
    for fixed hosts, select the version of the autoscaler that can start their workers.
    """
    # Version 2 of the autoscaler cannot start workers on fixed hosts. By default Ray waits 900 s
    # for a host's ssh, but `check_hosts` has already connected to it.
    fixed = (
        {"RAY_UP_enable_autoscaler_v2": "0", "AUTOSCALER_NODE_START_WAIT_S": "120"}
        if cluster.is_local
        else {}
    )
    variables = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CLUSTER_KNOWN_HOSTS": str(login_of(cluster).known_hosts),
    }
    return {**os.environ, **variables, "RAY_USAGE_STATS_ENABLED": "0", **auth.MODE, **fixed}


@contextmanager
def tunnel(cluster: Definition) -> Iterator[str]:
    """Open a tunnel to the dashboard, and yield the dashboard's local URL.

    If this machine is the head, no tunnel is needed, and none is opened.

    Raises:
        NotReady: the head cannot be reached.
    """
    if cluster.is_local and not cluster.proxy_command and _is_here(cluster.head):
        yield f"http://127.0.0.1:{DASHBOARD_PORT}"
        return
    port = _free_port()
    with (_own_tunnel if cluster.is_local else _rays_tunnel)(cluster, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _own_tunnel(cluster: Definition, port: int) -> Iterator[None]:
    """Open the tunnel with our own ssh command.

    The remote command is `cat`, which ends when our end of its pipe is closed. So the tunnel is
    closed when this process ends, even if it is killed.

    Raises:
        Denied: the head cannot be reached, or does not open the tunnel within `OPEN_S`.
    """
    remote_command = shlex.quote(f"printf '\\n%s\\n' {BEGIN_LINE}; exec cat")
    command = [
        *ssh_command(
            login_of(cluster), cluster.head, "-L", f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD_PORT}"
        ),
        f"bash -c {remote_command}",
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
            if BEGIN_LINE not in map(str.strip, process.stdout):
                end_group(process)
                message = (
                    f"no answer within {OPEN_S:g} s"
                    if late.is_set()
                    else failure_text(
                        login_of(cluster), cluster.head, process.stderr.read()
                    ).strip()
                    or "no answer"
                )
                raise Denied(
                    f"the head node {cluster.head} cannot be reached by ssh as {cluster.user} "
                    f"({last_line(message)}). Test the connection with: "
                    f"ssh -i {cluster.key} {cluster.user}@{cluster.head}"
                )
            watchdog.cancel()
            yield
        finally:
            watchdog.cancel()
            end_group(process)


@contextmanager
def _rays_tunnel(cluster: Definition, port: int) -> Iterator[None]:
    """Open the tunnel with `ray dashboard`, which looks up the head and its key in the cloud.

    Raises:
        NotReady: the tunnel is not open within two minutes, or `ray dashboard` has failed.
    """
    command = [
        *RAY,
        "dashboard",
        "--port",
        str(port),
        "--remote-port",
        str(DASHBOARD_PORT),
        str(cluster.path),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ray_environment(cluster),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                output = (
                    ""
                    if process.poll() is None or process.stdout is None
                    else process.stdout.read()
                )
                raise NotReady(
                    f"the head node of '{cluster.name}' cannot be reached ({last_line(output)}). "
                    f"If the cluster is not running, start it: python -m cluster.up {cluster.path}"
                )
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def last_line(output: str) -> str:
    """Last line of a program's output; "no answer" if it is empty."""
    return (output.strip().splitlines() or ["no answer"])[-1].strip()


def _is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_here(host: str) -> bool:
    """True if this is an address of this machine: a socket cannot be bound to any other one."""
    with socket.socket() as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            return False
        return True


def relative_to_here(path: Path) -> str:
    """Make a path below the working directory relative; return any other path unchanged."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
