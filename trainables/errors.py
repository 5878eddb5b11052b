"""The exceptions that `trainables` raises, by who can mend what went wrong.

TrainableError
├── ConfigError   a value is wrong: the caller can mend it (a ValueError)
│   └── DataError the images or labels are wrong
└── Unavailable   something outside is missing for now: files not downloaded, no network
                  (a RuntimeError)
"""

import difflib
from collections.abc import Iterable


class TrainableError(Exception):
    """Base of every error that `trainables` raises on purpose."""


class ConfigError(TrainableError, ValueError):
    """A configuration that cannot be trained.

    The text says what came, what is allowed and what to do.
    """


class DataError(ConfigError):
    """Images or labels that cannot be trained on; the text names the first of them."""


class Unavailable(TrainableError, RuntimeError):
    """A file or service that is not there now; trying again later may work."""


def unknown(kind: str, name: str, known: Iterable[str], *, listed: Iterable[str] = ()) -> str:
    """Return a message that says which names exist, and which one is nearest.

    For example `unknown space 'tabel3'. Known: smoke, table3. Did you mean 'table3'?`. `listed` are
    the known names worth printing, where there are many.
    """
    names = sorted(known)
    return (
        f"unknown {kind} '{name}'. Known: {', '.join(sorted(listed) or names)}."
        f"{did_you_mean(name, names)}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'X'?` for the known name that is nearest; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.72)
    return f" Did you mean '{printable(near[0])}'?" if near else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 image`, `1,200 images`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """Return the text as it may reach a terminal or a page.

    Control characters, which the names of files may hold, are escaped as in `\\x1b`.
    """
    return (
        text
        if text.isprintable()
        else "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in text
        )
    )


def is_text(name: str) -> bool:
    """Return whether a name from the file system or the command line is UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
