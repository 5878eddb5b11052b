"""The names of folders: those that mean a part, no class, or what systems keep."""

import re
import unicodedata

_TRAIN, _VAL, _TEST = "train(?:ing)?", "val(?:id(?:ation)?)?", "test(?:ing)?"
PART = re.compile(
    rf"(?:({_TRAIN})|({_VAL})|{_TEST})(?:[ _-]?(?:set|data|images|imgs|part|split))?",
    re.IGNORECASE,
)
"""Names of folders that mean a part.

For example `train`, `Training_set`, `val`, `validation`, `test-images`.
"""
LIKE_A_PART = re.compile(
    rf"(?:.*[ _.-])?(?:({_TRAIN})|({_VAL}|dev|eval(?:uation)?)|(?:{_TEST}|hold-?out))"
    r"(?:[ _-]?(?:set|data|images|imgs|part|split))?(?:[ _.-].*)?",
    re.IGNORECASE,
)
"""Names that mean a part only where all of them hold the same classes: `flowers_train`, `dev`."""
SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}
"""Files and folders that systems leave, in lower case, beside those that begin with a dot."""


NO_CLASS = re.compile(
    r"(?:un(?:sorted|labell?ed|classified|categori[sz]ed|tagged)|(?:new|untitled)(?: folder)?|"
    r"to ?(?:do|sort|label|check|review)|inbox|te?mp|misc(?:ellaneous)?|trash|backup|duplicates)"
    r"(?: (?:images|imgs|photos|pictures))?(?: \(?\d+\)?)?"
)
"""Names, as `key_of` writes them, of folders that are seldom meant as a class."""


def is_hidden(name: str) -> bool:
    """Return whether a name is of what systems keep beside images: `._x`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in SYSTEM


def part_of(name: str, names: re.Pattern[str] = PART) -> str:
    """Return the part that a folder's name means: `train`, `val`, `test`, or an empty string."""
    found = names.fullmatch(name)
    return "" if found is None else "train" if found[1] else "val" if found[2] else "test"


def key_of(name: str) -> str:
    """Return a name without its case, and without how spaces and accents in it are written."""
    return re.sub("[ _-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()
