"""The verb on a real search: what a second call tries again."""

from pathlib import Path
from typing import Any

import pytest

from search.journal.result import SearchResult
from search.views.registry import VIEWS
from tests.search.conftest import Inline
from tests.support.real import children_of
from trainables.training.loop import Training

SMALL = (
    "--space smoke --name small --trials 2 --scheduler fifo --algorithm random --device cpu "
    "--set epochs=1 --set data.train_limit=100 --set data.val_limit=100"
)
TWO = ("--top", "2", "--seeds", "2")


@pytest.mark.slow
def test_a_selection_whose_trainings_all_failed_is_made_by_a_second_call(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the first call is held against the candidates, in the journal or in MLflow."""
    monkeypatch.delitem(VIEWS, "page")
    done, _ = inline("run", *SMALL.split())
    assert done.returncode in (0, 6), done.stderr

    def raises(training: Training) -> Any:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Training, "next_epoch", raises)
        done, _ = inline("select", "small", *TWO)
    assert done.returncode not in (0, 6)
    assert "no candidate is left" in done.stderr
    done, summary = inline("select", "small", *TWO)
    assert done.returncode in (0, 6), done.stderr
    assert summary["trial"]
    selection = SearchResult.read(tmp_path / "searches" / "small").selection
    assert selection is not None
    assert selection.dropped == {}
    assert [trial.outcome for trial in selection.repeats.values()] == ["completed"] * 4
    assert {run.info.status for run in children_of(summary, tmp_path)} == {"FINISHED"}
    done, _ = inline("select", "small", *TWO)
    assert "nothing is left to do" in done.stderr
