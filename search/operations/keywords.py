"""Options of a command as Python values; dashes in their names become underscores.

They are converted to command-line words, so that a new option needs no change here.

    {"space": "table3", "max_epochs": 5, "set": {"optimizer": {"name": "sgd"}}, "sealed": True}
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from trainables.errors import ConfigError, unknown


def words(options: Mapping[str, Any], parser: argparse.ArgumentParser) -> list[str]:
    """Convert these options to command-line words that `parser` accepts.

    An option with the value None is left out.

    Raises:
        ConfigError: there is no such option, or its value is invalid.
    """
    defaults = vars(parser.parse_args([]))
    accepted = {**defaults, "set": defaults.pop("settings", [])}
    accepted.pop("settings", None)
    arguments: list[str] = []
    for name, value in options.items():
        if name not in accepted:
            raise ConfigError(unknown("option", name, accepted))
        if value is None:
            continue
        option_words = list(_words(name, value, accepted[name]))
        try:
            parser.exit_on_error = False
            parser.parse_args(option_words)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{name}: {error.message}.") from error
        arguments += option_words
    return arguments


def _words(name: str, value: Any, default: Any) -> Iterator[str]:
    """Yield the words of an option: one per value, and none for a flag that is False."""
    option = f"--{name.replace('_', '-')}"
    if default is False:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be True or False (got {value!r}).")
        yield from [option] * value
        return
    if isinstance(value, Mapping) and name == "set":
        value = list(_settings(value))
    if not isinstance(value, Mapping | list | tuple | set):
        value = [value]
    elif isinstance(value, Mapping) or not isinstance(default, list):
        raise ConfigError(f"{name} takes one value (got {value!r}).")
    yield from (f"{option}={item}" for item in value)


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the settings of a nested mapping as `KEY=VALUE`, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_text(value)}"


def _text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
