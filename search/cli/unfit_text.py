"""Refusal of texts that cannot be stored with a search, or must not be."""

from pathlib import Path
from typing import Any

from search.values import secrets
from search.values.option import options_of, values_of
from trainables.errors import ConfigError, is_text

MAX_NAME, MAX_TEXT = 255, 4000
"""Limits of file systems for texts that become names: bytes of a name, characters of a path."""


def refuse_unfit_texts(options: Any) -> None:
    """Check that all texts of the options can be stored, and contain no credentials.

    Args:
        options: the options of a verb that has --set.

    Raises:
        ConfigError: a text looks like a credential, is not UTF-8, or is longer than a path or file
            name can be.
    """
    values = values_of(options)
    texts = [
        (f"--{declared.name}", str(values[declared.field]))
        for declared in options_of(type(options))
        if isinstance(values[declared.field], str | Path)
    ]
    settings = [(text.partition("=")[0], text) for text in values["settings"]]
    for name, text in [*texts, *settings]:
        if not is_text(text):
            raise ConfigError(f"{name} must be valid UTF-8 text (got {text!r}).")
        if len(text) > MAX_TEXT or any(len(part.encode()) > MAX_NAME for part in text.split("/")):
            raise ConfigError(
                f"{name} is too long: at most {MAX_TEXT:,} characters are allowed, and {MAX_NAME} "
                f"bytes for each name in a path (got {len(text):,} characters)."
            )
        if name == "--tracking":
            secrets.refuse_in_uri(text)
        secrets.refuse(name, text)
