import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from search.journal import lease as lease_module
from search.journal.lease import FILE_NAME, SIZE, Lease, LeaseHeld, boot_id, holder_of

HOLD = """
import sys
from pathlib import Path
from search.journal.lease import Lease
Lease(Path(sys.argv[1])).__enter__()
print('held', flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_kept_out_and_told_who_has_it(tmp_path: Path) -> None:
    with Lease(tmp_path):
        assert holder_of(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        with (
            pytest.raises(
                LeaseHeld,
                match=re.escape(f"is being run by process {os.getpid()} on {socket.gethostname()}"),
            ),
            Lease(tmp_path),
        ):
            pass
        assert holder_of(tmp_path)
    assert holder_of(tmp_path) == ""
    with Lease(tmp_path):
        pass


def test_a_killed_driver_lets_go_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeld, match=f"process {process.pid} on"), Lease(tmp_path):
            pass
        process.kill()
        process.wait()
        waits: list[str] = []
        with Lease(tmp_path, say=waits.append):
            assert waits == []


def written_by_other(folder: Path, **values: object) -> None:
    holder = {"host": "far", "pid": 7, "boot": "another boot", "token": "t", "beat": 3} | values
    (folder / FILE_NAME).write_bytes(json.dumps(holder).ljust(SIZE).encode())


def test_after_a_reboot_or_the_end_of_another_machine_it_is_taken_over(tmp_path: Path) -> None:
    written_by_other(tmp_path)
    said: list[str] = []
    assert holder_of(tmp_path) == "process 7 on far, if it is still alive"
    with Lease(tmp_path, say=said.append, patience_s=0.1):
        assert holder_of(tmp_path).startswith(f"process {os.getpid()} on")
    assert said == [
        "the search was last run by process 7 on far; waiting 0.1 s to check whether "
        "that process is still alive"
    ]


def test_a_holder_on_another_machine_that_still_counts_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_by_other(tmp_path)
    monkeypatch.setattr(
        lease_module.time, "sleep", lambda seconds: written_by_other(tmp_path, beat=4)
    )
    with pytest.raises(LeaseHeld, match="process 7 on far"), Lease(tmp_path):
        pass


def test_clocks_do_not_matter(tmp_path: Path) -> None:
    written_by_other(tmp_path)
    os.utime(tmp_path / FILE_NAME, (4e9, 4e9))
    with Lease(tmp_path, patience_s=0.05) as lease:
        assert lease.other_driver() == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 20])
def test_a_damaged_file_keeps_nobody_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert holder_of(tmp_path) == ""
    with Lease(tmp_path):
        assert holder_of(tmp_path)


def test_who_lost_it_does_not_take_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_S", 0.01)
    with Lease(tmp_path) as lease:
        assert lease.other_driver() == ""
        before = lease._read().beat
        written_by_other(tmp_path)
        lease._thread.join(timeout=60)
        assert lease.other_driver() == "process 7 on far"
    assert before >= 0
    assert json.loads((tmp_path / FILE_NAME).read_bytes())["host"] == "far"


def test_a_file_that_was_removed_before_the_lock_came_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a search that could not begin cleans up: its folder goes while the next driver waits
    for the lock.
    """
    lock, times = lease_module._lock, iter(range(9))

    def removed_once(descriptor: int) -> None:
        lock(descriptor)
        if next(times) == 0:
            (tmp_path / "s" / FILE_NAME).unlink()
            (tmp_path / "s").rmdir()

    monkeypatch.setattr(lease_module, "_lock", removed_once)
    with Lease(tmp_path / "s"):
        assert next(times) == 2
        with pytest.raises(LeaseHeld), Lease(tmp_path / "s"):
            pass


@pytest.mark.parametrize("left", [b"", json.dumps({"boot": boot_id(), "pid": 2**30}).encode()])
def test_who_only_looks_is_waited_for_however_busy_the_machine_is(
    left: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file names nobody, or a driver that was killed."""
    (tmp_path / FILE_NAME).write_bytes(left)
    looking, waits = (tmp_path / FILE_NAME).open("rb"), list[float]()
    fcntl.flock(looking, fcntl.LOCK_SH)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if sum(waits) > 3:
            looking.close()

    monkeypatch.setattr(lease_module.time, "sleep", wait)
    with Lease(tmp_path):
        assert holder_of(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
    assert sum(waits) > 3


def test_a_boot_has_a_name() -> None:
    assert boot_id() == boot_id() != ""


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    with Lease(tmp_path / "s"):
        assert (tmp_path / "s" / FILE_NAME).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
