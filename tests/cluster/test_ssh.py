"""Reach real hosts (sshd): greetings, shells that hang, keys that change, proxies; no Ray."""

import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cluster import auth, check, definition, down, ssh, status, up
from cluster.errors import Denied, NotReady
from cluster.preflight import remote
from tests.support.sshd import make_key, needs_sshd, ssh_host

GREETING = (
    "echo Welcome; echo ssh: connect to the wiki >&2; trap 'echo; echo Goodbye' EXIT; "
    "printf 'mail: '\n"
)
"""Printed before and after every command, to stdout and stderr, with and without a line end."""

NODES = [
    {"node_ip": "10.0.0.1", "state": "ALIVE", "is_head_node": True, "resources_total": {}},
    {"node_ip": "10.0.0.2", "state": "ALIVE", "resources_total": {"CPU": 4.0}},
]
SAID: dict[str, Any] = {
    "/api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": {}}}},
    "/api/v0/nodes?detail=1": {"data": {"result": {"result": NODES}}},
    "/api/jobs/": [],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home folder with a token."""
    needs_sshd()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    (tmp_path / "home").mkdir()
    auth.ensure()
    return tmp_path / "home"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the dashboard of a head, at the port where the tunnel ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(SAID[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(ssh, "DASHBOARD_PORT", server.server_port)
        monkeypatch.setattr(ssh, "_is_here", lambda host: False)
        yield
        server.shutdown()


@contextmanager
def cluster(
    folder: Path, bashrc: str = GREETING, **auth_more: str
) -> Iterator[definition.Definition]:
    """Make a file with two hosts whose shell begins with these lines."""
    key = make_key(folder / "key")
    with (
        ssh_host(folder / "head", key, bashrc=bashrc) as head,
        ssh_host(folder / "worker", key, bashrc=bashrc) as worker,
    ):
        content = {
            "cluster_name": "a cluster/of mine",
            "provider": {"type": "local", "head_ip": head, "worker_ips": [worker]},
            "auth": {"ssh_user": "root", "ssh_private_key": str(key), **auth_more},
            "head_start_ray_commands": [f"touch {folder}/head/stopped # ray stop"],
            "worker_start_ray_commands": [f"touch {folder}/worker/stopped # ray stop"],
        }
        (folder / "cluster.yaml").write_text(yaml.safe_dump(content))
        yield definition.read(folder / "cluster.yaml")


def test_a_greeting_is_no_part_of_what_a_command_says(tmp_path: Path) -> None:
    with cluster(tmp_path) as at:
        done = ssh.run(at, at.head, "echo one; echo; echo two; echo three >&2; exit 3")
        assert (done.returncode, done.stdout, done.stderr) == (3, "one\n\ntwo\n", "three\n")
        silent = ssh.run(at, at.head, "exit 4")
        assert (silent.returncode, silent.stdout, ssh.reason(silent)) == (4, "", "exit code 4")


def test_a_greeting_breaks_no_verb(
    tmp_path: Path,
    dashboard: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`cluster.submit` goes by the same tunnel."""
    monkeypatch.setattr(down, "ray_down", lambda at, timeout_s: None)
    monkeypatch.setattr(down, "STILL_THERE", "echo no")  # on this machine others may run Ray
    with cluster(tmp_path) as at:
        up.check_hosts(at)
        up.refuse_to_interrupt(at)
        assert status.command(at.path) == 0
        down.stop_hosts(at)
    said = capsys.readouterr().out
    assert "1 worker alive" in said
    assert said.count("Ray is stopped") == 2
    assert [(tmp_path / name / "stopped").exists() for name in ("head", "worker")] == [True, True]


def test_a_greeting_does_not_break_the_copying_of_files(tmp_path: Path) -> None:
    """Ray's launcher calls rsync, which calls ssh.

    Any bytes are copied unchanged: the file itself holds a line like the greeting.
    """
    content = os.urandom(300_000) + b"\ncluster-answer-begins\n" + bytes(range(256))
    (tmp_path / "file").write_bytes(content)
    with cluster(tmp_path) as at:
        options = (
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes "
            "-o LogLevel=ERROR"
        )

        def copy(source: str | Path, target: str | Path) -> "subprocess.CompletedProcess[str]":
            words = ["rsync", "--rsh", f"ssh -i {at.key} {options}", "-avz", source, target]
            return subprocess.run(
                words,
                env=ssh.ray_environment(at),
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        there = f"root@{at.head}:{tmp_path}/head/copied"
        plain = subprocess.run(
            ["rsync", "--rsh", f"ssh -i {at.key} {options}", "-a", tmp_path / "file", there],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert plain.returncode != 0, "without our ssh it does"
        assert copy(tmp_path / "file", there).returncode == 0
        assert copy(there, tmp_path / "back").returncode == 0
        assert (
            (tmp_path / "back").read_bytes() == (tmp_path / "head/copied").read_bytes() == content
        )
        assert copy(f"{there}-none", tmp_path / "back").returncode == 23
        change_key(at, at.head)
        refused = copy(tmp_path / "file", there)
        assert refused.returncode in (
            12,
            255,
        )  # rsync's own, where it sees the pipe end before ssh has
        assert ssh.CHANGED_KEY in refused.stderr


def test_rays_launcher_gets_the_exit_code_of_what_it_runs(tmp_path: Path) -> None:
    with cluster(tmp_path) as at:
        words = ["ssh", "-i", str(at.key), f"root@{at.head}", "cat; exit 7"]
        done = subprocess.run(
            words,
            env=ssh.ray_environment(at),
            input="all",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 7
    assert "all" in done.stdout


@pytest.mark.parametrize("bashrc", ["read -r line; sleep 15\n", "sleep 15\n"])
def test_a_shell_that_hangs_is_not_waited_for(
    bashrc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_is_here", lambda host: False)
    monkeypatch.setattr(ssh, "OPEN_S", 1.5)
    with cluster(tmp_path, bashrc) as at:
        done = ssh.run(at, at.head, "echo well", timeout_s=1.5)
        assert (done.returncode, done.stdout, ssh.reason(done)) == (
            255,
            "",
            "no answer within 1.5 s",
        )
        with (
            pytest.raises(
                Denied,
                match=(
                    r"^the head node .* cannot be reached by ssh as root \(no answer within "
                    r"1\.5 s\)\. Test the connection with: ssh -i "
                ),
            ),
            ssh.tunnel(at),
        ):
            pass


def test_a_shell_that_runs_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_is_here", lambda host: False)
    with cluster(tmp_path, "echo This account is closed.\nexit 0\n") as at:
        with pytest.raises(
            NotReady,
            match=r"its shell did not run the command, and printed: This account is closed\.",
        ):
            up.check_hosts(at)
        with (
            pytest.raises(Denied, match=r"cannot be reached by ssh as root \(no answer\)"),
            ssh.tunnel(at),
        ):
            pass


def change_key(at: definition.Definition, host: str) -> None:
    """Change a host's key, like a new machine with the same address."""
    file = ssh.login_of(at).known_hosts
    other = make_key(file.with_name(f"other-{host}")).with_name(f"other-{host}.pub").read_text()
    lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{host} ")]
    file.write_text("\n".join([*lines, f"{host} {other}"]))


def test_a_host_that_shows_another_key_is_refused_in_one_line(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys lie beside the token, in a file of the cluster; the user's own is left alone."""
    monkeypatch.setattr(ssh, "_is_here", lambda host: False)
    with cluster(tmp_path, "") as at:
        way = check._host_login(at.content)
        up.check_hosts(at)
        assert (
            way.known_hosts
            == ssh.login_of(at).known_hosts
            == home / ".ray/known_hosts-a_cluster_of_mine"
        )
        assert {line.split()[0] for line in way.known_hosts.read_text().splitlines()} == set(
            at.hosts
        )
        assert not (home / ".ssh").exists()
        for host in at.hosts:
            change_key(at, host)
        remedy = (
            f"If the host was set up again, remove the old key: ssh-keygen -f {way.known_hosts} -R "
            f"{at.head}"
        )
        with pytest.raises(NotReady) as refused:
            up.check_hosts(at)
        first = str(refused.value).splitlines()[0]
        assert first == (
            f"{at.head} cannot be reached by ssh as root with {at.key} (the host's key has "
            f"changed since the first connection. {remedy})."
        )
        changed = r"the host's key has changed since the first connection"
        with pytest.raises(Denied, match=changed), ssh.tunnel(at):
            pass
        visit = remote.visit(at.head, way, {})
        assert (visit.problem, visit.remedy) == (
            "the host's key has changed since the first connection",
            f"{remedy}.",
        )
        subprocess.run(shlex.split(remedy.partition(": ")[2]), check=True, capture_output=True)
        assert ssh.run(at, at.head, "echo again").stdout == "again\n"


def test_the_head_is_told_which_keys_the_workers_have_shown_here(tmp_path: Path) -> None:
    """It copies the token to them."""
    with cluster(tmp_path) as at:
        up.check_hosts(at)
        up.give_keys(at)
        there = tmp_path / "head/.ray/known_hosts"
        assert there.read_text() == ssh.login_of(at).known_hosts.read_text()
        assert {line.split()[0] for line in there.read_text().splitlines()} == set(at.hosts)
        assert [path.stat().st_mode & 0o777 for path in (there.parent, there)] == [0o700, 0o600]


def test_keys_that_the_whole_machine_knows_need_no_file_of_ours(tmp_path: Path) -> None:
    with cluster(tmp_path) as at:
        up.check_hosts(at)
        ssh.login_of(at).known_hosts.replace(tmp_path / "known")
        up.give_keys(at)
        assert (tmp_path / "head/.ray/known_hosts").read_text() == ""


def test_a_proxy_is_used_by_every_verb(
    tmp_path: Path,
    dashboard: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file's addresses are only known behind the proxy, even if this machine has them too."""
    monkeypatch.setattr(ssh, "_is_here", lambda host: True)
    monkeypatch.setattr(down, "ray_down", lambda at, timeout_s: None)
    monkeypatch.setattr(down, "STILL_THERE", "echo no")
    jump = tmp_path / "jump"
    jump.write_text(
        f'#!/bin/sh\necho "$1" >>{tmp_path}/jumps\nexec ssh -i {tmp_path}/key -o '
        "StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \\\n"
        f'    -o LogLevel=ERROR -W "$1:22" root@$(cat {tmp_path}/gate)\n'
    )
    jump.chmod(0o755)
    with cluster(tmp_path, "", ssh_proxy_command=f"{jump} %h") as at:
        (tmp_path / "gate").write_text(at.head)
        assert check._host_login(at.content).proxy_command == at.proxy_command == f"{jump} %h"

        def jumps() -> set[str]:
            found = set((tmp_path / "jumps").read_text().split())
            (tmp_path / "jumps").unlink()
            return found

        up.check_hosts(at)
        assert jumps() == set(at.hosts)
        assert status.command(at.path) == 0
        assert jumps() == {at.head}
        down.stop_hosts(at)
        assert jumps() == set(at.hosts)
    assert "1 worker alive" in capsys.readouterr().out


def test_a_proxy_that_hangs_is_ended_with_its_ssh(tmp_path: Path) -> None:
    """It holds the pipe that its ssh complains on."""
    key, proxy = make_key(tmp_path / "key"), tmp_path / "proxy"
    proxy.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep 60\n")
    proxy.chmod(0o755)
    (tmp_path / "key.yaml").write_text(
        yaml.safe_dump(
            {
                "cluster_name": "c",
                "provider": {"type": "local", "head_ip": "192.0.2.1", "worker_ips": ["192.0.2.2"]},
                "auth": {
                    "ssh_user": "root",
                    "ssh_private_key": str(key),
                    "ssh_proxy_command": str(proxy),
                },
            }
        )
    )
    at = definition.read(tmp_path / "key.yaml")
    done = ssh.run(at, at.head, "echo well", timeout_s=8)  # it may take as long to start
    assert ssh.reason(done) == "no answer within 8 s"
    with suppress(psutil.NoSuchProcess):
        left = psutil.Process(int((tmp_path / "pid").read_text()))
        end = time.monotonic() + 45
        while left.is_running() and left.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_clouds_keys_are_forgotten_with_its_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine may get the address."""
    file = tmp_path / "aws.yaml"
    file.write_text(
        yaml.safe_dump(
            {"cluster_name": "cloud", "provider": {"type": "aws"}, "auth": {"ssh_user": "ubuntu"}}
        )
    )
    at = definition.read(file)
    ssh.login_of(at).known_hosts.write_text("a key")
    monkeypatch.setattr(
        down, "ray_down", lambda at, timeout_s: subprocess.CompletedProcess([], 0, "")
    )
    down.give_back(at)
    assert not ssh.login_of(at).known_hosts.exists()
