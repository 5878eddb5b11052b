"""The library versions with which this program was tested.

The program uses internals of these libraries or reads their files, and both may change in any
release. `pyproject.toml` has the same bounds for pip. This module compares the bounds with the
installed versions, without importing the libraries.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

SHARED_LIBRARIES = ("torch", "torchvision", "scikit-learn", "scikit-image", "skops", "numpy")
"""Libraries that must have the same version on all nodes of a cluster, because otherwise trials
would not be comparable.
"""


@dataclass(frozen=True)
class TriedVersions:
    """The first and the last release series that were tested, such as 2.56 and 2.60."""

    first: str
    last: str

    def has(self, installed: str) -> bool:
        """True if a version is in this range, such as 2.60.1 in 2.56 to 2.60."""
        low, high, version_numbers = numbers(self.first), numbers(self.last), numbers(installed)
        return low <= version_numbers and version_numbers[: len(high)] <= high

    @property
    def bounds(self) -> str:
        """The same range in pip's notation, such as ">=2.56,<2.61"."""
        *before, minor = numbers(self.last)
        return f">={self.first},<{'.'.join(map(str, [*before, minor + 1]))}"

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


TRIED_VERSIONS = {
    "mlflow": TriedVersions("3.16", "3.17"),
    "optuna": TriedVersions("4.9", "5.0"),
    "ray": TriedVersions("2.56", "2.60"),
    "scikit-learn": TriedVersions("1.8", "1.9"),
    "skops": TriedVersions("0.16", "0.16"),
    "sqlalchemy": TriedVersions("2.1", "2.1"),
    "torch": TriedVersions("2.13", "2.15"),
    "torchvision": TriedVersions("0.28", "0.29"),
}


def numbers(text: str) -> tuple[int, ...]:
    """Parse the numbers of a version: (2, 13, 0) for `2.13.0+cpu`; empty if there are none."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def problems(
    libraries: Mapping[str, TriedVersions] = TRIED_VERSIONS,
    installed: Callable[[str], str] = version,
) -> Iterator[str]:
    """Yield a line for each library that is missing or whose version was not tested.

    `installed` returns a library's version, or raises `PackageNotFoundError`.
    """
    for name, tried in libraries.items():
        try:
            installed_version = installed(name)
        except PackageNotFoundError:
            yield f"{name} is not installed. {_remedy(name, tried)}"
            continue
        if not tried.has(installed_version):
            yield (
                f"this program was not tested with {name} {installed_version}, only with {tried}. "
                f"{_remedy(name, tried)}"
            )


def _remedy(name: str, tried: TriedVersions) -> str:
    return f"Install a tested version: pip install '{name}{tried.bounds}'."


def shared_versions() -> dict[str, str]:
    """Look up this machine's versions of `SHARED_LIBRARIES`, without the build, such as `+cpu`.

    The version of a missing library is "none".
    """
    versions = {}
    for name in SHARED_LIBRARIES:
        try:
            versions[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            versions[name] = "none"
    return versions
