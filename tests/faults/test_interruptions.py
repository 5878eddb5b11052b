"""One search that is interrupted in every way, one after the other, and comes to the same end as if
nobody had touched it.
"""

import os
import random
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, Done, Search, wait_for
from tests.faults.oracle import all_runs, assert_contract, assert_same_best

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW = {"do": "sleep", "seconds": 0.5}
LAST = {"do": "hold", "trial": "t0009", "epoch": 3}
"""It is not trained before a second driver has come, which a busy machine may take long for."""
SLOTS = 2
LOCKED_S = 25
"""Within it a search ends that has lost Ray or is told to end while that starts; a busy machine
takes a minute for it.
"""
TWO_HOURS_SLOW = {"FAULTS_CLOCK_S": "-7200"}


@dataclass
class Ordeal:
    """A search, and what each of its interruptions left: exit code, messages, and the statuses of
    MLflow's runs.
    """

    search: Search
    done: dict[str, Done] = field(default_factory=dict)
    statuses: dict[str, set[str]] = field(default_factory=dict)
    epochs_after: dict[str, int] = field(default_factory=dict)
    """The epochs that ended after each interruption."""
    holder: int = 0

    @property
    def sessions(self) -> int:
        """The number of sessions that have begun.

        The workers of a killed one train on for a moment: what they do is not this session's.
        """
        return len(self.search.events("started") + self.search.events("resumed"))

    def begin(self, name: str, *, environment: dict[str, str] | None = None) -> None:
        """Start a session whose workers write its name into the truth."""
        environment = {"FAULTS_SESSION": name, **(environment or {})}
        self.search.resume(environment=environment) if self.sessions else self.search.run(
            *GRID, environment=environment
        )

    def cost(self) -> dict[str, Counter[str]]:
        """By session and trial: epochs that it trained and that were trained again, because it lost
        them.

        The workers of a killed session may train on beside those of the next one: what counts is
        whose epoch it was, not when it ended.
        """
        names = [*self.done, "end"]
        trained: dict[tuple[str, int], list[str]] = {}
        for line in self.search.truth():
            trained.setdefault((line["trial"], line["epoch"]), []).append(line["session"])
        cost: dict[str, Counter[str]] = {name: Counter() for name in names}
        for (trial, _), sessions in trained.items():
            for name in sorted(sessions, key=names.index)[:-1]:
                cost[name][trial] += 1
        return cost

    def suffer(
        self, name: str, harm: Callable[[Search], object], *, epochs: int = 1, **options: Any
    ) -> None:
        """Go on until so many more epochs are trained, do harm, and see how the search ends."""
        sessions = self.sessions
        self.begin(name, **options)
        self.search.wait_until(lambda: self.sessions > sessions, what="its session")
        told = len(
            self.search.events("epoch")
        )  # by this driver: the workers of one that was killed may train on for a moment
        self.search.wait_until(
            lambda: len(self.search.events("epoch")) >= told + epochs, what="its epochs"
        )
        before = len(self.search.events("epoch"))
        harm(self.search)
        self.done[name] = self.search.finish()
        self.epochs_after[name] = len(self.search.events("epoch")) - before
        # MLflow is waited for five seconds; a busy machine may take longer, and says how to go on.
        if "MLflow did not accept all results" in self.done[name].err:
            assert self.search.start("sync", self.search.name).finish().code == 0
        self.statuses[name] = {
            run.info.status for run in all_runs(MlflowClient(self.search.tracking))
        }


@contextmanager
def locked(database: Path, seconds: float) -> Iterator[None]:
    """Write to an SQLite file for at least so long."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = time.monotonic() + seconds
        try:
            yield
            while time.monotonic() < end:
                time.sleep(0.1)
        finally:
            other.execute("ROLLBACK")


def twice(search: Search) -> None:
    """Ctrl-C, and again as soon as the first one is heard."""
    search.interrupt()
    search.wait_until(lambda: "stopping" in search.err)
    search.interrupt()


@pytest.fixture(scope="module")
def ordeal(open_search: OpenSearch) -> Ordeal:
    """Six interruptions and an end, during which another process writes to MLflow's SQLite file for
    longer than MLflow waits for it (20 s). The second Ctrl-C, the kill and the losses of Ray's
    parts may each cost an epoch a slot.
    """
    search = open_search()
    search.plan(SLOW)
    suffered = Ordeal(search)
    suffered.suffer("sigterm", lambda search: search.interrupt(signal.SIGTERM), epochs=2)
    suffered.suffer("ctrl-c to all", lambda search: search.interrupt(group=True))
    suffered.suffer("ctrl-c twice", twice)
    suffered.suffer("kill -9, clock slow", Search.kill9, environment=TWO_HOURS_SLOW)
    suffered.suffer(
        "no raylet", lambda search: os.kill(search.part("raylet/raylet"), signal.SIGKILL)
    )
    suffered.suffer("no gcs", lambda search: os.kill(search.part("gcs_server"), signal.SIGKILL))
    search.plan(LAST)
    sessions = suffered.sessions
    suffered.begin("end")
    search.wait_until(lambda: suffered.sessions > sessions)
    suffered.holder = search.alive.pid
    rival = Search(search.folder, name="rival", storage=search.storage)
    with locked(search.folder / "mlflow.db", LOCKED_S):
        rival.start("resume", search.name)
    suffered.done["second driver"] = rival.finish()
    search.plan()
    suffered.done["end"] = search.finish()
    return suffered


def test_six_interruptions_change_nothing(ordeal: Ordeal, undisturbed: tuple[Search, Done]) -> None:
    """F1, F4, F5, F11, F15, F20, F30: the same trials, curves and best; nothing lost, nothing
    doubled.
    """
    end = ordeal.done["end"]
    assert end.code == 0, end.err
    assert_contract(ordeal.search, kills=4 * SLOTS, undisturbed=undisturbed[0])
    assert_same_best(end, undisturbed[1])


@pytest.mark.parametrize("how", ["sigterm", "ctrl-c to all", "end"])
def test_a_session_that_may_finish_its_epochs_loses_none(ordeal: Ordeal, how: str) -> None:
    """F4, F5: not one of its epochs is trained again by a later session."""
    assert ordeal.cost()[how] == {}


@pytest.mark.parametrize("how", ["ctrl-c twice", "kill -9, clock slow", "no raylet", "no gcs"])
def test_a_session_that_is_cut_off_loses_at_most_one_epoch_of_each_running_trial(
    ordeal: Ordeal, how: str
) -> None:
    """F1, F4, F30: what is trained again is what ran at that moment."""
    cost = ordeal.cost()[how]
    assert len(cost) <= SLOTS
    assert set(cost.values()) <= {1}


def test_ctrl_c_finishes_the_epoch_and_pauses(ordeal: Ordeal) -> None:
    """F4: to its process group, as a terminal does it; to the driver alone in `test_damage` and
    `tests/search/operations/test_run`.
    """
    done = ordeal.done["ctrl-c to all"]
    assert done.code == 130, done.err
    assert done.summary["outcome"] == "interrupted"
    assert "search.resume s" in done.err
    assert "RUNNING" not in ordeal.statuses["ctrl-c to all"]


def test_ctrl_c_twice_ends_at_once(ordeal: Ordeal) -> None:
    """F4."""
    done = ordeal.done["ctrl-c twice"]
    assert done.code == 130, done.err
    assert "Traceback" not in done.err


def test_sigterm_pauses_each_trial_after_its_epoch(ordeal: Ordeal) -> None:
    """F5: a spot notice. One more epoch of each may end while the signal is sent."""
    done = ordeal.done["sigterm"]
    assert done.code == 143, done.err
    assert ordeal.epochs_after["sigterm"] <= 2 * SLOTS
    assert "RUNNING" not in ordeal.statuses["sigterm"]


EARLY = [
    ("", signal.SIGINT, 130),
    ("gcs_server", signal.SIGTERM, 143),
    ("raylet/raylet", signal.SIGINT, 130),
]
EARLY_TOO = [
    ("", signal.SIGTERM, 143),
    ("gcs_server", signal.SIGINT, 130),
    ("raylet/raylet", signal.SIGTERM, 143),
]


@pytest.mark.parametrize(
    ("part", "number", "code"),
    [*EARLY, *(pytest.param(*one, marks=pytest.mark.soak) for one in EARLY_TOO)],
)
def test_a_signal_while_ray_starts(
    open_search: OpenSearch, part: str, number: int, code: int
) -> None:
    """F4, F5: it ends with the signal's code, without a traceback, and leaves no process behind."""
    search = open_search().run(*GRID)
    search.wait_until(lambda: "starting Ray" in search.err and bool(search.processes(part)))
    search.interrupt(number)
    done = search.finish()
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    wait_for(lambda: not search.processes(), what="the end of Ray's processes")
    assert search.truth() == []


def test_a_second_driver_is_refused(ordeal: Ordeal) -> None:
    """F11: it names the holder."""
    done = ordeal.done["second driver"]
    assert done.code == 5, done.err
    assert socket.gethostname() in done.err
    assert str(ordeal.holder) in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("lost", ["no gcs", "no raylet"])
def test_a_lost_ray_is_an_error_that_can_be_resumed(ordeal: Ordeal, lost: str) -> None:
    """F30: gcs_server is killed, or the raylet."""
    done = ordeal.done[lost]
    assert done.code == 4, done.err
    assert "search.resume s" in done.err
    assert "Traceback" not in done.err


def test_the_journal_keeps_its_order_when_the_clock_does_not(ordeal: Ordeal) -> None:
    """F15: one session's clock was two hours slow; numbers order the events, not times."""
    times = [event["time_ms"] for event in ordeal.search.events()]
    assert any(after < before - 3_600_000 for before, after in pairwise(times))
    assert [event["n"] for event in ordeal.search.events()] == list(range(1, len(times) + 1))


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 11))]
)
def test_a_killed_driver_loses_nothing(
    seed: int, open_search: OpenSearch, undisturbed: tuple[Search, Done]
) -> None:
    """F1: `kill -9` at a random moment, one more during the resume."""
    chance = random.Random(seed)
    search = open_search()
    search.plan({"do": "sleep", "seconds": 0.1})
    search.run(*GRID).wait_for_epochs(chance.randint(1, 12))
    kill_soon(search, chance)
    search.resume().wait_for_epochs(len(search.truth()) + chance.randint(1, 8))
    kill_soon(search, chance)
    end = search.resume().finish()
    assert end.code == 0, end.err
    assert_contract(search, kills=2 * SLOTS, undisturbed=undisturbed[0])
    assert_same_best(end, undisturbed[1])


def kill_soon(search: Search, chance: random.Random) -> None:
    """Within the next epoch: while it trains, saves, or is reported."""
    with suppress(Exception):
        search.alive.wait(chance.uniform(0, 0.4))
    search.kill9()
