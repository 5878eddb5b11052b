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
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import count, takewhile
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
    if "folds" in state:
        documents = []
        for number, own_state in enumerate(state["folds"], 1):
            (partial / _fold(number)).mkdir()
            documents.append(_save_one(own_state, partial / _fold(number)))
        document: Json = {"folds": documents}
    else:
        document = _save_one(state, partial)
    (partial / "state.json").write_text(
        json.dumps({"epoch": state["epoch"], **document, "extra": extra}, default=_refuse)
    )
    manifest = {
        path.relative_to(partial).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in (*partial.rglob("*"), partial):
        sync(path)


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


@contextmanager
def _checked(path: Path) -> Iterator[tuple[Json, tuple[str, ...]]]:
    """Verify a checkpoint; yield its `state.json` and its files' names.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete, or the `with` block fails to read
            its content.
    """
    names = verify(path)
    try:
        yield json.loads(read_regular(path / "state.json")), names
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a valid checkpoint ({type(error).__name__}: {error})"
        ) from error


def read_extra(path: Path) -> Json:
    """Verify a checkpoint, and return its `extra`, the values that were saved with the state.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    with _checked(path) as (document, _):
        return dict(document["extra"])


def load(path: Path, *, device: str = "cpu") -> State:
    """Verify and read a checkpoint; return its state, with `extra` as a further key.

    The state is suitable for `Training.load_state` (or `Fitting.load_state`). Its tensors are on
    `device`.

    Raises:
        CheckpointError: the checkpoint is damaged or incomplete.
    """
    with _checked(path) as (document, names):
        read = _load_classifier if names[0].endswith(CLASSIFIER) else _load_network
        epoch, folders = {"epoch": document["epoch"]}, _folders(names)
        rest = {**epoch, "extra": document["extra"]}
        if not folders:
            return {**rest, **read(path, document, device)}
        documents = zip(folders, document["folds"], strict=True)
        return {
            **rest,
            "folds": [{**epoch, **read(path / folder, own, device)} for folder, own in documents],
        }


def tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a safetensors file, by name."""
    return load_file(path)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the paths of the checkpoints in a folder, in ascending order of their epochs."""
    paths = (path for path in folder.glob("epoch-*") if epoch_of(path.name) >= 0)
    return sorted(paths, key=lambda path: epoch_of(path.name))


def epoch_of(name: str) -> int:
    """Return the epoch of the checkpoint with this name; -1 for any other name."""
    match = re.fullmatch("epoch-([0-9]{1,18})", name)
    return int(match[1]) if match else -1


def remove(
    folder: Path, epochs: Collection[int], *, still_ours: Callable[[], object] = lambda: None
) -> None:
    """Remove the checkpoints of these epochs.

    `still_ours` is called before each removal, and raises if a newer attempt has started.
    """
    for path in list_checkpoints(folder):
        if epoch_of(path.name) in epochs:
            still_ours()
            shutil.rmtree(path)


def _folders(names: Iterable[str]) -> list[str]:
    """Return the sub-folders of the folds, given a checkpoint's files; empty without folds."""
    folders = {name.partition("/")[0] for name in names if "/" in name}
    return list(takewhile(folders.__contains__, map(_fold, count(1))))


def _fold(number: int) -> str:
    return f"fold-{number}"


def _names(manifest: Json) -> tuple[str, ...]:
    """Return the files that a checkpoint with this manifest must have, which depend on its kind.

    Other files in the manifest are ignored.
    """
    prefixes = [f"{folder}/" for folder in _folders(manifest)] or [""]
    parts = (CLASSIFIER,) if prefixes[0] + CLASSIFIER in manifest else FILES[:-1]
    return (*(prefix + name for prefix in prefixes for name in parts), "state.json")


def _save_one(state: State, folder: Path) -> Json:
    """Write a classifier, or the tensors of a network's state; return the plain values."""
    if "classifier" in state:
        # Imported here because scikit-learn and skops take three seconds.
        from trainables.baselines import store

        store.write(state["classifier"], folder / CLASSIFIER)
        return {}
    optimizer = {
        f"{row}.{name}": value
        for row, values in state["optimizer"]["state"].items()
        for name, value in values.items()
    }
    plain = {name: value for name, value in optimizer.items() if not isinstance(value, Tensor)}
    tensors = {name: value for name, value in optimizer.items() if name not in plain}
    tensors |= {f"{TRAINED}.{name}": value for name, value in state.get(TRAINED, {}).items()}
    for file, values in ((FILES[0], state["model"]), (FILES[1], tensors)):
        try:
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in values.items()},
                folder / file,
            )
        except SafetensorError as error:  # for example, the disk is full
            raise OSError(f"{folder / file}: {error}") from error
    return {
        "optimizer": {"groups": state["optimizer"]["param_groups"], "values": plain},
        **{name: state[name] for name in ("schedule", "precision", *OPTIONAL) if name in state},
    }


def _load_network(folder: Path, document: Json, device: str) -> State:
    """Read a network's state without its epoch; `document` is the result of `_save_one`."""
    tensors = load_file(folder / FILES[1], device=device)
    trained: dict[str, Tensor] = {}
    moments: dict[int, State] = {}
    for key, value in (document["optimizer"]["values"] | tensors).items():
        row, _, name = key.partition(".")
        if row == TRAINED:
            trained[name] = value
        else:
            moments.setdefault(int(row), {})[name] = value
    return {
        "model": load_file(folder / FILES[0], device=device),
        **({TRAINED: trained} if trained else {}),
        "optimizer": {"state": moments, "param_groups": document["optimizer"]["groups"]},
        "schedule": document["schedule"],
        "precision": document.get("precision", FIRST_PRECISION),
        **{name: document[name] for name in OPTIONAL if name in document},
    }


def _load_classifier(folder: Path, document: Json, device: str) -> State:
    from trainables.baselines import store

    return {"classifier": store.read(folder / CLASSIFIER)}


def _refuse(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    raise TypeError(
        f"a checkpoint can store only tensors and JSON values (got {type(value).__name__})"
    )


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
