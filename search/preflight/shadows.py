"""Detection of files in the working directory that hide a module of a library.

Each process of a search imports modules from the working directory first, so such a file is
imported instead of the library's module.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

OWN = {"cluster", "search", "trainables"}
NEVER_IMPORTED = {"__init__", "__main__", "conftest", "setup", "test", "tests"}


def shadows(folder: Path, path: Sequence[str]) -> list[str]:
    """Return the sorted names of files and packages in a folder that hide a module.

    The hidden module is one of Python's standard library, or of a library in `path`, a list of
    folders such as `sys.path`.
    """
    here = folder.resolve()
    search_path = [entry for entry in path if entry and Path(entry).resolve() != here]
    names = []
    for name, file_name in sorted(_modules(folder)):
        if name in OWN | NEVER_IMPORTED:
            continue
        spec = None if name in sys.stdlib_module_names else PathFinder.find_spec(name, search_path)
        if name in sys.stdlib_module_names or (spec is not None and spec.loader is not None):
            names.append(file_name)
    return names


def shadows_here() -> Iterator[str]:
    """Yield a warning if files in the working directory hide modules (`shadows`)."""
    names = shadows(Path.cwd(), sys.path)
    if names:
        hides, them = (
            ("hides a module of the same name", "it")
            if len(names) == 1
            else ("hide modules of the same names", "them")
        )
        yield (
            f"warning: {', '.join(names)} in the working directory {hides} from libraries. Trials "
            f"look for libraries first, but other code may fail because of this. Rename {them}, "
            "or start in another directory."
        )


def put_libraries_first() -> None:
    """Move the working directory to the end of `sys.path` if a file in it hides a module.

    Otherwise the directory stays first, where Ray puts it: on a cluster, it may contain this
    program.
    """
    here = Path.cwd()
    if shadows(here, sys.path):
        own = [entry for entry in sys.path if Path(entry).resolve() == here.resolve()]
        sys.path[:] = [*(entry for entry in sys.path if entry not in own), *own[:1]]


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (module name, file name) of each module and package in a folder; packages end in /."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == ".py" and path.stem.isidentifier():
                yield path.stem, path.name
            elif path.name.isidentifier() and (path / "__init__.py").is_file():
                yield path.name, f"{path.name}/"
