"""Declarations of options: the fields of a request.

A request is a frozen, keyword-only dataclass, one per verb. Command lines, forms, config files and
Python keywords are derived from its fields, so the help text of an option is written only once, in
its declaration.

    @dataclass(frozen=True, kw_only=True)
    class WhyRequest:
        name: str = positional("the search's name", metavar="NAME")
        storage: Storage = option("where searches are kept", parse=storage, default="searches")
        where: Where = group(Where, before="as before")
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, TypeVar

Request = TypeVar("Request")
KEY = "option"
"""The key of the declaration in the metadata of a field."""


class OptionKind(Enum):
    """The ways in which an option is written on a command line."""

    VALUE = "--name VALUE"
    LIST = "--name VALUE, which can be repeated"
    FLAG = "--name"
    SWITCH = "--name or --no-name"
    POSITIONAL = "VALUE"


@dataclass(frozen=True, kw_only=True)
class Option:
    """The declaration of an option, without its value."""

    field: str
    """The name of the field that holds its value."""
    name: str
    """The option's name on the command line without the leading dashes, such as `max-epochs`."""
    kind: OptionKind
    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    """Converts text to the value, and raises an error for invalid text; None keeps the text."""
    text: Callable[[Any], str] = str
    """Converts the value to text that `parse` accepts."""
    choices: Collection[str] | None = None
    nargs: str | None = None
    """`?` for a value that may be missing, `+` or `*` for several, as in `argparse`."""
    const: Any = None
    """The value of an option that is given without a value, with `nargs="?"`."""
    default: Any = None
    """The default; text is converted by `parse`."""
    is_required: bool = False
    section: str = ""
    """The heading in the help under which the option is listed; empty for the general list."""
    before: str = ""
    """The field of another option, before which this option is listed; empty to keep the fields'
    order.
    """

    @property
    def default_value(self) -> Any:
        """The value of the field if the option is not given."""
        if isinstance(self.default, str) and self.parse is not None:
            return self.parse(self.default)
        return () if self.is_repeated and self.default is None else self.default

    @property
    def is_repeated(self) -> bool:
        """True if the option can have several values, so that its field is a tuple."""
        return self.kind is OptionKind.LIST or self.nargs in ("+", "*")


@dataclass(frozen=True)
class Group:
    """Options that several requests share: a dataclass that is the value of one field."""

    request_type: type
    section: str
    words: Mapping[str, str]
    """The texts for placeholders in the help, such as `{before}`, by the placeholder's name."""
    defaults: Mapping[str, Any]
    """Defaults that differ from those of the dataclass, by the name of the field."""


def option(help: str, *, default: Any = None, name: str = "", **settings: Any) -> Any:
    """Declare an option with a value, such as `--trials 5`.

    Args:
        help: its description.
        default: the value if it is not given. Text is converted by `parse`.
        name: its name on the command line, if it is not the field's name with dashes.
        settings: further fields of `Option`.
    """
    return _declared(OptionKind.VALUE, help, name, {"default": default, **settings})


def repeated(help: str, *, name: str = "", **settings: Any) -> Any:
    """Declare an option that can be given several times; the field is a tuple, empty by default."""
    return _declared(OptionKind.LIST, help, name, settings)


def flag(help: str, *, default: bool = False, name: str = "", **settings: Any) -> Any:
    """Declare an option without a value; if it is given, the field is `not default`."""
    return _declared(OptionKind.FLAG, help, name, {"default": default, **settings})


def switch(help: str, *, name: str = "", **settings: Any) -> Any:
    """Declare an option `--name` or `--no-name`; the field is None if neither is given."""
    return _declared(OptionKind.SWITCH, help, name, settings)


def positional(help: str, *, metavar: str, **settings: Any) -> Any:
    """Declare an argument without a name; it is required unless `nargs` is `?` or `*`."""
    is_required = settings.get("nargs") not in ("?", "*")
    return _declared(
        OptionKind.POSITIONAL,
        help,
        "",
        {"metavar": metavar, "is_required": is_required, **settings},
    )


def group(
    request_type: type,
    *,
    section: str = "",
    defaults: Mapping[str, Any] | None = None,
    **words: str,
) -> Any:
    """Declare a field that holds a group of options; a command line lists them like all others.

    Args:
        request_type: the dataclass of the group.
        section: the heading of these options in the help.
        defaults: defaults that differ from those of the group, by the name of the field.
        words: the texts that replace placeholders in the help; `before=` replaces `{before}`.
    """
    declared = Group(request_type, section, words, defaults or {})
    return field(
        default_factory=lambda: request_type(**declared.defaults), metadata={KEY: declared}
    )


def _declared(kind: OptionKind, help: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Build a dataclass field whose metadata hold the declaration."""
    declared = Option(field="", name=name, kind=kind, help=help, **settings)
    metadata = {KEY: declared}
    if declared.is_required:
        return field(metadata=metadata)
    if isinstance(declared.default, str) and declared.parse is not None:
        return field(default_factory=lambda: declared.default_value, metadata=metadata)
    return field(default=declared.default_value, metadata=metadata)


def options_of(request_type: type) -> tuple[Option, ...]:
    """Return the options of a request, including those of its groups, in the order of the fields.

    An option with `before` is moved in front of that option, which may be in a group.
    """
    options = list(_options_of(request_type))
    for moved in [declared for declared in options if declared.before]:
        options.remove(moved)
        fields_in_order = [declared.field for declared in options]
        options.insert(fields_in_order.index(moved.before), moved)
    return tuple(options)


def _options_of(request_type: type) -> Iterator[Option]:
    for own in fields(request_type):
        declared = own.metadata.get(KEY)
        if isinstance(declared, Group):
            for inner in _options_of(declared.request_type):
                yield replace(
                    inner,
                    help=inner.help.format(**declared.words) if declared.words else inner.help,
                    section=inner.section or declared.section,
                    default=declared.defaults.get(inner.field, inner.default),
                )
        elif declared is not None:
            name = declared.name or own.name.replace("_", "-")
            yield replace(declared, field=own.name, name=name)


def request_of(request_type: type[Request], values: Mapping[str, Any]) -> Request:
    """Build a request, with its groups, from the values of its options.

    Args:
        request_type: the dataclass of the request.
        values: the value of each option by the name of its field. Missing options get their
            defaults, and names that are not those of an option are ignored.
    """
    return request_type(**_arguments(request_type, values))


def _arguments(request_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for own in fields(request_type):
        declared = own.metadata.get(KEY)
        if isinstance(declared, Group):
            inner = {**declared.defaults, **_arguments(declared.request_type, values)}
            arguments[own.name] = declared.request_type(**inner)
        elif declared is not None and own.name in values:
            value = values[own.name]
            arguments[own.name] = tuple(value) if declared.is_repeated else value
    return arguments


def values_of(request: Any) -> dict[str, Any]:
    """Return the value of each option of a request, including those of groups, by field name."""
    values: dict[str, Any] = {}
    for own in fields(request):
        value, declared = getattr(request, own.name), own.metadata.get(KEY)
        if isinstance(declared, Group):
            values |= values_of(value)
        elif declared is not None:
            values[own.name] = value
    return values


def words_of(request: Any) -> list[str]:
    """Build the arguments of the command line that gives this request.

    Options with their default value are left out. An option and its value are one word,
    `--name=value`, so that a value that begins with a dash is not parsed as another option.
    """
    values = values_of(request)
    options = options_of(type(request))
    arguments = [
        word
        for declared in options
        if declared.kind is OptionKind.POSITIONAL
        for word in _texts(declared, values[declared.field])
    ]
    words = [
        word
        for declared in options
        if declared.kind is not OptionKind.POSITIONAL
        and values[declared.field] != declared.default_value
        for word in _words(declared, values[declared.field])
    ]
    if any(word.startswith("-") for word in arguments):
        return [*words, "--", *arguments]
    return [*arguments, *words]


def _words(declared: Option, value: Any) -> Iterator[str]:
    """Yield the words of an option, or nothing if it has its default value."""
    if value == declared.default_value:
        return
    if declared.kind is OptionKind.FLAG:
        yield f"--{declared.name}"
    elif declared.kind is OptionKind.SWITCH:
        yield f"--{declared.name}" if value else f"--no-{declared.name}"
    elif declared.nargs == "?" and value == declared.const:
        yield f"--{declared.name}"
    else:
        yield from (f"--{declared.name}={text}" for text in _texts(declared, value))


def _texts(declared: Option, value: Any) -> list[str]:
    """Convert an option's value, or each of its values, to text; None is left out."""
    values = value if declared.is_repeated else [value]
    return [declared.text(item) for item in values if item is not None]
