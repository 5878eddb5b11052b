"""A pickle that is planted in the storage or the cache is refused and never run.

People who can write there can change results, but must not be able to run code.
"""

import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import Command
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig
from trainables.datasets.load import load
from trainables.disk import cache_folder


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return self.trap.touch, ()


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Return the file that the pickle would leave; the trap is known to work."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Planted(path)))  # noqa: S301
    assert path.exists()
    path.unlink()
    return path


def forms(trap: Path, folder: Path) -> dict[str, bytes]:
    """Return the pickle by itself, as torch saves it, and as numpy does."""
    torch.save(Planted(trap), folder / "planted.pt")
    np.save(folder / "planted.npy", np.array([Planted(trap)], dtype=object), allow_pickle=True)
    return {
        "pickle": pickle.dumps(Planted(trap)),
        **{
            path.suffix: path.read_bytes()
            for path in (folder / "planted.pt", folder / "planted.npy")
        },
    }


@pytest.mark.parametrize("form", ["pickle", ".pt", ".npy"])
@pytest.mark.parametrize(
    "file", [*checkpoint.FILES, "fold-1/model.safetensors", "fold-1/optimizer.safetensors"]
)
def test_a_checkpoint_that_is_a_pickle_is_refused(
    tmp_path: Path, trap: Path, file: str, form: str
) -> None:
    """It is refused even if the manifest vouches for it."""
    tensors = {"weight": torch.zeros(3)}
    state = {
        "epoch": 1,
        "model": tensors,
        "optimizer": {"state": {0: tensors}, "param_groups": []},
        "schedule": {},
        "precision": "fp32",
    }
    path = checkpoint.save(
        tmp_path / "trial", {"epoch": 1, "folds": [state, state]} if "/" in file else state, {}
    )
    content = forms(trap, tmp_path)[form]
    (path / file).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest[file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((checkpoint.CheckpointError, SafetensorError, ValueError)):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("form", ["pickle", ".pt", ".npy", "a member"])
def test_a_baselines_checkpoint_that_is_a_pickle_is_refused(
    tmp_path: Path, trap: Path, form: str
) -> None:
    """It is refused even if the manifest vouches for it.

    The same holds for a pickle that is an array in the classifier's file.
    """
    classifier = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    path = checkpoint.save(tmp_path / "trial", {"epoch": 1, "classifier": classifier}, {})
    file, planted = path / checkpoint.CLASSIFIER, forms(trap, tmp_path)
    if form == "a member":
        with zipfile.ZipFile(file) as archive:
            members = {
                name: planted[".npy"] if name.endswith(".npy") else archive.read(name)
                for name in archive.namelist()
            }
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        file.write_bytes(planted[form])
    content = file.read_bytes()
    manifest = json.loads((path / "manifest.json").read_text())
    manifest[file.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(checkpoint.CheckpointError, match="does not contain a fitted classifier"):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("form", ["pickle", ".pt", ".npy"])
def test_a_cache_entry_that_is_a_pickle_is_decoded_anew(
    tmp_path: Path, trap: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), number).save(tmp_path / "images" / name / f"{number}.png")
    config = DataConfig(name="folder", root=str(tmp_path / "images"))
    before = load(config)
    for path in cache_folder().rglob("*.*"):
        path.write_bytes(forms(trap, tmp_path)[form])
    assert load(config).fingerprint == before.fingerprint
    assert not trap.exists()


@pytest.mark.parametrize("form", ["pickle", ".pt", ".npy"])
def test_a_journal_that_is_a_pickle_is_refused(
    tmp_path: Path, trap: Path, form: str, call: Command
) -> None:
    (tmp_path / "searches" / "planted").mkdir(parents=True)
    (tmp_path / "searches" / "planted" / "journal.jsonl").write_bytes(
        forms(trap, tmp_path)[form] + b"\n"
    )
    done = call("search.report", "planted")
    assert done.returncode == 5
    assert done.stderr.startswith("error: searches/planted/journal.jsonl:1 is damaged")
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()
    assert not trap.exists()


@pytest.mark.parametrize("form", ["pickle", ".pt", ".npy"])
def test_an_image_or_a_config_that_is_a_pickle_is_refused(
    tmp_path: Path, trap: Path, form: str, call: Command
) -> None:
    for name in ("a.yaml", "images/a/0.png", "images/b/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(forms(trap, tmp_path)[form])
    for words, text in (
        (["--config", "a.yaml"], "error: config file 'a.yaml' (--config) is not UTF-8"),
        (["--data", "folder:images"], "error: 2 images cannot be read"),
    ):
        done = call("search.run", "--space", "smoke", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(text)
    assert not trap.exists()
