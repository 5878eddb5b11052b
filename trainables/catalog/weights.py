"""Files of trained weights on this machine, found without torch."""

import os
from pathlib import Path

from trainables.catalog.models import MODELS
from trainables.errors import ConfigError

SUFFIXES = {".pth", ".pt", ".safetensors"}


def cache() -> Path:
    """Return the folder in which torch keeps the weights that it has fetched."""
    home = os.environ.get("TORCH_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints"


def cached() -> list[str]:
    """Return the families whose published weights are in torch's cache."""
    folder = cache()
    return [
        name
        for name, entry in MODELS.items()
        if entry.weights and (folder / entry.weights).exists()
    ]


def in_folder(folder: Path, name: str) -> Path:
    """Return the path of a family's weights in a user's folder, where they may be missing.

    The file has torchvision's name, or begins with the family's name and a dot or a hyphen.

    Raises:
        ConfigError: several files have such a name.
    """
    published = folder / MODELS[name].weights
    if published.exists():
        return published
    candidates = sorted(path for path in folder.glob(f"{name}[-.]*") if path.suffix in SUFFIXES)
    if len(candidates) > 1:
        names = ", ".join(f"'{path.name}'" for path in candidates)
        raise ConfigError(
            f"'{folder}' holds several weights of '{name}' ({names}). Name one with --weights FILE."
        )
    return candidates[0] if candidates else published
