"""Start Ray on one machine without the parts that only a cluster or its dashboard needs.

Besides the workers, Ray starts five Python processes: the autoscaler's monitor, the dashboard's
server (even if the dashboard is off), the monitor that copies workers' output to the driver, and on
each node an agent for metrics and one for runtime environments. Ray waits for the agents before a
node counts as started. A search on one machine uses none of the five. These patches are needed
because no setting of Ray disables them. The gain of a patch is in seconds of CPU time, in the first
ten seconds of a session (measured 2026-11-28 on 2 virtual cores of a shared AMD EPYC).

Ray Train needs more: it creates its workers in runtime environments, and queries the dashboard for
the state of actors. So with Ray Train, the agents are started, and a dashboard with only the module
that serves this state.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cluster.runtime.idle
from cluster.runtime.patches import Patch, apply_patches

UNUSED = -1
"""The port that Ray's agent records for a service that it does not offer."""
NOBODY = 1
"""A port on which nothing listens. It is used for the agent of runtime environments, because Ray
refuses a negative port for this agent.
"""
DASHBOARD = "dashboard"
"""Ray's `process_type` of the dashboard's server."""
MODULES = "--modules-to-load"
"""The option that selects the dashboard's modules. Without it, all modules are loaded, each in its
own process.
"""
STATE_MODULE = "ray.dashboard.modules.state.state_head"
"""Ray's module with `StateHead`, the dashboard module that serves the state of actors."""
AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
"""The options of the raylet whose values are the commands of its agents."""


def needs_agents() -> bool:
    """True if workers run in a runtime environment, which only Ray's agent can create.

    This is the case in a job on a cluster, and if Ray derives an environment from the command that
    started the driver, such as `uv run`.
    """
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray._private.worker import _maybe_modify_runtime_env

    return RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ or bool(_maybe_modify_runtime_env(None, False))


def lean_ray(*, dashboard: bool) -> AbstractContextManager[None]:
    """Patch Ray inside this context so that it starts without the parts that are not needed.

    Args:
        dashboard: True to start the parts that Ray Train needs: the agents, and the dashboard with
            one module.
    """
    return apply_patches([*PATCHES, *(FOR_RAY_TRAIN if dashboard else FOR_ONE_WORKER)])


def start_nothing(start: Callable[..., None]) -> Callable[..., None]:
    """Wrap a method of Ray's `Node` so that it does nothing instead of starting a process."""
    return lambda node: None


def start_no_server(start: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Node.start_api_server` so that it starts no server and records no address."""

    def note_no_address(node: Any, **options: Any) -> None:
        node._webui_url = ""

    return note_no_address


def start_no_agents(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `start_ray_process` so that it starts the raylet without its agents."""

    def start_without_agents(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        return start(
            without_agents(command) if kind == "raylet" else command, kind, *arguments, **options
        )

    return start_without_agents


def start_small_dashboard(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `start_ray_process` so that it starts the dashboard with only the module `StateHead`.

    The command is not changed if it already selects modules, or if Ray has no `STATE_MODULE`.
    """

    def start_with_state(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        names_modules = any(word.startswith(MODULES) for word in command)
        if kind == DASHBOARD and not names_modules and find_spec(STATE_MODULE) is not None:
            command = [*command, f"{MODULES}=StateHead"]
        return start(command, kind, *arguments, **options)

    return start_with_state


def without_agents(command: list[str]) -> list[str]:
    """Replace the agents in the raylet's command by idle processes.

    Side effect: records ports for the agents in the session's folder, as the agents would do. The
    raylet waits for these records.
    """
    import ray._raylet

    names: Any = ray._raylet
    settings = dict(word.partition("=")[::2] for word in command)
    ports = {
        names.METRICS_AGENT_PORT_NAME: UNUSED,
        names.METRICS_EXPORT_PORT_NAME: UNUSED,
        names.DASHBOARD_AGENT_LISTEN_PORT_NAME: UNUSED,
        names.RUNTIME_ENV_AGENT_PORT_NAME: NOBODY,
    }
    for name, port in ports.items():
        names.persist_port(settings["--session_dir"], settings["--node_id"], name, port)
    idle = subprocess.list2cmdline(
        [sys.executable, "-I", "-S", str(Path(cluster.runtime.idle.__file__)), str(os.getpid())]
    )
    return [
        f"{name}={idle}" if (name := word.partition("=")[0]) in AGENTS else word for word in command
    ]


NODE = "ray._private.node:Node"
START_PROCESS = "ray._private.services:start_ray_process"
START_PARAMETERS = (
    "command",
    "process_type",
    "fate_share",
    "env_updates",
    "cwd",
    "use_valgrind",
    "use_gdb",
    "use_valgrind_profiler",
    "use_perftools_profiler",
    "use_tmux",
    "stdout_file",
    "stderr_file",
    "pipe_stdin",
)
PATCHES = (
    Patch(
        f"{NODE}.start_monitor",
        ("self",),
        start_nothing,
        "Without the autoscaler's monitor, Ray starts 0.8 s faster.",
    ),
    Patch(
        f"{NODE}.start_log_monitor",
        ("self",),
        start_nothing,
        "Without the monitor of the workers' output, Ray starts 0.9 s faster.",
    ),
)
FOR_ONE_WORKER = (
    Patch(
        f"{NODE}.start_api_server",
        ("self", "include_dashboard", "raise_on_failure"),
        start_no_server,
        "Without the dashboard's server, Ray starts 1.6 s faster.",
    ),
    Patch(
        START_PROCESS,
        START_PARAMETERS,
        start_no_agents,
        "Without its agents, Ray starts 2.7 s faster.",
    ),
)
FOR_RAY_TRAIN = (
    Patch(
        START_PROCESS,
        START_PARAMETERS,
        start_small_dashboard,
        "A dashboard with a single module needs 10 processes of Ray instead of 20, and starts "
        "1.7 s faster.",
    ),
)
