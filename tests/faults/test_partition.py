"""Two hosts on one machine, and the cable between them cut. Needs root: each host is a network
namespace with a `/tmp/ray` of its own.
"""

import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Search, wait_for
from tests.faults.oracle import assert_contract
from tests.support.ports import free_ports
from tests.support.programs import needs
from tests.support.services import seaweedfs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

HEAD, FAR = "10.78.0.1", "10.78.0.2"
RAY = (sys.executable, "-m", "ray.scripts.scripts")
OWN_TMP = 'mount --make-rprivate / && mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && "$@"'
QUICK = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 3}
"""A node that does not answer for some six seconds is given up; Ray's own values take half a
minute.
"""
BOTH_ARE_THERE = """
import time, ray
ray.init(log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.1)
"""

HEAD_COMMAND = [
    *RAY,
    "start",
    "--head",
    "--port",
    "6379",
    "--node-ip-address",
    HEAD,
    "--num-cpus",
    "1",
    "--include-dashboard",
    "false",
    "--disable-usage-stats",
]
STARTING_HEAD = (
    "sh",
    "-c",
    f"{shlex.join(HEAD_COMMAND)} >/dev/null 2>&1 && "
    f'{shlex.join([sys.executable, "-c", BOTH_ARE_THERE])} >/dev/null 2>&1 && exec "$@"',
    "sh",
)
"""The words before a command that runs once there is a head, and the far host has joined it."""
COUNTING = """
import asyncio, json, sys
host, port, target, file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
counts = {}

async def copy(reader, writer, client=None):
    try:
        while part := await reader.read(65536):
            if client is not None:
                counts[client] += len(part)
                open(file, "w").write(json.dumps(counts))
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    client = writer.get_extra_info("peername")[0]
    counts.setdefault(client, 0)
    far_reader, far_writer = await asyncio.open_connection(host, target)
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer, client))

async def main():
    server = await asyncio.start_server(serve, host, port)
    open(file, "w").write("{}")
    async with server:
        await server.serve_forever()

asyncio.run(main())
"""
"""A proxy that writes how many bytes it has sent to each client."""
UPLOAD = """
import sys, boto3, pathlib
folder = pathlib.Path(sys.argv[1])
client = boto3.client("s3")
for path in sorted(folder.rglob("*.png")):
    client.upload_file(str(path), "bucket", f"pictures/{path.relative_to(folder).as_posix()}")
"""


def ip(*words: str) -> int:
    return subprocess.run(["ip", *words], check=False, capture_output=True).returncode


def needs_namespaces() -> None:
    needs("ip", "unshare")
    probe = f"probe{os.getpid()}"
    if os.geteuid() != 0 or ip("netns", "add", probe) != 0 or ip("netns", "del", probe) != 0:
        pytest.skip("needs root, to make network namespaces")


@dataclass(frozen=True)
class Hosts:
    """Two hosts, a cable, and what every process on them has in its environment."""

    near: str
    far: str
    environment: dict[str, str]

    def inside(self, host: str, *command: object) -> list[str]:
        """A command as it runs on a host."""
        return [
            "ip",
            "netns",
            "exec",
            host,
            "unshare",
            "-m",
            "sh",
            "-c",
            OWN_TMP,
            "sh",
            *map(str, command),
        ]

    def cut(self) -> None:
        """Pull the far host's plug."""
        assert ip("-n", self.far, "link", "set", "eth0", "down") == 0

    def mend(self) -> None:
        """Put it back."""
        assert ip("-n", self.far, "link", "set", "eth0", "up") == 0


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    needs_namespaces()
    near, far = (f"{name}{os.getpid()}" for name in ("near", "far"))
    for name in (near, far):
        ip("netns", "add", name)
    ip("link", "add", "eth0", "netns", near, "type", "veth", "peer", "name", "eth0", "netns", far)
    for name, address in ((near, HEAD), (far, FAR)):
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", name, "link", "set", link, "up")
    checks = {f"RAY_health_check_{name}": str(value) for name, value in QUICK.items()}
    yield Hosts(
        near,
        far,
        {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            **checks,
        },
    )
    for name in (near, far):
        pids = subprocess.run(
            ["ip", "netns", "pids", name], check=False, capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["kill", "-9", *pids], check=False, capture_output=True)
        ip("netns", "del", name)


def join(hosts: Hosts, search: Search) -> subprocess.Popen[bytes]:
    """The far host becomes a node with one CPU; it tries until the head is there."""
    command = [
        *RAY,
        "start",
        "--address",
        f"{HEAD}:6379",
        "--node-ip-address",
        FAR,
        "--num-cpus",
        "1",
        "--block",
    ]
    again = ["sh", "-c", 'until "$@"; do :; done', "sh", *command]
    environment = {**os.environ, **hosts.environment, **search.environment}
    return subprocess.Popen(
        hosts.inside(hosts.far, *again),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.xdist_group("hosts")  # the test below looks for what this one left
def test_a_node_that_is_cut_off_loses_nothing_and_its_late_words_are_not_heard(
    hosts: Hosts, open_search: OpenSearch
) -> None:
    """F17. The trial of the lost node goes on elsewhere, and the node's worker, which still trains
    for a while, does not spoil it.
    """
    search = open_search()
    search.plan({"do": "hold", "epoch": 2})
    far = join(hosts, search)
    try:
        search.run(
            *GRID,
            "--address",
            f"{HEAD}:6379",
            before=tuple(hosts.inside(hosts.near, *STARTING_HEAD)),
            environment=hosts.environment,
        )
        search.wait_until(
            lambda: any(event["host"] == FAR for event in search.events("running")),
            what="a trial on the far host",
        )
        trial = next(event["trial"] for event in search.events("running") if event["host"] == FAR)
        search.wait_until(
            lambda: any(line["trial"] == trial for line in search.truth()), what="its first epoch"
        )
        hosts.cut()
        search.plan({"do": "sleep", "seconds": 0.8})
        search.wait_for_event("retried", kind="lost", trial=trial)
        search.wait_for_event("running", trial=trial, attempt=2, host=HEAD)
        hosts.mend()
        done = search.finish()
    finally:
        far.kill()
        far.wait()
    assert done.code == 0, done.err
    assert f"trial {trial} is retried (lost)" in done.err
    assert done.summary["trials"] == {"completed": 9}
    assert_contract(search, kills=2)


@pytest.mark.long
@pytest.mark.xdist_group("hosts")
def test_images_of_a_bucket_are_fetched_once_and_both_hosts_train_on_them(
    hosts: Hosts, open_search: OpenSearch, tmp_path: Path
) -> None:
    """The driver's host fetches and decodes; the far one, which has no key, gets the images."""
    search, images, counted = open_search(), tmp_path / "images", tmp_path / "counts.json"
    generator = np.random.default_rng(0)
    for number in range(200):
        low = 120 * (number % 2)
        path = images / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(low, low + 120, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    size = sum(path.stat().st_size for path in images.rglob("*.png"))
    far = join(hosts, search)
    inside = hosts.inside(hosts.near)
    (port,) = free_ports(1)
    proxy = None
    try:
        with seaweedfs(tmp_path / "s3", host=HEAD, inside=inside) as server:
            target = server.endpoint.rpartition(":")[2]
            words = (sys.executable, "-c", COUNTING, HEAD, port, target, counted)
            proxy = subprocess.Popen(hosts.inside(hosts.near, *words))
            wait_for(counted.exists, what="the proxy")
            given = {**hosts.environment, **server.environment}
            subprocess.run(
                hosts.inside(hosts.near, sys.executable, "-c", UPLOAD, images),
                check=True,
                env={**os.environ, **given},
            )
            given["AWS_ENDPOINT_URL"] = f"http://{HEAD}:{port}"
            search.run(
                *GRID,
                "--data",
                "s3://bucket/pictures",
                "--address",
                f"{HEAD}:6379",
                before=tuple(hosts.inside(hosts.near, *STARTING_HEAD)),
                environment=given,
            )
            done = search.finish()
    finally:
        far.kill()
        far.wait()
        if proxy is not None:
            proxy.kill()
            proxy.wait()
    assert done.code in (0, 6), done.err
    assert {event["host"] for event in search.events("running")} == {HEAD, FAR}
    sent = json.loads(counted.read_text())
    assert list(sent) == [HEAD]
    assert size < sent[HEAD] < 1.2 * size


@pytest.mark.long
@pytest.mark.xdist_group("hosts")
def test_the_workers_of_a_trial_on_two_hosts_reach_each_other(
    hosts: Hosts, open_search: OpenSearch
) -> None:
    """Both hosts' name resolves to a loopback address, as on many machines: there, no worker would
    be reached by the other.
    """
    search = open_search()
    far = join(hosts, search)
    try:
        search.run(
            *("--space", "smoke", "--scheduler", "fifo", "--trials", 2, "--set", "epochs=2"),
            *("--workers", 2, "--cpus-per-trial", 1, "--concurrency", 1),
            "--address",
            f"{HEAD}:6379",
            before=tuple(hosts.inside(hosts.near, *STARTING_HEAD)),
            environment=hosts.environment,
        )
        done = search.finish()
    finally:
        far.kill()
        far.wait()
    assert done.code in (0, 6), done.err
    assert done.summary["trials"] == {"completed": 2}
    assert [event["epoch"] for event in search.events("epoch")] == [1, 2, 1, 2]


@pytest.mark.xdist_group("hosts")
def test_hosts_leave_nothing_behind() -> None:
    """The namespaces of the test above are gone."""
    needs_namespaces()
    names = subprocess.run(
        ["ip", "netns", "list"], check=True, capture_output=True, text=True
    ).stdout
    assert f"near{os.getpid()}" not in names
    wait_for(lambda: not Path(f"/run/netns/far{os.getpid()}").exists(), timeout=60)
