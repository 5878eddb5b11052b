"""Decisions by another metric than accuracy: none by accuracy, none by the wrong end."""

import itertools
import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from mlflow import MlflowClient

from search.decisions.refinement import noise, observations
from search.decisions.selection import Candidate, Race, decide
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import Journal, JournalError
from search.journal.result import SearchResult
from search.tracking.tracker import Tracker
from tests.support.played import OpenDriver, changed, decisions, play, reopened, report
from trainables.config import TrialConfig, training_key
from trainables.messages import Report
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

LOSS = CLASSIFICATION.metric("log_loss")
WRITTEN = ("event", "n", "time_ms", "elapsed_ms", "crc")
"""What the journal itself adds to an event."""


def loses_with_the_rate(config: TrialConfig, epoch: int) -> Report:
    """The lower the rate the lower the log loss; accuracy says the contrary."""
    loss = 0.2 + 8 * config.optimizer.lr + 1 / epoch
    made = report(epoch, min(0.99, 5 * config.optimizer.lr + 0.01 * epoch))
    by_loss = {"val/loss": loss, LOSS.key: loss, LOSS.error_key: 0.01}
    outcome = "completed" if epoch == config.epochs else None
    return replace(made, metrics=made.metrics | by_loss, outcome=outcome)


@pytest.fixture
def by_loss(experiment: Experiment) -> Experiment:
    """Nine trials by log loss, proposed by bayes and stopped by asha."""
    base = experiment.base.override({"metric": "log_loss"})
    how = {"algorithm": "bayes", "scheduler": "asha", "trials": 9, "seed": 3}
    return changed(experiment, base=base, objectives=(), **how)


def test_the_lowest_loss_is_best_and_goes_on_from_anywhere(
    open_driver: OpenDriver, by_loss: Experiment
) -> None:
    whole = play(open_driver(changed(by_loss, name="undisturbed")), loses_with_the_rate)
    best = whole.result.best
    assert best is not None
    assert best.params["optimizer.lr"] == 0.001
    assert best.value == min(trial.value for trial in whole.result.ranking)
    assert [trial.score for trial in whole.result.ranking] == sorted(
        (trial.score for trial in whole.result.ranking), reverse=True
    )
    assert any(trial.outcome == "stopped" for trial in whole.result.trials.values())
    for events in range(2, whole.journal.number, 5):
        cut = open_driver(changed(by_loss, name=f"cut{events}"))
        play(cut, loses_with_the_rate, events=events)
        again = play(reopened(cut), loses_with_the_rate)
        assert decisions(again.experiment) == decisions(whole.experiment)
        assert SearchResult.read(again.experiment.folder) == again.result


def test_early_stopping_knows_the_reported_error(
    open_driver: OpenDriver, by_loss: Experiment, experiment: Experiment
) -> None:
    driver = play(open_driver(by_loss), loses_with_the_rate, events=12)
    (score, *_) = (trial.score for trial in driver.result.ranking)
    assert driver.policy.scheduler.error_of(score) == 0.01
    assert driver.policy.scheduler.error_of(123.0) == 0
    assert driver.policy.algorithm.metric is LOSS
    share = open_driver(changed(experiment, name="share"))
    assert share.policy.scheduler.error_of(0.5) == pytest.approx((0.25 / 50) ** 0.5)


def test_the_error_of_a_value_that_is_told_again_stays_the_first(
    open_driver: OpenDriver, by_loss: Experiment
) -> None:
    """What was judged by it stays judged so, also where a search goes on from its journal."""

    told = itertools.count(1)

    def no_better(config: TrialConfig, epoch: int) -> Report:
        made = loses_with_the_rate(config, epoch)
        error = 0.01 * next(told)
        return replace(made, metrics=made.metrics | {LOSS.key: 0.5, LOSS.error_key: error})

    driver = play(open_driver(by_loss), no_better, events=30)
    assert next(told) > 2
    (score, *_) = (trial.score for trial in driver.result.ranking)
    assert driver.policy.scheduler.error_of(score) == 0.01


def test_a_trial_with_less_loss_is_better_than_others(
    open_driver: OpenDriver, by_loss: Experiment
) -> None:
    result = play(open_driver(changed(by_loss, scheduler="fifo")), loses_with_the_rate).result
    shares = {found.params["optimizer.lr"]: found.score for found in observations(result)}
    assert shares[0.001] > shares[0.01] > shares[0.1]
    error, words = noise(result)
    assert error == 0.01
    assert f"{result.ranking[0].value:.4f}" in words


def test_a_race_by_loss_chooses_the_lowest_and_tells_losses() -> None:
    losses = {"a": [0.30, 0.32, 0.31], "b": [0.50, 0.53, 0.52]}
    race = Race(list(losses), 3, images=1000)
    for name, values in losses.items():
        race.scores[name] = {seed: -loss for seed, loss in enumerate(values, 1)}
    known = {name: Candidate("deep_cnn", 0.3, None, f"{name}-s1") for name in losses}
    verdict = decide(race, known, LOSS)
    assert (verdict.candidate, verdict.leader) == ("a", "a")
    assert verdict.expected.mean == pytest.approx(0.31)
    assert 0 <= verdict.expected.low < 0.31 < verdict.expected.high
    assert [row.accuracies for row in verdict.rows] == [losses["a"], losses["b"]]
    assert [row.mean for row in verdict.rows] == pytest.approx([0.31, 0.5166667])


def test_mlflow_has_the_metric_and_which_end_is_good(
    open_driver: OpenDriver, by_loss: Experiment, database: str
) -> None:
    driver = open_driver(by_loss)
    tracker = Tracker(database, by_loss.folder)
    driver.journal.listeners.append(tracker)
    play(driver, loses_with_the_rate)
    tracker.close(30)
    assert tracker.error == ""
    client, best = MlflowClient(database), driver.result.best
    assert best is not None
    run = client.get_run(tracker.parent_run_id)
    tags = client.get_experiment(tracker.experiment_id).tags
    assert run.data.metrics["best/val_log_loss"] == best.value
    assert run.data.metrics["best/val_accuracy"] == best.primary_value
    assert run.data.params["metric"] == "log_loss"
    assert tags["mlflow.experiment.primaryMetric.name"] == "best/val_log_loss"
    assert tags["mlflow.experiment.primaryMetric.greaterIsBetter"] == "false"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "e77b68d991af2e43"),
        ({"model.name": "svm"}, "645afe07085807f2"),
        ({"optimizer.lr": 0.01, "seed": 3}, "64181f3aad9b36b5"),
    ],
)
def test_a_training_by_accuracy_has_the_key_it_had_before_there_was_another(
    values: dict[str, Any], key: str
) -> None:
    config = TrialConfig().override(values)
    assert training_key(config) == key
    assert training_key(config.override({"metric": "auc"})) != key
    assert "metric" not in config.to_dict()


def test_a_metric_that_is_not_known_any_more_is_told_in_one_line(
    open_driver: OpenDriver, by_loss: Experiment
) -> None:
    play(open_driver(by_loss), loses_with_the_rate)
    path = by_loss.folder / "journal.jsonl"
    first = json.loads(path.read_bytes().splitlines()[0])
    first["experiment"]["base"]["metric"] = "kappa"
    path.unlink()
    told = {name: value for name, value in first.items() if name not in WRITTEN}
    with closing(Journal(by_loss.folder)) as journal:
        journal.append(Started(**told))
    with pytest.raises(JournalError, match="by 'kappa', a metric that this version of the program"):
        _ = SearchResult.read(by_loss.folder).metric
