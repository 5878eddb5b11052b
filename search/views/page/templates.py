"""The Jinja templates of the page, which escape all text from users."""

import functools
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from trainables.errors import printable


@functools.cache
def template(name: str) -> Template:
    """Compile the template in the file with this name, next to this module."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _readable(value: object) -> object:
    """Remove control characters from a text; `Markup` and other values are left unchanged."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
