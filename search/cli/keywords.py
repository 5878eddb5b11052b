"""Options of a verb as Python values; dashes in their names become underscores.

The options are converted to words of the command line, which argparse converts to values. So a text
has the same meaning in Python as on the command line.

    {"space": "table3", "max_epochs": 5, "set": {"optimizer": {"name": "sgd"}}, "sealed": True}
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from search.cli.parser import parse_option
from search.values.option import Option, OptionKind, options_of, request_of
from trainables.errors import ConfigError, unknown

Request = TypeVar("Request")


def request_from(request_type: type[Request], values: Mapping[str, Any]) -> Request:
    """Build a request from its options, whose values are Python values or command-line text.

    Args:
        request_type: the dataclass of the request.
        values: the values of options by name, such as `max_epochs` or `set`. Options that are
            missing or None have their defaults.

    Raises:
        ConfigError: there is no such option, or its value is invalid.
    """
    return request_of(
        request_type, {field: value for field, _, value in _parsed(request_type, values)}
    )


def words(request_type: type, values: Mapping[str, Any]) -> list[str]:
    """Convert the values of options to words of the command line, in the same order.

    The arguments are those of `request_from`.

    Raises:
        ConfigError: there is no such option, or its value is invalid.
    """
    return [word for _, option_words, _ in _parsed(request_type, values) for word in option_words]


def _parsed(request_type: type, values: Mapping[str, Any]) -> Iterator[tuple[str, list[str], Any]]:
    """Yield (field name, words of the command line, parsed value) of each option that has words."""
    options = {declared.name.replace("-", "_"): declared for declared in options_of(request_type)}
    for name, value in values.items():
        if name not in options:
            raise ConfigError(unknown("option", name, options))
        if value is None:
            continue
        declared = options[name]
        if not (option_words := list(_words(name, value, declared))):
            continue
        try:
            parsed_value = parse_option(declared, option_words)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        yield declared.field, option_words, parsed_value


def _words(name: str, value: Any, declared: Option) -> Iterator[str]:
    """Yield the words of an option: one per value, and none for a flag that is False."""
    if declared.kind in (OptionKind.FLAG, OptionKind.SWITCH):
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be True or False (got {value!r}).")
        if value:
            yield f"--{declared.name}"
        elif declared.kind is OptionKind.SWITCH:
            yield f"--no-{declared.name}"
        return
    if isinstance(value, Mapping) and name == "set":
        value = list(_settings(value))
    if not isinstance(value, Mapping | list | tuple | set):
        value = [value]
    elif isinstance(value, Mapping) or not declared.is_repeated:
        raise ConfigError(f"{name} accepts one value (got {value!r}).")
    if declared.kind is OptionKind.POSITIONAL:
        yield from ["--", *map(str, value)]
    else:
        yield from (f"--{declared.name}={item}" for item in value)


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the settings of a nested mapping as `KEY=VALUE`, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_text(value)}"


def _text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
