"""The library versions that this program was tried with.

The program uses internals of these libraries or reads their files; both change without notice.
`pyproject.toml` gives pip the same bounds. Here they are compared with the installed versions,
without importing any of the libraries.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

SHARED_LIBRARIES = ("torch", "torchvision", "scikit-learn", "scikit-image", "skops", "numpy")
"""Libraries that must have the same version on all nodes of a cluster, or its trials could not be
compared.
"""


@dataclass(frozen=True)
class TriedVersions:
    """The first and the last release line that was tried, such as 2.56 and 2.60."""

    first: str
    last: str

    def has(self, installed: str) -> bool:
        """True if a version belongs to one of these release lines."""
        low, high, version_numbers = numbers(self.first), numbers(self.last), numbers(installed)
        return low <= version_numbers and version_numbers[: len(high)] <= high

    @property
    def bounds(self) -> str:
        """The same range in pip's notation."""
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
    """The numbers of a version, without its suffix: `2.13.0+cpu` is (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def problems(
    libraries: Mapping[str, TriedVersions] = TRIED_VERSIONS,
    installed: Callable[[str], str] = version,
) -> Iterator[str]:
    """Yield a line for each library that is missing or installed in a version never tried."""
    for name, tried in libraries.items():
        try:
            installed_version = installed(name)
        except PackageNotFoundError:
            yield f"{name} is not installed. {_remedy(name, tried)}"
            continue
        if not tried.has(installed_version):
            yield (
                f"{name} {installed_version} was never tried with this program; tried: {tried}. "
                f"{_remedy(name, tried)}"
            )


def _remedy(name: str, tried: TriedVersions) -> str:
    return f"Install it: pip install '{name}{tried.bounds}'."


def shared_versions() -> dict[str, str]:
    """This machine's versions of the libraries that all nodes must share.

    The build (`+cpu`) is left out.
    """
    versions = {}
    for name in SHARED_LIBRARIES:
        try:
            versions[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            versions[name] = "none"
    return versions
