"""The date is set back and forward, and the machine sleeps: search time and budgets stay right."""

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from search.decisions.driver import Driver
from search.design.budget import Budget, limit, shares_of
from search.design.experiment import Experiment
from search.facts.overview import Overviews
from search.facts.standing import SearchStanding
from search.journal import journal as journal_module
from search.journal import result as result_module
from search.journal.events import Resumed, Started, from_json
from search.journal.journal import FILE_NAME, Event, Journal, read
from search.journal.lease import Lease, boot_id
from search.journal.result import SearchResult, TrialResult, elapsed_s
from search.views.live import Display, Pace
from search.views.page.sections import cost
from search.views.standing import standing_lines
from search.web.feed import Followed
from search.web.pages import search as search_page
from tests.support.played import changed, good_lr_wins, play, started_event
from tests.support.stories import story_lines
from trainables.config import TrialConfig
from trainables.messages import Report

HOUR = 3600.0


@dataclass
class Machine:
    """A machine whose date can be set, and which can be suspended."""

    date_s: float = 1.8e9
    awake_s: float = 500.0

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.date_s += seconds
        self.awake_s += seconds

    def suspend(self, seconds: float) -> None:
        """Sleep: the date goes on, the monotonic clock does not."""
        self.date_s += seconds

    def set_date(self, change_s: float) -> None:
        """Set the date."""
        self.date_s += change_s

    def monotonic(self) -> float:
        """Read the monotonic clock."""
        return self.awake_s

    def train(self, config: TrialConfig, epoch: int) -> Report:
        """Train an epoch, which takes a second."""
        self.wait(1)
        return good_lr_wins(config, epoch)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine on which journals are written and read."""
    found = Machine()
    clocks = SimpleNamespace(
        time_ns=lambda: int(found.date_s * 1e9),
        monotonic_ns=lambda: int(found.awake_s * 1e9),
        monotonic=found.monotonic,
        sleep=time.sleep,
    )
    for module in (journal_module, result_module):
        monkeypatch.setattr(module, "time", clocks)
    return found


FAULTS: dict[str, Callable[[Machine], None]] = {
    "set back": lambda machine: machine.set_date(-10 * HOUR),
    "set forward": lambda machine: machine.set_date(10 * HOUR),
    "suspended": lambda machine: machine.suspend(8 * HOUR),
    "forward and back": lambda machine: machine.set_date(
        10 * HOUR if machine.date_s < 1.8e9 + HOUR else -10 * HOUR
    ),
}
BUDGETS = {"time": "{}s", "device": "{}device-seconds", "cpu": "{}cpu-seconds", "money": "{}usd"}


@dataclass
class Session:
    """A driver's session on a machine: what its first event says, and its driver."""

    machine: Machine
    journal: Journal
    driver: Driver

    @classmethod
    def begin(
        cls, machine: Machine, experiment: Experiment, seconds: int, of: str, *, anew: bool
    ) -> "Session":
        """Begin a session with this budget, of which an hour of a device costs 3,600."""
        budget = Budget((limit(BUDGETS[of].format(seconds)),), HOUR)
        experiment = changed(experiment, budget=budget)
        if anew:
            journal, events = Journal(experiment.folder), list[Event]()
        else:
            journal, events = Journal.reopen(experiment.folder)
        driver = Driver(experiment, journal, clock=machine.monotonic)
        driver.replay(events)
        about: dict[str, Any] = {
            "slots": 1,
            "began_ms": int(machine.date_s * 1000),
            "driver": str(Lease(experiment.folder).mine),
            "boot": boot_id(),
            "zero_ms": int(machine.awake_s * 1000),
        }
        described = experiment.describe()
        if anew:
            facts = {**started_event(), **about}
            journal.append(Started(name=experiment.name, experiment=described, **facts))
        else:
            journal.append(Resumed(experiment=described, **about))
            driver.go_on()
        return cls(machine, journal, driver)

    def play(self, fault: Callable[[Machine], None] | None, at: tuple[int, ...] = (1, 3)) -> None:
        """Play it to its end; the fault happens in the middle of the epochs with these numbers."""
        trained = 0

        def train(config: TrialConfig, epoch: int) -> Report:
            nonlocal trained
            trained += 1
            if fault is not None and trained in at:
                fault(self.machine)
            return self.machine.train(config, epoch)

        play(self.driver, train)
        self.journal.close()


@pytest.mark.parametrize("of", BUDGETS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_budget_buys_the_same_whatever_happens_to_the_date(
    machine: Machine, experiment: Experiment, of: str, fault: str
) -> None:
    """Four seconds, then ten in all after a resume; the date moves in each session and between.

    Of a budget of time a part is kept for the evaluation: there is one epoch less.
    """
    kept = 1 if of == "time" else 0
    session = Session.begin(machine, experiment, 4, of, anew=True)
    session.play(FAULTS[fault])
    first = SearchResult.read(experiment.folder)
    assert (first.outcome, first.epochs_trained, first.wall_s) == ("budget", 4 - kept, 4 - kept)
    FAULTS[fault](machine)
    session = Session.begin(machine, experiment, 10, of, anew=False)
    session.play(FAULTS[fault])
    result = SearchResult.read(experiment.folder)
    assert (result.outcome, result.epochs_trained) == ("budget", 10 - kept)
    assert result.wall_s == 10 - kept
    assert list(shares_of(result).values()) == [1 - kept / 10]
    assert shares_of(session.driver.result) == shares_of(result)


@pytest.mark.parametrize("fault", FAULTS)
def test_whoever_tells_the_search_time_tells_the_same(
    machine: Machine, experiment: Experiment, fault: str
) -> None:
    Session.begin(machine, experiment, 4, "device", anew=True).play(FAULTS[fault])
    Session.begin(machine, experiment, 10, "device", anew=False).play(FAULTS[fault])
    result = SearchResult.read(experiment.folder)
    assert Overviews(experiment.storage).of(experiment.name).wall_s == 10
    assert ", 10 s in 2 sessions" in standing_lines(SearchStanding("played", result))[2]
    assert standing_lines(SearchStanding("played", result))[2].endswith(
        "; used 100% of the 10 device-seconds budget"
    )
    assert cost(result).startswith("10 s from start to end; ")
    assert sum(session.slot_s for session in result.sessions) == 10
    followed = Followed(experiment.storage, experiment.name)
    followed.look()
    assert [point.seconds for point in followed.points] == list(range(1, 11))
    told = [line for name in result.trials for line in story_lines(read(_file(experiment)), name)]
    assert {line.split()[0] for line in told} == {f"0:00:{second:02}" for second in range(11)}


def _file(experiment: Experiment) -> Path:
    return experiment.folder / FILE_NAME


@pytest.mark.parametrize("of", BUDGETS)
def test_a_search_that_runs_is_shown_with_the_time_until_now(
    machine: Machine, experiment: Experiment, of: str
) -> None:
    """In the middle of an epoch that is long, on a machine that slept meanwhile."""
    driver = Session.begin(machine, experiment, 100, of, anew=True).driver
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    machine.wait(20)
    machine.suspend(8 * HOUR)
    machine.set_date(-30 * HOUR)
    machine.wait(5)
    display = Display(driver.result, 9, Console(file=io.StringIO()), count_time=driver.count_time)
    assert "25% of the 100" in display._line()
    with Lease(experiment.folder) as lease:
        shown, holder = SearchResult.kept_in(experiment.home)
        assert holder == str(lease.mine)
        assert list(shares_of(shown).values()) == [0.25]
        assert ", 25 s; " in standing_lines(SearchStanding("played", shown, holder))[2]
        followed = Followed(experiment.storage, experiment.name)
        followed.look()
        page = search_page.facts_of(followed, search_page.Query())
        assert list(page["shares"].values()) == [0.25]
        assert ("search time", "25 s", "without its pauses") in page["tiles"]
        machine.wait(5)
        before = followed.version
        followed._changed_at -= 60
        assert followed.look(), "its time has passed"
        assert followed.version > before
    assert shares_of(SearchResult.read(experiment.folder)) != shares_of(shown), "the journal alone"


def test_to_count_the_time_until_now_ranks_no_trials_again(
    machine: Machine, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    rank_trials = SearchResult._rank_trials

    def count(result: SearchResult) -> list[TrialResult]:
        ranked.append(result)
        return rank_trials(result)

    monkeypatch.setattr(SearchResult, "_rank_trials", count)
    session = Session.begin(machine, experiment, 100, "time", anew=True)
    result = SearchResult.read(experiment.folder)
    mine = str(Lease(experiment.folder).mine)
    assert result.until_now(mine).ranking == result.ranking == []
    assert len(ranked) == 1
    trial, _ = session.driver.suggest()  # type: ignore[misc]
    session.driver.running(trial)
    session.driver.report(trial, good_lr_wins(experiment.base, 1))
    for event in read(_file(experiment))[1:]:
        result.apply(event)
    assert [one.trial for one in result.until_now(mine).ranking] == [trial]
    assert result.until_now(mine).ranking == result.ranking
    assert len(ranked) == 2


def test_only_the_driver_that_writes_the_last_session_has_its_time_counted(
    machine: Machine, experiment: Experiment
) -> None:
    """One that takes a search over, and has not begun, is not the one that was killed."""
    driver = Session.begin(machine, experiment, 100, "time", anew=True).driver
    machine.wait(50)
    result = SearchResult.read(experiment.folder)
    mine = str(Lease(experiment.folder).mine)
    assert result.until_now(mine).wall_s == 50
    assert result.until_now(f"{mine}, if it is still alive").wall_s == 50
    assert result.until_now("process 1 on mars").wall_s == result.until_now("").wall_s == 0
    assert result.wall_s == 0, "it is the journal's own"
    driver.journal.append(from_json("slots", {"count": 2, "reason": ""}))
    assert SearchResult.read(experiment.folder).wall_s == 50


def test_a_search_that_is_over_takes_no_more_time_while_its_driver_waits_for_mlflow(
    machine: Machine, experiment: Experiment
) -> None:
    """The last line is written, and the lease is not given back yet."""
    Session.begin(machine, experiment, 4, "device", anew=True).play(None)
    machine.wait(50)
    with Lease(experiment.folder):
        shown, holder = SearchResult.kept_in(experiment.home)
    assert holder
    assert (shown.outcome, shown.wall_s) == ("budget", 4)


def test_on_another_machine_the_date_of_the_last_event_has_to_do(
    machine: Machine, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    Session.begin(machine, experiment, 100, "time", anew=True)
    result, mine = SearchResult.read(experiment.folder), str(Lease(experiment.folder).mine)
    monkeypatch.setattr(result_module, "boot_id", lambda: "another")
    machine.awake_s = 3.0
    machine.date_s += 30
    assert result.until_now(mine).wall_s == 30
    machine.date_s -= 60
    assert result.until_now(mine).wall_s == 0, "never less than is in the journal"


def dated(experiment: Experiment, dates_s: list[float]) -> SearchResult:
    """A journal as earlier versions wrote it: one trial, with an epoch at each of these dates."""
    journal = Journal(experiment.folder)
    facts = {**started_event(), "began_ms": 1_800_000_000_000}
    journal.append(Started(name="played", experiment=experiment.describe(), **facts))
    trial = {"trial": "t0001", "params": {}, "config": experiment.base.to_dict()}
    journal.append(from_json("suggested", trial))
    journal.append(from_json("running", {"trial": "t0001", "attempt": 1}))
    for number in range(len(dates_s)):
        metrics = {**good_lr_wins(experiment.base, number + 1).metrics}
        journal.append(
            from_json("epoch", {"trial": "t0001", "epoch": number + 1, "metrics": metrics})
        )
    journal.close()
    head, rest = read(_file(experiment))[:3], read(_file(experiment))[3:]
    moved = [
        *(replace(event, time_ms=1_800_000_000_000) for event in head),
        *(
            replace(event, time_ms=1_800_000_000_000 + int(1000 * date))
            for event, date in zip(rest, dates_s, strict=True)
        ),
    ]
    _file(experiment).write_text("".join(event.to_line() for event in moved))
    return SearchResult.read(experiment.folder)


@pytest.mark.parametrize("of", BUDGETS)
def test_a_journal_of_an_earlier_version_never_counts_back(experiment: Experiment, of: str) -> None:
    """Its date was set back by ten hours, and forward again by one: what is written counts on."""
    budget = Budget((limit(BUDGETS[of].format(100)),), HOUR)
    result = dated(changed(experiment, budget=budget), [10, 20, -36_000, -35_990, -32_390])
    assert "elapsed_ms" not in _file(experiment).read_text()
    assert result.wall_s == 10 + 10 + 10 + 3600
    assert list(shares_of(result).values()) == [36.3]
    assert Overviews(experiment.storage).of(experiment.name).wall_s == result.wall_s


def test_a_resume_of_such_a_journal_counts_its_own_time_by_the_clock(
    machine: Machine, experiment: Experiment
) -> None:
    result = dated(experiment, [10, 20, -36_000])
    assert (result.wall_s, result.sessions[0].is_dated) == (20, True)
    machine.set_date(-5 * HOUR)
    Session.begin(machine, experiment, 25, "time", anew=False).play(FAULTS["set back"])
    result = SearchResult.read(experiment.folder)
    assert [session.elapsed_ms for session in result.sessions] == [20_000, 5000]
    assert elapsed_s(result.sessions) == result.wall_s == 25
    assert Overviews(experiment.storage).of(experiment.name).wall_s == 25


def test_the_time_of_a_line_stands_behind_its_facts(tmp_path: Path) -> None:
    """So that earlier versions, which know the beginning of a line by heart, read it."""
    line = Event(3, 1000, from_json("slots", {"count": 2, "reason": "r"}), 77).to_line()
    assert list(json.loads(line)) == [
        "n",
        "time_ms",
        "event",
        "count",
        "reason",
        "elapsed_ms",
        "crc",
    ]
    assert Event.from_line(line) == Event(
        3, 1000, from_json("slots", {"count": 2, "reason": "r"}), 77
    )


def test_a_line_whose_time_is_no_number_is_damaged() -> None:
    line = Event(1, 1000, from_json("slots", {"count": 2, "reason": "r"}), "7").to_line()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a valid event"):
        Event.from_line(line)


@pytest.mark.parametrize(
    ("pace", "count", "per_s", "left_s"),
    [
        (Pace(4, 4, 100.0, 0.0), 36, 0.04, 900.0),
        (Pace(4, 4, 190.0, 90.0), 36, 0.04, 810.0),
        (Pace(4, 4, 1000.0, 900.0), 36, 0.008, 4000.0),
        (Pace(0, 4, 50.0, 50.0), 36, 0.0, 0.0),
    ],
    ids=["as one ends", "most of the next is done", "they hang", "none has ended"],
)
def test_the_pace_includes_the_epochs_that_run(
    pace: Pace, count: float, per_s: float, left_s: float
) -> None:
    assert pace.per_s == pytest.approx(per_s)
    assert pace.left_s(count) == pytest.approx(left_s)


def test_the_live_line_ticks_while_an_epoch_runs(
    machine: Machine, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch takes 100 s, of 300: the budget's share moves on, and the pace does not."""
    monkeypatch.setattr("search.views.live.time", SimpleNamespace(monotonic=machine.monotonic))
    driver = Session.begin(machine, experiment, 300, "time", anew=True).driver
    display = Display(driver.result, 9, Console(file=io.StringIO()), count_time=driver.count_time)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    said = []
    for second in range(0, 200, 50):
        if second == 100:
            driver.report(trial, good_lr_wins(experiment.base, 1))
        said.append(display._line().partition("; ")[2])
        machine.wait(50)
    assert [line.rpartition("; ")[2] for line in said] == [
        f"used {share}% of the 300s budget" for share in (0, 17, 33, 50)
    ]
    assert said[2].split("; ")[1] == said[3].split("; ")[1] == "0.6 epochs/min"


@pytest.fixture
def moving_date(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The date is set by ten hours, back and forward in turn, each time that it is read."""
    real, reads = time.time_ns, [0]

    def read_date() -> int:
        reads[0] += 1
        return real() + (-1) ** reads[0] * 36_000_000_000_000

    monkeypatch.setattr("time.time_ns", read_date)
    return reads


@pytest.mark.slow
def test_a_real_search_is_trained_whole_while_its_date_is_set_to_and_fro(
    inline: Any, moving_date: list[int], tmp_path: Path
) -> None:
    words = ("--space", "smoke", "--trials", "3", "--scheduler", "fifo", "--name", "moved")
    limits = ("--budget", "2h", "--budget", "0.1cpu-hours", "--budget", "0.1usd", "--price", "1")
    done, summary = inline("run", *words, *limits)
    assert done.returncode in (0, 3, 6), done.stderr
    assert moving_date[0] > 10
    assert summary["trials"]["completed"] == 3
    assert all(0 < share < 0.5 for share in summary["budget"].values()), summary["budget"]
