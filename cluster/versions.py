"""The library versions that this program was tried with.

These are the libraries whose internals it uses or whose files it reads; both change without notice.
`pyproject.toml` gives pip the same bounds. Here they are compared with the installed versions,
without importing any of the libraries.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

SAME = ("torch", "torchvision", "scikit-learn", "scikit-image", "skops", "numpy")
"""Libraries that must have the same version on all nodes of a cluster, or its trials could not be
compared.
"""


@dataclass(frozen=True)
class Tried:
    """The first and the last release line that was tried, such as 2.56 and 2.60."""

    first: str
    last: str

    def holds(self, installed: str) -> bool:
        """Return whether a version belongs to one of these release lines."""
        low, high, found = numbers(self.first), numbers(self.last), numbers(installed)
        return low <= found and found[: len(high)] <= high

    @property
    def bounds(self) -> str:
        """The same range in pip's notation."""
        *before, minor = numbers(self.last)
        return f">={self.first},<{'.'.join(map(str, [*before, minor + 1]))}"

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


TRIED = {
    "mlflow": Tried("3.17", "3.17"),
    "optuna": Tried("5.0", "5.0"),
    "ray": Tried("2.60", "2.60"),
    "scikit-learn": Tried("1.9", "1.9"),
    "skops": Tried("0.16", "0.16"),
    "sqlalchemy": Tried("2.1", "2.1"),
    "torch": Tried("2.13", "2.13"),
    "torchvision": Tried("0.28", "0.28"),
}


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without its suffix: `2.13.0+cpu` is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def problems(
    libraries: Mapping[str, Tried] = TRIED, installed: Callable[[str], str] = version
) -> Iterator[str]:
    """Yield a line for each library that is missing or installed in a version never tried."""
    for name, tried in libraries.items():
        try:
            found = installed(name)
        except PackageNotFoundError:
            yield f"{name} is not installed. {_remedy(name, tried)}"
            continue
        if not tried.holds(found):
            yield (
                f"{name} {found} was never tried with this program; tried: {tried}. "
                f"{_remedy(name, tried)}"
            )


def _remedy(name: str, tried: Tried) -> str:
    return f"Install it: pip install '{name}{tried.bounds}'."


def same() -> dict[str, str]:
    """Return this machine's versions of the libraries that all nodes must share.

    The build (`+cpu`) is left out.
    """
    found = {}
    for name in SAME:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found
