"""Options from a YAML file, `--config FILE`.

The options have the same effect as at the beginning of the command line.

    space: table3
    max-epochs: 5
    set:
      batch_size: 64
      optimizer:
        lr: 0.001

Values are read as text, and no Python object is built from them. Tags, anchors, duplicate keys,
files of more than 1 MB, and more than 8 levels of nesting are errors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from search.cli.parser import parse_option
from search.values import secrets
from search.values.option import Option, OptionKind, options_of
from trainables.config import PATHS, parse_setting
from trainables.errors import ConfigError, unknown

MAX_BYTES = 1_000_000
MAX_DEPTH = 8
TAG_PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Entry:
    """A key with its value and its line number.

    Nested keys are joined by dots. The value is text, None if it is empty, or the YAML node of a
    list or mapping.
    """

    line: int
    key: str
    value: str | yaml.Node | None

    @property
    def name(self) -> str:
        """The key as on the command line: `max_epochs` becomes `max-epochs`, except under `set`."""
        return self.key if _holds_settings(self.key) else self.key.replace("_", "-")


def words(request_type: type, path: Path) -> list[str]:
    """Convert the options in a file to words of the command line.

    Args:
        request_type: the dataclass whose options the file may contain, except `config`. Settings
            are nested under `set`.
        path: the file.

    Raises:
        ConfigError: the file cannot be read, or has problems; the message has a line for each
            problem, with the file and its line.
    """
    options = {
        declared.name: declared
        for declared in options_of(request_type)
        if declared.name not in ("config", "set")
    }
    arguments: list[str] = []
    problems: list[str] = []
    first_lines: dict[str, int] = {}
    for entry in _entries(path):
        try:
            if entry.name in first_lines:
                raise ConfigError(
                    f"'{entry.key}' is given twice (first in line {first_lines[entry.name]}). "
                    "Remove one of the two entries."
                )
            first_lines[entry.name] = entry.line
            arguments += _words(entry, options)
        except ConfigError as error:
            problems.append(f"{path}:{entry.line}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return arguments


def _words(entry: Entry, options: Mapping[str, Option]) -> list[str]:
    """Convert an option to words of the command line.

    The list is empty if the option has no value in the file, or if it is a flag that is false.
    """
    key, value = entry.name, entry.value
    secrets.refuse(entry.key, value if isinstance(value, str) else "")
    if isinstance(value, yaml.MappingNode) and _holds_settings(key):
        return []
    declared = options.get(key)
    if isinstance(value, yaml.SequenceNode) and declared is not None and declared.is_repeated:
        values = [node.value if isinstance(node, yaml.ScalarNode) else node for node in value.value]
        return [
            word for item in values for word in _words(Entry(entry.line, entry.key, item), options)
        ]
    if isinstance(value, yaml.Node):
        raise ConfigError(f"'{key}' accepts one value.")
    if key.startswith("set."):
        setting = f"{key.removeprefix('set.')}={'none' if value is None else value}"
        parse_setting(setting)
        return [f"--set={setting}"]
    if declared is None and key != "set":
        raise _unknown(entry.key, options)
    if value is None:
        return []
    if declared is None:
        raise ConfigError(
            f"'set' must contain keys and values, such as 'optimizer.lr: 0.001' (got '{value}')."
        )
    if declared.kind is OptionKind.FLAG:
        if value not in ("true", "false"):
            raise ConfigError(f"'{key}' must be true or false (got '{value}').")
        return [f"--{key}"] if value == "true" else []
    option_words = [f"--{key}={value}"]
    try:
        parse_option(declared, option_words)
    except ConfigError as error:
        raise ConfigError(f"'{key}': {error}") from error
    return option_words


def _unknown(key: str, options: Mapping[str, Option]) -> ConfigError:
    same = [path for path in PATHS if key in (path, path.rpartition(".")[2])]
    return ConfigError(
        f"unknown key '{key}'. Did you mean '{same[0]}' under 'set:'?"
        if same
        else unknown("key", key, {*options, "set"})
    )


def _entries(path: Path) -> Iterator[Entry]:
    text = _text(path)
    try:
        _refuse_tricks(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        reason = "tabs are not allowed for indentation; use spaces" if "'\\t'" in reason else reason
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: {reason}.") from error
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{path}:{text.count(chr(10), 0, error.position) + 1}: this line has the character "
            f"{text[error.position]!r}, which YAML does not allow. Remove the character."
        ) from error
    if isinstance(root, yaml.MappingNode):
        yield from _flat(root, "")
    elif root is not None:
        raise ConfigError(
            f"{path}:1: the file must contain keys and values, such as 'space: table3' (got "
            f"{'a list' if isinstance(root, yaml.SequenceNode) else 'a single value'})."
        )


def _flat(node: yaml.MappingNode, prefix: str) -> Iterator[Entry]:
    """Yield the entries of a mapping, and those of the mappings nested under `set`."""
    for name, value in node.value:
        key = prefix + (name.value if isinstance(name, yaml.ScalarNode) else "?")
        is_empty = value.tag == f"{TAG_PREFIX}null"
        yield Entry(
            name.start_mark.line + 1,
            key,
            None if is_empty else value.value if isinstance(value, yaml.ScalarNode) else value,
        )
        if isinstance(value, yaml.MappingNode) and _holds_settings(key):
            yield from _flat(value, f"{key}.")


def _holds_settings(key: str) -> bool:
    return key == "set" or key.startswith("set.")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"config file {str(path)!r} (--config) cannot be read "
            f"({getattr(error, 'strerror', error)})."
        ) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"config file {str(path)!r} (--config) is larger than 1 MB, which is the limit."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"config file {str(path)!r} (--config) is not UTF-8. Save the file as UTF-8."
        ) from error


def _refuse_tricks(path: Path, text: str) -> None:
    """Refuse anchors, aliases, tags and deep nesting, before PyYAML builds a tree of nodes.

    Raises:
        ConfigError: the file has one of them.
        yaml.YAMLError: the file is not valid YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if getattr(event, "anchor", None):
            raise ConfigError(
                f"{where}: YAML anchors and aliases are not allowed. Write the values out."
            )
        if tag := getattr(event, "tag", None):
            raise ConfigError(
                f"{where}: the tag '{tag.replace(TAG_PREFIX, '!!')}' is not allowed; use plain "
                "values."
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{where}: the values are nested too deeply (at most {MAX_DEPTH} levels are "
                "allowed)."
            )
