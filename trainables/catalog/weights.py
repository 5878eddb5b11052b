"""Paths of files of pre-trained weights on this machine. This module does not import torch."""

import os
from collections.abc import Collection
from pathlib import Path

from trainables.catalog.models import MODELS
from trainables.errors import ConfigError
from trainables.tasks import task_name

SUFFIXES = {".pth", ".pt", ".safetensors"}


def cache() -> Path:
    """Return the folder in which torch stores the weights that it downloads."""
    home = os.environ.get("TORCH_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints"


def cached(tasks: Collection[str] = (task_name({}),)) -> list[str]:
    """Return the networks for these tasks whose published weights are in torch's cache.

    Args:
        tasks: a network is included if it can be trained for one of them.
    """
    folder = cache()
    return [
        name
        for name, entry in MODELS.items()
        if entry.weights
        and entry.kind == "network"
        and not entry.extended_by
        and not set(tasks).isdisjoint(entry.tasks)
        and (folder / entry.weights).exists()
    ]


def in_folder(folder: Path, name: str) -> Path:
    """Return the path of a model's weights in a user's folder; the file may be missing.

    It is the file with torchvision's name or, if that is missing, the file whose name begins with
    the name of torchvision's network and a dot or hyphen.

    Raises:
        ConfigError: several files have such a name.
    """
    entry = MODELS[name]
    source, published = entry.source or name, folder / entry.weights
    if published.exists():
        return published
    candidates = sorted(path for path in folder.glob(f"{source}[-.]*") if path.suffix in SUFFIXES)
    if len(candidates) > 1:
        names = ", ".join(f"'{path.name}'" for path in candidates)
        raise ConfigError(
            f"'{folder}' contains several files with weights of '{source}' ({names}). "
            "Choose one with --weights FILE."
        )
    return candidates[0] if candidates else published
