"""Texts that several commands share: durations, last lines, refusals."""

from collections.abc import Iterable
from pathlib import Path

DEFAULT_STORAGE = Path("searches")
"""The place where searches are stored unless another is named."""

RUN_LIST = "models"
"""The key of the view of MLflow's run list that has the columns of a search."""

DECODED_OTHERWISE = (
    "this version reads more formats and layouts of folders, and may decode large JPEGs, "
    "transparent images and those of more than 8 bits differently, than the version that began "
    "the search"
)


def changes_text(search: str, changes: Iterable[str]) -> str:
    """Return the refusal to continue a search that has changed: its changes, one per line."""
    title = (
        f"the search '{search}' is not what it was. Undo the change, or go on with --allow-change:"
    )
    return "\n".join([title, *changes])


def duration(seconds: float) -> str:
    """Return a text such as `12 s`, `5 min`, `3 h` or `2 days`."""
    for unit, length, above in (("days", 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 120)):
        if seconds >= above:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def durations(least: float, most: float) -> str:
    """Return a text such as `5 min to 3 h`; a single duration if both read the same."""
    ends = dict.fromkeys((duration(least), duration(most)))
    return " to ".join(ends)


def cut_off_text(size: int) -> str:
    """Return the note that a half-written line of this many bytes was cut off a journal."""
    return (
        f"note: the journal's last line was half-written ({size} bytes); it was cut off. "
        "What it told had not been acted on."
    )


def last_line_of(reason: str, unknown: str = "") -> str:
    """Return the last line of a reason (of a traceback, the error); `unknown` for an empty one."""
    return (reason.strip().splitlines() or [unknown])[-1]
