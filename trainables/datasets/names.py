"""Patterns for the names of folders: parts, unlikely classes, and hidden or system files."""

import re
import unicodedata

_TRAIN, _VAL, _TEST = "train(?:ing)?", "val(?:id(?:ation)?)?", "test(?:ing)?"
PART = re.compile(
    rf"(?:({_TRAIN})|({_VAL})|{_TEST})(?:[ _-]?(?:set|data|images|imgs|part|split))?",
    re.IGNORECASE,
)
"""Matches the names of folders that are parts.

For example `train`, `Training_set`, `val`, `validation`, `test-images`.
"""
LIKE_A_PART = re.compile(
    rf"(?:.*[ _.-])?(?:({_TRAIN})|({_VAL}|dev|eval(?:uation)?)|(?:{_TEST}|hold-?out))"
    r"(?:[ _-]?(?:set|data|images|imgs|part|split))?(?:[ _.-].*)?",
    re.IGNORECASE,
)
"""Matches names that mean parts only if all such folders have the same classes.

For example `flowers_train` and `dev`.
"""
SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
"""Names, in lower case, of files and folders that operating systems create.

Names that begin with a dot are hidden too (`is_hidden`).
"""


NO_CLASS = re.compile(
    r"(?:un(?:sorted|labell?ed|classified|categori[sz]ed|tagged)|(?:new|untitled)(?: folder)?|"
    r"to ?(?:do|sort|label|check|review)|inbox|te?mp|misc(?:ellaneous)?|trash|backup|duplicates)"
    r"(?: (?:images|imgs|photos|pictures))?(?: \(?\d+\)?)?"
)
"""Matches names, normalised by `key_of`, of folders that are seldom meant as a class."""


def is_hidden(name: str) -> bool:
    """True for hidden files and system files: `._x`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in SYSTEM


def part_of(name: str, names: re.Pattern[str] = PART) -> str:
    """Return the part that a folder's name means: `train`, `val` or `test`; empty for no part."""
    match = names.fullmatch(name)
    return "" if match is None else "train" if match[1] else "val" if match[2] else "test"


def key_of(name: str) -> str:
    """Normalise a name for comparisons: its case, accents, and separators (space, `_` and `-`)."""
    return re.sub("[ _-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()
