"""The verb: what it refuses, what it plans, and one real refinement of a search whose best lies
beyond its edge.
"""

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import Refused
from search.design.experiment import Experiment
from search.journal.journal import FILE_NAME, JournalError, read
from search.journal.result import SearchResult
from search.operations.refine import RefineRequest, next_space, refine
from search.refine import main
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.planted import PLANTED, peak
from tests.support.played import OpenDriver, changed, play
from tests.support.real import Done
from trainables.errors import ConfigError

SPACE = """
from search.space import Choice, Float, SearchSpace
space = SearchSpace(
    {"optimizer.lr": Float(1e-6, 1e-4, log=True), "batch_size": Choice(32, 64)},
    base={"model.name": "table2", "model.width": 16, "epochs": 3},
    trials=8,
)
"""
"""With these learning rates a network has learnt little after three epochs: the best lies far
above.
"""


@pytest.fixture
def planted(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """An experiment whose best lies beyond its edge, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return changed(
        experiment,
        space=PLANTED,
        base=experiment.base.override(PLANTED.base),
        algorithm="random",
        storage=Path("searches"),
    )


def asked(**values: Any) -> RefineRequest:
    return RefineRequest(name="played", **values)


def test_a_search_that_is_not_there_is_told(planted: Experiment) -> None:
    with pytest.raises(JournalError, match=r"no search at '.*/searches/played'"):
        refine(asked())


def test_a_search_that_has_not_come_to_its_end_is_refused(
    planted: Experiment, open_driver: OpenDriver
) -> None:
    play(open_driver(planted), peak, events=12)
    with pytest.raises(
        Refused,
        match=r"the search 'played' was interrupted before it had finished\. Continue it first: "
        r".*search\.resume played",
    ):
        refine(asked())


def test_a_search_with_nothing_to_compare_is_refused(
    planted: Experiment, open_driver: OpenDriver
) -> None:
    play(open_driver(changed(planted, trials=1)), peak)
    with pytest.raises(
        Refused,
        match=r"at least 2 trials, but 'played' has 1 with a result\. Run more trials: "
        r".*search\.resume played --trials 7",
    ):
        refine(asked())


@pytest.mark.parametrize(("field", "value"), [("rounds", 0), ("trials", -1)])
def test_nonsense_is_refused(
    planted: Experiment, open_driver: OpenDriver, field: str, value: int
) -> None:
    play(open_driver(planted), peak)
    with pytest.raises(ConfigError, match=rf"--{field} must be >= 1 \(got {value}\)"):
        refine(asked(**{field: value}))


def test_other_data_are_refused(planted: Experiment, open_driver: OpenDriver) -> None:
    play(open_driver(planted), peak)
    with pytest.raises(
        Refused, match=r"has changed since its last session.*\n(.*\n)*  data.fingerprint: f00d -> "
    ):
        refine(asked())


def test_a_plan_says_what_would_change_and_starts_nothing(
    planted: Experiment, open_driver: OpenDriver, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = play(open_driver(planted), peak)
    before = (planted.folder / FILE_NAME).read_bytes()
    assert main(["played", "--dry-run", "--allow-change", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "played: 9 trials are known; up to 2 rounds of 6 trials. The next round would change:"
    )
    assert lines[1].startswith("  optimizer.lr: the best, ")
    assert " the edge of 1e-05 to 0.001: widened to 0.01" in lines[1]
    assert lines[-1] == "  nothing was started"
    assert next_space(asked(allow_change=True, rounds=2)).lines() == lines
    assert (planted.folder / FILE_NAME).read_bytes() == before
    assert driver.result.refinement is None


def search_the_planted_edge(inline: Inline, folder: Path) -> Done:
    """Search it, as `edge`, in a space whose file is gone: a refinement needs it no more."""
    file = folder / "edge.py"
    file.write_text(SPACE)
    how = ("--scheduler", "fifo", "--algorithm", "random")
    done = inline("run", "--space", f"{file.name}:space", "--name", "edge", *how)
    file.unlink()
    return done


@pytest.mark.promise
@pytest.mark.slow
def test_a_search_with_a_planted_edge_is_refined_beyond_it(
    inline: Inline, call: Command, tmp_path: Path
) -> None:
    """Within its rounds and its time it finds a better configuration, and it names the edge."""
    first, found = search_the_planted_edge(inline, tmp_path)
    assert first.returncode == 0, first.stderr
    assert "optimizer.lr: the best, " in first.stderr
    assert "-m search.refine edge searches beyond it" in first.stderr
    within = ("--budget", "500s", "--budget", "60epochs")
    done, refined = inline("refine", "edge", "--rounds", "2", "--trials", "6", *within)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("edge: 8 trials are known; up to 2 rounds of 6 trials")
    assert refined["best"]["val_accuracy"] > found["best"]["val_accuracy"]
    assert refined["best"]["test_accuracy"] is not None
    folder = tmp_path / "searches" / "edge"
    result = SearchResult.read(folder)
    assert result.refinement is not None
    changes = result.refinement.rounds[0].changes
    (edge,) = [change for change in changes if change.path == "optimizer.lr"]
    assert edge.kind == "widened"
    assert edge.text in done.stderr
    assert refined["refinement"]["is_over"]
    assert (
        sum(one["trials"] for one in refined["refinement"]["rounds"])
        == len(result.trials) - 8
        == 6 * len(result.refinement.rounds)
    )
    assert [event.data.by for event in read(folder / FILE_NAME) if event.kind == "opened"][
        -1
    ] == "search.refine"
    again = call("search.resume", "edge")
    assert (again.returncode, again.stdout.count("The refinement has ended: ")) == (0, 1), (
        again.stderr
    )
    assert "nothing is left to do" in again.stderr
