"""The search that a name means, also where the name is mistyped."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

from cluster.errors import Refused
from search.journal.result import SearchResult
from search.journal.store import Storage, home, searches_in
from search.values.message import Blank, Message, Remedy, Start
from trainables.errors import ConfigError

NEAR, CLEAR = 0.6, 0.1
"""The likeness that a name must have to be meant (`SequenceMatcher.ratio`), and its lead over all
others to be the only one.
"""
SHOWN = 8
"""The most names that an error lists."""


class NoSuchSearch(ConfigError):
    """No search of a place has this name."""

    def __init__(self, name: str, existing: Iterable[str], place: Storage) -> None:
        existing = list(existing)
        self.closest = "" if "@" in name else closest_name(name, existing)
        """The only existing name that is probably meant; empty if there is none."""
        super().__init__(_missing_text(name, self.closest, existing, place))


def resolve_name(name: str, place: Storage) -> str:
    """Check that a search has this name, and return it.

    Where a place has no search at all, any name passes: the error comes when the search is opened.

    Raises:
        NoSuchSearch: there is no such search, but there are others.
    """
    if home(place, name).exists():
        return name
    existing = searches_in(place)
    if name in existing or not (existing or "@" in name):
        return name
    raise NoSuchSearch(name, existing, place)


def closest_name(name: str, existing: Iterable[str]) -> str:
    """Return the only existing name that a mistyped one can mean.

    It is far more alike than all others, or the only one that begins so; a path means its end.
    Empty if there is none, or several.
    """
    name = Path(name).name
    ranked = by_likeness(name, existing)
    if name and len(longer := [entry for _, entry in ranked if entry.startswith(name)]) == 1:
        return longer[0]
    if not ranked:
        return ""
    (likeness, closest), *others = ranked
    is_clear = all(likeness - other_likeness >= CLEAR for other_likeness, _ in others)
    return closest if likeness >= NEAR and is_clear else ""


def by_likeness(name: str, existing: Iterable[str]) -> list[tuple[float, str]]:
    """Return the likeness of each existing name, from 0 to 1, and the name; most alike first."""
    matcher = SequenceMatcher(b=name.lower())
    rated = []
    for entry in existing:
        matcher.set_seq1(entry.lower())
        rated.append((matcher.ratio(), entry))
    return sorted(rated, key=lambda rating: (-rating[0], rating[1]))


def _missing_text(name: str, closest: str, existing: list[str], place: Storage) -> Message:
    if "@" in name:  # no search's name has one
        return Message(
            f"no search '{name}'. Did you mean the promoted model 'models:/{name}'? (",
            Remedy("promote", Blank("NAME"), start=Start.ANYWHERE),
            " makes one.)",
        )
    if not existing:
        return Message(f"no search '{name}': '{place}' has none.")
    hint = f" Did you mean '{closest}'?" if closest else ""
    listed = [entry for _, entry in by_likeness(Path(name).name, existing)]
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    there = f"{', '.join(listed[:SHOWN])}{more}"
    return Message(
        f"no search '{name}' in '{place}'.{hint} There are: {there} (",
        Remedy("list", start=Start.ANYWHERE),
        ").",
    )


def refuse_cut_off(result: SearchResult, place: Storage) -> None:
    """Check that neither the search nor its selection was cut off.

    Raises:
        Refused: one of them was.
    """
    if result.outcome == "running":
        raise Refused(
            Message(
                f"the search '{result.name}' was cut off. Go on with it first: ",
                Remedy("resume", result.name, place),
            )
        )
    if result.selection is not None and result.selection.outcome == "running":
        raise Refused(
            Message(
                f"the selection of the search '{result.name}' was cut off. Go on with it first: ",
                Remedy("select", result.name, place),
            )
        )
