"""The command line of a verb: `python -m search.VERB`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.cli import Parser
from search.cli.parser import parse_request, parser_of
from search.cli.prompt import with_confirmed_name
from search.process.guard import guarded
from search.views.steps import show_steps

Options = TypeVar("Options")


@dataclass(frozen=True)
class Face(Generic[Options]):
    """A command line: its options, and the function that carries it out and prints the result."""

    verb: str
    options_type: type[Options]
    """A dataclass of the request and of the options for the output, such as `--json`."""
    command: Callable[[Options], int]
    """Carries out the command, and returns its exit code (see `ExitCode`)."""
    description: str | None
    """The description in the help: the docstring of the verb's module."""

    def parser(self) -> Parser:
        """Build the parser of the command line."""
        return parser_of(self.options_type, self.verb, self.description or "")

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Parse the command line, carry it out, and return the exit code (see `ExitCode`).

        If no search has the given name, the user is asked at the terminal whether the search with
        the closest name is meant.
        """
        options = parse_request(self.parser(), self.options_type, argv)
        with show_steps():
            return guarded(lambda: with_confirmed_name(self.command, options))
