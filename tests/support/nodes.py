"""Clusters of several nodes on this machine.

Each node is a process of its own that may be lost, and others may join.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster.runtime.session import ENVIRONMENT, _end_family
from tests.faults.harness import ROOT, wait_for
from tests.support.ports import free_port

RAY = Path(sys.executable).parent / "ray"
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
}
"""Settings with which a lost node is noticed within seconds."""


class Nodes:
    """A head, and the nodes that join it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.environment = {
            **ENVIRONMENT,
            **QUICK,
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "PYTHONPATH": str(ROOT),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """The address of the cluster."""
        return f"127.0.0.1:{self.port}"

    def start(
        self,
        cpus: int,
        *words: object,
        before: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one more node, the first of which is the head; `before` precedes its command."""
        role = (
            ["--address", self.address]
            if self.processes
            else [
                "--head",
                "--port",
                self.port,
                "--temp-dir",
                self.folder / "r",
                "--include-dashboard",
                "false",
                "--ray-client-server-port",
                free_port(),
            ]
        )
        command = [
            *before,
            RAY,
            "start",
            "--block",
            *role,
            "--node-ip-address",
            "127.0.0.1",
            "--num-cpus",
            cpus,
            "--disable-usage-stats",
            "--min-worker-port",
            0,
            "--max-worker-port",
            0,
            "--dashboard-agent-listen-port",
            free_port(),
            *words,
        ]
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as out:
            own = {**os.environ, **self.environment, **(environment or {})}
            process = subprocess.Popen(
                list(map(str, command)),
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        wait_for(
            lambda: b"Ray runtime started" in log.read_bytes() or process.poll() is not None,
            what=f"a node: {log}",
        )
        assert process.poll() is None, log.read_text()
        return process

    def lose(self, process: subprocess.Popen[bytes]) -> None:
        """Kill all processes of a node at once."""
        with suppress(psutil.NoSuchProcess):
            _end_family(psutil.Process(process.pid))
        process.wait()


@contextmanager
def nodes(*cpus: int) -> Iterator[Nodes]:
    """Provide a cluster of nodes with so many CPUs each; the first is its head."""
    with tempfile.TemporaryDirectory(prefix="n") as folder:
        cluster = Nodes(Path(folder))
        try:
            for count in cpus:
                cluster.start(count)
            yield cluster
        finally:
            for process in reversed(cluster.processes):
                cluster.lose(process)
