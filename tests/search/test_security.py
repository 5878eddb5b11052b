"""What a search on one machine opens, writes and says, seen on a real one (SECURITY.md lists the
promises).
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import needs, path_of
from tests.support.real import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLANTED = "AKIAPLANTEDPLANTED00"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc writes them."""


def may_make_networks() -> bool:
    return (
        all(map(path_of, ("ip", "unshare")))
        and subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode
        == 0
    )


def listening(pid: int) -> set[str]:
    """The addresses at which anything listens in a process's network."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {local.partition(":")[0] for _, local, _, state, *_ in lines if state == "0A"}


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, set[str], str, int]]:
    """A search in a network of its own that reaches nothing but itself, and the addresses that it
    listened on.
    """
    folder, home = tmp_path_factory.mktemp("observed"), tmp_path_factory.mktemp("home")
    words = [
        "--space",
        "smoke",
        "--trials",
        "4",
        "--name",
        "s",
        "--device",
        "cpu",
        "--set",
        "epochs=4",
        "--scheduler",
        "fifo",
    ]
    command = [sys.executable, "-m", "search.run", *words]
    if may_make_networks():
        command = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$0" "$@"', *command]
    environment = {
        **os.environ,
        "HOME": str(home),
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    journal = folder / "searches" / "s" / "journal.jsonl"
    wait_for(lambda: journal.exists() and '"event": "epoch"' in journal.read_text(), process)
    addresses = listening(process.pid)
    out, _ = process.communicate(timeout=600)
    yield folder, addresses, out, process.returncode
    token = home / ".ray" / "auth_token"
    assert not token.exists() or stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_search_needs_nothing_outside_this_machine_and_listens_for_nobody_outside(
    observed: tuple[Path, set[str], str, int],
) -> None:
    needs("ip", "unshare")
    if not may_make_networks():
        pytest.skip("needs to be allowed to make a network namespace")
    _, addresses, out, code = observed
    assert code == 0, out
    assert addresses
    assert addresses <= LOOPBACK


def test_only_the_owner_can_read_a_search(observed: tuple[Path, set[str], str, int]) -> None:
    home = observed[0] / "searches" / "s"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {
        stat.S_IMODE((home / name).stat().st_mode) for name in ("journal.jsonl", "lock.json")
    } == {0o600}


def others_can_read(folder: Path) -> list[Path]:
    """The files that another user of this machine can open."""
    found = []
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            found += others_can_read(path) if mode & 0o011 else []
        elif stat.S_ISREG(mode) and mode & 0o044:
            found.append(path)
    return found


def test_nobody_else_can_read_a_file_that_a_search_wrote(
    observed: tuple[Path, set[str], str, int],
) -> None:
    folder = observed[0]
    assert {"mlflow.db", "mlartifacts", "searches"} <= {path.name for path in folder.iterdir()}
    assert others_can_read(folder) == []


def test_a_credential_in_the_environment_reaches_no_file_and_no_line(
    observed: tuple[Path, set[str], str, int],
) -> None:
    folder, _, out, _ = observed
    assert PLANTED not in out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "mlflow.db", "state.json"} <= {path.name for path in files}
    assert not [path for path in files if PLANTED.encode() in path.read_bytes()]
