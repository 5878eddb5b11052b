"""Messages that name commands, for the terminal, the pages and Python.

A command that a message advises is a `Remedy`, a value among the message's texts. As text it is the
command line; a page shows the name of its button instead, and an exception in Python carries the
call. An f-string around a message keeps the text but loses the remedies: make another `Message` of
the parts.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from search.values.wording import DEFAULT_STORAGE

if TYPE_CHECKING:  # messages alone must not import the client of buckets
    from cluster.storage.bucket import Bucket


class Start(Enum):
    """The beginning of a command line, up to the name of the verb."""

    HERE = "{python} -m search."
    """For a shell in the current folder: the Python that runs now, by its path if need be."""
    ANYWHERE = "python -m search."
    """For readers on other machines and in other folders."""
    MODULE = "search."
    """For sentences that name the command without showing how it is started."""


@dataclass(frozen=True)
class Blank:
    """A word of a command line that the reader replaces."""

    title: str
    """Such as `LIMIT`."""
    hint: str = ""
    """What to replace it with; shown in brackets after it."""

    def __str__(self) -> str:
        return f"{self.title} ({self.hint})" if self.hint else self.title


Word = str | int | float | Blank


@dataclass(frozen=True)
class Remedy:
    """A command that the reader of a message may run next."""

    verb: str
    """The name of a module in `search`, such as `resume`."""
    search: str | Blank = ""
    """The name of a search; empty for a verb that takes none."""
    storage: "Path | Bucket" = DEFAULT_STORAGE
    """The place of the searches; the default place is not named."""
    arguments: Sequence[Word] = ()
    """Further positional arguments."""
    options: Mapping[str, Word | Sequence[Word]] = field(default_factory=dict)
    """Values by the options' names without dashes: `{"trials": 12}`. True is a flag, False one that
    is not given, and a list is an option that is given several times.
    """
    start: Start = Start.HERE

    def __str__(self) -> str:
        """Command line, as a shell takes it once its blanks are filled in."""
        python = shlex.quote(program("python")) if self.start is Start.HERE else ""
        start = self.start.value.format(python=python)
        words = (str(w) if isinstance(w, Blank) else shlex.quote(str(w)) for w in self._words())
        return " ".join([f"{start}{self.verb}", *words])

    @property
    def words(self) -> list[str]:
        """Words of the command line after the verb, with the titles of the blanks."""
        return [word.title if isinstance(word, Blank) else str(word) for word in self._words()]

    @property
    def has_blanks(self) -> bool:
        """True if the reader has to fill something in."""
        return any(isinstance(word, Blank) for word in self._words())

    @property
    def call(self) -> str:
        """Python statements that run the command in this process; it has no blanks."""
        return f"import search.{self.verb}; search.{self.verb}.main({self.words})"

    def _words(self) -> Iterator[Word]:
        if self.search:
            yield self.search
        if self.storage != DEFAULT_STORAGE:
            yield from ("--storage", str(self.storage))
        yield from self.arguments
        for name, value in self.options.items():
            for word in [value] if isinstance(value, str | int | float | Blank) else value:
                if word is not False:
                    yield from [f"--{name}"] if word is True else [f"--{name}", word]


@dataclass(frozen=True, init=False)
class Message:
    """A text for people, with the commands that it names."""

    parts: tuple[str | Remedy, ...]

    def __init__(self, *parts: "str | Remedy | Message") -> None:
        """Join texts, remedies and other messages, as they follow each other."""
        flat = (
            inner
            for part in parts
            for inner in (part.parts if isinstance(part, Message) else (part,))
        )
        object.__setattr__(self, "parts", tuple(part for part in flat if part != ""))

    def __str__(self) -> str:
        return self.render(str)

    def __repr__(self) -> str:
        return repr(str(self))  # as that of an error with a text

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def remedies(self) -> list[Remedy]:
        """Commands that it names, in order."""
        return [part for part in self.parts if isinstance(part, Remedy)]

    def render(self, form: Callable[[Remedy], str]) -> str:
        """Text of the message, with each remedy in the given form."""
        return "".join(form(part) if isinstance(part, Remedy) else part for part in self.parts)


def message_of(error: BaseException) -> Message:
    """Message that an exception was raised with; without remedies if it was raised with a text."""
    argument = error.args[0] if error.args else ""
    return argument if isinstance(argument, Message) else Message(str(error))


def going_on(search: str, storage: "Path | Bucket", outcome: str) -> Remedy:
    """Build the command that continues a search that ended with this outcome."""
    return Remedy(
        "resume",
        search,
        storage,
        options={"budget": Blank("LIMIT", "a larger one")} if outcome == "budget" else {},
    )


def program(name: str) -> str:
    """Return the command that starts a program of this Python's environment.

    It is the name if the shell finds it by that, else the path, relative to the working directory
    where possible.
    """
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path) or not path.exists():
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
