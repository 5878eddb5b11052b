"""The exit codes of all commands."""

from enum import IntEnum

ENDED_EARLY = "ended before it was done"


class ExitCode(IntEnum):
    """An exit code, with the end of a command as the pages title it."""

    title: str

    def __new__(cls, code: int, title: str = ENDED_EARLY) -> "ExitCode":
        """Make the code an `int` that has a title."""
        member = int.__new__(cls, code)
        member._value_, member.title = code, title
        return member

    SUCCESS = 0, "done"
    """All is well, and MLflow has all of it."""
    BUG = 1
    """A mistake in this code."""
    USAGE = 2
    """The command, the config, the data or the cluster's file is wrong; nothing was started."""
    SOME_FAILED = 3, "done; some trials failed"
    """The search ended, and some of its trials failed; `search.predict` could not read a file."""
    NOT_READY = 4
    """A host, a service or the cluster is not ready or was lost; trying again is safe."""
    REFUSED = 5
    """A person must decide, for example because a journal is damaged or another driver has it."""
    AT_CHANCE = 6, "done; its answer is no better than guessing"
    """The search ended, and its answer is no better than guessing; trials may have failed too."""
    CHANGED = 7
    """`search.monitor` found that something has changed for a model in use."""
    INTERRUPTED = 130, "paused, or stopped by Ctrl-C"
    """SIGINT stopped it."""
    BROKEN_PIPE = 141
    """Nobody reads its output any more."""
    TERMINATED = 143, "stopped from outside"
    """SIGTERM stopped it."""

    @classmethod
    def title_of(cls, code: int) -> str:
        """The title of an exit code, which may also be one that only other programs have."""
        try:
            return cls(code).title
        except ValueError:
            return ENDED_EARLY
