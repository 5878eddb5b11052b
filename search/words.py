"""How a program is called from here, and other words that several verbs say."""

import shlex
import shutil
import sys
from pathlib import Path

from search.experiment import Experiment

DEFAULT_STORAGE = Path("searches")


def verb(name: str, experiment: Experiment) -> str:
    """The command line of another verb for this search."""
    return verb_for(name, experiment.name, experiment.storage)


def verb_for(name: str, search: str, storage: Path) -> str:
    """The same, where there is no experiment."""
    where = "" if storage == DEFAULT_STORAGE else f" --storage {shlex.quote(str(storage))}"
    return f"{program('python')} -m search.{name} {search}{where}"


def program(name: str) -> str:
    """How a program of this Python's environment is called from here: by its name where that finds it, else by its path."""
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path) or not path.exists():
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
