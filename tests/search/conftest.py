"""Searches without Ray: an experiment, and a played training that answers the driver like a worker
would.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.decisions.driver import Driver
from search.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import Journal
from search.space import Choice, SearchSpace
from tests.support.played import OpenDriver, started_event
from trainables.config import TrialConfig


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
