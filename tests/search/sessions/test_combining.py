"""An ensemble as the answer of a search: chosen, tested, promoted, lost, and made again."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.decisions.driver import Driver
from search.views.registry import VIEWS
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.real import children_of

SPACE = """
from search.space import Choice, SearchSpace


def space():
    names = Choice("deep_cnn", "mnist_cnn", "table2")
    return SearchSpace({"model.name": names}, base={"epochs": 2}, trials=3, combine=3)
"""
SMALL = (
    "--name small --scheduler fifo --algorithm grid --device cpu --set data.train_limit=400 "
    "--set data.val_limit=100"
)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "several.py").write_text(SPACE)
    return ["--space", str(tmp_path / "several.py"), *SMALL.split()]


def set_limits(monkeypatch: pytest.MonkeyPatch, *, close: float, behind: float) -> None:
    monkeypatch.setattr("search.decisions.combining.CLOSE", close)
    monkeypatch.setattr("search.decisions.combining.BEHIND", behind)


@pytest.mark.slow
@pytest.mark.parametrize("is_chosen", [True, False])
def test_the_answer_is_an_ensemble_or_the_best_trial(
    inline: Inline,
    call: Command,
    database: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_chosen: bool,
) -> None:
    """The answer is tested, shown and promoted; the trial that is the best stays known."""
    set_limits(monkeypatch, close=1000, behind=1000 if is_chosen else -1000)
    done, summary = inline("run", *words)
    assert done.returncode == 0, done.stderr
    assert ("ensemble" in summary) == is_chosen
    assert ("Found: An ensemble: " in done.stderr) == is_chosen
    assert (summary["best"]["test_accuracy"] is None) == is_chosen
    (run,) = [run for run in children_of(summary, tmp_path) if "ensemble.members" in run.data.tags]
    assert run.data.tags["search.role"] == "ensemble"
    parent = MlflowClient(database).get_run(summary["mlflow"]["parent_run_id"]).data.tags
    answer = "ensemble" if is_chosen else summary["best"]["trial_id"]
    assert (parent["answer.trial"], parent["best.trial"]) == (answer, summary["best"]["trial_id"])
    note = parent["mlflow.note.content"]
    tested = [line for line in note.splitlines() if "test accuracy" in line]
    assert len(tested) == 1
    assert (tested[0].startswith("`ensemble`: the mean of t0")) == is_chosen
    best, trials = summary["best"]["trial_id"], tmp_path / "searches" / "small" / "trials"
    page = (trials.parent / "report.html").read_text()
    assert ("An ensemble: an image gets the mean probabilities of 3 trials" in page) == is_chosen
    done = call("search.promote", "small", "--json", "--tracking", database)
    assert done.returncode == 0, done.stderr
    assert f"exporting the model of {'ensemble' if is_chosen else best}" in done.stderr
    if not is_chosen:
        assert not (trials / "ensemble" / "epoch-0001").exists()
        return
    ensemble = summary["ensemble"]
    assert ensemble["members"][0] == best
    assert len(ensemble["members"]) == 3
    assert ensemble["test_accuracy"] > 0.2
    assert run.data.metrics["val/accuracy"] == ensemble["metrics"]["val/accuracy"]
    assert call("search.promote", "small", "--trial", best, "--tracking", database).returncode == 0
    story = call("search.why", "small", "ensemble")
    assert "predicts the mean probabilities of" in story.stdout
    done = call("search.clean", "small", "--keep", "answer", "--yes")
    assert done.returncode == 0, done.stderr
    assert (trials / "ensemble" / "epoch-0001").exists()
    kept = [name for name in ensemble["members"] if list((trials / name).glob("epoch-*"))]
    assert kept == [best]


@pytest.mark.slow
def test_too_little_time_for_an_ensemble_is_told(
    inline: Inline, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(VIEWS, "page")
    set_limits(monkeypatch, close=1000, behind=1000)
    monkeypatch.setattr(Driver, "evaluation_left_s", -1.0)
    done, summary = inline("run", *words)
    assert done.returncode == 0, done.stderr
    assert "ensemble" not in summary
    assert "the rest of the budget is too short to test one" in done.stderr


@pytest.mark.slow
def test_an_ensemble_is_made_again_after_a_kill_or_more_trials_and_its_loss_is_told(
    inline: Inline, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(VIEWS, "page")
    set_limits(monkeypatch, close=1000, behind=1000)
    done, summary = inline("run", *words, "--trials", "2")
    assert done.returncode == 0, done.stderr
    trials = tmp_path / "searches" / "small" / "trials"

    # Killed after the ensemble was made, before it was tested.
    journal = tmp_path / summary["journal"]
    lines = journal.read_text().splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if '"event": "pooled"' in line)
    journal.write_text("".join(lines[: last + 1]))
    done, again = inline("resume", "small")
    assert done.returncode == 0, done.stderr
    assert again["ensemble"]["members"] == summary["ensemble"]["members"]
    assert again["ensemble"]["test_accuracy"] == summary["ensemble"]["test_accuracy"]
    assert again["ensemble"]["checkpoint"] == summary["ensemble"]["checkpoint"]

    done, more = inline("resume", "small", "--trials", "3")
    assert done.returncode == 0, done.stderr
    assert more["ensemble"]["trial"] == "ensemble-2"
    assert len(more["ensemble"]["members"]) == 3

    # Without its checkpoint, the best trial takes its place.
    lines = journal.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"event": "evaluated"' in line)
    journal.write_text("".join(lines[: last + 1]))
    monkeypatch.setattr("search.sessions.phases.choose_ensemble", lose_checkpoint(trials))
    done, damaged = inline("resume", "small")
    assert "ensemble" not in damaged
    assert damaged["best"]["test_accuracy"] > 0.2
    assert "skipped: ensemble-2" in done.stderr


def lose_checkpoint(trials: Path) -> object:
    """Return `choose_ensemble`, after which the checkpoint of the second ensemble is lost."""
    from search.sessions.combining import choose_ensemble

    def choose_and_lose(*arguments: object, **options: object) -> None:
        choose_ensemble(*arguments, **options)  # type: ignore[arg-type]
        shutil.rmtree(trials / "ensemble-2")

    return choose_and_lose
