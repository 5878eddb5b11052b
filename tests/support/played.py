"""Searches without Ray: played trainings that answer the driver as a worker would."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import Resumed
from search.journal.journal import Journal, read
from trainables.config import TrialConfig
from trainables.messages import Report

Train = Callable[[TrialConfig, int], Report]

OpenDriver = Callable[..., Driver]


def started_event() -> dict[str, Any]:
    """The data of a first event, for journals written by hand."""
    data = {
        "name": "digits",
        "root": "",
        "classes": ["0", "1"],
        "image": [1, 8, 8],
        "train": 100,
        "val": 50,
        "test": 50,
        "fingerprint": "f00d",
    }
    return {
        "version": 1,
        "id": "1d",
        "data": data,
        "slots": 2,
        "provenance": {"git.commit": "c0ffee", "user": "u", "host": "h"},
        "began_ms": time.time_ns() // 1_000_000 - 1000,
    }


def report(
    epoch: int, accuracy: float = 0.5, outcome: str | None = None, reason: str = ""
) -> Report:
    """What a worker says after an epoch; no metrics when it diverged or failed."""
    metrics = {
        "train/loss": 1.0,
        "val/loss": 1 - accuracy,
        "val/accuracy": accuracy,
        "lr": 0.001,
        "time/epoch_s": 0.25,
    }
    told = {} if outcome in ("diverged", "failed") else metrics
    return Report(epoch, told, outcome=outcome, reason=reason)


def evaluation(f1: float = 0.5) -> dict[str, Any]:
    """The `val` and `cost` of an `evaluated` event."""
    figures = {"precision": 0.5, "recall": 0.25, "f1": f1, "auc": None}
    val = {
        "images": 4,
        "accuracy": 0.75,
        "macro": figures,
        "weighted": {**figures, "f1": 0.625},
        "ece": 0.125,
        "classes": ["a", "b"],
        "auc": {"a": 1.0, "b": None},
    }
    times = {
        f"batch_{size}": {"median_ms": 1.5 / size, "p95_ms": 3.0 / size, "repetitions": 9}
        for size in (1, 64)
    }
    cost = {
        "parameters": 1234567,
        "multiply_adds": 7654321,
        "bytes": 4_940_000,
        "inference": times,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
    }
    return {"val": val, "cost": cost}


def good_lr_wins(config: TrialConfig, epoch: int) -> Report:
    """Accuracy grows with the epochs and with the learning rate."""
    accuracy = min(0.99, 5 * config.optimizer.lr + 0.01 * epoch)
    return report(epoch, accuracy, "completed" if epoch == config.epochs else None)


def reopened(driver: Driver, **options: Any) -> Driver:
    """A new driver that has heard the journal of another, which was cut off, and goes on."""
    journal, events = Journal.reopen(driver.experiment.folder)
    again = Driver(driver.experiment, journal, **options)
    again.replay(events)
    journal.append(Resumed(slots=2, began_ms=time.time_ns() // 1_000_000))
    again.go_on()
    return again


def play(
    driver: Driver, train: Train = good_lr_wins, *, slots: int = 1, events: int = 10**6
) -> Driver:
    """Play a whole search: `slots` trials take turns, an epoch each, until the driver has no more,
    or has written so many events.
    """
    running: dict[str, tuple[TrialConfig, int]] = {}
    while True:
        while len(running) < slots and (suggestion := driver.suggest()) is not None:
            trial, config = suggestion
            driver.running(trial, host="here")
            running[trial] = (config, max(driver.trials[trial].epochs, default=0))
        if not running:
            driver.finish()
            return driver
        if driver.journal.number >= events:
            return driver
        for trial, (config, epoch) in list(running.items()):
            running[trial] = (config, epoch + 1)
            if driver.report(trial, train(config, epoch + 1)):
                del running[trial]


def changed(experiment: Experiment, **values: Any) -> Experiment:
    """The experiment with other values."""
    return replace(experiment, **values)


def decisions(search: Experiment) -> list[dict[str, Any]]:
    """Return what was suggested, reported, stopped and ended, in order."""
    kept = ("suggested", "epoch", "held", "promoted", "stopped", "ended")
    return [
        {**event.data.to_json(), "kind of event": event.kind}
        for event in read(search.folder / "journal.jsonl")
        if event.kind in kept
    ]
