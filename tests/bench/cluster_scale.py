"""Share of a large cluster's slots that train, for one driver.

    python -m tests.bench.cluster_scale [--slots 64 1024 4096] [--epochs-s 2 10 60]

The driver, its scheduler and its journal are real, and the journal is on the disk; only the
trainings and the time are simulated. The driver handles all results that have arrived, proposes
trials for the free slots, and writes all this at once. That takes as long as it took here, and
meanwhile other slots wait. Nodes of eight slots join in the first 20 s. Each fails after
`--fails-s` in the mean: half of them at once, half with a warning, so that their trials move after
the epochs that run. Ray and Tune are left out.

The share is counted from the moment when all nodes have joined to the last one at which every slot
had a trial. What a slot does otherwise: it waits for the driver, it starts a trial, or there is no
trial for it. Epochs that a failure cuts short count as lost. With `--latency-ms`, each write takes
so much longer, as in a bucket; with `--one-by-one`, each event is written alone.
"""

import argparse
import heapq
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.journal import Journal
from search.space import Float, SearchSpace
from tests.bench.replay import said
from tests.support.played import started_event
from trainables.config import TrialConfig

HORIZON = 128
"""The epochs of the longest trial: eight rungs."""
NODE, JOIN_S = 8, 20.0
"""The slots of a node, and the seconds in which all nodes join."""
START_S = 0.1
"""The seconds in which a worker that is up begins to train."""
FAILS_S, AWAY_S = 600.0, 30.0
"""The mean seconds until a node fails, by default, and those until it is back."""


@dataclass
class Slot:
    """A slot of the cluster: a worker for one trial."""

    node: int
    is_up: bool = False
    is_leaving: bool = False
    """True if its node fails after the epoch that runs."""
    trial: str = ""
    is_free_since: float = 0.0
    """The time at which it had nothing to do any more."""
    turn: int = 0
    """Distinguishes what it does now from what it was doing when it failed."""
    ends: float = math.inf
    """The time at which its epoch ends."""
    begins: float = math.inf


@dataclass
class Spent:
    """Seconds of all slots, by what they did, in the time that counts."""

    trained: float = 0.0
    waited: float = 0.0
    started: float = 0.0
    lost: float = 0.0
    idle: float = 0.0

    @property
    def all(self) -> float:
        """All seconds."""
        return sum(vars(self).values())


@dataclass
class Cluster:
    """A simulated cluster with its driver."""

    driver: Driver
    slots: list[Slot]
    epoch_s: float
    latency_s: float
    is_grouped: bool
    fails_s: float
    failures: int = 0
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    now: float = 0.0
    free: float = 0.0
    """The time from which the driver can answer."""
    busy: float = 0.0
    """The seconds for which the driver has worked."""
    effects: list[Callable[[], None]] = field(default_factory=list)
    """What happens when the decisions are in the journal."""
    reports: int = 0
    events: list[tuple[float, int, str, int, int]] = field(default_factory=list)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    """(what, begin, end) of everything that a slot has done."""
    speeds: dict[str, float] = field(default_factory=dict)
    count: int = 0
    last_full: float = 0.0
    """The last time at which every slot had a trial."""

    def plan(self, when: float, what: str, number: int, turn: int = 0) -> None:
        """Plan an event."""
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, number, turn))

    def span(self, what: str, begin: float, end: float) -> None:
        """Record what a slot did."""
        if end > begin:
            self.spans.append((what, begin, end))

    def train(self, number: int, begin: float) -> None:
        """Let a slot train an epoch."""
        slot = self.slots[number]
        speed = self.speeds.setdefault(slot.trial, float(self.draw.lognormal(0, 0.3)))
        slot.begins = begin
        slot.ends = begin + self.epoch_s * speed * float(self.draw.lognormal(0, 0.05))
        self.plan(slot.ends, "epoch", number, slot.turn)

    def fill(self) -> None:
        """Give trials to the slots that have none, as long as there are trials."""
        for number, slot in enumerate(self.slots):
            if not slot.is_up or slot.trial:
                continue
            if (suggestion := self.driver.suggest()) is None:
                return
            slot.trial = suggestion[0]
            self.driver.running(slot.trial)
            self.effects.append(partial(self.start, number))
        self.last_full = self.now

    def start(self, number: int) -> None:
        """Let a slot start its trial."""
        since = self.slots[number].is_free_since
        self.span("idle", since, max(since, self.now))
        self.span("waited", max(since, self.now), self.free)
        self.span("started", self.free, self.free + START_S)
        self.train(number, self.free + START_S)

    def end_epoch(self, number: int) -> None:
        """Report an epoch, and plan to carry out the decision."""
        slot = self.slots[number]
        trial, epoch = slot.trial, self.driver.trials[slot.trial].reached + 1
        self.span("trained", slot.begins, slot.ends)
        reported = said(epoch, self.accuracy(trial, epoch), is_last=epoch == HORIZON)
        is_over = self.driver.report(trial, reported)
        if slot.is_leaving:
            if not is_over:
                self.driver.fail(trial, "moved", "a node is reclaimed")
            slot.trial, slot.is_up, slot.is_leaving = "", False, False
        elif is_over:
            slot.trial, slot.is_free_since = "", slot.ends
        else:
            self.effects.append(partial(self.go_on, number, slot.turn))
        self.reports += 1

    def go_on(self, number: int, turn: int) -> None:
        """Let a slot train the next epoch of its trial, unless its node has failed."""
        slot = self.slots[number]
        if slot.turn == turn:
            self.span("waited", slot.ends, self.free)
            self.train(number, self.free)

    def accuracy(self, trial: str, epoch: int) -> float:
        """Return the made-up accuracy of a trial after an epoch."""
        end = 0.9 - 0.1 * abs(math.log10(self.driver.trials[trial].params["optimizer.lr"]) + 2.5)
        noise = 0.003 * float(self.draw.standard_normal())
        return end - 0.4 * math.exp(-epoch / 12) + noise

    def fail(self, node: int) -> None:
        """Take a node away, at once or, for half of them, after the epochs that run."""
        is_announced, self.failures = self.draw.random() < 0.5, self.failures + 1
        for slot in self.slots:
            if slot.node != node or not slot.is_up:
                continue
            if slot.trial and is_announced:
                slot.is_leaving = True
                continue
            slot.is_up = False
            slot.turn += 1
            if slot.trial:
                self.span("lost", slot.begins, self.now)
                self.driver.fail(slot.trial, "lost", "a node failed")
                slot.trial = ""
            else:
                self.span("idle", slot.is_free_since, self.now)
        self.resize()
        self.plan(self.now + AWAY_S + 5 * self.epoch_s, "join", node)

    def join(self, node: int) -> None:
        """Add a node."""
        for slot in self.slots:
            if slot.node == node:
                slot.is_up, slot.is_free_since = True, self.now
        self.resize()
        self.plan(self.now + float(self.draw.exponential(self.fails_s)), "fail", node)

    def resize(self) -> None:
        """Tell the driver for how many trials there is room."""
        up = max(1, sum(slot.is_up and not slot.is_leaving for slot in self.slots))
        self.driver.resize(up, "nodes")

    def play(self) -> None:
        """Play the search to its end."""
        nodes = sorted({slot.node for slot in self.slots})
        for node in nodes:
            self.plan(JOIN_S * node / len(nodes), "join", node)
        while self.events and not (self.driver.over and not self.driver.active):
            self.step()

    def step(self) -> None:
        """Handle what has happened by the time at which the driver is free, and carry it out."""
        self.now = max(self.free, self.events[0][0])
        lines, began = self.driver.journal.number, time.perf_counter()
        with self.driver.journal.group() if self.is_grouped else nullcontext():
            while self.events and self.events[0][0] <= self.now:
                _, _, what, number, turn = heapq.heappop(self.events)
                match what:
                    case "join":
                        self.join(number)
                    case "fail":
                        self.fail(number)
                    case _ if self.slots[number].turn == turn:
                        self.end_epoch(number)
            self.fill()
        took = time.perf_counter() - began
        written = self.driver.journal.number - lines
        took += self.latency_s * (min(written, 1) if self.is_grouped else written)
        self.free = self.now + took
        self.busy += took
        effects, self.effects = self.effects, []
        for effect in effects:
            effect()

    @property
    def spent(self) -> Spent:
        """The seconds that count, by what the slots did."""
        spent = Spent()
        for what, begin, end in self.spans:
            inside = min(end, self.last_full) - max(begin, JOIN_S)
            if inside > 0:
                setattr(spent, what, getattr(spent, what) + inside)
        return spent


def experiment_of(storage: Path, trials: int) -> Experiment:
    """Return a search of so many random trials with early stopping."""
    base: dict[str, Any] = {"model.name": "deep_cnn", "epochs": HORIZON}
    return Experiment(
        name="scale",
        space_name="scale",
        space=SearchSpace({"optimizer.lr": Float(1e-4, 1e-1, log=True)}, base=base),
        base=TrialConfig().override(base),
        algorithm="random",
        trials=trials,
        storage=storage,
    )


def measure(args: argparse.Namespace, slots: int, epoch_s: float) -> str:
    """Play a search, and return its row of the table."""
    trials = args.trials or min(10_000, 16 * slots)
    with TemporaryDirectory(dir=args.storage) as folder:
        experiment = experiment_of(Path(folder), trials)
        journal = Journal(experiment.folder)
        clock: list[Cluster] = []
        driver = Driver(
            experiment,
            journal,
            slots=slots,
            clock=lambda: max(clock[0].now, clock[0].free) if clock else 0.0,
        )
        journal.append(
            Started(name=experiment.name, experiment=experiment.describe(), **started_event())
        )
        cluster = Cluster(
            driver,
            [Slot(number // NODE) for number in range(slots)],
            epoch_s,
            args.latency_ms / 1000,
            not args.one_by_one,
            args.fails_s,
        )
        clock.append(cluster)
        cluster.play()
        spent, events = cluster.spent, journal.number
        size = journal.size
        journal.close()
    shares = [
        f"{100 * value / max(spent.all, 1e-9):.1f} %"
        for value in (spent.trained, spent.waited, spent.started, spent.lost, spent.idle)
    ]
    memory = psutil.Process().memory_info().rss / 1e6
    return (
        f"| {slots:,} | {epoch_s:g} | {trials:,} | {cluster.failures} | {' | '.join(shares)} | "
        f"{events / cluster.busy:,.0f} | {1000 * cluster.busy / cluster.reports:.2f} | "
        f"{size / 1e6:.1f} | {memory:.0f} |"
    )


def main() -> None:
    """Measure each number of slots with each duration of an epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 1024, 4096])
    parser.add_argument("--epochs-s", type=float, nargs="+", default=[2, 10, 60])
    parser.add_argument("--trials", type=int, help="default: 16 for each slot, at most 10,000")
    parser.add_argument("--fails-s", type=float, default=FAILS_S)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--one-by-one", action="store_true", help="write each event alone")
    parser.add_argument("--storage", type=Path, default=Path.cwd(), help="a folder on a real disk")
    args = parser.parse_args()
    print(
        "| slots | s an epoch | trials | failures | train | wait for the driver | start | lost | "
        "no trial | events/s | ms a report | journal, MB | memory, MB |\n" + "|---" * 13 + "|"
    )
    for slots in args.slots:
        for epoch_s in args.epochs_s:
            print(measure(args, slots, epoch_s), flush=True)


if __name__ == "__main__":
    main()
