"""Search spaces, found by their name here or as a user's own, `file.py:function`."""

import hashlib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

import search.spaces
from cluster.cli import expand_path
from search.space import SearchSpace
from trainables.errors import ConfigError, unknown

NOT_SPACES = {"find"}


def names() -> list[str]:
    """Return the names of the spaces here."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(search.spaces.__path__)
        if module.name not in NOT_SPACES
    )


def purpose(name: str) -> str:
    """Return what a space here is for, in a line for people."""
    return str(importlib.import_module(f"search.spaces.{name}").FOR)


def find(source: str) -> SearchSpace:
    """Return the space of this name, or the one that `file.py:name` holds.

    In a file it is a SearchSpace or a function that returns one.

    Raises:
        ConfigError: no such space, or it is nonsense.
    """
    if (file := file_of(source)) is not None:
        return _from_file(*file)
    if source not in names():
        raise ConfigError(
            unknown("space", source, names()) + " A space of your own: --space file.py:function."
        )
    return as_space(importlib.import_module(f"search.spaces.{source}").space, source)


def file_of(source: str) -> tuple[Path, str] | None:
    """Return the file of a user's own space and the name in it; None for a named space."""
    path, colon, attribute = source.rpartition(":")
    if colon:
        return expand_path(path), attribute
    return (expand_path(source), "space") if source.endswith(".py") else None


def sha256_of(source: str) -> str:
    """Return the SHA-256 of the space's file; empty if there is none. Nothing in it is run."""
    file = file_of(source)
    if file is None or not file[0].is_file():
        return ""
    return hashlib.sha256(file[0].read_bytes()).hexdigest()


def _from_file(path: Path, attribute: str) -> SearchSpace:
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.suffix == ".py" else None
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"space file not found: '{path}' (--space). Expected file.py:function.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, attribute):
            raise ConfigError(
                f"space file '{path}' has no '{attribute}'. Expected a SearchSpace or a function "
                "that returns one."
            )
        return as_space(getattr(module, attribute), f"{path}:{attribute}")
    except ConfigError:
        raise
    except Exception as error:  # whatever a user's file does wrong is told in one line
        raise ConfigError(
            f"space file '{path}' cannot be read ({type(error).__name__}: {error})."
        ) from error


def as_space(value: Any, source: str) -> SearchSpace:
    """Return a SearchSpace, or what a function returns that makes one; `source` is its name.

    Raises:
        ConfigError: it is something else.
    """
    made = value() if callable(value) else value
    if not isinstance(made, SearchSpace):
        raise ConfigError(
            f"space '{source}' is a {type(made).__name__}. Expected a SearchSpace or a function "
            "that returns one."
        )
    return made
