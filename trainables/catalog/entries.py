"""Lazy imports: registries refer to code by name, and the code is imported when it is used."""

import importlib
from typing import Any


def import_object(name: str) -> Any:
    """Import the object of this name, which has the form `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
