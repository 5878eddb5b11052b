"""The exit codes of all commands."""

from enum import IntEnum

ENDED_EARLY = "ended before it was finished"


class ExitCode(IntEnum):
    """An exit code, with the title that the web pages show for a command that ended with it."""

    title: str

    def __new__(cls, code: int, title: str = ENDED_EARLY) -> "ExitCode":
        """Create a member that is an `int` with the attribute `title`."""
        member = int.__new__(cls, code)
        member._value_, member.title = code, title
        return member

    SUCCESS = 0, "done"
    """The command succeeded, and everything has been written to MLflow."""
    BUG = 1
    """An unexpected exception: a bug in this program."""
    USAGE = 2
    """The command, the config, the data or the cluster's file is wrong; nothing was started."""
    SOME_FAILED = 3, "done; some trials failed"
    """The search finished with failed trials, or `search.predict` could not read a file."""
    NOT_READY = 4
    """A host, a service or the cluster is unavailable or was lost; trying again is safe."""
    REFUSED = 5
    """A person must decide, for example because a journal is damaged or another driver runs."""
    AT_CHANCE = 6, "done; the model is no better than guessing"
    """The search finished, but its model is no better than guessing; trials may have failed too."""
    CHANGED = 7
    """`search.monitor` found a change in the inputs or behaviour of a model in use."""
    INTERRUPTED = 130, "interrupted, by a pause or by Ctrl-C"
    """SIGINT stopped the command."""
    BROKEN_PIPE = 141
    """The reader of the command's output has closed it, as `head` does."""
    TERMINATED = 143, "stopped by a signal"
    """SIGTERM stopped the command."""

    @classmethod
    def title_of(cls, code: int) -> str:
        """The title of an exit code; `ENDED_EARLY` for a code that is no `ExitCode`."""
        try:
            return cls(code).title
        except ValueError:
            return ENDED_EARLY
