"""Checks that values read from JSON have the types of a class's annotations.

A journal may have been edited by hand, or written by another program. Its values are checked once,
here, so that all other code can rely on their types.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

MAX_MS = 253_402_300_799_999
"""The last Unix time in milliseconds that `datetime` can represent: the end of the year 9999."""
MAX_WHOLE = 2**64
MAX_NUMBER = 1.7976931348623157e308
"""The largest finite double. Numbers are compared with it, because `json` accepts `NaN` and reads
`1e999` as infinity.
"""
MAX_SHOWN = 60
"""The maximum number of characters that an error message quotes of a wrong value."""
Check = Callable[[Any], bool]


class UnixMs:
    """Stands for the type of integers that are Unix times in milliseconds."""


TITLES: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    UnixMs: "a Unix time in milliseconds",
    str: "a string",
    bool: "true or false",
    list: "a list",
}


class Kinds(dict[str, Any]):
    """The types that the values of a JSON object must have, by the values' names."""

    @cached_property
    def checks(self) -> dict[str, Check]:
        """The functions that check the values, by the values' names."""
        return {name: _check_of(kind) for name, kind in self.items()}

    def check(self, values: Mapping[str, Any]) -> None:
        """Check the types of these values; names without a type are ignored.

        Raises:
            ValueError: a value has another type. The message names the value and the type.
        """
        check_of = self.checks.get
        for name, value in values.items():
            fits = check_of(name)
            if fits is not None and not fits(value):
                path, wrong, kind = next(_mistakes(name, value, self[name]))
                raise ValueError(f"'{path}' must be {_title(kind)} (got {repr(wrong)[:MAX_SHOWN]})")


@cache
def kinds_of(described: Any) -> Kinds:
    """Return the types of the fields of a dataclass or `TypedDict`.

    An integer whose name ends in `_ms` is a Unix time.
    """
    return Kinds(
        (name, UnixMs if hint is int and name.endswith("_ms") else hint)
        for name, hint in get_type_hints(described).items()
        if get_origin(hint) is not ClassVar and hint is not ClassVar
    )


@cache
def _check_of(kind: Any) -> Check:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == dict[str, float]:
        return _are_numbers
    inner = [_check_of(part) for part in get_args(kind)]
    if _is_union(kind):
        return lambda value: any(fits(value) for fits in inner)
    if get_origin(kind) is list:
        return lambda value: isinstance(value, list) and all(map(inner[0], value))
    if get_origin(kind) is dict:
        return lambda value: isinstance(value, dict) and all(map(inner[1], value.values()))
    checks = kinds_of(kind).checks
    return lambda value: (
        isinstance(value, dict)
        and all(fits(value[name]) for name, fits in checks.items() if name in value)
    )


def _are_numbers(values: Any) -> bool:
    """True for a dict of finite numbers.

    This is faster than the general check, and most values of a journal are metrics.
    """
    if type(values) is not dict:
        return False
    for value in values.values():
        if not ((type(value) is float and -MAX_NUMBER <= value <= MAX_NUMBER) or _is_number(value)):
            return False
    return True


def _is_number(value: Any) -> bool:
    # NaN fails too: every comparison with it is false.
    return type(value) in (float, int) and -MAX_NUMBER <= value <= MAX_NUMBER


_PLAIN: dict[Any, Check] = {
    Any: lambda value: True,
    NoneType: lambda value: value is None,
    str: lambda value: type(value) is str,
    bool: lambda value: type(value) is bool,
    int: lambda value: type(value) is int and -MAX_WHOLE <= value <= MAX_WHOLE,
    UnixMs: lambda value: type(value) is int and 0 <= value <= MAX_MS,
    float: _is_number,
}


def _mistakes(path: str, value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, value, expected type) for the innermost values that have the wrong type."""
    if _is_union(kind):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    inner: list[tuple[Any, Any, Any]] = []
    if get_origin(kind) is list and isinstance(value, list):
        inner = [(at, part, get_args(kind)[0]) for at, part in enumerate(value)]
    elif get_origin(kind) is dict and isinstance(value, dict):
        inner = [(name, part, get_args(kind)[1]) for name, part in value.items()]
    elif kind not in _PLAIN and get_origin(kind) is None and isinstance(value, dict):
        field_kinds = kinds_of(kind)
        inner = [
            (name, part, field_kinds[name]) for name, part in value.items() if name in field_kinds
        ]
    wrong = [(name, part, field) for name, part, field in inner if not _check_of(field)(part)]
    if not wrong:
        yield path, value, kind
    for name, part, field in wrong:
        yield from _mistakes(f"{path}.{name}", part, field)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _title(kind: Any) -> str:
    return TITLES.get(get_origin(kind) or kind, "an object")
