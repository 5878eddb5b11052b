"""Questions at the terminal, such as which search is meant by a mistyped name."""

import argparse
import sys

from search.journal.naming import NoSuchSearch, resolve_name
from search.journal.store import Home, Storage, home
from trainables.errors import printable


def search_of(args: argparse.Namespace) -> Home:
    """Return the home of the search that NAME and --storage name.

    If a mistyped name can mean only one search, a person at the terminal is asked; `args.name`
    becomes the name of that search.
    """
    args.name = resolve_or_ask(args.name, args.storage)
    return home(args.storage, args.name)


def resolve_or_ask(name: str, place: Storage) -> str:
    """Return the name of an existing search; ask whether the closest one is meant.

    Raises:
        NoSuchSearch: there is no such search, but there are others.
    """
    try:
        return resolve_name(name, place)
    except NoSuchSearch as error:
        question = f"no search '{name}'. Did you mean '{error.closest}'?"
        if error.closest and can_ask() and confirm(question, yes=True):
            return error.closest
        raise


def can_ask() -> bool:
    """True if a person can answer a question, which is printed on stderr."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool) -> bool:
    """Ask a person to confirm, and return the answer; an empty line means `yes`."""
    sys.stderr.write(f"{printable(question)} [{'Y/n' if yes else 'y/N'}] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D: no answer
        sys.stderr.write("\n")
        return False
    return answer.strip().lower() in ("y", "yes") or (yes and not answer.strip())
