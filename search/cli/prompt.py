"""Questions to the user at the terminal, such as about a mistyped name of a search."""

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

from search.journal.naming import NoSuchSearch
from search.values.option import KEY, Group, Option, OptionKind
from search.views.terminal import Terminal, say
from trainables.errors import printable

Options = TypeVar("Options")


def with_confirmed_name(command: Callable[[Options], int], options: Options) -> int:
    """Carry out a command; if its search does not exist, ask about the closest name and try again.

    Raises:
        NoSuchSearch: there is no such search, and the user did not confirm the closest one.
    """
    while True:
        try:
            return command(options)
        except NoSuchSearch as error:
            question = f"no search '{error.name}'. Did you mean '{error.closest}'?"
            corrected = _with_new_name(options, error.name, error.closest)
            if corrected == options or not (error.closest and can_ask()):
                raise
            if not confirm(question, yes=True):
                raise
            options = corrected


def _with_new_name(options: Options, old: str, new: str) -> Options:
    """Return a copy of the options, in which the search `old` is replaced by the search `new`.

    Only arguments that name a search are replaced, since a path may have the same text.
    """
    changes: dict[str, Any] = {}
    for field in fields(options):  # type: ignore[arg-type]  # options are a dataclass
        value, declared = getattr(options, field.name), field.metadata.get(KEY)
        if isinstance(declared, Group):
            changes[field.name] = _with_new_name(value, old, new)
        elif isinstance(declared, Option) and _names_search(declared):
            names = value if isinstance(value, tuple) else (value,)
            renamed = tuple(new if name == old else name for name in names)
            changes[field.name] = renamed if isinstance(value, tuple) else renamed[0]
    return replace(options, **changes)  # type: ignore[type-var]


def _names_search(declared: Option) -> bool:
    return declared.kind is OptionKind.POSITIONAL and declared.metavar in ("NAME", "MODEL")


def can_ask() -> bool:
    """True if stdin and stderr are a terminal, so that the user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool) -> bool:
    """Ask the user a yes-no question, and return True if the answer is yes.

    If the user enters an empty line, the answer is the value of `yes`. Ctrl-D means no.
    """
    sys.stderr.write(f"{printable(question)} [{'Y/n' if yes else 'y/N'}] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D: no answer
        sys.stderr.write("\n")
        return False
    return answer.strip().lower() in ("y", "yes") or (yes and not answer.strip())


class TerminalTalk:
    """A `Talk` (`search.operations.talk`) at the terminal, on stderr."""

    def note(self, text: str) -> None:
        """Print the line."""
        say(Terminal(stderr=True), text)
