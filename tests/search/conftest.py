"""Searches without Ray: an experiment, and a played training that answers the driver like a worker
would.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import Journal
from search.space import Choice, SearchSpace
from tests.conftest import Command
from tests.support.played import OpenDriver, started_event
from tests.support.real import Done
from trainables.config import TrialConfig

Inline = Callable[..., Done]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Nine configurations of up to nine epochs, none the beginning of another."""
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01, 0.1), "epochs": Choice(3, 6, 9)},
        base={"model.name": "deep_cnn", "optimizer.schedule": "cosine"},
    )
    base = TrialConfig().override(space.base)
    return Experiment(
        name="played",
        space_name="nine",
        space=space,
        base=base,
        algorithm="grid",
        scheduler="fifo",
        storage=tmp_path / "searches",
    )


@pytest.fixture
def inline(call: Command, database: str) -> Inline:
    """Run a verb on a search in this process, without Ray; returns what it said and its `--json`
    line.
    """

    def run(verb: str, *words: object) -> Done:
        how = ("--json", "--executor", "inline", "--tracking", database)
        done = call(f"search.{verb}", *words, *how)
        assert done.stdout, done.stderr
        return done, json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def open_driver() -> Iterator[OpenDriver]:
    """Makes drivers over new journals whose first line is written; closes them at the end."""
    opened = []

    def make(experiment: Experiment, **options: Any) -> Driver:
        journal = Journal(experiment.folder)
        opened.append(journal)
        driver = Driver(experiment, journal, **options)
        journal.append(
            Started(name=experiment.name, experiment=experiment.describe(), **started_event())
        )
        return driver

    yield make
    for journal in opened:
        journal.close()
