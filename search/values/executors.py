"""The executors by name: each runs the trainings and evaluations that a driver decides on.

To add one, write it in a file of `search/execution/` and name it here. Its
interface is `search.sessions.executor.Executor`.
"""

from dataclasses import dataclass

DEFAULT_EXECUTOR = "tune"
AUTO_COUNT = "auto"
"""The value of `--concurrency` with which the machines decide how many trainings run at once."""


@dataclass(frozen=True)
class ExecutorEntry:
    """The facts of an executor that are needed before it is imported."""

    begin: str
    """`module:function` of its context manager (`search.sessions.executor.Begin`)."""
    starts: str
    """The end of a session's first line, which says what happens next."""
    start_s: float
    """Seconds that its start and the test of the best trial take, for an estimate."""
    is_sequential: bool = False
    """True if it trains one trial after another, in the command's own process."""


EXECUTORS = {
    "tune": ExecutorEntry("search.execution.tune_executor:begin", "starting Ray", 8),
    "inline": ExecutorEntry(
        "search.execution.inline:begin", "training in this process", 3, is_sequential=True
    ),
}

EXECUTOR_HELP = (
    "tune: Ray Tune; inline: in this process, one trial after another, without Ray (to debug)"
)
