"""How a program is called from here, and other words that several verbs say."""

import shlex
import shutil
import sys
from pathlib import Path

from search.experiment import Experiment
from search.journal.store import Storage

DEFAULT_STORAGE = Path("searches")

DECODED_OTHERWISE = "this version decodes large JPEGs, transparent images and those of more than 8 bits differently than the version that began the search"


def verb(name: str, experiment: Experiment) -> str:
    """The command line of another verb for this search."""
    return verb_for(name, experiment.name, experiment.storage)


def verb_for(name: str, search: str, storage: Storage) -> str:
    """The same, where there is no experiment."""
    where = "" if storage == DEFAULT_STORAGE else f" --storage {shlex.quote(str(storage))}"
    return f"{program('python')} -m search.{name} {search}{where}"


def going_on(resume: str, outcome: str) -> str:
    """How a search that ended so goes on, by this command."""
    return f"{resume} --budget LIMIT (a larger one)" if outcome == "budget" else resume


def duration(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `2 days`."""
    for unit, length, above in (("days", 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 120)):
        if seconds >= above:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def durations(least: float, most: float) -> str:
    """`5 min to 3 h`; one of them where they are written alike."""
    ends = dict.fromkeys((duration(least), duration(most)))
    return " to ".join(ends)


def last_line_of(reason: str, unknown: str = "") -> str:
    """The last line of a reason, which of a traceback is the error; `unknown` if there is none."""
    return (reason.strip().splitlines() or [unknown])[-1]


def program(name: str) -> str:
    """How a program of this Python's environment is called from here: by its name where that finds
    it, else by its path.
    """
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path) or not path.exists():
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
