"""Decisions of searches, refinements and selections, played without Ray: a line an event.

So two versions can be held against each other:

    python -m tests.bench.decisions > FOLDER/now.txt

and the same in a checkout of another version, then `diff`.

Trainings are made up, and what networks cost is fixed, so that on one machine the same decisions
give the same lines. Left out is what says nothing of a decision: times, hosts, provenance, texts,
and the whole config where its key (`stem`) is told.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from search.decisions.driver import Driver
from search.decisions.policy import MakePolicy
from search.decisions.refinement_policy import RefinementPolicy
from search.decisions.search_policy import SearchPolicy
from search.decisions.selection_policy import SelectionPolicy
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.events import RefinementTerms, Resumed, Selecting, SessionStart, Started
from search.journal.journal import FILE_NAME, Journal, read
from search.journal.result import SearchResult
from search.space import Choice, Float, SearchSpace
from tests.support.played import play, report, started_event
from trainables.config import TrialConfig
from trainables.messages import Report

OMITTED = {
    "config",
    "experiment",
    "data",
    "provenance",
    "reason",
    "text",
    "host",
    "id",
    "version",
    "began_ms",
    "driver",
    "boot",
    "zero_ms",
    "metrics",
    "slots",
    "cost",
    "bytes",
}
DIGITS = 9
"""Digits that are told of a number: the last of a double are the processor's."""
FREE = SearchSpace(
    {
        "optimizer.lr": Float(1e-4, 1.0, log=True),
        "model.dropout": Float(0.0, 0.7),
        "batch_size": Choice(16, 32, 64, 128),
    },
    base={"model.name": "mnist_cnn", "epochs": 24},
    trials=40,
)
POINTS = SearchSpace(
    {
        "optimizer.lr": Choice(*np.geomspace(1e-4, 1.0, 9).tolist()),
        "batch_size": Choice(16, 32, 64, 128),
    },
    base={"model.name": "mnist_cnn", "epochs": 24},
    trials=36,
)
LENGTHS = SearchSpace(
    {"optimizer.lr": Choice(*np.geomspace(1e-4, 1.0, 9).tolist()), "epochs": Choice(6, 12, 24)},
    base={"model.name": "mnist_cnn", "epochs": 24},
    trials=27,
)
Lines = Iterator[str]


def trained(config: TrialConfig, epoch: int) -> Report:
    """Return a training's report of an epoch.

    The slower a training rises the better it ends, up to a rate above which it diverges; a seed's
    luck is a few tenths of a point.
    """
    off = math.log10(config.optimizer.lr / 0.02)
    if off > 1.4 and epoch > 1:
        return report(epoch, 0, "diverged")
    pace, luck = (
        3 * 10 ** (-0.4 * off),
        np.random.default_rng(
            [config.seed, round(1e6 * config.optimizer.lr), config.batch_size]
        ).normal(0, 0.003),
    )
    end = (
        0.95
        - 0.04 * off**2
        - 0.05 * ((config.model.dropout or 0.3) - 0.3) ** 2
        - 0.01 * abs(math.log2(config.batch_size / 32))
        + luck
    )
    made = report(
        epoch,
        round(0.1 + (end - 0.1) * (1 - math.exp(-epoch / pace)), 12),
        "completed" if epoch == config.epochs else None,
    )
    cost = {"inference": {"batch_1": {"median_ms": 16 / config.batch_size}}}
    return replace(made, cost=cost)


def plain(value: Any) -> Any:
    """Return the same without what says nothing of a decision, numbers to `DIGITS`."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in sorted(value.items()) if key not in OMITTED}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def lines(journal: Path) -> Lines:
    """Yield a journal's events, the epochs' values apart, which the training gives."""
    for event in read(journal):
        yield f"{event.kind} {json.dumps(plain(event.data.to_json()), sort_keys=True)}"


def experiment(folder: str, space: SearchSpace, **options: Any) -> Experiment:
    """Return a search of this space."""
    base = TrialConfig().override(space.base)
    known = {
        "name": "played",
        "space_name": "made up",
        "space": space,
        "base": base,
        "trials": space.trials,
        "seed": 5,
        "storage": Path(folder),
    }
    return Experiment(**{**known, **options})  # type: ignore[arg-type]


def searched(
    folder: str, space: SearchSpace, *, slots: int = 3, events: int = 10**6, **options: Any
) -> Experiment:
    """Play a search, or so many of its events."""
    made = experiment(folder, space, **options)
    with closing(Journal(made.folder)) as journal:
        driver = Driver(made, journal)
        journal.append(Started(name=made.name, experiment=made.describe(), **started_event()))
        play(driver, trained, slots=slots, events=events)
    return made


def go_on(
    made: Experiment, *, policy: MakePolicy = SearchPolicy, first: SessionStart | None = None
) -> None:
    """Play one more session."""
    journal, events = Journal.reopen(made.folder)
    with closing(journal):
        driver = Driver(made, journal, policy)
        driver.replay(events)
        about = SessionStart(slots=3, began_ms=time.time_ns() // 1_000_000)
        journal.append((first or Resumed()).changed_by(about))
        driver.go_on()
        play(driver, trained, slots=3)


def search(space: SearchSpace = FREE, **options: Any) -> Callable[[str], Experiment]:
    """Return a scenario of one search."""
    return lambda folder: searched(folder, space, **options)


def resumed(folder: str) -> Experiment:
    """Play a search that was cut off in the midst."""
    made = searched(folder, FREE, algorithm="bayes", scheduler="asha", events=150)
    go_on(made)
    return made


def extended(folder: str) -> Experiment:
    """Play a search that has used up its budget and is given more."""
    made = searched(
        folder, FREE, algorithm="bayes", scheduler="asha", budget=Budget((limit("120epochs"),))
    )
    go_on(replace(made, budget=Budget((limit("200epochs"),))))
    return made


def refined(folder: str) -> Experiment:
    """Play a search that is refined."""
    made = searched(folder, replace(FREE, trials=12), algorithm="random", scheduler="asha")
    terms = RefinementTerms(rounds=3, trials=8)
    go_on(made, policy=RefinementPolicy, first=Resumed(experiment=made.describe(), refining=terms))
    return made


def selected(folder: str) -> Experiment:
    """Play a search of which five race."""
    made = searched(folder, POINTS, algorithm="grid", scheduler="asha")
    result = SearchResult.read(made.folder)
    best = [trial.trial for trial in result.ranking[:5]]
    first = Selecting(candidates=best, seeds=4, alpha=0.05).changed_by(result.started)
    go_on(made, policy=SelectionPolicy, first=first)
    return made


SCENARIOS: dict[str, Callable[[str], Experiment]] = {
    **{
        f"{algorithm} + {scheduler}": search(
            POINTS if algorithm == "grid" else FREE, algorithm=algorithm, scheduler=scheduler
        )
        for algorithm in ("grid", "random", "bayes", "gp")
        for scheduler in ("fifo", "asha")
    },
    "several lengths": search(LENGTHS, algorithm="bayes", scheduler="asha"),
    "several objectives": search(
        algorithm="random", scheduler="asha", objectives=("val_accuracy", "latency")
    ),
    "enough": search(algorithm="random", scheduler="asha", min_gain=1.0),
    "resumed": resumed,
    "budget": extended,
    "refined": refined,
    "selected": selected,
}


def main() -> None:
    """Play all, and print what was decided."""
    for title, scenario in SCENARIOS.items():
        print(f"\n# {title}")
        with TemporaryDirectory() as folder:
            for line in lines(scenario(folder).folder / FILE_NAME):
                print(line)


if __name__ == "__main__":
    main()
