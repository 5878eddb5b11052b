"""Several hosts on one machine, to start a cluster on.

Each has its own address, processes, host name, /tmp and home, and runs sshd. A host is a network,
PID, mount and UTS namespace. Its own PIDs matter: `ray stop` ends every Ray process that it can
see. Needs root.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.programs import needs

ROOT = Path(__file__).parent.parent.parent
SSHD = "/usr/sbin/sshd"
READY_S = 600
PRIVATE = ("/tmp", "/root", "/run", "/dev/shm")
"""Folders that each host has for itself."""

BOOT = """
set -eu
name=$1 keys=$2 address=$3; shift 3
hostname "$name"
mount --make-rprivate /
mount -t tmpfs none /mnt
number=0
for folder; do
    number=$((number + 1)); mkdir "/mnt/$number"; mount --bind "$folder" "/mnt/$number"
done
for folder in {private}; do mount -t tmpfs -o mode=1777 none "$folder"; done
chmod 700 /root
number=0
for folder; do
    number=$((number + 1)); mkdir -p "$folder"; mount --bind "/mnt/$number" "$folder"
done
mkdir -p -m 700 /root/.ssh /run/sshd
install -m 600 "$keys/key.pub" /root/.ssh/authorized_keys
printf '%s\\n' "$BASHRC" >/root/.bashrc
touch /root/.booted
{sshd} -D -e -f /dev/null -h "$keys/host_key" -o ListenAddress="$address" \\
    -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no \\
    -o UsePAM=no -o StrictModes=no -o MaxStartups=100 -o PidFile=none &
wait
""".format(private=" ".join(PRIVATE), sshd=SSHD)
"""The script of a host's first process. The process stays, as bash, and adopts the processes that
lose their parent, as init does.
"""


def run(*words: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in words], check=check, capture_output=True, text=True
    )


def needs_hosts() -> None:
    """Skip the test if no hosts can be made, and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    needs("ip", "unshare", "nsenter", "rsync", "ssh", "ssh-keygen", "sshd")
    probe = f"probe{os.getpid()}"
    if (
        run("ip", "netns", "add", probe, check=False).returncode
        or run("ip", "-n", probe, "link", "add", "switch", "type", "bridge", check=False).returncode
    ):
        run("ip", "netns", "del", probe, check=False)
        pytest.skip("needs the right to make network namespaces and bridges")
    run("ip", "netns", "del", probe)


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host."""

    name: str
    address: str
    namespace: str
    process: "subprocess.Popen[bytes]"

    @property
    def first(self) -> int:
        """The PID of its first process, as this machine sees it."""
        return int(
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            .read_text()
            .split()[0]
        )

    def words(self, *command: object, folder: str = "/root") -> list[str]:
        """Return a command as it is run on the host by root, in a login of its own."""
        inner = (
            f"cd {shlex.quote(folder)} && . /root/.bashrc && exec {shlex.join(map(str, command))}"
        )
        enter = ["nsenter", "--target", str(self.first), "--mount", "--uts", "--net", "--pid"]
        return [
            *enter,
            "env",
            "-i",
            "HOME=/root",
            "USER=root",
            "LOGNAME=root",
            "TERM=dumb",
            "LANG=C.UTF-8",
            "bash",
            "-c",
            inner,
        ]

    @property
    def network_words(self) -> list[str]:
        """Return the prefix that runs a command of this machine on the host's network only."""
        return ["ip", "netns", "exec", self.namespace]

    def run(
        self, *command: object, check: bool = True, timeout: float = 900
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self.words(*command), check=check, capture_output=True, text=True, timeout=timeout
        )

    def processes(self) -> list[str]:
        """Return the command line of every process on the host."""
        return self.run("ps", "-eo", "args", "--no-headers").stdout.splitlines()

    def write(self, path: str, text: str) -> None:
        """Write a file that only its owner reads."""
        done = subprocess.run(
            self.words("bash", "-c", f"umask 077 && mkdir -p $(dirname {path}) && cat >{path}"),
            input=text,
            text=True,
            check=False,
        )
        assert done.returncode == 0

    def cut(self) -> None:
        """Disconnect it from the network."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Connect it again."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Hosts on one switch."""

    folder: Path
    prefix: str
    subnet: str
    keep: Sequence[Path]
    bashrc: str
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        """The private key that is accepted by every host."""
        return self.folder / "key"

    def start(self, name: str) -> None:
        """Start a host."""
        number = len(self.hosts) + 1
        namespace, address = f"{self.prefix}{name}", f"{self.subnet}.{number}"
        self.plug(name, namespace, address)
        kept = [
            path
            for path in self.keep
            if not any(other != path and other in path.parents for other in self.keep)
        ]
        boot = [
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            BOOT,
            "boot",
            name,
            self.folder,
            address,
            *kept,
        ]
        with (self.folder / f"{name}.log").open("wb") as log:
            command = ["ip", "netns", "exec", namespace, *map(str, boot)]
            environment = {**os.environ, "BASHRC": self.bashrc}
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.hosts[name] = Host(name=name, address=address, namespace=namespace, process=process)

    def plug(self, name: str, namespace: str, address: str) -> None:
        """Make a network namespace with one cable into the switch.

        The default route makes programs that ask for their address find this one.
        """
        run("ip", "netns", "add", namespace)
        run(
            "ip",
            "-n",
            self.prefix,
            "link",
            "add",
            f"to-{name}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            namespace,
        )
        run("ip", "-n", self.prefix, "link", "set", f"to-{name}", "master", "switch", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", namespace, "link", "set", link, "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", f"{self.subnet}.254")

    def await_doors(self) -> None:
        """Wait until every sshd answers."""
        for host in self.hosts.values():
            end = time.monotonic() + READY_S
            while not (self.folder / f"{host.name}.log").read_text().count("Server listening"):
                said = (self.folder / f"{host.name}.log").read_text()
                assert host.process.poll() is None, f"host {host.name} did not start: {said}"
                assert time.monotonic() < end, f"host {host.name} is not ready: {said}"
                time.sleep(0.05)

    def end(self) -> None:
        """End every process of every host, and remove the network."""
        for host in self.hosts.values():
            with suppress(OSError, IndexError):
                os.kill(host.first, 9)
            host.process.kill()
            host.process.wait(timeout=120)
            for pid in run("ip", "netns", "pids", host.namespace, check=False).stdout.split():
                with suppress(OSError):
                    os.kill(int(pid), 9)
            run("ip", "netns", "del", host.namespace, check=False)
        run("ip", "netns", "del", self.prefix, check=False)


@contextmanager
def network(
    folder: Path,
    names: Sequence[str],
    *,
    shared: Sequence[Path] = (),
    subnet: str = "10.79.0",
    bashrc: str = "",
) -> Iterator[Network]:
    """Provide hosts of these names, the first with the address `SUBNET.1`.

    This checkout, its Python and `shared` are the same folders on all.
    """
    needs_hosts()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    path = (
        "export "
        f"PATH={Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    keep = [folder, ROOT, Path(sys.prefix), Path(sys.base_prefix), *shared]
    made = Network(
        folder=folder,
        prefix=f"hosts{os.getpid()}",
        subnet=subnet,
        keep=keep,
        bashrc=f"{path}\n{bashrc}",
    )
    try:
        run("ip", "netns", "add", made.prefix)
        run("ip", "-n", made.prefix, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", made.prefix, "link", "set", "switch", "up")
        for name in names:
            made.start(name)
        made.await_doors()
        yield made
    finally:
        made.end()
