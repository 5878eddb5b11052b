"""Start Ray on one machine without the parts that only a cluster or its dashboard needs.

Ray starts five Python processes beside those that train: the autoscaler's monitor, the server of
the dashboard (without a dashboard too), the monitor that copies workers' output to the driver, and
on each node an agent for metrics and one for runtime environments. The node is not up before its
agents are. A search on one machine uses none. No setting of Ray's leaves them out, so these are
patches. What each saves are seconds of a processor in the first ten of a session, measured on 2
virtual cores of an AMD EPYC that others used too, 2026-11-28.

Ray Train needs more: it makes its workers in runtime environments, and asks the dashboard for the
state of actors. For it the agents stay, and the dashboard has no other part than this.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cluster.runtime.idle
from cluster.runtime.patches import Patch, apply_patches

UNUSED = -1
"""The port that Ray's own agent writes down for a service that it does not offer."""
NOBODY = 1
"""A port on which nothing listens; Ray refuses a negative one for runtime environments."""
DASHBOARD = "dashboard"
"""Ray's name for the kind of process that serves the dashboard."""
MODULES = "--modules-to-load"
"""The option of the dashboard that names its modules; without it all are loaded, each in a process
of its own.
"""
AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
"""The options of the raylet that hold its agents' commands."""


def needs_agents() -> bool:
    """True if processes run in a runtime environment, which only an agent can make."""
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray._private.worker import _maybe_modify_runtime_env

    return RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ or bool(_maybe_modify_runtime_env(None, False))


def lean_ray(*, dashboard: bool) -> AbstractContextManager[None]:
    """Start only the parts that train, if Ray is started inside this context.

    With `dashboard`, the parts that Ray Train needs are started too.
    """
    return apply_patches([*PATCHES, *(FOR_RAY_TRAIN if dashboard else FOR_ONE_WORKER)])


def start_nothing(start: Callable[..., None]) -> Callable[..., None]:
    """Do nothing instead of starting a process."""
    return lambda node: None


def start_no_server(start: Callable[..., None]) -> Callable[..., None]:
    """Note that there is no dashboard instead of starting its server."""

    def note_no_address(node: Any, **options: Any) -> None:
        node._webui_url = ""

    return note_no_address


def start_no_agents(start: Callable[..., Any]) -> Callable[..., Any]:
    """Start the raylet without its agents, and all other processes as they are."""

    def start_without_agents(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        return start(
            without_agents(command) if kind == "raylet" else command, kind, *arguments, **options
        )

    return start_without_agents


def start_small_dashboard(start: Callable[..., Any]) -> Callable[..., Any]:
    """Start the dashboard with the module of the state alone, and all other processes as usual."""

    def start_with_state(command: list[str], kind: str, *arguments: Any, **options: Any) -> Any:
        if kind == DASHBOARD and not any(word.startswith(MODULES) for word in command):
            command = [*command, f"{MODULES}=StateHead"]
        return start(command, kind, *arguments, **options)

    return start_with_state


def without_agents(command: list[str]) -> list[str]:
    """Replace the agents in the raylet's command by idle processes.

    The agents' ports are written down as the agents would do it themselves, because the raylet
    waits for them.
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
    Patch(f"{NODE}.start_monitor", ("self",), start_nothing, "No autoscaler's monitor: 0.8 s."),
    Patch(
        f"{NODE}.start_log_monitor",
        ("self",),
        start_nothing,
        "No monitor of the workers' output: 0.9 s.",
    ),
)
FOR_ONE_WORKER = (
    Patch(
        f"{NODE}.start_api_server",
        ("self", "include_dashboard", "raise_on_failure"),
        start_no_server,
        "No server of a dashboard: 1.6 s.",
    ),
    Patch(START_PROCESS, START_PARAMETERS, start_no_agents, "No agents: 2.7 s."),
)
FOR_RAY_TRAIN = (
    Patch(
        START_PROCESS,
        START_PARAMETERS,
        start_small_dashboard,
        "A dashboard with one module, 10 processes of Ray instead of 20: 1.7 s.",
    ),
)
