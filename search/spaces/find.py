"""Finds search spaces: named ones in this folder, and a user's own ones as `file.py:function`."""

import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import Any

import search.spaces
import search.spaces.tasks
from cluster.cli import expand_path
from search.space import SearchSpace
from search.spaces.circumstances import Circumstances
from trainables.errors import ConfigError, unknown
from trainables.tasks import task_name

NOT_SPACES = {"find", "circumstances"}
MODULES = {
    module.name: f"{folder.__name__}.{module.name}"
    for folder in (search.spaces, search.spaces.tasks)
    for module in pkgutil.iter_modules(folder.__path__)
    if not module.ispkg and module.name not in NOT_SPACES
}
"""The modules of the named spaces, by the space's name."""


def names(task: str = "") -> list[str]:
    """Return the names of the spaces in this folder, sorted; with `task`, those for this task."""
    every = sorted(MODULES)
    return [name for name in every if task in ("", task_of(name))]


def purpose(name: str) -> str:
    """Return the text that describes the purpose of a named space."""
    return str(_module(name).FOR)


def task_of(name: str) -> str:
    """Return the name of the task for which a named space is meant."""
    module = _module(name)
    return str(getattr(module, "TASK", task_name({})))


def default(task: str, data: str) -> str:
    """Return the name of the space that is used if the user names none.

    Args:
        task: the name of the task.
        data: the name of the data set.
    """
    by_purpose = {
        purpose: name for name in names() for purpose in getattr(_module(name), "DEFAULT_FOR", ())
    }
    return by_purpose.get(data) or by_purpose[task]


def adaptive(source: str) -> Callable[[Circumstances], SearchSpace] | None:
    """Return the function that adapts a named space to the circumstances; None if it has none."""
    if source not in names():
        return None
    adapt: Callable[[Circumstances], SearchSpace] | None = getattr(
        _module(source), "space_for", None
    )
    return adapt


def find(source: str) -> SearchSpace:
    """Return the space with this name, or load it from `file.py:name`.

    Such a file is executed. Its `name` is a `SearchSpace`, or a function that returns one.

    Raises:
        ConfigError: there is no such space, or it is not valid.
    """
    if (file := file_of(source)) is not None:
        return _from_file(*file)
    if source not in names():
        raise ConfigError(
            unknown("space", source, names()) + " For your own space, use --space file.py:function."
        )
    return as_space(_module(source).space, source)


def _module(name: str) -> ModuleType:
    return importlib.import_module(MODULES[name])


def file_of(source: str) -> tuple[Path, str] | None:
    """Return (path of the file, name in the file) of a user's own space; None for a named space."""
    path, colon, attribute = source.rpartition(":")
    if colon:
        return expand_path(path), attribute
    return (expand_path(source), "space") if source.endswith(".py") else None


def sha256_of(source: str) -> str:
    """Return the SHA-256 of a user's space file, without executing it.

    Empty for a named space, or if there is no such file.
    """
    file = file_of(source)
    if file is None or not file[0].is_file():
        return ""
    return hashlib.sha256(file[0].read_bytes()).hexdigest()


class _UncachedLoader(SourceFileLoader):
    """Loads a file as it is now, and leaves nothing beside it.

    Python would use the compiled file of a text of the same size from the same second.
    """

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _from_file(path: Path, attribute: str) -> SearchSpace:
    loader = _UncachedLoader(path.stem, str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
    if path.suffix != ".py" or not path.is_file() or spec is None:
        raise ConfigError(
            f"the space file '{path}' is not an existing .py file. Pass the path of a Python file "
            "as --space FILE.py:FUNCTION."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
        if not hasattr(module, attribute):
            raise ConfigError(
                f"space file '{path}' has no '{attribute}'. Name a SearchSpace in this file, or a "
                "function that returns a SearchSpace."
            )
        return as_space(getattr(module, attribute), f"{path}:{attribute}")
    except ConfigError:
        raise
    except Exception as error:  # report any error in a user's file in one line
        raise ConfigError(
            f"'{attribute}' of the space file '{path}' cannot be loaded "
            f"({type(error).__name__}{_line_in(path, error)}: {error})."
        ) from error


def _line_in(path: Path, error: Exception) -> str:
    """Return a clause with the line of the user's file in which an error was raised, if known."""
    frames = extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f" in line {lines[-1]}" if lines else ""


def as_space(value: Any, source: str) -> SearchSpace:
    """Return `value` if it is a space, or else the space that it returns when it is called.

    Args:
        value: a `SearchSpace`, or a function that returns one.
        source: the name of the space for error messages.

    Raises:
        ConfigError: the value is neither of these.
    """
    space = value() if callable(value) else value
    if not isinstance(space, SearchSpace):
        raise ConfigError(
            f"space '{source}' must be a SearchSpace, or a function that returns a SearchSpace "
            f"(got {type(space).__name__})."
        )
    return space
