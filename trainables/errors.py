"""The exceptions that callers of `trainables` can handle, and functions for their messages.

TrainableError
├── ConfigError   a value is wrong: the caller can correct it (a ValueError)
│   └── DataError the images or labels are wrong
└── Unavailable   an external resource is missing for now: files not downloaded, no network
                  (a RuntimeError)
"""

import difflib
import math
from collections.abc import Iterable


class TrainableError(Exception):
    """Base class of the errors about the user's settings, data or environment."""


class ConfigError(TrainableError, ValueError):
    """A configuration that cannot be trained.

    The message states the value, what is allowed and what to do.
    """


class DataError(ConfigError):
    """Images or labels that cannot be used; the message names the first of them."""


class Unavailable(TrainableError, RuntimeError):
    """A file or service that is not available now; trying again later may work."""


def unknown(kind: str, name: str, existing: Iterable[str], *, listed: Iterable[str] = ()) -> str:
    """Build the message for an unknown name, with the existing names and the closest one.

    For example `unknown space 'tabel3'. Known: smoke, table3. Did you mean 'table3'?`. If `listed`
    is not empty, only these names are printed.
    """
    names = sorted(existing)
    return (
        f"unknown {kind} '{name}'. Known: {', '.join(sorted(listed) or names)}."
        f"{did_you_mean(name, names)}"
    )


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return ` Did you mean 'X'?` for the closest existing name; empty if none is close.

    If none is, but only one begins with the name, that one is meant.
    """
    names = list(existing)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.72)
    longer = [each for each in names if name and each.lower().startswith(name.lower())]
    if not near and len(longer) == 1:
        near = longer
    return f" Did you mean '{printable(near[0])}'?" if near else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: `1 image`, `1,200 images`; without `plural`, an s is added."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def shortened(number: int | float) -> str:
    """Format a number for a message, in at most 3 digits and an exponent: `1e+20`.

    The number may be an integer that is too large for a float, such as 10^400.
    """
    try:
        return f"{number:.3g}"
    except OverflowError:
        exponent = math.floor(math.log10(abs(number)))
        return f"{'-' * (number < 0)}{abs(number) // 10 ** (exponent - 2) / 100:.3g}e+{exponent}"


def printable(text: str) -> str:
    """Escape the characters that are not printable, which file names may contain: `\\x1b`.

    Otherwise a terminal could interpret them as control sequences.
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
    """True if a name from the file system or the command line is valid UTF-8.

    Python decodes invalid bytes in such names as lone surrogates.
    """
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
