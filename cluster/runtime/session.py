"""Start a Ray session on this machine, or join a running cluster.

This is the only module that calls `ray.init`.
"""

import gc
import logging
import math
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from cluster import auth
from cluster.cli import is_whole
from cluster.errors import NotReady
from cluster.runtime.patches import Patch, apply_patches
from cluster.runtime.resources import Machines, Resources

LOCAL, AUTO = "local", "auto"
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_THRESHOLD_S": "10",
}
"""Environment variables for Ray that a search relies on.

They disable usage reports, require a token for every service, keep trials in the user's working
directory, and disable Tune's state files, loggers and signal handlers.
"""

DEATH_TIMEOUT_S, DEAD_LOOK_S = 5.0, 0.01
"""The maximum time to wait until killed processes are dead, and the interval between checks, in
seconds.
"""

ALWAYS_SET = {"RAY_AIR_NEW_OUTPUT", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"}
"""The variables of `ENVIRONMENT` that override the user's own values.

With other values, Tune would request a report from a dead process, and write files.
"""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment variable with which a local session listens only on 127.0.0.1."""


def _set_environment(address: str) -> None:
    """Set Ray's environment variables; do not override the user's, except those in `ALWAYS_SET`."""
    for name, value in (ENVIRONMENT | (LOOPBACK if address == LOCAL else {})).items():
        if name in ALWAYS_SET:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)


def check_address(address: str) -> None:
    """Check that a service listens at a cluster's address.

    Without this check, Ray would try to connect for minutes. "local" and "auto" are not checked.

    Raises:
        NotReady: the address is malformed, or no service listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in (LOCAL, AUTO):
        return
    if not host or not is_whole(port) or int(port) > 65535:
        raise NotReady(
            f"'{address}' is not the address of a Ray cluster. Use {LOCAL}, {AUTO} or HOST:PORT."
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise NotReady(
            f"there is no Ray cluster at '{address}' ({error}). "
            "Use --address local, or start a cluster with 'ray start --head'."
        ) from error


@contextmanager
def session(
    address: str,
    *,
    local: Resources,
    dashboard: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
    tidy: Callable[[], bool] = lambda: True,
) -> Iterator[Machines]:
    """Connect to Ray, yield the machines that the cluster has now, and disconnect.

    A local session is shut down at the end.

    Args:
        address: "local" to start a session on this machine, or else a running cluster's address.
        local: the resources of a local session.
        dashboard: True to start the dashboard, which Ray Train needs to clean up after trials on
            several workers.
        meanwhile: is called in a thread while Ray's processes start.
        tidy: is called at the end, and returns True if the files of a local session, such as Ray's
            logs, are to be removed. After an exception it is not called, and the files stay.

    Raises:
        NotReady: Ray cannot be reached or started, or the token cannot be written.
    """
    _set_environment(address)
    if address == LOCAL:
        _ensure_token()
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    Thread(target=meanwhile, daemon=True).start()
    try:
        with _no_orphans(), _own_signals(), _lean(address, dashboard=dashboard):
            if address == LOCAL:
                ray.init(
                    address=LOCAL,
                    num_cpus=math.ceil(local.cpus),
                    num_gpus=int(local.gpus),
                    include_dashboard=dashboard,
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
    # Ray raises plain `Exception`s, for example when a busy machine starts it too slowly.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotReady(_unreached_text(address, reason)) from error
    try:
        from cluster.runtime.nodes import machines

        yield machines()
    except BaseException:
        _end(address)
        raise
    _end(address, tidy=tidy())


def _unreached_text(address: str, reason: str) -> str:
    """Compose the error message that Ray was not started or reached."""
    if address == LOCAL:
        return (
            f"Ray could not be started on this machine ({reason}). If the machine is busy, try "
            "again."
        )
    return (
        f"no Ray cluster could be reached with --address {address} ({reason}). "
        "Use --address local, or start a cluster with 'ray start --head'."
    )


def _lean(address: str, *, dashboard: bool) -> AbstractContextManager[None]:
    """Build the context in which Ray starts without unneeded processes (`cluster.runtime.lean`).

    It has no effect if the session is on a cluster or needs a runtime environment.
    """
    from cluster.runtime.lean import lean_ray, needs_agents

    if address != LOCAL or needs_agents():
        return nullcontext()
    return lean_ray(dashboard=dashboard)


def _end(address: str, *, tidy: bool = False) -> None:
    """Disconnect from Ray; kill all processes of a local session.

    The processes are killed at the same time, because nothing in them is needed any more. Ray would
    end them one after another, and wait up to a second for each. With `tidy`, the files of a local
    session are removed from this machine's disk.
    """
    import ray

    node: Any = ray._private.worker._global_node
    folder = Path(node.get_session_dir_path()) if node is not None and address == LOCAL else None
    with apply_patches([END_PATCH]), _no_garbage_collection():
        ray.shutdown()
    if tidy and folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        latest = folder.parent / "session_latest"
        with suppress(OSError):
            if latest.readlink() == folder:
                latest.unlink()


def kill_at_once(kill_in_turn: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Node.kill_all_processes` so that it first kills all processes and their children."""

    def kill(node: Any, *arguments: Any, **options: Any) -> None:
        family = list[psutil.Process]()
        for _, process in node.live_processes():
            with suppress(psutil.Error):
                own = psutil.Process(process.pid)
                family += [own, *own.children(recursive=True)]
                _end_family(own)
        kill_in_turn(node, *arguments, **options)
        await_end(family, DEATH_TIMEOUT_S)

    return kill


END_PATCH = Patch(
    "ray._private.node:Node.kill_all_processes",
    ("self", "check_alive", "allow_graceful", "wait"),
    kill_at_once,
    "With the dashboard, all processes end in 0.6 s instead of 1.6 s, after which 11 processes "
    "lived for another 1.3 s (medians of three). Without it there is no difference.",
)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable garbage collection inside this context.

    If another thread frees a reference to an object of Ray while `ray.shutdown` runs, Ray ends this
    process with exit code 1.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def await_end(family: list[psutil.Process], timeout_s: float) -> None:
    """Wait until these processes are dead, at most `timeout_s`.

    Zombies count as dead, because they hold no resources. A zombie that is not our child stays in
    the process table until init reaps it, which takes seconds in a container.
    """
    deadline = time.monotonic() + timeout_s
    while not all(map(_is_dead, family)) and time.monotonic() < deadline:
        time.sleep(DEAD_LOOK_S)


def _is_dead(process: psutil.Process) -> bool:
    """True if the process is gone, or is a zombie without further threads.

    A process is a zombie as soon as its main thread has ended, even if other threads still run.
    """
    try:
        return not process.is_running() or (
            process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        )
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _no_orphans() -> Iterator[None]:
    """If this context ends with an exception, kill the processes that were started inside it.

    Otherwise, Ray's agents would run for another minute after the start of a session has failed or
    was interrupted.
    """
    mine = psutil.Process()
    before = set(mine.children())
    try:
        yield
    except BaseException:
        for child in set(mine.children()) - before:
            _end_family(child)
        raise


def _end_family(process: psutil.Process) -> None:
    """Kill a process and all its descendants.

    The process is suspended first, so that it cannot start further processes.
    """
    with suppress(psutil.Error):
        process.suspend()
        for child in process.children():
            _end_family(child)
        process.kill()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the present SIGTERM handler when Ray is initialised inside this context.

    Ray would replace it by a handler that ends the process immediately, with Ray's own exit code.
    """
    handler = signal.getsignal(signal.SIGTERM)
    with apply_patches([SIGNAL_PATCH]):
        yield
    if threading.current_thread() is threading.main_thread():
        # Ray's native code has installed a handler that prints a stack trace, so restore ours.
        signal.signal(signal.SIGTERM, handler)


def install_nothing(install: Callable[..., None]) -> Callable[..., None]:
    """Wrap `set_sigterm_handler` so that it installs no handler."""
    return lambda handler: None


SIGNAL_PATCH = Patch(
    "ray._private.utils:set_sigterm_handler",
    ("sigterm_handler",),
    install_nothing,
    "A SIGTERM while Ray starts ends the search with its own exit code: "
    "`test_a_signal_while_ray_starts`.",
)


def dead_parts() -> list[str]:
    """List the Ray processes of this session that have died, by Ray's names for them.

    If the control store has died, Ray ends this process too, a minute later and without an error.
    """
    import ray

    node = ray._private.worker._global_node
    return [kind for kind, _ in node.dead_processes()] if node is not None else []


def _ensure_token() -> None:
    """Create a private token before Ray looks for one, unless the user has set another.

    If Ray created the token itself, everybody could read it until the session is running.
    """
    if (
        os.environ["RAY_AUTH_MODE"] == "token"
        and not os.environ.get("RAY_AUTH_TOKEN")
        and not os.environ.get("RAY_AUTH_TOKEN_PATH")
    ):
        auth.ensure()
