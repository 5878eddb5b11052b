"""The table of executors, which run the trainings and evaluations that a driver decides on.

To add one, implement `search.sessions.executor.Executor` in a file of `search/execution/`, and add
an entry to `EXECUTORS`.
"""

from dataclasses import dataclass

from cluster.cli import is_whole
from trainables.errors import ConfigError

DEFAULT_EXECUTOR = "tune"
AUTO_COUNT = "auto"
"""The value of `--concurrency` that runs as many trainings at once as the machines can hold."""


@dataclass(frozen=True)
class ExecutorEntry:
    """The properties of an executor that are needed before it is imported."""

    begin: str
    """The function that starts the executor, as `module:function`, of the type
    `search.sessions.executor.Begin`.
    """
    starts: str
    """The executor's first step, such as `starting Ray`, which ends the first line of a session.
    """
    start_s: float
    """Typical seconds for the start of the executor and the test of the best trial together.

    `--dry-run` uses this number to estimate the duration of a search.
    """
    is_sequential: bool = False
    """True if the executor trains one trial after another, in the command's own process."""


EXECUTORS = {
    "tune": ExecutorEntry("search.execution.tune_executor:begin", "starting Ray", 8),
    "inline": ExecutorEntry(
        "search.execution.inline:begin", "training in this process", 3, is_sequential=True
    ),
}

EXECUTOR_HELP = (
    "tune: Ray Tune; inline: in this process, one trial after another, without Ray (for debugging)"
)


def count_or_auto(text: str) -> int | str:
    """Parse a whole number or `auto`; for the `parse` of an option.

    Raises:
        ConfigError: the text is neither.
    """
    if text != AUTO_COUNT and not is_whole(text.removeprefix("-")):
        raise ConfigError(f"a whole number or {AUTO_COUNT} is needed (got '{text[:80]}')")
    return text if text == AUTO_COUNT else int(text)
