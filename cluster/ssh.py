"""The way to a cluster's hosts: commands by ssh, and a tunnel to the dashboard, which listens on the head's 127.0.0.1 only."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cluster import auth
from cluster.definition import ROOT, Definition
from cluster.errors import NotReady

DASHBOARD_PORT = 8265
CONNECT_S = 10
RAY = (sys.executable, "-m", "ray.scripts.scripts")


def words(at: Definition, host: str, *options: str) -> list[str]:
    """The command that opens a session on a host; it asks nothing. A host whose key has changed since is refused."""
    quick = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"]
    alive = ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ExitOnForwardFailure=yes"]
    key = ["-i", str(at.key), "-o", "IdentitiesOnly=yes"] if at.key is not None else []
    return ["ssh", *quick, *alive, *key, *options, f"{at.user}@{host}"]


def run(at: Definition, host: str, command: str, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
    """Run a command on a host; 255 means that the host was not reached, whatever the reason."""
    try:
        return subprocess.run([*words(at, host), command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 255, "", f"no answer within {timeout_s:g} s")


def run_on(at: Definition, hosts: Sequence[str], command: str, timeout_s: float = 60) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """The same command on several hosts at once."""
    if not hosts:
        return {}
    with ThreadPoolExecutor(max_workers=min(32, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(lambda host: run(at, host, command, timeout_s), hosts), strict=True))


def reason(done: "subprocess.CompletedProcess[str]") -> str:
    """What ssh, or the command, said last."""
    return ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def ray_environment(at: Definition) -> dict[str, str]:
    """What Ray's own commands run with: a token, no phoning home, and the autoscaler that starts a fixed host's workers."""
    fixed = {"RAY_UP_enable_autoscaler_v2": "0", "AUTOSCALER_NODE_START_WAIT_S": "120"} if at.local else {}
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **auth.MODE, **fixed}


@contextmanager
def tunnel(at: Definition) -> Iterator[str]:
    """The dashboard's address, as long as the tunnel to it stands.

    Raises:
        NotReady: the head is not reached.
    """
    if at.local and _is_here(at.head):
        yield f"http://127.0.0.1:{DASHBOARD_PORT}"
        return
    port = _free_port()
    with (_own_tunnel if at.local else _rays_tunnel)(at, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _own_tunnel(at: Definition, port: int) -> Iterator[None]:
    """By ssh. The far end waits for our end of the pipe to close, so that the tunnel ends with this process, however that ends."""
    command = [*words(at, at.head, "-L", f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD_PORT}"), "echo open && exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline().strip() != "open":
                said = (process.stderr.read().strip().splitlines() or ["no answer"])[-1]
                raise NotReady(f"the head {at.head} is not reached by ssh as {at.user} ({said}). Try: ssh -i {at.key} {at.user}@{at.head}")
            yield
        finally:
            process.terminate()


@contextmanager
def _rays_tunnel(at: Definition, port: int) -> Iterator[None]:
    """By Ray, which knows a cloud's head and its key."""
    command = [*RAY, "dashboard", "--port", str(port), "--remote-port", str(DASHBOARD_PORT), str(at.path)]
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
                said = "" if process.poll() is None or process.stdout is None else process.stdout.read()
                raise NotReady(f"the head of '{at.name}' is not reached ({last_words(said)}). Is the cluster up? Start it with: python -m cluster.up {at.path}")
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def last_words(said: str) -> str:
    """The last line of what a program said."""
    return (said.strip().splitlines() or ["no answer"])[-1].strip()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _is_here(host: str) -> bool:
    """Whether a host's address is one of this machine's: then there is something to bind to."""
    with socket.socket() as one:
        try:
            one.bind((host, 0))
        except OSError:
            return False
        return True


def relative_to_here(path: Path) -> str:
    """A path as the user would write it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
