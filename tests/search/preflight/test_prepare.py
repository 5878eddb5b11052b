"""The checks before a search starts."""

from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from cluster.errors import NotReady
from search.design.experiment import Experiment
from search.preflight import prepare
from search.preflight.prepare import check_storage


def test_the_check_of_a_shared_storage_follows_no_link(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(experiment.storage, Path)
    experiment.storage.mkdir(exist_ok=True)
    name = UUID(int=1)
    (experiment.storage / f".probe-{name.hex}").symlink_to(tmp_path / "mine.txt")
    (tmp_path / "mine.txt").write_text("precious")
    monkeypatch.setattr(prepare, "uuid4", lambda: SimpleNamespace(hex=name.hex))
    with pytest.raises(NotReady, match=r"is not writable \(File exists\)"):
        check_storage(experiment)
    assert (tmp_path / "mine.txt").read_text() == "precious"
    monkeypatch.undo()
    check_storage(experiment)
