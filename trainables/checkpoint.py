"""Checkpoints on disk: safetensors and JSON, never pickle; the manifest is written last.

A checkpoint is a folder `epoch-0003` with `model.safetensors`, `optimizer.safetensors`, `state.json` and `manifest.json`, which
holds size and SHA-256 of the others. It is written beside its place and moved there whole, so a folder under its name is complete.
Of a baseline, `classifier.skops` stands in the place of the tensors.
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
CLASSIFIER = "classifier.skops"


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or incomplete."""


def save(folder: Path, state: dict[str, Any], extra: dict[str, Any]) -> Path:
    """Write what `Training.state` (or `Fitting.state`) gave, and `extra` (plain values), as `folder/epoch-NNNN`; return that path.

    Raises:
        OSError: the disk is full or refuses; nothing has changed under that path.
    """
    final = folder / f"epoch-{state['epoch']:04d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    document = (_save_classifier if "classifier" in state else _save_network)(state, partial)
    (partial / "state.json").write_text(json.dumps({"epoch": state["epoch"], **document, "extra": extra}, default=_refuse))
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(partial.iterdir())}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in partial.iterdir():
        sync(path)
    sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    sync(folder)
    return final


def verify(path: Path) -> tuple[str, ...]:
    """Check every file of a checkpoint against its manifest; return their names.

    Raises:
        CheckpointError: naming the first file that is not as it was written.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        names = (CLASSIFIER, "state.json") if CLASSIFIER in manifest else FILES
        for name in names:
            if _sha256(path / name) != manifest[name]["sha256"]:
                raise CheckpointError(f"{path / name} is damaged (its SHA-256 is not the manifest's)")
        return names
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'manifest.json'} is damaged ({error})") from error


def load(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Verify and read a checkpoint as `Training.load_state` (or `Fitting.load_state`) takes it, with `extra` beside.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    names = verify(path)
    try:
        document = json.loads((path / "state.json").read_text())
        if CLASSIFIER in names:
            return {"epoch": document["epoch"], "classifier": _load_classifier(path / CLASSIFIER), "extra": document["extra"]}
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


def _save_network(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the tensors of a network's state; return the rest of it, plain values."""
    tensors, plain = _flatten_optimizer(state["optimizer"])
    _save_tensors(state["model"], folder / "model.safetensors")
    _save_tensors(tensors, folder / "optimizer.safetensors")
    return {"optimizer": plain, "schedule": state["schedule"], "precision": state["precision"]}


def _save_classifier(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write a baseline's classifier. There is no rest."""
    from trainables.baselines import store  # scikit-learn and skops take three seconds, which networks need not wait

    store.write(state["classifier"], folder / CLASSIFIER)
    return {}


def _load_classifier(path: Path) -> Any:
    """Raises ValueError if it holds anything but a baseline's classifier."""
    from trainables.baselines import store

    return store.read(path)


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
