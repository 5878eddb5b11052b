"""Nested dicts, such as configurations."""

from typing import Any

from trainables.values import Json


def flatten(values: Json, prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten nested dicts to (dotted path, value) pairs; each path starts with `prefix`."""
    entries: list[tuple[str, Any]] = []
    for key, value in values.items():
        entries += (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else [(prefix + key, value)]
        )
    return entries
