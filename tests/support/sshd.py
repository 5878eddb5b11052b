"""Hosts that answer ssh.

Each has a real sshd, on port 22 of a loopback address of its own, and one key opens all of them.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import CHANCE
from tests.support.programs import needs
from tests.support.services import running

SSHD = Path("/usr/sbin/sshd")
READY_S = 600


def needs_sshd() -> None:
    """Skip the test if sshd cannot be run, or lacks what Ray's launcher needs on a host."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sshd on port 22 of a loopback address")
    needs("sshd", "ssh", "ssh-keygen", "rsync")


def free_address() -> str:
    """Return an address of this machine on whose port 22 nothing listens."""
    for _ in range(100):
        address = f"127.{CHANCE.randint(1, 254)}.{CHANCE.randint(0, 254)}.{CHANCE.randint(2, 254)}"
        with socket.socket() as probe:
            try:
                probe.bind((address, 22))
            except OSError:
                continue
            return address
    return pytest.skip("needs port 22 of a loopback address; an sshd of this machine has them all")


def make_key(path: Path) -> Path:
    """Make a private key without a password, and its public half beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@contextmanager
def ssh_host(
    folder: Path, key: Path, *, bashrc: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Provide a host whose home is `folder`; yield its address."""
    address = free_address()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder.mkdir()
    (folder / ".bashrc").write_text(bashrc)
    host_key = make_key(folder / "host_key")
    settings = {
        "ListenAddress": address,
        "PermitRootLogin": "yes",
        "UsePAM": "no",
        "StrictModes": "no",
        "AuthorizedKeysFile": f"{key}.pub",
        "PidFile": "none",
        "SetEnv": " ".join(
            f"{name}={value}"
            for name, value in {"HOME": str(folder), **(environment or {})}.items()
        ),
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    with running(
        [SSHD, "-D", "-e", "-p", 22, "-f", "/dev/null", "-h", host_key, *options],
        folder / "sshd.log",
    ) as process:
        end = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection((address, 22), timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "sshd.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
        yield address
