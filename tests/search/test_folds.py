"""Searches with folds: their decisions, runs in MLflow and texts, and a real search."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.facts.standing import SearchStanding
from search.facts.summary import json_summary
from search.journal.journal import read
from search.journal.result import SearchResult, checkpoint_of
from search.preflight.disk import room
from search.sessions.estimate import estimate_search
from search.tracking.note import markdown_summary
from search.tracking.tracker import Tracker
from search.views.live import Display
from search.views.outcome import best_table
from search.views.standing import standing_lines, trials_table
from search.views.terminal import Terminal
from search.views.text.labels import figure_text
from tests.conftest import Command
from tests.support.in_mlflow import contents, runs
from tests.support.played import OpenDriver, changed, play, reopened
from tests.support.real import run_in
from tests.support.stories import story_lines
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.messages import Report
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.training.cross_validation import combine_folds

SPREAD = (-0.02, 0.0, 0.05)
METRICS = ("train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s")


@pytest.fixture
def folded(experiment: Experiment) -> Experiment:
    """Nine configurations, each in three folds."""
    return changed(experiment, base=experiment.base.override({"data.folds": 3}))


@pytest.fixture
def uri(database: str) -> str:
    return database


def train(config: TrialConfig, epoch: int) -> Report:
    """What a worker says of an epoch of three folds; the highest learning rate diverges at its
    third epoch.
    """
    if config.optimizer.lr == 0.1 and epoch == 3:
        reason = "val/loss is nan at epoch 3 in fold 2"
        return Report(epoch, outcome="diverged", reason=reason)
    accuracy = min(0.9, 5 * config.optimizer.lr + 0.01 * epoch)
    folds = [
        {**dict.fromkeys(METRICS, 0.25), "val/accuracy": accuracy + own, "val/loss": 1 - accuracy}
        for own in SPREAD
    ]
    made = combine_folds(epoch, folds, CLASSIFICATION.metrics)
    outcome = "completed" if epoch == config.epochs else None
    return Report(epoch, made.values, outcome=outcome, folds=folds)


def tracked(
    uri: str, search: Experiment, open_driver: OpenDriver, **how: Any
) -> tuple[Tracker, Driver]:
    """Play a search, or its beginning, into MLflow."""
    driver = open_driver(search)
    tracker = Tracker(uri, search.folder)
    driver.journal.listeners.append(tracker)
    play(driver, train, slots=2, **how)
    return tracker, driver


def folds_of(client: MlflowClient, trial: Run) -> list[Run]:
    """The runs of a trial's folds, in order."""
    found = client.search_runs(
        [trial.info.experiment_id],
        f"tags.mlflow.parentRunId = '{trial.info.run_id}'",
        max_results=100,
    )
    return sorted(found, key=lambda run: int(run.data.tags["search.fold"]))


def points(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    """A metric's values by step; each step must be there once."""
    history = client.get_metric_history(run.info.run_id, metric)
    assert len({point.step for point in history}) == len(history)
    return {point.step: point.value for point in history}


def test_a_fold_is_a_run_below_its_trials(
    uri: str, folded: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, changed(folded, scheduler="asha", sure=0.5), open_driver)
    tracker.close()
    assert tracker.error == ""
    client, (parent, trials) = MlflowClient(uri), runs(uri, tracker)
    assert {trial.data.tags["search.trial"] for trial in trials} == driver.result.trials.keys()
    assert {trial.outcome for trial in driver.result.trials.values()} == {
        "completed",
        "stopped",
        "diverged",
    }
    for run in trials:
        trial, folds = driver.result.trials[run.data.tags["search.trial"]], folds_of(client, run)
        assert run.data.params["folds"] == "3"
        assert [fold.data.tags["search.fold"] for fold in folds] == ["1", "2", "3"]
        assert (
            {fold.info.status for fold in folds}
            == {run.info.status}
            == {{"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED"}[trial.outcome]}
        )
        assert {fold.data.tags["outcome"] for fold in folds} == {trial.outcome}
        assert {fold.data.tags["search.role"] for fold in folds} == {"fold"}
        for number, fold in enumerate(folds):
            for metric in METRICS:
                assert points(client, fold, metric) == {
                    epoch: told[number][metric] for epoch, told in trial.folds.items()
                }
        if trial.outcome == "diverged":
            assert not any("best/val_accuracy" in found.data.metrics for found in (run, *folds))
            continue
        best = [fold.data.metrics["best/val_accuracy"] for fold in folds]
        assert run.data.metrics["best/val_accuracy"] == pytest.approx(fmean(best), rel=1e-12)
        assert run.data.metrics["best/val_accuracy_std"] == pytest.approx(stdev(best), rel=1e-12)
        assert {fold.data.metrics["best/epoch"] for fold in folds} == {trial.best_epoch}
    assert "in 3 folds" not in parent.data.tags["mlflow.note.content"], (
        "the hand-made facts say nothing of folds"
    )


def test_to_project_again_adds_nothing(
    uri: str, folded: Experiment, open_driver: OpenDriver
) -> None:
    tracker, _ = tracked(uri, folded, open_driver)
    tracker.close()
    before = contents(uri, tracker)
    assert len(before) == 1 + 9 + 9 * 3
    again = Tracker(uri, folded.folder)
    again.close()
    assert (again.error, contents(uri, again)) == ("", before)


def test_no_fold_is_left_running_and_a_resume_goes_on_in_the_same_runs(
    uri: str, folded: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, folded, open_driver, events=14)
    driver.close("interrupted", "Ctrl-C twice")
    driver.finish()
    tracker.close()
    client, first = MlflowClient(uri), contents(uri, tracker)
    assert len(first) == 1 + 2 + 2 * 3
    assert {status for _, status, *_ in first} == {"KILLED"}
    again = reopened(driver)
    tracker = Tracker(uri, folded.folder)
    again.journal.listeners.append(tracker)
    play(again, train, slots=2)
    tracker.close()
    assert tracker.error == ""
    found = contents(uri, tracker)
    assert {run for run, *_ in first} <= {run for run, *_ in found}
    assert len(found) == 1 + 9 + 9 * 3
    assert "RUNNING" not in {status for _, status, *_ in found}
    for run in runs(uri, tracker)[1]:
        epochs = set(again.result.trials[run.data.tags["search.trial"]].epochs)
        assert all(
            set(points(client, fold, "val/accuracy")) == epochs for fold in folds_of(client, run)
        )


@pytest.mark.parametrize("number", [3, 6])
def test_an_answer_that_was_lost_makes_no_second_run_of_a_fold(
    number: int,
    uri: str,
    folded: Experiment,
    open_driver: OpenDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow has made the run, and the answer does not arrive."""
    made, create = [0], MlflowClient.create_run

    def create_run(self: MlflowClient, *given: Any, **named: Any) -> Any:
        run = create(self, *given, **named)
        made[0] += 1
        if made[0] == number:
            raise ConnectionError("lost")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    tracker, _ = tracked(uri, folded, open_driver)
    tracker.close()
    assert tracker.error == ""
    assert len(contents(uri, tracker)) == 1 + 9 + 9 * 3


def test_stops_are_decided_by_the_means(
    folded: Experiment, experiment: Experiment, open_driver: OpenDriver
) -> None:
    """The same trials are stopped at the same rungs as if each were one network with the mean's
    accuracy.
    """

    def alone(config: TrialConfig, epoch: int) -> Report:
        return replace(train(config, epoch), folds=[])

    found = play(open_driver(changed(folded, scheduler="asha", sure=0.5)), train, slots=2).result
    expected = play(
        open_driver(changed(experiment, scheduler="asha", sure=0.5, name="plain")), alone, slots=2
    ).result
    assert {name: trial.stop for name, trial in found.trials.items()} == {
        name: trial.stop for name, trial in expected.trials.items()
    }
    assert any(trial.stop for trial in found.trials.values())


def test_the_journal_has_the_folds_and_a_replay_knows_them(
    folded: Experiment, open_driver: OpenDriver
) -> None:
    driver = play(open_driver(folded), train)
    again = SearchResult.read(folded.folder)
    best = again.best
    assert best is not None
    assert best.folds == driver.result.trials[best.trial].folds
    assert best.deviation == pytest.approx(np.std(SPREAD, ddof=1))
    assert figure_text(best) == f"{best.primary_value:.4f} ± 0.0361 (3 folds)"


def test_everywhere_a_trial_is_shown_its_deviation_is(
    folded: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(folded)
    driver.result.started.data["folds"] = 3
    play(driver, train)
    result, wide = driver.result, Terminal(width=200, record=True)
    assert result.best is not None
    text = figure_text(result.best)
    shown: dict[str, Callable[[], object]] = {
        "the end": lambda: wide.print(best_table(result)),
        "status": lambda: wide.print(trials_table(result)),
        "the live table": lambda: wide.print(Display(result, 9, Terminal(width=200))._table()),
    }
    for what, show in shown.items():
        show()
        assert text in wide.export_text(), what
    assert text in standing_lines(SearchStanding("played", result))[2]
    assert text in markdown_summary(result)
    assert "100 images in 3 folds" in markdown_summary(result)
    assert any(
        f"val accuracy {text}, its best" in line
        for line in story_lines(read(folded.folder / "journal.jsonl"), result.best.trial)
    )
    summary = json_summary(result, tracking={}, home=folded.home, wall_s=1.0)
    assert (summary["best"]["val_accuracy_std"], summary["best"]["folds"]) == (
        result.best.deviation,
        3,
    )


def test_the_networks_of_all_folds_need_room(
    folded: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(np.zeros((12, 8, 8, 1), np.uint8), np.zeros(12, np.int64))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    plain, in_folds = (
        room(folded, Dataset("made", ("a", "b"), part, part, part, "f00d", folds=folds))
        for folds in (None, 3)
    )
    assert plain is not None
    assert in_folds is not None
    assert in_folds.needed == 3 * plain.needed


def test_a_plan_counts_the_networks_of_all_folds(folded: Experiment, tmp_path: Path) -> None:
    made = estimate_search(changed(folded, tracking=f"sqlite:///{tmp_path}/mlflow.db"))
    assert "  each in 3 folds: 27 networks, 162 epochs of one network at most" in made.lines(folded)
    assert (
        "  10 classes, 1,438 in 3 folds, 359 test images of 1 x 8 x 8 (channels, height, width)"
        in made.lines(folded)
    )


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[Path, dict[str, Any]]:
    """A search on the digits in five folds, a baseline among its trials."""
    folder = tmp_path_factory.mktemp("folds")
    shutil.copy(empty_database, folder)
    (folder / "two.py").write_text(
        "from search.space import Choice, SearchSpace\n"
        "space = SearchSpace({'model.name': Choice('table2', 'knn'), "
        "'optimizer.lr': Choice(0.003, 0.01, when={'model.name': 'table2'})},\n"
        "    base={'model.width': 8, 'model.features': 'edges', 'epochs': 3, "
        "'data.train_limit': 400})\n"
    )
    words = (
        "--space",
        "two.py:space",
        "--name",
        "folded",
        "--folds",
        5,
        "--algorithm",
        "grid",
        "--scheduler",
        "fifo",
        "--executor",
        "inline",
    )
    done, summary = run_in(folder, *words)
    assert done.returncode == 0, done.stderr
    return folder, summary


@pytest.mark.promise
@pytest.mark.slow
def test_a_trial_of_five_folds_is_the_mean_of_its_five_children(
    real: tuple[Path, dict[str, Any]],
) -> None:
    """Mean and standard deviation in MLflow, in the journal and in `--json` are those computed from
    the children's own points.
    """
    folder, summary = real
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    result = SearchResult.read((folder / summary["journal"]).parent)
    trials = client.search_runs(
        [summary["mlflow"]["experiment_id"]],
        f"tags.mlflow.parentRunId = '{summary['mlflow']['parent_run_id']}'",
    )
    assert len(trials) == len(result.trials) == 3
    for run in trials:
        trial, folds = result.trials[run.data.tags["search.trial"]], folds_of(client, run)
        assert len(folds) == 5
        assert {fold.info.status for fold in folds} == {"FINISHED"}
        for metric in METRICS:
            each = [points(client, fold, metric) for fold in folds]
            whole = points(client, run, metric)
            assert whole == {epoch: values[metric] for epoch, values in trial.epochs.items()}
            for epoch, value in whole.items():
                expected = np.sum if metric == "time/epoch_s" else np.mean
                assert value == pytest.approx(expected([own[epoch] for own in each]), rel=1e-12)
        for epoch, value in points(client, run, "val/accuracy_std").items():
            assert value == pytest.approx(
                np.std([points(client, fold, "val/accuracy")[epoch] for fold in folds], ddof=1),
                rel=1e-9,
            )
        best = [fold.data.metrics["best/val_accuracy"] for fold in folds]
        assert (
            trial.primary_value
            == run.data.metrics["best/val_accuracy"]
            == pytest.approx(np.mean(best), rel=1e-12)
        )
        assert (
            trial.deviation
            == run.data.metrics["best/val_accuracy_std"]
            == pytest.approx(np.std(best, ddof=1), rel=1e-9)
        )
    assert result.best is not None
    assert (summary["best"]["val_accuracy"], summary["best"]["val_accuracy_std"]) == (
        result.best.primary_value,
        result.best.deviation,
    )


@pytest.mark.promise
@pytest.mark.slow
def test_what_is_kept_of_a_trial_of_five_folds_can_be_used(
    real: tuple[Path, dict[str, Any]],
) -> None:
    folder, summary = real
    home = (folder / summary["journal"]).parent
    result = SearchResult.read(home)
    assert all(trial.evaluation for trial in result.trials.values())
    for trial in result.trials.values():
        config, path = TrialConfig.from_dict(trial.config), checkpoint_of(trial, home)
        dataset = load(config.data)
        chances = predictions(config, dataset, dataset.val, path)
        val = trial.evaluation.val
        assert val["accuracy"] == (chances.argmax(axis=1) == dataset.val.targets).mean()
        assert (val["members"]["mean"], val["members"]["std"]) == (
            trial.primary_value,
            trial.deviation,
        )
        assert val["images"] == len(dataset.train) == 400
        assert (
            json.loads((home / "trials" / trial.trial / "evidence" / "val.json").read_text())[
                "members"
            ]
            == val["members"]
        )
    assert result.best is not None
    config, path = TrialConfig.from_dict(result.best.config), checkpoint_of(result.best, home)
    dataset = load(config.data)
    assert dataset.test is not None
    found = evaluate(config, dataset, dataset.test, path)
    assert result.test == {
        name: value for name, value in found.items() if name not in ("bins", "wrong")
    }  # those are in test.json
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    parent = client.get_run(summary["mlflow"]["parent_run_id"])
    assert parent.data.metrics["test/members_accuracy_mean"] == pytest.approx(
        fmean(result.test["members"]["accuracy"])
    )


@pytest.mark.promise
@pytest.mark.slow
def test_a_search_that_is_over_is_resumed_with_no_special_words(
    real: tuple[Path, dict[str, Any]], call: Command
) -> None:
    folder, summary = real
    done = call("search.resume", "folded", "--storage", folder / "searches", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["epochs_trained"] == summary["epochs_trained"]
