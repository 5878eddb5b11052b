"""Code that the entries of registries name, imported when it is used."""

import importlib
from typing import Any


def imported(name: str) -> Any:
    """Import what is named as `module:name`, and return it."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
