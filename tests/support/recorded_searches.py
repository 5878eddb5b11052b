"""The searches whose journals, reports and pages are recorded, played without Ray."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from search.decisions.driver import Driver
from search.decisions.refinement_policy import RefinementPolicy
from search.decisions.selection_policy import SelectionPolicy
from search.design.experiment import Experiment
from search.journal.events import (
    Evaluated,
    Evidence,
    RefinementTerms,
    Requested,
    Resumed,
    Selecting,
    Started,
    Tested,
    from_json,
)
from search.journal.journal import FILE_NAME, Event, Journal
from search.journal.result import PICTURES, SearchResult
from search.operations.select import say_chosen
from search.space import Choice, SearchSpace
from tests.support.planted import PLANTED, peak
from tests.support.played import evaluation, good_lr_wins, play, report, started_event
from trainables.config import TrialConfig
from trainables.messages import Report

BEGAN_MS = 1_780_000_000_000
"""The moment at which the first recorded search begins; each other one a day later."""
DAY_MS = 86_400_000
DIGITS = 6
"""The significant digits of recorded numbers: the last ones differ between processors."""
TRACKING = "sqlite:////nowhere/mlflow.db"
TEST = {
    "images": 50,
    "accuracy": 0.94,
    "macro": {"precision": 0.95, "recall": 0.94, "f1": 0.94, "auc": 0.98},
    "weighted": {"precision": 0.95, "recall": 0.94, "f1": 0.94, "auc": 0.98},
    "per_class": {
        "0": {"precision": 0.96, "recall": 0.92, "f1": 0.94, "images": 25},
        "1": {"precision": 0.92, "recall": 0.96, "f1": 0.94, "images": 25},
    },
    "confusion_matrix": [[23, 2], [1, 24]],
    "classes": ["0", "1"],
    "roc": {
        "0": {"auc": 0.98, "fpr": [0, 0.04, 1], "tpr": [0, 0.92, 1]},
        "1": {"auc": 0.98, "fpr": [0, 0.08, 1], "tpr": [0, 0.96, 1]},
    },
}
"""The evaluation of the answer on the test set."""
EXTENSION = Requested(
    id="1780000000000-0123abcd",
    action="extend",
    by="somebody@here (page)",
    asked_ms=BEGAN_MS,
    answer="it has 9 trials, as many as there can be: python -m search.status played",
    options={"trials": "+2"},
    is_refused=True,
)
"""A request, and what the driver has answered."""


def play_search(folder: Path) -> Driver:
    """Play a search that has ended: trials that were stopped, failed and diverged, and its test."""
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01, 0.1), "epochs": Choice(3, 6, 9)},
        base={"model.name": "deep_cnn", "optimizer.schedule": "cosine"},
        reference={"optimizer.lr": 0.001, "epochs": 6},
        reference_title="the book's",
    )
    driver = begin(_experiment("played", space, folder, scheduler="asha", sure=0.0))

    def train(config: TrialConfig, epoch: int) -> Report:
        if driver.journal.number >= 40 and not driver.result.requests:
            driver.journal.append(EXTENSION)
        return diverge_when_short(config, epoch)

    return play_to_end(driver, train, slots=3)


def diverge_when_short(config: TrialConfig, epoch: int) -> Report:
    """Play a training; the shortest with the largest step diverges."""
    if (config.optimizer.lr, config.epochs) == (0.1, 3):
        return report(epoch, outcome="diverged", reason="train/loss is nan")
    return good_lr_wins(config, epoch)


def play_cut_off(folder: Path) -> Driver:
    """Play a search whose driver was killed."""
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01, 0.1), "epochs": Choice(3, 6)},
        base={"model.name": "deep_cnn"},
    )
    driver = begin(_experiment("cut-off", space, folder))
    return play(driver, good_lr_wins, slots=3, events=12)


def play_refinement(folder: Path) -> Driver:
    """Play a search whose best lies beyond its edge, and two rounds of its refinement."""
    searched = _experiment("refined", PLANTED, folder, algorithm="random")
    play_to_end(begin(searched), peak).journal.close()
    driver = continue_search(
        searched,
        RefinementPolicy,
        lambda result: Resumed(
            slots=2,
            began_ms=time.time_ns() // 1_000_000,
            experiment=searched.describe(),
            refining=RefinementTerms(rounds=2, trials=6),
        ),
    )
    return play_to_end(driver, peak, slots=2)


def play_selection(folder: Path) -> Driver:
    """Play a search, and the selection among the best few of its trials."""
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01, 0.1)},
        base={"model.name": "deep_cnn", "epochs": 3, "optimizer.schedule": "cosine"},
    )
    searched = _experiment("selected", space, folder)
    play_to_end(begin(searched), vary_by_seed).journal.close()
    driver = continue_search(searched, SelectionPolicy, _selecting)
    return play_to_end(driver, vary_by_seed, choose)


def _selecting(result: SearchResult) -> Selecting:
    facts = {name: getattr(result.started, name) for name in ("experiment", "data", "provenance")}
    return Selecting(
        candidates=list(result.trials), seeds=4, alpha=0.05, top=3, slots=2, began_ms=0, **facts
    )


def vary_by_seed(config: TrialConfig, epoch: int) -> Report:
    """Play a training whose learning rate decides, and its seed a little."""
    best = {0.1: 0.95, 0.01: 0.94, 0.001: 0.70}[config.optimizer.lr]
    luck = np.random.default_rng([config.seed, round(1000 * config.optimizer.lr)]).normal(0, 0.006)
    accuracy = best + luck - 0.01 * (config.epochs - epoch)
    return report(epoch, accuracy, "completed" if epoch == config.epochs else None)


def play_to_end(
    driver: Driver,
    train: Callable[[TrialConfig, int], Report],
    conclude: Callable[[Driver], None] | None = None,
    slots: int = 1,
) -> Driver:
    """Play a search, then its conclusion, which by default evaluates and tests, then finish it."""
    finish = driver.finish
    driver.finish = lambda: None  # type: ignore[method-assign]
    play(driver, train, slots=slots)
    (conclude or evaluate)(driver)
    finish()
    return driver


def evaluate(driver: Driver) -> None:
    """Append the evaluations of the trials that count, the test of the best, and the pictures."""
    best = driver.result.best
    assert best is not None
    for trial in driver.result.ranking:
        driver.journal.append(Evaluated(trial.trial, trial.best_epoch or 0, **evaluation()))
    driver.journal.append(Tested(trial=best.trial, epoch=best.best_epoch or 0, test=TEST))
    driver.journal.append(Evidence(trial="", file=PICTURES, path="report"))


def choose(driver: Driver) -> None:
    """Append the evaluations of the candidates that stayed, the verdict, and its test."""
    for training in driver.policy.best.values():  # type: ignore[attr-defined]
        driver.journal.append(Evaluated(training.trial, training.best_epoch or 0, **evaluation()))
    say_chosen(driver, driver.policy)  # type: ignore[arg-type]
    chosen = driver.result.selection.verdict  # type: ignore[union-attr]
    driver.journal.append(Tested(trial=chosen.trial, epoch=3, test=TEST, by="search.select"))


def _experiment(name: str, space: SearchSpace, folder: Path, **options: Any) -> Experiment:
    chosen = {
        "algorithm": "grid",
        "scheduler": "fifo",
        "concurrency": 2,
        "tracking": TRACKING,
        **options,
    }
    base = TrialConfig().override(space.base)
    return Experiment(name=name, space_name="own", space=space, base=base, storage=folder, **chosen)


def begin(experiment: Experiment) -> Driver:
    """Open a driver over a new journal."""
    driver = Driver(experiment, Journal(experiment.folder))
    described = {"name": experiment.name, "experiment": experiment.describe()}
    facts = {**started_event(), "id": f"1d{experiment.name}"}
    driver.journal.append(Started(**described, **facts))
    return driver


def continue_search(
    experiment: Experiment, policy: Any, first: Callable[[SearchResult], Any]
) -> Driver:
    """Open a driver with another policy over the journal of a search that has ended."""
    journal, events = Journal.reopen(experiment.folder)
    driver = Driver(experiment, journal, policy)
    driver.replay(events)
    journal.append(first(driver.result))
    driver.go_on()
    return driver


SEARCHES: dict[str, Callable[[Path], Driver]] = {
    "played": play_search,
    "refined": play_refinement,
    "selected": play_selection,
    "cut-off": play_cut_off,
}


def settle(journal: Path, began_ms: int) -> str:
    """Return a journal with the times of a clock that ticks once a second, and rounded numbers.

    Its lines have valid checksums, so that it is read as any other.
    """
    lines = []
    for number, line in zip(count(1), journal.read_text().splitlines(), strict=False):
        values = rounded(json.loads(line))
        time_ms = began_ms + 1000 * number
        if values.get("began_ms"):
            values["began_ms"] = time_ms - 500
        if values.get("elapsed_ms") is not None:
            values["elapsed_ms"] = 1000 * number
        kind = values.pop("event")
        for key in ("n", "time_ms", "crc"):
            del values[key]
        elapsed_ms = values.pop("elapsed_ms", None)
        lines.append(Event(number, time_ms, from_json(kind, values), elapsed_ms).to_line())
    return "".join(lines)


def rounded(value: Any) -> Any:
    """Return plain values with their numbers rounded."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def journals(folder: Path) -> Iterator[tuple[str, str]]:
    """Play each search in the folder; yield its name and its journal's text."""
    for day, (name, play_it) in enumerate(SEARCHES.items()):
        play_it(folder).journal.close()
        yield name, settle(folder / name / FILE_NAME, BEGAN_MS + day * DAY_MS)
