"""Kinds of failure that end a trial's process.

What Ray says of a failure is translated to the kinds of `driver.RETRIES`.
"""

import re
from collections.abc import Iterator
from typing import Any

import ray.exceptions

from cluster.secrets import masked
from search.journal.journal import JournalError

LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ActorUnschedulableError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)
"""Errors that mean: the process, its node, or the node that it was to start on, is gone."""
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
        isinstance(cause, LOST) and not getattr(cause, "actor_init_failed", False)
        for cause in causes
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
    """Return whether Ray's memory monitor killed the process.

    Its message lists the command lines of the machine's largest processes: not for others to read.
    """
    return any(
        isinstance(cause, ray.exceptions.RayError)
        and any(words in str(cause)[:2000] for words in KILLED_FOR_MEMORY)
        for cause in _causes(error)
    )


def last_line(error: Any) -> str:
    """Return the last line of an error's message, which a person should read first."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return masked(lines[-1]) if lines else "its process ended without a word"


def reason_of(error: Any, kind: str) -> str:
    """Return the failure in one line."""
    if kind == "moved":
        return "its machine is about to be taken away; it goes on elsewhere from this epoch"
    if killed_for_memory(error):
        return "its process was killed because the machine ran low on memory"
    return "its process or its node was lost" if kind == "lost" else last_line(error)


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
