"""The verb on a real search: what a second call tries again."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from search.journal.result import SearchResult
from search.views.registry import VIEWS
from tests.conftest import Command
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


@pytest.mark.slow
@pytest.mark.parametrize("tie", [1000, -1000])
def test_trainings_that_begin_with_the_same_weights_are_averaged(
    tmp_path: Path,
    inline: Inline,
    call: Command,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    tie: float,
) -> None:
    """The average is chosen unless it is behind by more than a tie.

    The result is the same if the selection was killed before the choice was in the journal, and the
    chosen network is the one that is promoted.
    """
    monkeypatch.delitem(VIEWS, "page")
    monkeypatch.setattr("search.decisions.selection.TIE", tie)
    done, first = inline("run", *SMALL.split())
    assert done.returncode in (0, 6), done.stderr
    begin = str(tmp_path / first["best"]["checkpoint"])
    again = SMALL.replace("small", "again").replace("--trials 2", "--trials 1")
    done, _ = inline("run", *again.split(), "--set", f"warm_start={begin}")
    assert done.returncode in (0, 6), done.stderr
    done, summary = inline("select", "again", "--top", "1", "--seeds", "3")
    assert done.returncode in (0, 6), done.stderr

    average, is_chosen = summary["average"], tie > 0
    assert average["members"] == ["t0001-s1", "t0001-s2", "t0001-s3"]
    assert average["is_chosen"] == is_chosen
    assert (summary["trial"] == "t0001-average") == is_chosen
    assert ("It was chosen" in done.stderr) == is_chosen
    assert ("The best of them was chosen instead." in done.stderr) != is_chosen
    assert summary["test_accuracy"] > 0
    of_average = [
        run.data for run in children_of(summary, tmp_path) if "average.members" in run.data.tags
    ]
    (data,) = of_average
    assert data.tags.get("selected", "false") == str(is_chosen).lower()
    assert data.metrics["val/accuracy"] == average["metrics"]["val/accuracy"]

    journal = tmp_path / summary["journal"]
    lines = journal.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"event": "averaged"' in line)
    journal.write_text("".join(lines[: last + 1]))
    done, resumed = inline("select", "again")
    assert done.returncode in (0, 6), done.stderr
    assert (resumed["trial"], resumed["average"]) == (summary["trial"], average)
    assert journal.read_text().count('"event": "averaged"') == 1

    done = call("search.promote", "again", "--json", "--tracking", database)
    assert done.returncode in (0, 6), done.stderr
    assert f"exporting the model of {summary['trial']}" in done.stderr
    if is_chosen:  # without its checkpoint, the best training takes its place
        journal.write_text("".join(lines[: last + 1]))
        shutil.rmtree(tmp_path / "searches" / "again" / "trials" / "t0001-average")
        done, damaged = inline("select", "again")
        assert done.returncode in (0, 6), done.stderr
        assert damaged["trial"] in average["members"]
        assert "Its checkpoint cannot be used." in done.stderr
