"""The search that a person names, also where the name is mistyped."""

import argparse
import sys
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

from cluster.errors import Refused
from search.journal.result import SearchResult
from search.journal.store import Home, Storage, home, searches_in
from search.values.wording import verb_for
from trainables.errors import ConfigError, printable

NEAR, CLEAR = 0.6, 0.1
"""The likeness that a name must have to be meant (`SequenceMatcher.ratio`), and its lead over all
others to be the only one.
"""
SHOWN = 8
"""The most names that an error lists."""


def search_of(args: argparse.Namespace) -> Home:
    """Return the search that NAME and --storage name.

    A mistyped name that can mean only one search is asked about where a person can answer; then
    `args.name` becomes that name.

    Raises:
        ConfigError: there is no such search, but there are others.
    """
    args.name = found_name(args.name, args.storage)
    return home(args.storage, args.name)


def found_name(name: str, place: Storage) -> str:
    """Return the name of a search that is there; as it is where none is, for whoever opens it.

    Raises:
        ConfigError: see `search_of`.
    """
    if home(place, name).exists():
        return name
    known = searches_in(place)
    if name in known or not (known or "@" in name):
        return name
    meant = "" if "@" in name else meant_by(name, known)
    if meant and may_ask() and confirmed(f"no search '{name}'. Did you mean '{meant}'?", yes=True):
        return meant
    raise ConfigError(missing(name, known, place))


def meant_by(name: str, known: Iterable[str]) -> str:
    """Return the one known name that a mistyped one can mean; empty if there is none, or several.

    It is far more alike than all others, or the only one that begins so; a path means its end.
    """
    name = Path(name).name
    ranked = by_likeness(name, known)
    if name and len(begun := [one for _, one in ranked if one.startswith(name)]) == 1:
        return begun[0]
    best, *others = ranked
    return best[1] if best[0] >= NEAR and all(best[0] - one[0] >= CLEAR for one in others) else ""


def by_likeness(name: str, known: Iterable[str]) -> list[tuple[float, str]]:
    """Return how alike each known name is, from 0 to 1, and the name; the most alike come first."""
    matcher = SequenceMatcher(b=name.lower())
    rated = []
    for one in known:
        matcher.set_seq1(one.lower())
        rated.append((matcher.ratio(), one))
    return sorted(rated, key=lambda one: (-one[0], one[1]))


def missing(name: str, known: Iterable[str], place: Storage) -> str:
    """Return what to say of a name that no search has: what was meant, and what there is."""
    known = list(known)
    if "@" in name:  # which no search's name has
        return (
            f"no search '{name}'. Did you mean the promoted model 'models:/{name}'? "
            "(python -m search.promote NAME makes one.)"
        )
    if not known:
        return f"no search '{name}': '{place}' has none."
    meant = meant_by(name, known)
    hint = f" Did you mean '{meant}'?" if meant else ""
    listed = [one for _, one in by_likeness(Path(name).name, known)]
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    there = f"{', '.join(listed[:SHOWN])}{more}"
    return f"no search '{name}' in '{place}'.{hint} There are: {there} (python -m search.list)."


def refuse_cut_off(result: SearchResult, place: Storage) -> None:
    """Check that neither the search nor its selection was cut off.

    Raises:
        Refused: one of them was.
    """
    if result.outcome == "running":
        raise Refused(
            f"the search '{result.name}' was cut off. Go on with it first: "
            f"{verb_for('resume', result.name, place)}"
        )
    if result.selection is not None and result.selection.outcome == "running":
        raise Refused(
            f"the selection of the search '{result.name}' was cut off. Go on with it first: "
            f"{verb_for('select', result.name, place)}"
        )


def may_ask() -> bool:
    """Return whether somebody is there to answer a question: it stands on stderr."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask a person to confirm, and return the answer; `yes` is what Enter alone means."""
    sys.stderr.write(f"{printable(question)} [{'Y/n' if yes else 'y/N'}] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D: no answer
        sys.stderr.write("\n")
        return False
    return answer.strip().lower() in ("y", "yes") or (yes and not answer.strip())
