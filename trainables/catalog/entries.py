"""Code that the entries of registries name, imported when it is used."""

import importlib
from typing import Any


def import_object(name: str) -> Any:
    """Import the object that is named as `module:name`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
