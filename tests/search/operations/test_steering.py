"""The verbs stop, pause and extend, and searches that are steered while they run."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.storage.bucket import StorageError
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.facts.standing import SearchStanding, standing_json
from search.journal.events import Resumed, Started
from search.journal.journal import FILE_NAME, Tail, read
from search.journal.requests import (
    EXTEND,
    PAUSE,
    STOP,
    DriverRequest,
    Inbox,
    Unreadable,
    ask,
    waiting_requests,
)
from search.journal.result import SearchResult
from search.journal.store import Home, Storage, home
from search.operations import asking
from search.sessions import phases
from search.sessions import session as sessions
from search.values.message import Remedy
from search.views.page.sections import origin
from search.views.registry import VIEWS
from search.views.standing import standing_lines
from tests.conftest import Command
from tests.support.played import OpenDriver, play, report, started_event
from tests.support.stories import story_lines
from trainables.training.loop import Training

GO_ON = Remedy("resume", "played")
TINY = [
    *("--space", "smoke", "--name", "tiny", "--executor", "inline", "--device", "cpu"),
    *("--no-cache", "--set", "epochs=3", "--scheduler", "fifo", "--algorithm", "random"),
    *("--set", "data.train_limit=200", "--set", "data.val_limit=100"),
]
Happens = Callable[[int], None]
Epoch = Callable[[Happens], None]


@pytest.fixture
def epoch(monkeypatch: pytest.MonkeyPatch) -> Epoch:
    """Let something happen before each epoch, which is told its number, counted over all trials.

    A driver looks for requests at each tick, rather than a moment later.
    """
    train, give, count = Training.next_epoch, Inbox.next, 0

    def looked(inbox: Inbox) -> DriverRequest | Unreadable | None:
        inbox.look()
        return give(inbox)

    monkeypatch.setattr(Inbox, "next", looked)

    def before(happens: Happens) -> None:
        def next_epoch(training: Training) -> Any:
            nonlocal count
            count += 1
            happens(count)
            return train(training)

        monkeypatch.setattr(Training, "next_epoch", next_epoch)

    return before


@pytest.fixture
def tiny(
    tmp_path: Path, call: Command, database: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run or resume a search in this process, without its page; gives its exit code and what it
    says.
    """
    monkeypatch.delitem(VIEWS, "page")

    def run(verb: str, *words: object) -> tuple[int, str]:
        given = TINY if verb == "run" else ["tiny"]
        done = call(f"search.{verb}", *given, *words, "--tracking", database)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return run


@pytest.fixture
def kept(tmp_path: Path) -> Home:
    return home(tmp_path / "searches", "tiny")


def asked(action: str, **values: Any) -> DriverRequest:
    return DriverRequest.now(action, by="ada@lab", **values)


def test_a_pause_in_the_first_moment_of_a_session_is_carried_out(
    tiny: Callable[..., tuple[int, str]], kept: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for once the lease says who runs the search, before the first look at requests.

    One that was asked for earlier, when nobody ran it, is refused.
    """
    said = sessions.announcing

    @contextmanager
    def asking(console: Console, line: str) -> Iterator[None]:
        with said(console, line):
            ask(kept, asked(PAUSE))
            yield

    monkeypatch.setattr(sessions, "announcing", asking)
    code, _ = tiny("run", "--trials", 2)
    assert code == 128 + signal.SIGINT
    assert SearchResult.read(kept.folder).reason == "asked to pause by ada@lab"
    monkeypatch.setattr(sessions, "announcing", said)
    ask(kept, asked(PAUSE))
    code, text = tiny("resume")
    assert code == 0, text
    assert "it arrived too late: the search was no longer running" in text


def test_a_search_is_steered_while_it_trains_and_while_nobody_runs_it(
    epoch: Epoch, tiny: Callable[..., tuple[int, str]], kept: Home, call: Command
) -> None:
    """A trial is stopped, the search paused, extended while it is paused, and in its last epoch."""
    wanted = {2: asked(STOP, trial="t0001"), 3: asked(PAUSE), 8: asked(EXTEND, trials="+1")}
    epoch(lambda number: ask(kept, wanted[number]) if number in wanted else None)
    code, said = tiny("run", "--trials", 2)
    assert code == 128 + signal.SIGINT
    assert (
        "ada@lab asked to stop t0001: t0001 stops after epoch 2, which it is training now" in said
    )
    assert SearchResult.read(kept.folder).reason == "asked to pause by ada@lab"
    done = call("search.extend", "tiny", "--trials", "+1")
    assert done.returncode == 0
    assert (
        "The search is not running; when it continues, the request is carried out first"
        in done.stdout
    )
    refused = call("search.pause", "tiny")
    assert refused.returncode == 2
    assert "is not running" in refused.stderr
    code, said = tiny("resume")
    assert code == 0
    result, kinds = (
        SearchResult.read(kept.folder),
        [event.kind for event in read(kept.folder / FILE_NAME)],
    )
    assert kinds[kinds.index("resumed") + 1] == "requested", "before anything is trained"
    assert [trial.reached for trial in result.trials.values()] == [2, 3, 3, 3]
    assert result.counts == {"stopped": 1, "completed": 3}
    assert result.is_tested
    assert waiting_requests(kept) == []
    assert "asked to extend --trials +1: 4 trials in total" in call("search.status", "tiny").stdout
    told = call("search.why", "tiny", "t0001").stdout
    assert "stopped by a request: asked to stop by ada@lab" in told
    assert "asked to extend" in dict(origin(result))["Asked"]
    over = call("search.extend", "tiny", "--trials", "+1")
    assert over.returncode == 2
    assert "search.resume tiny --trials 5" in over.stderr


class Sticky:
    """An executor that has heard that nothing follows before its last tick, as Ray Tune has."""

    crew = None

    def train(self, driver: Driver, *, tick: Callable[[], None]) -> None:
        while (suggestion := driver.suggest()) is not None:
            driver.running(suggestion[0])
            driver.report(suggestion[0], report(1, outcome="completed"))
        tick()


def test_trials_that_the_last_tick_asks_for_are_trained(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for late in ("evaluate_trials", "evaluate_best"):
        monkeypatch.setattr(phases, late, lambda *given, **named: None)
    driver = open_driver(replace(experiment, algorithm="random", trials=2))
    more = asked(EXTEND, trials="+3")
    executor: Any = Sticky()
    dataset: Any = None

    def tick() -> None:
        driver.take_up(more)

    phases.run_phases(driver, dataset, executor, by="search.run", tick=tick)
    assert driver.result.requests[more.id].request.answer.startswith("5 trials in total")
    assert driver.result.counts == {"completed": 5}


def test_a_search_that_is_stopped_evaluates_and_tests_what_it_has(
    epoch: Epoch, tiny: Callable[..., tuple[int, str]], kept: Home, call: Command
) -> None:
    epoch(lambda number: ask(kept, asked(STOP)) if number == 2 else None)
    code, _ = tiny("run", "--trials", 2)
    result = SearchResult.read(kept.folder)
    assert (code, result.outcome, result.is_tested) == (0, "stopped", True)
    assert result.counts == {"interrupted": 1}
    assert next(iter(result.trials.values())).evaluation is not None
    assert "stopped" in call("search.list").stdout
    code, _ = tiny("resume")
    result = SearchResult.read(kept.folder)
    assert (code, result.outcome, result.counts) == (0, "completed", {"completed": 2})


@pytest.mark.parametrize(
    ("verb", "words", "why"),
    [
        ("stop", ["t0099"], "there is no trial 't0099' in 'played': it has t0001 to t"),
        ("extend", [], "extend requires at least one of --trials, --budget"),
        ("extend", ["--trials", "-2"], "--trials"),
        ("extend", ["--trials", "some"], "--trials must be"),
        ("extend", ["--budget", "+1h"], "no limit of this kind"),
        ("extend", ["--concurrency", "0"], "--concurrency must be"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_is_asked(
    verb: str,
    words: list[str],
    why: str,
    open_driver: OpenDriver,
    experiment: Experiment,
    call: Command,
) -> None:
    play(open_driver(experiment), events=9)
    with experiment.home.lease():
        done = call(f"search.{verb}", "played", *words)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert waiting_requests(experiment.home) == []


def test_a_request_without_waiting_says_what_follows(
    open_driver: OpenDriver, experiment: Experiment, call: Command
) -> None:
    play(open_driver(experiment), events=9)
    with experiment.home.lease():
        done = call("search.stop", "played", "--no-wait")
    assert done.returncode == 0
    assert done.stdout.startswith("played: the request was sent: no further trials start")
    (one,) = waiting_requests(experiment.home)
    assert isinstance(one, DriverRequest)
    assert "@" in one.by


def driven(driver: Driver, kept: Home) -> Callable[[float], None]:
    """Return a wait in which a driver answers what it is asked."""
    inbox = Inbox(kept)

    def wait(seconds: float) -> None:
        inbox.look()
        while (one := inbox.next()) is not None:
            driver.take_up(one)
            inbox.mark_answered(one.id)
        inbox._drop()

    return wait


def test_a_driver_that_dies_before_it_answers_is_told(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment), events=9)
    one = asked(STOP)
    ask(experiment.home, one)
    told = asking.wait_for_reply(experiment.home, one, experiment.storage, GO_ON)
    assert told.endswith(f"the request is carried out first. To continue the search: {GO_ON}")
    assert waiting_requests(experiment.home) == [one]


def test_a_pause_whose_driver_dies_does_not_hit_the_next_session(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment), events=9)
    one = asked(PAUSE)
    ask(experiment.home, one)
    told = asking.wait_for_reply(experiment.home, one, experiment.storage, GO_ON)
    assert told == (
        "the driver ended before it replied to the request, and the search is no longer running. "
        f"To continue the search: {GO_ON}"
    )
    assert waiting_requests(experiment.home) == []


def test_an_answer_is_told_though_the_object_cannot_be_removed(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment), events=9)
    one = asked(STOP)
    ask(experiment.home, one)

    def wait(seconds: float) -> None:
        assert driver.take_up(one)

    with experiment.home.lease():
        told = asking.wait_for_reply(experiment.home, one, experiment.storage, GO_ON, wait)
    assert told.startswith("no further trials start")
    assert waiting_requests(experiment.home) == [one]


def test_a_storage_that_refuses_while_an_answer_is_waited_for_is_asked_again(
    open_driver: OpenDriver,
    experiment: Experiment,
    call: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(open_driver(experiment), events=9)
    waits: list[float] = []

    def refuse(self: object) -> dict[str, int]:
        raise StorageError("the bucket does not answer")

    def hurry(*given: Any) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(Home, "requests", refuse)
            patched.setattr(Tail, "new", refuse)
            return answer_now(*given, waits.append)

    answer_now = asking.wait_for_reply
    monkeypatch.setattr(asking, "wait_for_reply", hurry)
    with experiment.home.lease():
        done = call("search.stop", "played")
    assert sum(waits) > experiment.home.patience_s
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert (
        "the bucket does not answer. The request was sent, but no reply could be read."
        in done.stderr
    )
    assert len(waiting_requests(experiment.home)) == 1


def test_a_driver_on_another_machine_that_says_nothing_counts_as_dead(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(open_driver(experiment), events=9)
    monkeypatch.setattr(Home, "holder", lambda self: "process 7 on far, if it is still alive")
    waits: list[float] = []
    one = asked(STOP)
    ask(experiment.home, one)
    told = asking.wait_for_reply(experiment.home, one, experiment.storage, GO_ON, waits.append)
    assert "the driver ended before it replied" in told
    assert sum(waits) > experiment.home.patience_s


def test_a_search_that_ends_before_it_hears_takes_nothing_into_the_next_session(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment))
    one = asked(STOP)
    ask(experiment.home, one)
    with pytest.raises(Exception, match="before it replied to the request: 'played' has ended"):
        asking.wait_for_reply(experiment.home, one, experiment.storage, GO_ON)
    assert waiting_requests(experiment.home) == []


def test_ctrl_c_ends_the_waiting_alone(
    open_driver: OpenDriver, experiment: Experiment, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(open_driver(experiment), events=9)

    def interrupt(*given: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "wait_for_reply", interrupt)
    with experiment.home.lease():
        done = call("search.stop", "played")
    assert done.returncode == 130
    assert "the request remains sent" in done.stdout
    assert len(waiting_requests(experiment.home)) == 1


def test_what_was_answered_is_told_with_who_asked(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment), events=9)
    driver.take_up(DriverRequest.now(STOP, by="<b>\x1b[31mada</b>\nlab", trial="t0001"))
    (line,) = [
        line
        for line in standing_lines(SearchStanding("played", driver.result))
        if "asked to stop" in line
    ]
    assert line.isprintable()
    assert "asked to stop t0001: " in line
    events = read(driver.journal.path)
    assert any("asked to stop t0001" in line for line in story_lines(events, "t0001"))
    standing = SearchStanding("played", driver.result)
    (told,) = json.loads(json.dumps(standing_json(standing)))["requests"]
    assert (told["action"], told["trial"]) == ("stop", "t0001")


@pytest.fixture(params=["folder", "bucket"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """A place of each kind in which searches are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found: Storage = (
        request.getfixturevalue("bucket") if request.param == "bucket" else tmp_path / "searches"
    )
    return found


@contextmanager
def session(experiment: Experiment, place: Storage, *, new: bool = False) -> Iterator[Driver]:
    """Give the driver of a search that begins there, or goes on; it is killed at the end."""
    kept = home(place, "played")
    with kept.lease():
        journal, events = kept.journal(new=new)
        driver = Driver(replace(experiment, storage=place), journal)
        driver.replay(events)
        first = Started(name="played", experiment=experiment.describe(), **started_event())
        journal.append(first if new else Resumed(slots=2))
        driver.go_on()
        yield driver
        journal.close()


def test_what_a_killed_driver_had_answered_is_done_once_and_told_once(
    place: Storage, experiment: Experiment
) -> None:
    """It was killed after the answer was written: before a trial was stopped, and before the
    request's object was removed.
    """
    kept = home(place, "played")
    with session(experiment, place, new=True) as driver:
        (trial, _) = driver.suggest()  # type: ignore[misc]
        driver.running(trial)
        driver.report(trial, report(1))
        ask(kept, asked(STOP, trial=trial))
        with Inbox(kept) as inbox:
            one = inbox.next()
            assert one is not None
            assert driver.take_up(one)
    assert waiting_requests(kept) == [one]
    with session(experiment, place) as driver:
        assert driver.result.trials[trial].outcome == "stopped"
        with Inbox(kept) as inbox:
            again = inbox.next()
            assert again == one
            assert driver.take_up(again, waited=True)
            inbox.mark_answered(again.id)
    assert waiting_requests(kept) == []
    kinds = [event.kind for event in read(kept.opened() / FILE_NAME)]
    assert (kinds.count("requested"), kinds.count("stopped")) == (1, 1)


def test_a_verb_is_answered_by_the_driver(
    place: Storage, experiment: Experiment, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, answer_now = home(place, "played"), asking.wait_for_reply
    with session(experiment, place, new=True) as driver:
        wait = driven(driver, kept)
        monkeypatch.setattr(asking, "wait_for_reply", lambda *given: answer_now(*given, wait))
        (trial, _) = driver.suggest()  # type: ignore[misc]
        driver.running(trial)
        done = call("search.stop", "played", trial, "--storage", place)
        assert done.stdout == f"played: {trial} stops after epoch 1, which it is training now\n"
        assert driver.report(trial, report(1))
    assert waiting_requests(kept) == []
    assert SearchResult.read(kept.opened()).trials[trial].outcome == "stopped"
