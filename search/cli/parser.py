"""Command lines of requests: the parser is derived from the fields of the request."""

import argparse
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from cluster.cli import Parser
from search.values.option import Option, OptionKind, options_of, request_of
from trainables.errors import ConfigError

Request = TypeVar("Request")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """A help formatter that appends the default of each option to its help.

    The default is left out if the help already states it, or if it is None, a boolean or an empty
    list.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_named = "(default" in (action.help or "")
        return (
            action.help
            if is_named or action.default in (None, [], False) or action.default is True
            else super()._get_help_string(action)
        )


def parser_of(request_type: type, verb: str, description: str) -> Parser:
    """Build the parser of `python -m search.VERB`, with an argument for each option."""
    parser = Parser(
        prog=f"python -m search.{verb}", description=description, formatter_class=HelpFormatter
    )
    sections: dict[str, Any] = {"": parser}
    for declared in options_of(request_type):
        if declared.section not in sections:
            sections[declared.section] = parser.add_argument_group(declared.section)
        add_option(sections[declared.section], declared)
    return parser


def add_option(section: Any, declared: Option) -> None:
    """Add an option to a parser, or to one of its groups."""
    # argparse formats help texts, so that a percent sign has to be doubled.
    settings: dict[str, Any] = {"help": declared.help and declared.help.replace("%", "%%")}
    if declared.kind is OptionKind.FLAG:
        settings["action"] = "store_false" if declared.default else "store_true"
    elif declared.kind is OptionKind.SWITCH:
        settings |= {"action": argparse.BooleanOptionalAction, "default": declared.default}
    else:
        settings |= {
            "type": None if declared.parse is None else _as_type(declared.parse),
            "metavar": declared.metavar,
            "choices": declared.choices,
        }
        if declared.nargs is not None:
            settings["nargs"] = declared.nargs
        if declared.kind is OptionKind.LIST:
            settings |= {"action": "append", "default": []}
        elif not declared.is_required:
            settings |= {"default": declared.default, "const": declared.const}
    if declared.kind is OptionKind.POSITIONAL:
        section.add_argument(declared.field, **settings)
    else:
        if declared.is_required:
            settings["required"] = True
        section.add_argument(f"--{declared.name}", dest=declared.field, **settings)


def parse_option(declared: Option, words: Sequence[str]) -> Any:
    """Parse the words of one option, and return its value.

    Raises:
        ConfigError: the words are invalid; the message is the reason that argparse states.
    """
    parser = Parser(add_help=False, exit_on_error=False)
    add_option(parser, declared)
    try:
        value = getattr(parser.parse_args(words), declared.field)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.message}.") from error
    if _is_missing(declared, value):
        raise ConfigError("expected one argument.")
    return value


def _is_missing(declared: Option, value: Any) -> bool:
    """True if the option was passed as `--name=--`, which argparse in Python 3.11 drops."""
    if declared.kind is OptionKind.LIST:
        return [] in value
    return value == [] and not declared.is_repeated


def _as_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap a parsing function as a `type` of argparse that reports why a text is refused."""

    @wraps(parse)
    def converted(text: str) -> Any:
        try:
            return parse(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from error

    return converted


def parse_request(
    parser: Parser, request_type: type[Request], words: Sequence[str] | None
) -> Request:
    """Parse a command line; None stands for the command line of this process.

    If the command line is invalid, the process ends with a message of one line and exit code 2.
    """
    values = vars(parser.parse_args(words))
    for declared in options_of(request_type):
        if _is_missing(declared, values[declared.field]):
            parser.error(f"argument --{declared.name}: expected one argument")
    return request_of(request_type, values)
