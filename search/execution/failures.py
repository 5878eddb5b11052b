"""Kinds of failure that end a trial's process.

What a training raises, and what Ray says of a failure, is translated to the kinds of
`driver.RETRIES`. Ray's errors are known by their names, so that this works without Ray.
"""

import re
from collections.abc import Iterator
from typing import Any

from cluster.secrets import redact
from search.journal.journal import JournalError
from search.journal.store import TRIALS, Home

RAY_ERROR = "RayError"
LOST = {
    "RayActorError",
    "ActorUnschedulableError",
    "WorkerCrashedError",
    "NodeDiedError",
    "ObjectLostError",
}
"""Ray's errors that mean: the process, its node, or the node that it was to start on, is gone."""
LEAVES = {"NodeLeaves", "PreemptionError"}
"""The errors, by name, of a trial that leaves its node after an epoch, and of a trial of Ray Train
whose node is taken away with notice.
"""
KILLED_FOR_MEMORY = ("running low on memory", "memory pressure")
"""Ray's words when its memory monitor has killed a process."""
PEER_GONE = re.compile(
    r"connection (reset|closed) by peer|broken pipe|remote process exited|socket timeout"
    r"|connection refused",
    re.IGNORECASE,
)
"""Messages of gloo and NCCL in the workers that are left when one of them has died."""


def kind_of(error: Any) -> str:
    """Return the kind of a failure: `moved`, `memory`, `lost` or `error`."""
    causes = list(_causes(error))
    if any(type(cause).__name__ in LEAVES for cause in causes):
        return "moved"
    if killed_for_memory(error) or any(
        isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        for cause in causes
    ):
        return "memory"
    if any(
        _is_any(cause, LOST) and not getattr(cause, "actor_init_failed", False) for cause in causes
    ):
        return "lost"
    workers = [
        failure for cause in causes for failure in getattr(cause, "worker_failures", {}).values()
    ]
    return (
        "lost"
        if workers and all(PEER_GONE.search(str(failure)) for failure in workers)
        else "error"
    )


def killed_for_memory(error: Any) -> bool:
    """True if Ray's memory monitor killed the process.

    Its message lists the command lines of the machine's largest processes: not for others to read.
    """
    return any(
        _is_any(cause, {RAY_ERROR})
        and any(words in str(cause)[:2000] for words in KILLED_FOR_MEMORY)
        for cause in _causes(error)
    )


def last_line(error: Any) -> str:
    """Return the last line of an error's message, which a person should read first."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return redact(lines[-1]) if lines else "its process ended without a word"


def reason_of(error: Any, kind: str) -> str:
    """Return the failure in one line."""
    if kind == "moved":
        return "its machine is about to be taken away; it goes on elsewhere from this epoch"
    if killed_for_memory(error):
        return "its process was killed because the machine ran low on memory"
    return "its process or its node was lost" if kind == "lost" else last_line(error)


def keep_traceback(home: Home, trial: str, attempt: int, text: str) -> str:
    """Write a traceback into the trial's folder, and return its path in the search's folder.

    Return an empty path if the disk refuses: that is then reported elsewhere.
    """
    path = f"{TRIALS}/{trial}/errors/attempt-{attempt}.txt"
    try:
        (home.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (home.folder / path).write_text(redact(text), errors="backslashreplace")
        home.keep(path)
    except OSError:
        return ""
    return path


def innermost(error: BaseException) -> BaseException:
    """Return the exception that began a chain: Tune wraps what its callbacks raise in its own.

    An exception of the journal counts as the first, whatever caused it.
    """
    while (
        not isinstance(error, JournalError)
        and (earlier := error.__cause__ or error.__context__) is not None
    ):
        error = earlier
    return error


def _is_any(error: Any, names: set[str]) -> bool:
    """True if an error is of a class with one of these names, or of one derived from it."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _causes(error: Any) -> Iterator[Any]:
    """Yield the error, what caused it, and what happened to each worker of a group."""
    yield error
    for inner in (
        getattr(error, "cause", None),
        getattr(error, "__cause__", None),
        getattr(error, "health_check_failure", None),
    ):
        if isinstance(inner, BaseException) and inner is not error:
            yield from _causes(inner)
    for inner in getattr(error, "worker_failures", {}).values():
        yield from _causes(inner)
