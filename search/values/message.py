"""Messages that name commands, for the terminal, the pages and Python.

A command that a message suggests is a `Remedy`, a value among the message's texts. Converted to
text, a remedy is the command line. A page shows the name of its own button instead, and an
exception in Python contains the function call. An f-string around a message keeps the text but
loses the remedies, so build another `Message` from the parts instead.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.values.wording import DEFAULT_STORAGE

if TYPE_CHECKING:  # importing this module must not import the client of buckets
    from cluster.storage.bucket import Bucket


class Start(Enum):
    """The beginning of a command line, up to the name of the verb."""

    HERE = "{python} -m search."
    """For a shell in the current folder; `{python}` is the current interpreter (see `program`)."""
    ANYWHERE = "python -m search."
    """For readers on other machines and in other folders."""
    MODULE = "search."
    """For sentences that name the command without saying how to start it."""


@dataclass(frozen=True)
class Blank:
    """A placeholder in a command line, which the reader replaces."""

    title: str
    """The text of the placeholder, such as `LIMIT`."""
    hint: str = ""
    """A description of the value, shown in parentheses after the title; may be empty."""

    def __str__(self) -> str:
        return f"{self.title} ({self.hint})" if self.hint else self.title


Word = str | int | float | Blank
PYTHON_NAMES = {
    "list": ("searches", ""),
    "report": ("result", ".report()"),
    "export": ("result", ".trials"),
}
"""The verbs whose function in `search.api` has another name or returns more than the verb prints.

Each is mapped to (name of the function, attribute or method of its result).
"""
COMMANDS_ONLY = frozenset({"label", "serve", "ui"})
"""The verbs without a function in `search.api`: they serve pages until they are stopped."""
PRINTING_OPTIONS = frozenset({"all"})
"""Options that only affect the printed text, which the functions in `search.api` do not have."""


def _word_as_json(word: Any) -> Any:
    if isinstance(word, Blank):
        return asdict(word)
    return [_word_as_json(item) for item in word] if isinstance(word, list | tuple) else word


def _word_from_json(word: Any) -> Any:
    if isinstance(word, Mapping):
        return Blank(**word)
    return [_word_from_json(item) for item in word] if isinstance(word, list) else word


@dataclass(frozen=True)
class Remedy:
    """A command that the reader of a message may run next."""

    verb: str
    """The name of a module in `search`, such as `resume`."""
    search: str | Blank = ""
    """The name of the search; empty for a verb without one."""
    storage: "Path | Bucket | str" = DEFAULT_STORAGE
    """The storage of the search; the default one is left out of the command line."""
    arguments: Sequence[Word] = ()
    """Further positional arguments."""
    options: Mapping[str, Word | Sequence[Word]] = field(default_factory=dict)
    """Maps options, without their leading dashes, to values: `{"trials": 12}`.

    True stands for a flag, False omits the flag, and a sequence repeats the option.
    """
    start: Start = Start.HERE

    def __str__(self) -> str:
        """Return the command line, quoted for a shell; its blanks remain to be filled in."""
        python = shlex.quote(program("python")) if self.start is Start.HERE else ""
        start = self.start.value.format(python=python)
        words = (str(w) if isinstance(w, Blank) else shlex.quote(str(w)) for w in self._words())
        return " ".join([f"{start}{self.verb}", *words])

    @property
    def words(self) -> list[str]:
        """The unquoted words of the command line after the verb, with the titles of blanks."""
        return [word.title if isinstance(word, Blank) else str(word) for word in self._words()]

    @property
    def has_blanks(self) -> bool:
        """True if the reader has to replace a placeholder."""
        return any(isinstance(word, Blank) for word in self._words())

    @property
    def call(self) -> str:
        """The Python expression that does the same as the command.

        It requires `import_line`, and is valid only without blanks.
        """
        if self.verb in COMMANDS_ONLY:
            return f"search.{self.verb}.main({self.words})"
        function, attribute = PYTHON_NAMES.get(self.verb, (self.verb, ""))
        return f"{function}({', '.join(self._call_arguments())}){attribute}"

    @property
    def import_line(self) -> str:
        """The import that `call` needs."""
        if self.verb in COMMANDS_ONLY:
            return f"import search.{self.verb}"
        return f"from search.api import {PYTHON_NAMES.get(self.verb, (self.verb, ''))[0]}"

    def as_json(self) -> dict[str, Any]:
        """Return its fields as JSON-compatible values; a blank becomes an object."""
        return {
            "verb": self.verb,
            "search": _word_as_json(self.search),
            "storage": str(self.storage),
            "arguments": [_word_as_json(word) for word in self.arguments],
            "options": {name: _word_as_json(value) for name, value in self.options.items()},
            "start": self.start.name,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Remedy":
        """Read a remedy that `as_json` wrote; a storage in a bucket is its text.

        Raises:
            KeyError, TypeError, ValueError: the document is not a remedy.
        """
        storage = document["storage"]
        return cls(
            document["verb"],
            _word_from_json(document["search"]),
            storage if "://" in storage else Path(storage),
            arguments=tuple(_word_from_json(word) for word in document["arguments"]),
            options={name: _word_from_json(value) for name, value in document["options"].items()},
            start=Start[document["start"]],
        )

    def _call_arguments(self) -> Iterator[str]:
        """Yield the arguments of the function in `search.api`, as code."""
        yield from map(repr, [*([self.search] if self.search else []), *self.arguments])
        if self.storage != DEFAULT_STORAGE:
            yield f"storage={str(self.storage)!r}"
        for name, value in self.options.items():
            if name not in PRINTING_OPTIONS and value is not False:
                yield f"{name.replace('-', '_')}={value!r}"

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
    """A text for the user, with the commands that it suggests."""

    parts: tuple[str | Remedy, ...]

    def __init__(self, *parts: "str | Remedy | Message") -> None:
        """Concatenate texts, remedies and the parts of other messages; empty texts are dropped."""
        flat = (
            inner
            for part in parts
            for inner in (part.parts if isinstance(part, Message) else (part,))
        )
        object.__setattr__(self, "parts", tuple(part for part in flat if part != ""))

    def __str__(self) -> str:
        return self.render(str)

    def __repr__(self) -> str:
        return repr(str(self))  # an error with a message has the same repr as one with a str

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def remedies(self) -> list[Remedy]:
        """The commands that it suggests, in order."""
        return [part for part in self.parts if isinstance(part, Remedy)]

    def render(self, form: Callable[[Remedy], str]) -> str:
        """Return the text of the message, with each remedy formatted by `form`."""
        return "".join(form(part) if isinstance(part, Remedy) else part for part in self.parts)

    def as_json(self) -> list[str | dict[str, Any]]:
        """Return its parts as JSON-compatible values, which `message_from_json` reads."""
        return [part if isinstance(part, str) else part.as_json() for part in self.parts]


def message_from_json(parts: Sequence[str | Mapping[str, Any]]) -> Message:
    """Read a message that `Message.as_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: the parts are not those of a message.
    """
    return Message(*(part if isinstance(part, str) else Remedy.from_json(part) for part in parts))


def message_of(error: BaseException) -> Message:
    """Return the message of an exception; it has no remedies if the exception has only a text."""
    argument = error.args[0] if error.args else ""
    return argument if isinstance(argument, Message) else Message(str(error))


def going_on(search: str, storage: "Path | Bucket", outcome: str) -> Remedy:
    """Build the command that continues a search.

    If its `outcome` is `budget`, the command has a placeholder for a larger budget.
    """
    return Remedy(
        "resume",
        search,
        storage,
        options={"budget": Blank("LIMIT", "a larger one")} if outcome == "budget" else {},
    )


def program(name: str) -> str:
    """Return the word with which a shell starts a program from this Python's environment.

    It is the name if the shell finds this program under that name, or if the environment has no
    such program. Otherwise it is the path, relative to the working directory if possible.
    """
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path) or not path.exists():
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
