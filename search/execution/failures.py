"""Classification of the errors that end an attempt of a trial into the kinds of `driver.RETRIES`.

An error comes from the training itself or from Ray. Ray's errors are recognised by the names of
their classes, so that this module works without Ray.
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
"""Names of Ray's errors for a lost process, node or object, and for an actor that could not start
because its node was lost.
"""
LEAVES = {"NodeLeaves", "PreemptionError"}
"""Names of the errors that end a trial because its node is about to be reclaimed: `NodeLeaves` if
the trial has one worker, `PreemptionError` (of Ray Train) if it has several.
"""
KILLED_FOR_MEMORY = ("running low on memory", "memory pressure")
"""Parts of Ray's messages when its memory monitor has killed a process."""
PEER_GONE = re.compile(
    r"connection (reset|closed) by peer|broken pipe|remote process exited|socket timeout"
    r"|connection refused",
    re.IGNORECASE,
)
"""Messages of gloo and NCCL, torch's communication backends, in the surviving workers of a trial
when another worker has died.
"""


def kind_of(error: Any) -> str:
    """Classify a failure as `moved`, `memory`, `lost` or `error` (see `driver.RETRIES`)."""
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

    Do not show the message of such an error: it lists the command lines of other processes.
    """
    return any(
        _is_any(cause, {RAY_ERROR})
        and any(words in str(cause)[:2000] for words in KILLED_FOR_MEMORY)
        for cause in _causes(error)
    )


def last_line(error: Any) -> str:
    """Return the last line of an error's text, which in a traceback names the error.

    Secrets are removed.
    """
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return redact(lines[-1]) if lines else "its process ended without an error message"


def reason_of(error: Any, kind: str) -> str:
    """Describe a failure of this kind in one line, for the journal and the user."""
    if kind == "moved":
        return (
            "its machine is about to be reclaimed; the trial continues from this epoch on another "
            "machine"
        )
    if killed_for_memory(error):
        return "its process was killed because the machine ran low on memory"
    return "its process or its node was lost" if kind == "lost" else last_line(error)


def keep_traceback(home: Home, trial: str, attempt: int, text: str) -> str:
    """Write a traceback to the trial's folder, without secrets.

    Returns:
        The path relative to the search's folder; empty if it could not be written.
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
    """Return the original exception of a chain, or the outermost `JournalError` in the chain.

    This is necessary because Tune wraps the errors of its callbacks in its own errors.
    """
    while (
        not isinstance(error, JournalError)
        and (earlier := error.__cause__ or error.__context__) is not None
    ):
        error = earlier
    return error


def _is_any(error: Any, names: set[str]) -> bool:
    """True if a class of the error's MRO has one of these names."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _causes(error: Any) -> Iterator[Any]:
    """Yield the error, its causes, and the errors of the workers of a Ray Train trial."""
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
