"""The programs beside Python that some tests need, and what brings them.

A machine with Python, make and git runs the tests. Those that need more skip, with a reason that
`tests/conftest.py` gathers at the end: one line a program.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "initdb": "postgresql",
    "ip": "iproute2",
    "javac": "default-jdk-headless",
    "libfaketime.so.1": "libfaketime",
    "nsenter": "util-linux",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
"""Debian's package for each program."""

PLACES = {
    "chromium": ("chromium-browser", "google-chrome"),
    "initdb": ("/usr/lib/postgresql/*/bin/initdb",),
    "libfaketime.so.1": ("/usr/lib/*/faketime/libfaketime.so.1",),
    "sshd": ("/usr/sbin/sshd",),
}
"""Other names of a program, and where it lies if the PATH does not lead to it."""

REASON = "needs the program "


def path_of(program: str) -> Path | None:
    """Return a program's path, the newest version's; None if it is not installed."""
    # A folder first: beside a link in the PATH the package's other programs need not lie.
    for name in sorted((program, *PLACES.get(program, ())), key=lambda name: "/" not in name):
        if "/" not in name:
            if place := shutil.which(name):
                return Path(place)
        elif places := sorted(Path("/").glob(name.removeprefix("/")), key=_version):
            return places[-1]
    return None


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parts if part.isdecimal())


def needs(*programs: str) -> None:
    """Skip the test if one of these programs is missing."""
    missing = [program for program in programs if path_of(program) is None]
    if missing:
        pytest.skip(reason_for(missing))


def reason_for(missing: list[str]) -> str:
    """Return the reason of a skipped test, which `programs_in` reads."""
    return REASON + ", ".join(missing)


def programs_in(reason: str) -> list[str]:
    """Return the programs that a reason names; none if it is a reason of another kind."""
    _, separator, names = reason.partition(REASON)
    return names.split(", ") if separator else []


def skip_lines(reasons: Iterable[object]) -> Iterator[str]:
    """Yield a line for each program that was missing, and one for each other reason.

    A reason comes as pytest has it: file, line and text.
    """
    programs, others = Counter[str](), Counter[str]()
    for reason in reasons:
        text = str(reason[-1] if isinstance(reason, tuple) else reason).removeprefix("Skipped: ")
        programs.update(names := programs_in(text))
        others.update([] if names else [text])
    for program, count in sorted(programs.items()):
        yield f"{program} is not installed: {_tests(count)} (Debian: {PACKAGES[program]})"
    for text, count in sorted(others.items()):
        yield f"{text}: {_tests(count)}"


def _tests(count: int) -> str:
    """Return `1 test` or `3 tests`."""
    return f"{count} test{'s' * (count != 1)}"
