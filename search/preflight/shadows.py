"""Files in the working directory that hide a library's module.

Every process of a search looks for modules in the working directory first.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

OWN = {"cluster", "search", "trainables"}
NEVER_IMPORTED = {"__init__", "__main__", "conftest", "setup", "test", "tests"}


def shadows(folder: Path, path: Sequence[str]) -> list[str]:
    """Return the names of the files and packages in a folder that hide a module.

    The module is one of Python's own, or of a library that `path` leads to.
    """
    here = folder.resolve()
    others = [entry for entry in path if entry and Path(entry).resolve() != here]
    found = []
    for name, shown in sorted(_modules(folder)):
        if name in OWN | NEVER_IMPORTED:
            continue
        spec = None if name in sys.stdlib_module_names else PathFinder.find_spec(name, others)
        if name in sys.stdlib_module_names or (spec is not None and spec.loader is not None):
            found.append(shown)
    return found


def shadows_here() -> Iterator[str]:
    """Yield a warning of such files in the working directory, if there are any."""
    found = shadows(Path.cwd(), sys.path)
    if found:
        what = "a module" if len(found) == 1 else "modules"
        hides = (
            f"{', '.join(found)} in the working directory hides {what} of that name from libraries"
        )
        yield (
            f"warning: {hides}. Trials look for libraries first, but something else may fail "
            "by it. Rename it, or start elsewhere."
        )


def put_libraries_first() -> None:
    """Look into the working directory last, if something there hides a library's module.

    Otherwise it stays first, where Ray puts it: on a cluster the program itself may lie there.
    """
    here = Path.cwd()
    if shadows(here, sys.path):
        own = [entry for entry in sys.path if Path(entry).resolve() == here.resolve()]
        sys.path[:] = [*(entry for entry in sys.path if entry not in own), *own[:1]]


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each module in a folder, and its file's name."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == ".py" and path.stem.isidentifier():
                yield path.stem, path.name
            elif path.name.isidentifier() and (path / "__init__.py").is_file():
                yield path.name, f"{path.name}/"
