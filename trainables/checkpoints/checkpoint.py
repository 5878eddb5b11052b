"""Checkpoints on disk: safetensors and JSON, never pickle; the manifest is written last.

A checkpoint is a folder `epoch-0003` with `model.safetensors`, `optimizer.safetensors`,
`state.json` and `manifest.json`, which lists the size and SHA-256 of the other files. It is written
to a temporary folder, which is then renamed, so that a folder with this name is complete. For a
baseline, `classifier.skops` replaces the tensors. For a trial with folds, each fold's files are in
a sub-folder, `fold-1` and so on, and all folds share one `state.json` and one manifest. So are
those of the members of an ensemble.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.disk import open_regular, read_regular, sync
from trainables.values import Json, State

FIRST_PRECISION = "fp32"
"""The precision of old checkpoints, which do not state it."""
OPTIONAL = ("scaler", "scaling", "group_weights", "average")
"""Plain values of a network's state that some checkpoints lack.

`scaler` exists only after a training in float16, `group_weights` only with group DRO, `average`
only if weights are averaged. `scaling` (of pixels) is missing in old checkpoints.
"""
TRAINED = "trained"
"""The weights that are trained further, if those of the model are averages.

They are in the file of the optimizer, with this prefix, because only the training needs them.
"""
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
CLASSIFIER = "classifier.skops"
PARTIAL = ".partial"
"""The suffix of the name of a checkpoint that is being written."""


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or incomplete."""


def save(
    folder: Path,
    state: State,
    extra: Json,
    *,
    attempt: int = 1,
    still_ours: Callable[[], object] = lambda: None,
) -> Path:
    """Save a training's state and `extra` as `folder/epoch-NNNN`; return that path.

    Args:
        folder: the trial's folder.
        state: the result of `Training.state` (or `Fitting.state`): tensors and plain values.
        extra: further JSON-compatible values, which `read_extra` and `load` return.
        attempt: the number of the attempt that writes; each has its own temporary folder.
        still_ours: called before the checkpoint gets its final name; raises if a newer attempt has
            started in the meantime.

    Raises:
        OSError: the files cannot be written, for example because the disk is full. An earlier
            checkpoint of this epoch is unchanged.
        TypeError: the state has values that are neither tensors nor plain.
    """
    final = folder / name(state["epoch"])
    partial = folder / f".{final.name}.{attempt}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(partial, state, extra)
        still_ours()  # writing may have taken long, or the process may have been suspended
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(folder)
    return final


def _write(partial: Path, state: State, extra: Json) -> None:
    """Write all files of a checkpoint, and wait until they are on disk."""
    document = (
        _save_folds(state["folds"], partial) if "folds" in state else _save_one(state, partial)
    )
    (partial / "state.json").write_text(
        json.dumps({"epoch": state["epoch"], **document, "extra": extra}, default=_refuse)
    )
    files = [path for path in sorted(partial.rglob("*")) if path.is_file()]
    manifest = {
        path.relative_to(partial).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in files
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in partial.rglob("*"):
        sync(path)
    sync(partial)


def for_predictions(state: State) -> State:
    """Return the part of a network's state that predictions need; no training continues from it."""
    return {
        "model": state["model"],
        "optimizer": {"state": {}, "param_groups": []},
        "schedule": {},
        **{name: state[name] for name in ("precision", "scaling") if name in state},
    }


def name(epoch: int) -> str:
    """Return the name of an epoch's checkpoint in a trial's folder."""
    return f"epoch-{epoch:04d}"


def verify(path: Path) -> tuple[str, ...]:
    """Check every file of a checkpoint against the SHA-256 in its manifest; return the file names.

    Raises:
        CheckpointError: a file is damaged or missing; the message names the first one.
    """
    try:
        manifest = json.loads(read_regular(path / "manifest.json"))
        names = _names(manifest)
        for name in names:
            if _sha256(path / name) != manifest[name]["sha256"]:
                raise CheckpointError(
                    f"{path / name} is damaged (its SHA-256 is not the one in manifest.json)"
                )
        return names
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or path} cannot be read ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path / 'manifest.json'} is damaged ({type(error).__name__}: {error})"
        ) from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a network's weights from the manifest, without reading the weights.

    The result is empty for a baseline, and for a checkpoint with folds.
    """
    manifest = json.loads(read_regular(path / "manifest.json"))
    return str(manifest.get(FILES[0], {}).get("sha256", ""))


def read_extra(path: Path) -> Json:
    """Verify a checkpoint, and return its `extra`, the values that were saved with the state.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    verify(path)
    try:
        return dict(json.loads(read_regular(path / "state.json"))["extra"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a valid checkpoint ({type(error).__name__}: {error})"
        ) from error


def load(path: Path, *, device: str = "cpu") -> State:
    """Verify and read a checkpoint; return its state, with `extra` as a further key.

    The state is suitable for `Training.load_state` (or `Fitting.load_state`). Its tensors are on
    `device`.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    names = verify(path)
    try:
        document = json.loads(read_regular(path / "state.json"))
        read = _load_classifier if names[0].endswith(CLASSIFIER) else _load_network
        rest = {"epoch": document["epoch"], "extra": document["extra"]}
        if not (folders := _folders(names)):
            return {**rest, **read(path, document, device)}
        each = [
            read(path / folder, own, device)
            for folder, own in zip(folders, document["folds"], strict=True)
        ]
        return {**rest, "folds": [{"epoch": document["epoch"], **state} for state in each]}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a valid checkpoint ({type(error).__name__}: {error})"
        ) from error


def tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a safetensors file, by name."""
    return load_file(path)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the paths of the checkpoints in a folder, in ascending order of their epochs."""
    folders = (
        path for path in folder.glob("epoch-*") if re.fullmatch("epoch-[0-9]{1,18}", path.name)
    )
    return sorted(folders, key=epoch_of)


def epoch_of(path: Path) -> int:
    """Return the epoch of a checkpoint, given a path from `list_checkpoints`."""
    return int(path.name.removeprefix("epoch-"))


def remove(
    folder: Path, epochs: Collection[int], *, still_ours: Callable[[], object] = lambda: None
) -> None:
    """Remove the checkpoints of these epochs.

    `still_ours` is called before each removal, and raises if a newer attempt has started.
    """
    for path in list_checkpoints(folder):
        if epoch_of(path) in epochs:
            still_ours()
            shutil.rmtree(path)


def write_whole(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old or the new text, even after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def _folders(names: Iterable[str]) -> list[str]:
    """Return the sub-folders of the folds, given a checkpoint's files; empty without folds."""
    folders = {name.partition("/")[0] for name in names if "/" in name}
    return list(
        takewhile(folders.__contains__, (_fold(number) for number in range(1, len(folders) + 1)))
    )


def _fold(number: int) -> str:
    return f"fold-{number}"


def _names(manifest: Json) -> tuple[str, ...]:
    """Return the files that a checkpoint with this manifest must have, which depend on its kind.

    Other files in the manifest are ignored.
    """
    prefixes = [f"{folder}/" for folder in _folders(manifest)] or [""]
    parts = (CLASSIFIER,) if prefixes[0] + CLASSIFIER in manifest else FILES[:-1]
    return (*(prefix + name for prefix in prefixes for name in parts), "state.json")


def _save_folds(states: list[State], folder: Path) -> Json:
    """Write each fold's files to its own sub-folder; return the remaining plain values."""
    documents = []
    for number, state in enumerate(states, 1):
        (folder / _fold(number)).mkdir()
        documents.append(_save_one(state, folder / _fold(number)))
    return {"folds": documents}


def _save_one(state: State, folder: Path) -> Json:
    return (_save_classifier if "classifier" in state else _save_network)(state, folder)


def _save_network(state: State, folder: Path) -> Json:
    """Write the tensors of a network's state; return its plain values."""
    tensors, plain = _flatten_optimizer(state["optimizer"])
    _save_tensors(state["model"], folder / "model.safetensors")
    trained = {f"{TRAINED}.{name}": value for name, value in state.get(TRAINED, {}).items()}
    _save_tensors(tensors | trained, folder / "optimizer.safetensors")
    return {
        "optimizer": plain,
        **{name: state[name] for name in ("schedule", "precision", *OPTIONAL) if name in state},
    }


def _load_network(folder: Path, document: Json, device: str) -> State:
    """Read a network's state without its epoch; `document` is the result of `_save_network`."""
    tensors = load_file(folder / "optimizer.safetensors", device=device)
    trained = {
        name.removeprefix(f"{TRAINED}."): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(f"{TRAINED}.")
    }
    return {
        "model": load_file(folder / "model.safetensors", device=device),
        **({TRAINED: trained} if trained else {}),
        "optimizer": _restore_optimizer(tensors, document["optimizer"]),
        "schedule": document["schedule"],
        "precision": document.get("precision", FIRST_PRECISION),
        **{name: document[name] for name in OPTIONAL if name in document},
    }


def _save_classifier(state: State, folder: Path) -> Json:
    # Imported here because scikit-learn and skops take three seconds, and networks need neither.
    from trainables.baselines import store

    store.write(state["classifier"], folder / CLASSIFIER)
    return {}


def _load_classifier(folder: Path, document: Json, device: str) -> State:
    from trainables.baselines import store

    return {"classifier": store.read(folder / CLASSIFIER)}


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a file; raise OSError, instead of safetensors' own error, on a full disk."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


def _flatten_optimizer(state: State) -> tuple[dict[str, Tensor], Json]:
    """Split an optimizer's state dict into tensors by name (`0.exp_avg`) and plain values."""
    flat = {
        f"{row}.{name}": value
        for row, values in state["state"].items()
        for name, value in values.items()
    }
    tensors = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
    return tensors, {
        "groups": state["param_groups"],
        "values": {name: value for name, value in flat.items() if name not in tensors},
    }


def _restore_optimizer(tensors: dict[str, Tensor], plain: Json) -> State:
    state: dict[int, State] = {}
    for key, value in (plain["values"] | tensors).items():
        row, _, name = key.partition(".")
        state.setdefault(int(row), {})[name] = value
    return {"state": state, "param_groups": plain["groups"]}


def _refuse(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    raise TypeError(
        f"a checkpoint can store only tensors and JSON values (got {type(value).__name__})"
    )


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
