"""A session on this machine must open nothing to others."""

import gc
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from cluster.errors import NotReady
from cluster.runtime.resources import Machines, Resources
from cluster.runtime.session import (
    ALWAYS_SET,
    ENVIRONMENT,
    _no_orphans,
    _set_environment,
    await_end,
    check_address,
    session,
)
from tests.faults.harness import wait_for

LISTENING = """
import time
from pathlib import Path
import psutil
from cluster.runtime.resources import Resources
from cluster.runtime.session import session

with session("local", local=Resources(cpus=1), dashboard=True):
    import ray
    time.sleep(5)  # the dashboard's own servers come up by and by
    started = {process.pid for _, process in ray._private.worker._global_node.live_processes()}
    parents = {one.pid: one.info["ppid"] for one in psutil.process_iter(["ppid"])}
    family = set(started)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    found = {
        one.laddr.ip
        for one in psutil.net_connections("inet")
        if one.status == "LISTEN" and one.pid in family
    }
    print(len(family), oct(Path("~/.ray/auth_token").expanduser().stat().st_mode), *sorted(found))
"""

ENDED = """
import time
import psutil
from contextlib import suppress
from pathlib import Path
from cluster.runtime.resources import Resources
from cluster.runtime.session import session

class Trial:
    def start(self):
        pass

def lives(process):
    with suppress(psutil.Error):  # it may end between two questions
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False

def left():  # for a minute: all have been killed, and a busy machine may take its time
    end = time.monotonic() + 60
    while (found := list(filter(lives, family))) and time.monotonic() < end:
        time.sleep(0.05)
    return found

def run(fails):
    global family, folder
    with session("local", local=Resources(cpus=1)):
        import ray
        trial = ray.remote(Trial).options(num_cpus=0).remote()
        ray.get(trial.start.remote())
        family = psutil.Process().children(recursive=True)
        folder = Path(ray._private.worker._global_node.get_session_dir_path())
        assert len(family) > 3 and folder.exists()
        if fails:
            raise RuntimeError

run(False)
print(left(), folder.exists())
try:
    run(True)
except RuntimeError:
    print(left(), folder.exists())
    import shutil
    shutil.rmtree(folder)
"""


@pytest.mark.ray
def test_a_local_session_leaves_no_process_and_no_file_but_logs_of_errors() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[] False", "[] True"]


def test_a_process_that_is_dead_is_not_waited_for_until_somebody_looks_after_it() -> None:
    """The first process of a container reaps it after seconds, or never."""
    code = (
        "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); "
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as careless:
        assert careless.stdout is not None
        orphan = psutil.Process(int(careless.stdout.readline()))
        orphan.kill()
        await_end([orphan], math.inf)  # for ever, if a dead one counted as alive
        assert orphan.status() == psutil.STATUS_ZOMBIE
        await_end([psutil.Process(careless.pid)], 0.05)  # lives on
        careless.kill()


@pytest.mark.parametrize("is_tidy", [True, False])
def test_a_session_that_came_to_its_end_keeps_its_logs_where_they_are_wanted(
    is_tidy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is known only at its end."""
    import ray

    from cluster.runtime import nodes
    from cluster.runtime import session as module

    ended, said = list[bool](), list[bool]()
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(nodes, "machines", lambda: Machines.of([]))
    monkeypatch.setattr(module, "_end", lambda address, *, tidy=False: ended.append(tidy))
    with session("auto", local=Resources(cpus=1), tidy=lambda: said[0]):
        said.append(is_tidy)
    with pytest.raises(KeyError), session("auto", local=Resources(cpus=1)):
        raise KeyError
    assert ended == [is_tidy, False]


def test_no_garbage_is_collected_while_ray_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray ends the process with code 1 if a thread then frees a reference to one of its objects."""
    import ray

    from cluster.runtime.session import _end

    collecting = list[bool]()
    monkeypatch.setattr(ray, "shutdown", lambda: collecting.append(gc.isenabled()))
    _end("auto")
    assert collecting == [False]
    assert gc.isenabled()


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_session_listens_on_this_machine_only() -> None:
    """The dashboard, which trials on several workers need, listens on this machine only as well.

    The token that opens it is for this user alone.
    """
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    processes, mode, *addresses = done.stdout.split()
    assert 5 < int(processes) <= 10, "beside two agents, the dashboard has one module"
    assert mode.endswith("600")
    assert addresses
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("given", [{}, {"RAY_AUTH_TOKEN": "given"}])
def test_ray_finds_a_token_that_was_never_readable_by_others(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token made by Ray would be readable by all until the session was up.

    A token that is given in the environment needs no file.
    """
    import ray

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**ENVIRONMENT, "HOME": str(tmp_path), **given}.items():
        monkeypatch.setenv(name, value)
    found: list[int] = []

    def look(**options: object) -> None:
        found.extend(
            path.stat().st_mode & 0o777
            for path in (tmp_path / ".ray", tmp_path / ".ray/auth_token")
            if path.exists()
        )
        raise ConnectionError("enough seen")

    monkeypatch.setattr(ray, "init", look)
    with pytest.raises(NotReady, match="enough seen"), session("local", local=Resources(cpus=1)):
        pass
    assert found == ([] if given else [0o700, 0o600])


def test_the_users_settings_of_ray_stay_but_for_those_that_a_search_rests_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "the user's")
    _set_environment("local")
    assert {name: os.environ[name] for name in ENVIRONMENT} == {
        name: value if name in ALWAYS_SET else "the user's" for name, value in ENVIRONMENT.items()
    }


FERTILE = """
import subprocess, sys, time
print("up", flush=True)
for _ in range(2000):
    subprocess.Popen(["sleep", "1500"])
    time.sleep(0.001)
"""


def start_and_break_off() -> "subprocess.Popen[bytes]":
    with suppress(KeyboardInterrupt), _no_orphans():
        child = subprocess.Popen([sys.executable, "-c", FERTILE], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        raise KeyboardInterrupt
    return child


def fertile_ones(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if (
                process.environ().get("FERTILE") == mark
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process.pid)
    return found


def test_a_start_that_is_broken_off_leaves_no_process_that_was_started_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The children start processes while they are looked for."""
    mark = uuid4().hex  # the same test may run beside this one
    monkeypatch.setenv("FERTILE", mark)
    child = start_and_break_off()
    assert child.stdout is not None
    child.stdout.close()
    child.wait()
    wait_for(lambda: not fertile_ones(mark), what="the end of all that it started")


@pytest.mark.parametrize(
    "address", ["", "nowhere", "ray://nowhere", ":6379", "host:port", "host:99999"]
)
def test_what_is_no_address_is_not_ready(address: str) -> None:
    with pytest.raises(
        NotReady, match=r"is not the address of a Ray cluster\. Use local, auto or HOST:PORT\.$"
    ):
        check_address(address)


def test_where_nothing_listens_is_not_ready() -> None:
    with pytest.raises(NotReady, match=r"^there is no Ray cluster at '127\.0\.0\.1:9' "):
        check_address("127.0.0.1:9")


@pytest.mark.parametrize("address", ["local", "auto"])
def test_a_local_session_needs_no_address(address: str) -> None:
    check_address(address)


LEAN = """
from contextlib import suppress
from cluster.runtime.resources import Resources
from cluster.runtime.session import session

with session("local", local=Resources(cpus=1)):
    import psutil
    import ray
    children = psutil.Process().children(recursive=True)
    commands = []
    for one in children:
        with suppress(psutil.Error):
            commands.append(one.cmdline() or [""])
    print(sorted(kind for kind, _ in ray._private.worker._global_node.live_processes()))
    idle = [
        command
        for command in commands
        if any(w.startswith("/") and w.endswith("cluster/runtime/idle.py") for w in command)
    ]
    print(len(idle))
    agents = ("dashboard/agent.py", "agent/main.py")
    print([
        command
        for command in commands
        if command[0].startswith("ray::") and "Agent" in command[0]
        or any(word.endswith(agents) for word in command)
    ])
    print(ray.get(ray.remote(lambda: "trained").options(num_cpus=0).remote()))
"""


@pytest.mark.ray
def test_a_local_session_starts_none_of_the_processes_that_only_a_cluster_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAN], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['gcs_server', 'raylet']", "2", "[]", "trained"]


@pytest.mark.parametrize(
    ("address", "dashboard", "environment", "is_lean"),
    [
        ("local", False, {}, True),
        ("local", True, {}, True),
        ("auto", False, {}, False),
        ("local", False, {"env_vars": {}}, False),
    ],
)
def test_ray_is_started_whole_on_a_cluster_and_with_a_runtime_environment(
    address: str,
    dashboard: bool,
    environment: dict[str, object],
    is_lean: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`uv run` makes one, which only an agent can set up."""
    import ray._private.worker
    from ray._private.node import Node

    from cluster.runtime.session import _lean

    monkeypatch.setattr(
        ray._private.worker, "_maybe_modify_runtime_env", lambda given, skip: environment
    )
    whole = Node.start_monitor
    with _lean(address, dashboard=dashboard):
        assert (Node.start_monitor is not whole) == is_lean
    assert Node.start_monitor is whole


STANDS_IN = """
import sys, time
from cluster.runtime import idle

sleep = time.sleep
def first(seconds):
    time.sleep = sleep
    print("stands in", flush=True)
    sleep(seconds)

time.sleep = first
idle.wait_for_parent(int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "driver", ["os.getpid()", "os.getppid()"], ids=["the driver ends too", "the driver lives on"]
)
def test_what_stands_in_for_an_agent_ends_with_who_started_it(driver: str) -> None:
    from cluster.runtime.session import _is_dead, await_end

    start = (
        f"subprocess.Popen([sys.executable, '-c', {STANDS_IN!r}, str({driver})], "
        "stdout=subprocess.PIPE)"
    )
    script = (
        f"import os, subprocess, sys; process = {start}; process.stdout.readline(); "
        "print(process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=True
    )
    with suppress(psutil.NoSuchProcess):
        stand_in = psutil.Process(int(done.stdout))
        await_end([stand_in], 600)
        assert _is_dead(stand_in)


def test_what_stands_in_for_an_agent_of_a_driver_that_is_gone_ends_at_once() -> None:
    from cluster.runtime import idle

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert (
        subprocess.run(
            [sys.executable, "-I", "-S", idle.__file__, str(gone.pid)], timeout=600, check=False
        ).returncode
        == 0
    )
