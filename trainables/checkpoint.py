"""Checkpoints on disk: safetensors and JSON, never pickle; the manifest is written last.

A checkpoint is a folder `epoch-0003` with `model.safetensors`, `optimizer.safetensors`, `state.json` and `manifest.json`, which
holds size and SHA-256 of the others. It is written beside its place and moved there whole, so a folder under its name is complete.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.disk import sync

FIRST_PRECISION = "fp32"
"""Of checkpoints that say nothing of it."""
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or incomplete."""


def save(folder: Path, state: dict[str, Any], extra: dict[str, Any]) -> Path:
    """Write what `Training.state` gave, and `extra` (plain values), as `folder/epoch-NNNN`; return that path.

    Raises:
        OSError: the disk is full or refuses; nothing has changed under that path.
    """
    final = folder / f"epoch-{state['epoch']:04d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors, plain = _flatten_optimizer(state["optimizer"])
    _save_tensors(state["model"], partial / "model.safetensors")
    _save_tensors(tensors, partial / "optimizer.safetensors")
    document = {"epoch": state["epoch"], "optimizer": plain, "schedule": state["schedule"], "precision": state["precision"], "extra": extra}
    (partial / "state.json").write_text(json.dumps(document, default=_refuse))
    manifest = {name: {"bytes": (partial / name).stat().st_size, "sha256": _sha256(partial / name)} for name in FILES}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in partial.iterdir():
        sync(path)
    sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    sync(folder)
    return final


def verify(path: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        CheckpointError: naming the first file that is not as it was written.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name in FILES:
            if _sha256(path / name) != manifest[name]["sha256"]:
                raise CheckpointError(f"{path / name} is damaged (its SHA-256 is not the manifest's)")
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'manifest.json'} is damaged ({error})") from error


def load(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Verify and read a checkpoint as `Training.load_state` takes it, with `extra` beside.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    verify(path)
    try:
        document = json.loads((path / "state.json").read_text())
        return {
            "epoch": document["epoch"],
            "model": load_file(path / "model.safetensors", device=device),
            "optimizer": _restore_optimizer(load_file(path / "optimizer.safetensors", device=device), document["optimizer"]),
            "schedule": document["schedule"],
            "precision": document.get("precision", FIRST_PRECISION),
            "extra": document["extra"],
        }
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint ({error})") from error


def tensors(path: Path) -> dict[str, Tensor]:
    """What a file of safetensors' format holds, by name."""
    return load_file(path)


def saved(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    named = (path for path in folder.glob("epoch-*") if path.name.removeprefix("epoch-").isdigit())
    return sorted(named, key=lambda path: int(path.name.removeprefix("epoch-")))


def keep_only(folder: Path, epochs: Iterable[int]) -> None:
    """Remove the checkpoints of all other epochs."""
    wanted = {f"epoch-{epoch:04d}" for epoch in epochs}
    for path in saved(folder):
        if path.name not in wanted:
            shutil.rmtree(path)


def write_whole(path: Path, text: str) -> None:
    """Write a small file such that a reader sees the old text or the new, also after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises OSError as other writes do: safetensors has an error of its own for a full disk."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


def _flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state dict into tensors by name (`0.exp_avg`) and plain values."""
    flat = {f"{row}.{name}": value for row, values in state["state"].items() for name, value in values.items()}
    tensors = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
    return tensors, {"groups": state["param_groups"], "values": {name: value for name, value in flat.items() if name not in tensors}}


def _restore_optimizer(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in (plain["values"] | tensors).items():
        row, _, name = key.partition(".")
        state.setdefault(int(row), {})[name] = value
    return {"state": state, "param_groups": plain["groups"]}


def _refuse(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
