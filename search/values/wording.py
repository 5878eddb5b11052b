"""Texts that several commands share: durations, notes and refusals."""

from collections.abc import Iterable
from pathlib import Path

DEFAULT_STORAGE = Path("searches")
"""The folder where searches are stored by default, in the working directory."""

RUN_LIST = "models"
"""The key of our view of MLflow's run list, which shows the metrics of a search as columns."""

DECODED_OTHERWISE = (
    "this version reads more image formats and folder layouts than the version that started the "
    "search, and may decode large JPEGs, transparent images and images of more than 8 bits "
    "differently"
)


def changes_text(search: str, changes: Iterable[str]) -> str:
    """Compose the refusal to continue a changed search; `changes` has a line for each change."""
    title = (
        f"the search '{search}' has changed since its last session. Undo the change, or continue "
        "with --allow-change:"
    )
    return "\n".join([title, *changes])


def duration(seconds: float) -> str:
    """Format a duration, such as `12 s`, `5 min`, `3 h` or `2 days`."""
    for unit, length, above in (("days", 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 120)):
        if seconds >= above:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def durations(least: float, most: float) -> str:
    """Format a range of seconds, such as `5 min to 3 h`; one duration if both read the same."""
    ends = dict.fromkeys((duration(least), duration(most)))
    return " to ".join(ends)


def cut_off_text(size: int) -> str:
    """Compose the note that an incomplete last line of `size` bytes was removed from a journal."""
    return (
        f"note: the last line of the journal was incomplete ({size} bytes) and was removed. "
        "Its event had not taken effect."
    )


def last_line_of(reason: str, unknown: str = "") -> str:
    """Return the last line of a reason, which in a traceback is the error.

    Return `unknown` if the reason is empty.
    """
    return (reason.strip().splitlines() or [unknown])[-1]
