"""Dataclass fields with limits in their metadata, and the function that checks them.

A section of a configuration declares `lr: float = number(1e-3, above=0)`; `check(part)` rejects
values outside these limits.
"""

import dataclasses
import functools
import math
import operator
import types
import typing
from typing import Any

from trainables.errors import ConfigError, unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a task: a subclass declares them as fields. This class has none."""

    def __post_init__(self) -> None:
        check(self, "task.")


HOLDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def number(
    default: float | None,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare a numeric field with limits, each of which may be None.

    `low` and `high` are inclusive; `above` and `below` are exclusive.
    """
    limits = {">=": low, ">": above, "<=": high, "<": below}
    return dataclasses.field(
        default=default,
        metadata={"limits": {sign: value for sign, value in limits.items() if value is not None}},
    )


def name_of(default: str | None, kind: str, registry: typing.Collection[str]) -> Any:
    """Declare a field for a name in `registry`; error messages call it a `kind`.

    Each check reads the registry again, so that names that are added later are accepted too.
    """
    return dataclasses.field(default=default, metadata={"kind": kind, "known": registry})


def check(part: Any, prefix: str = "") -> None:
    """Check the fields of a section: their types and limits, and that names are in their registry.

    `prefix` precedes the names of fields in error messages, such as `optimizer.`.

    Raises:
        ConfigError: a value has the wrong type, is outside its limits or is not in its registry.
    """
    for field, kind, allowed in _declared(type(part)):  # type: ignore[arg-type] # `type(Any)`
        value, path = getattr(part, field.name), prefix + field.name
        if not _is_allowed(value, allowed):
            raise ConfigError(f"{path} must be {describe(kind)} (got {value!r}).")
        if value is None:
            continue
        if "known" in field.metadata and value not in field.metadata["known"]:
            raise ConfigError(unknown(field.metadata["kind"], value, field.metadata["known"]))
        _check_limits(path, value, field.metadata.get("limits", {}))


@functools.cache
def _declared(part: type) -> list[tuple[dataclasses.Field[Any], Any, tuple[type, ...]]]:
    """Return the fields of a dataclass, each with its type and the classes of its values.

    They are cached, because resolving them takes longer than all checks of a config, and a search
    builds thousands of configs.
    """
    hints = typing.get_type_hints(part)
    declared = []
    for field in dataclasses.fields(part):
        kind = hints[field.name]
        kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        declared.append((field, kind, tuple(typing.get_origin(each) or each for each in kinds)))
    return declared


def _is_allowed(value: Any, allowed: tuple[type, ...]) -> bool:
    """True if a value is of one of these classes; whole numbers are also numbers."""
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, allowed) or (isinstance(value, int) and float in allowed)


def _check_limits(path: str, value: Any, limits: dict[str, float]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be finite (got {value}).")
    if not all(HOLDS[sign](value, limit) for sign, limit in limits.items()):
        allowed = " and ".join(f"{sign} {limit}" for sign, limit in limits.items())
        raise ConfigError(f"{path} must be {allowed} (got {value}).")


def describe(kind: Any) -> str:
    """Describe a type, or a union of types, in words: `a whole number or none`."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        types.NoneType: "none",
    }
    parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return " or ".join(words.get(part, getattr(part, "__name__", str(part))) for part in parts)


def parse(path: str, text: str, kind: Any) -> Any:
    """Convert the text of `--set path=text` to the type of the field, `kind`.

    Raises:
        ConfigError: the text cannot be converted.
    """
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if types.NoneType in allowed and text.lower() in ("none", "null"):
        return None
    if bool in allowed and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for reader in (int, float):
        if reader in allowed:
            try:
                return reader(text)
            except ValueError:
                continue
    if str in allowed:
        return text
    raise ConfigError(f"{path} must be {describe(kind)} (got {text!r}).")
