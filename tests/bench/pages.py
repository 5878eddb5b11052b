"""What the web pages cost, and how soon they tell: python -m tests.bench.pages [--keep FOLDER].

On played journals, in Chromium: how long after a journal's write a finished epoch is on the page,
how long a search of 1,000 trials of 100 epochs takes to open and to update, what twenty open pages
take of the machine, and what a day's search leaves in memory.
"""

import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from search.experiment import Experiment
from search.journal.events import Ended, Epoch, EventData, Running, Started, Suggested
from search.journal.journal import FILE_NAME, Event
from search.space import Choice, Float, SearchSpace
from tests.support.played import report, started_event
from trainables.config import TrialConfig

GIVEN = "0123456789abcdef"
"""The token of the servers that are started here."""


class Played:
    """A journal that is written as fast as it can be, or as slowly as is wanted."""

    def __init__(self, place: Path, name: str, trials: int, epochs: int) -> None:
        """Begin a search of so many trials of so many epochs."""
        space = SearchSpace(
            {
                "optimizer.lr": Float(1e-4, 0.1, log=True),
                "batch_size": Choice(16, 32, 64, 128),
                "model.filter_size": Choice(3, 5, 7),
            },
            base={"model.name": "deep_cnn"},
        )
        base = TrialConfig(epochs=epochs).override(space.base)
        self.experiment = Experiment(
            name=name,
            space_name="played",
            space=space,
            base=base,
            algorithm="random",
            scheduler="fifo",
            storage=place,
            trials=trials,
        )
        self.trials, self.epochs, self.number = trials, epochs, 0
        self.folder = place / name
        self.folder.mkdir(parents=True)
        self.random = random.Random(1)
        self._file = (self.folder / FILE_NAME).open("ab", buffering=0)
        first = started_event()
        first["data"] |= {"val": 10_000, "train": 50_000}
        self.write(Started(name=name, experiment=self.experiment.describe(), **first))

    def write(self, *data: EventData) -> int:
        """Write events, and return the Unix time of the last in milliseconds."""
        lines = []
        for one in data:
            self.number += 1
            at = time.time_ns() // 1_000_000
            lines.append(Event(self.number, at, one).to_line().encode())
        self._file.write(b"".join(lines))
        return at

    def begun(self, number: int) -> tuple[EventData, ...]:
        """Return the events with which a trial begins."""
        params = {
            "optimizer.lr": 10 ** self.random.uniform(-4, -1),
            "batch_size": self.random.choice((16, 32, 64, 128)),
            "model.filter_size": self.random.choice((3, 5, 7)),
        }
        config = self.experiment.base.override(params).to_dict()
        name = name_of(number)
        suggested = Suggested(trial=name, stem=name, params=params, config=config)
        return suggested, Running(name, 1, "here")

    def epoch(self, number: int, epoch: int) -> Epoch:
        """Return an epoch of a trial."""
        accuracy = 0.9 - 0.4 / (1 + number % 17) * math.exp(-epoch / 20)
        value = accuracy + self.random.gauss(0, 0.004)
        return Epoch(name_of(number), epoch, report(epoch, value).metrics)

    def whole(self, number: int) -> list[EventData]:
        """Return all events of a trial."""
        epochs = [self.epoch(number, epoch) for epoch in range(1, self.epochs + 1)]
        return [*self.begun(number), *epochs, Ended(name_of(number), "completed", "")]


def name_of(number: int) -> str:
    return f"t{number:04}"


@contextmanager
def served(place: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the pages; yield their address and the process."""
    command = [sys.executable, "-m", "search.ui", "--storage", str(place), "--port", "0"]
    running = subprocess.Popen(
        [*command, "--no-browser", "--token", GIVEN], stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        address = running.stdout.readline().split("): ")[-1].split()[-4]
        yield address.partition("/?")[0], psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()
