"""Files written by version 0.1 are readable by every later one.

`fixtures/search-v1` is a search whose driver was killed in its second of three trials. A change of
format brings a new fixture beside this one, never a change of it.
"""

import shutil
from pathlib import Path

import pytest

from search.design.budget import shares_of
from search.design.experiment import Experiment
from search.journal.journal import FILE_NAME
from search.journal.result import SearchResult
from tests.conftest import Command
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig

OLD = Path(__file__).parent / "fixtures" / "search-v1"


def test_an_old_journal_tells_its_search() -> None:
    result = SearchResult.read(OLD)
    assert (result.name, result.outcome, result.started.version) == ("v1", "running", 1)
    assert {name: (trial.outcome, len(trial.epochs)) for name, trial in result.trials.items()} == {
        "t0001": ("completed", 6),
        "t0002": ("running", 3),
    }
    assert result.best is not None
    assert result.best.primary_value == pytest.approx(0.5042, abs=1e-4)
    for trial in result.trials.values():
        assert TrialConfig.from_dict(trial.config).model.width == 2


def test_a_journal_whose_lines_tell_the_elapsed_time_counts_by_that() -> None:
    """`fixtures/search-elapsed`: its date was set back by ten hours while it ran."""
    result = SearchResult.read(OLD.parent / "search-elapsed")
    assert (result.outcome, result.epochs_trained, result.wall_s) == ("budget", 4, 4)
    assert shares_of(result) == {"4 device-seconds": 1}
    assert result.sessions[0].last_ms < result.sessions[0].began_ms


def test_an_old_search_keeps_the_data_that_it_had() -> None:
    described = SearchResult.read(OLD).started.experiment
    experiment = Experiment.from_description("v1", described, Path("searches"))
    assert experiment.base.data.leaks == "keep"
    assert "leaks" not in experiment.describe()["base"]["data"]


def test_old_checkpoints_verify_and_load() -> None:
    saved = [
        path
        for trial in ("t0001", "t0002")
        for path in checkpoint.list_checkpoints(OLD / "trials" / trial)
    ]
    assert [checkpoint.load(path)["epoch"] for path in saved] == [5, 6, 3, 4]


@pytest.mark.slow
def test_an_old_search_is_gone_on_with(call: Command, database: str, tmp_path: Path) -> None:
    """The fourth epoch of its second trial was trained and saved, but never reached the journal."""
    shutil.copytree(OLD, tmp_path / "searches" / "v1")
    how = ("--executor", "inline", "--tracking", database)
    done = call("search.resume", "v1", "--allow-change", *how)
    assert done.returncode == 0, done.stderr
    again = SearchResult.read(tmp_path / "searches" / "v1")
    assert {trial.outcome for trial in again.trials.values()} == {"completed"}
    assert [len(trial.epochs) for trial in again.trials.values()] == [6, 6, 6]
    assert (
        again.trials["t0002"].epochs[4]
        == checkpoint.load(OLD / "trials" / "t0002" / "epoch-0004")["extra"]["metrics"]
    )
    assert (
        (tmp_path / "searches" / "v1" / FILE_NAME)
        .read_bytes()
        .startswith((OLD / FILE_NAME).read_bytes())
    )
