"""Resolves the name of a search, and suggests the closest existing name for a mistyped one."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

from cluster.errors import Refused
from search.journal.journal import DamagedJournal, JournalError
from search.journal.result import SearchResult
from search.journal.store import Storage, home, searches_in
from search.values.message import Blank, Message, Remedy, Start
from trainables.errors import ConfigError

NEAR, CLEAR = 0.6, 0.1
"""A name is suggested if its similarity (`SequenceMatcher.ratio`) is at least `NEAR`, and at least
`CLEAR` above the similarity of every other name.
"""
MAX_LISTED = 8
"""The maximum number of names that an error message lists."""


class NoSuchSearch(ConfigError):
    """There is no search with this name."""

    def __init__(self, name: str, existing: Iterable[str], place: Storage) -> None:
        existing = list(existing)
        self.name = name
        self.closest = "" if "@" in name else closest_name(name, existing)
        """The existing name that the user probably meant; empty if none is clearly the closest."""
        super().__init__(_missing_text(name, self.closest, existing, place))


def resolve_name(name: str, place: Storage) -> str:
    """Check that there is a search with this name, and return the name.

    If there is no search at all, any name passes, because opening the search reports the error.

    Raises:
        NoSuchSearch: there is no such search, but there are others, or the name has an `@`.
    """
    if home(place, name).exists():
        return name
    existing = searches_in(place)
    if name in existing or not (existing or "@" in name):
        return name
    raise NoSuchSearch(name, existing, place)


def read_search(name: str, place: Storage) -> tuple[SearchResult, str]:
    """Return the result of a search and the name of the driver that runs it, or "" if none does.

    Raises:
        NoSuchSearch: there is no such search.
        DamagedJournal: its journal is damaged.
        ConfigError: it has no journal yet.
    """
    search_home = home(place, name)
    if not search_home.exists() and name not in (existing := searches_in(place)):
        raise NoSuchSearch(name, existing, place)
    try:
        return SearchResult.kept_in(search_home)
    except DamagedJournal:
        raise
    except JournalError as error:
        raise ConfigError(*error.args) from error


def closest_name(name: str, existing: Iterable[str]) -> str:
    """Return the existing name that a mistyped one probably means; empty if it is not clear.

    It is the only name that begins with the mistyped one, or else the name that is clearly the most
    similar. If the mistyped name is a path, only its last component is compared.
    """
    name = Path(name).name
    ranked = by_likeness(name, existing)
    if name and len(longer := [entry for _, entry in ranked if entry.startswith(name)]) == 1:
        return longer[0]
    if not ranked:
        return ""
    (likeness, closest), *runners_up = ranked
    is_clear = all(likeness - other_likeness >= CLEAR for other_likeness, _ in runners_up)
    return closest if likeness >= NEAR and is_clear else ""


def by_likeness(name: str, existing: Iterable[str]) -> list[tuple[float, str]]:
    """Return (similarity, name) for each existing name, the most similar first.

    The similarity is a number from 0 to 1 (`SequenceMatcher.ratio`).
    """
    matcher = SequenceMatcher(b=name.lower())
    rated = []
    for entry in existing:
        matcher.set_seq1(entry.lower())
        rated.append((matcher.ratio(), entry))
    return sorted(rated, key=lambda rating: (-rating[0], rating[1]))


def _missing_text(name: str, closest: str, existing: list[str], place: Storage) -> Message:
    if "@" in name:  # names of searches cannot contain it
        return Message(
            f"there is no search '{name}'. Did you mean the registered model 'models:/{name}'? To "
            "register a model: ",
            Remedy("promote", Blank("NAME"), start=Start.ANYWHERE),
        )
    if not existing:
        where = place.absolute() if isinstance(place, Path) else place
        return Message(
            f"there is no search '{name}': '{where}' contains no searches. Check --storage."
        )
    hint = f" Did you mean '{closest}'?" if closest else ""
    listed = [entry for _, entry in by_likeness(Path(name).name, existing)]
    more = f" and {len(listed) - MAX_LISTED:,} more" if len(listed) > MAX_LISTED else ""
    names = f"{', '.join(listed[:MAX_LISTED])}{more}"
    return Message(
        f"there is no search '{name}' in '{place}'.{hint} Existing searches: {names} (see ",
        Remedy("list", start=Start.ANYWHERE),
        ").",
    )


def refuse_cut_off(result: SearchResult, place: Storage) -> None:
    """Raise an error if the driver of a search, or of its selection, died before it was finished.

    Raises:
        Refused: the search or its selection must be continued first.
    """
    if result.outcome == "running":
        raise Refused(
            Message(
                f"the search '{result.name}' was cut off before it finished. Continue it first: ",
                Remedy("resume", result.name, place),
            )
        )
    if result.selection is not None and result.selection.outcome == "running":
        raise Refused(
            Message(
                f"the selection of the search '{result.name}' was cut off before it finished. "
                "Continue it first: ",
                Remedy("select", result.name, place),
            )
        )
