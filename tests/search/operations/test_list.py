"""Searches in a line each: as their journals tell whole, and broken ones among them."""

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from cluster.storage.bucket import Bucket
from search.api import searches as from_python
from search.design.experiment import Experiment
from search.facts import overview
from search.facts.metric import interval
from search.facts.overview import Overview, Overviews
from search.facts.standing import SearchStanding
from search.journal.events import Ended, Finished, Resumed, Tested
from search.journal.journal import FILE_NAME, DamagedJournal, Journal
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.lease import Lease
from search.journal.result import SearchResult
from search.journal.store import Storage, home
from search.list import ListOptions, command
from search.operations.list import ListRequest, list_searches
from search.views.overview_table import overview_table
from search.web.news import overview_state, stand_text
from tests.conftest import Command
from tests.support.played import OpenDriver, changed, play

FIXTURE = Path("tests/fixtures/search-v1").absolute()


def searches(place: Storage, cache: Overviews | None = None) -> list[Overview]:
    return list_searches(ListRequest(storage=place), cache)


@pytest.fixture
def storage(open_driver: OpenDriver, experiment: Experiment) -> Path:
    """A place with the search `played`, which has come to its end."""
    play(open_driver(changed(experiment, scheduler="asha")))
    return experiment.folder.parent


def same(place: Path, name: str) -> bool:
    """Return whether a search's line tells what its journal, read whole, tells."""
    line, whole = Overviews(place).of(name), SearchResult.read(place / name)
    best = math.nan if whole.best is None else whole.best.value
    ended = sum(trial.ended_ms > 0 for trial in whole.trials.values())
    return (line.ended, line.planned, line.best, line.began_ms, round(line.wall_s, 3)) == (
        ended,
        whole.started.experiment["trials"],
        best,
        whole.started_ms,
        round(whole.wall_s, 3),
    )


def test_a_line_tells_what_the_whole_journal_tells(storage: Path) -> None:
    assert same(storage, "played")
    assert same(FIXTURE.parent, FIXTURE.name), "of an earlier version"
    line = Overviews(storage).of("played")
    assert (line.state, line.ended, line.planned, line.data) == ("ended", 9, 9, "digits")


def test_trials_that_failed_or_lost_their_checkpoint_are_not_the_best(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment))
    first, second, third, *_ = [trial.trial for trial in driver.result.ranking]
    driver.journal.append(Ended(trial=first, outcome="diverged", reason="it is NaN"))
    driver.journal.append(Resumed(slots=1, began_ms=1))
    driver.journal.append(
        Tested(trial=third, epoch=1, test={}, passed_over={second: "it is damaged"})
    )
    place = experiment.folder.parent
    assert same(place, "played")
    assert Overviews(place).of("played").best == driver.result.trials[third].value


def test_one_that_was_cut_off_is_told_from_one_that_runs(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment), events=9)
    place = experiment.folder.parent
    assert Overviews(place).of("played").state == "interrupted"
    assert same(place, "played")
    with Lease(experiment.folder):
        line = Overviews(place).of("played")
    assert (line.state, line.outcome) == ("running", "running")


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (b"", "its journal is empty, or was cut off before the search started"),
        (b"nonsense\n", "journal.jsonl:1 is damaged"),
        (b'{"n": 2, "time_ms": 1, "event": "slots"}\n', "journal.jsonl:1 is damaged"),
    ],
)
def test_a_broken_search_is_named_and_stops_nothing(
    content: bytes, trouble: str, storage: Path, call: Command
) -> None:
    (storage / "broken").mkdir()
    (storage / "broken" / FILE_NAME).write_bytes(content)
    assert [(one.name, one.state, one.trouble) for one in searches(storage)] == [
        ("played", "ended", ""),
        ("broken", "broken", trouble),
    ]
    done = call("search.list", "--storage", storage)
    assert done.returncode == 0
    assert f"the search 'broken' cannot be read: {trouble}" in done.stdout


def odd(line: dict[str, Any]) -> bytes:
    """Return a line of a journal with a right checksum, whatever its values are."""
    text = json.dumps(line)[:-1]
    return f'{text}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"began_ms": 10**18},
        {"began_ms": "yesterday"},
        {"time_ms": 10**18},
        {"name": None},
        {"data": []},
        {"data": {}},
        {"data": {"name": "folder", "root": 5}},
        {"experiment": {"trials": "many"}},
        {"experiment": {"space": {"name": "x"}, "trials": float("inf")}},
        {"experiment": {"base": []}},
        {"packing": {"members": []}},
        {"slots": "two"},
    ],
    ids=str,
)
def test_an_odd_journal_is_one_line_and_the_others_are_listed(
    change: dict[str, Any], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = (storage / "played" / FILE_NAME).read_bytes().splitlines(keepends=True)
    values = json.loads(first)
    del values["crc"]
    (storage / "odd").mkdir()
    (storage / "odd" / FILE_NAME).write_bytes(odd(values | change) + b"".join(others))
    assert {line.name: line.state for line in searches(storage)} == {
        "played": "ended",
        "odd": "broken",
    }
    assert command(ListOptions(request=ListRequest(storage=storage))) == 0
    assert "the search 'odd' cannot be read: " in capsys.readouterr().out


def test_nobody_waits_for_what_is_no_regular_file(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, file in (("pipe", FILE_NAME), ("locked", LOCK_FILE)):
        (storage / name).mkdir()
        (storage / name / FILE_NAME).touch()
        (storage / name / file).unlink(missing_ok=True)
        os.mkfifo(storage / name / file)
    assert {line.name: line.state for line in searches(storage)} == {
        "played": "ended",
        "pipe": "broken",
        "locked": "broken",
    }
    assert command(ListOptions(request=ListRequest(storage=storage))) == 0
    assert (
        "the search 'pipe' cannot be read: journal.jsonl is not a regular file"
        in capsys.readouterr().out
    )
    with pytest.raises(DamagedJournal, match="is not a regular file"):
        SearchResult.read(storage / "pipe")
    with pytest.raises(DamagedJournal, match="is not a regular file"):
        home(storage, "pipe").tail().new()


def test_the_newest_comes_first(storage: Path) -> None:
    old = storage / "old"
    old.mkdir()
    (old / FILE_NAME).write_bytes((FIXTURE / FILE_NAME).read_bytes())
    assert [one.name for one in searches(storage)] == ["played", "old"]
    assert from_python(storage=storage) == searches(storage)


def test_the_command_prints_a_table_or_json(storage: Path, call: Command) -> None:
    done = call("search.list", "--storage", storage)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "played  ended     9/9" in done.stdout
    (line,) = json.loads(call("search.list", "--storage", storage, "--json").stdout)
    assert (line["name"], line["metric"], line["mode"]) == ("played", "accuracy", "max")
    empty = call("search.list", "--storage", storage / "empty")
    assert (empty.returncode, empty.stdout.startswith("there are no searches in ")) == (0, True)


def test_a_search_whose_budget_was_used_up_is_not_listed_as_one_with_all_its_trials() -> None:
    cut = Overview("cut", "ended", "budget", ended=2, planned=20)
    whole = Overview("whole", "ended", "completed", ended=20, planned=20)
    going = Overview("going", "running", "budget", ended=2, planned=20)
    assert list(overview_table([cut, whole, going]).columns[1].cells) == [
        Text("budget used"),
        Text("ended"),
        Text("running"),
    ]


def test_searches_in_a_bucket_are_listed_too(storage: Path, bucket: Bucket) -> None:
    for name in ("one", "two"):
        content = (storage / "played" / FILE_NAME).read_bytes()
        bucket.put(content, f"{name}/{FILE_NAME}/000001")
    bucket.put(b"", "other/file")
    assert [(one.name, one.state, one.ended) for one in searches(bucket)] == [
        ("one", "ended", 9),
        ("two", "ended", 9),
        ("other", "broken", 0),
    ]


def test_the_best_has_its_interval_and_how_it_came_about(storage: Path) -> None:
    line, whole = Overviews(storage).of("played"), SearchResult.read(storage / "played")
    assert whole.best is not None
    assert (line.low, line.high) == interval(whole.best, whole.images)
    epochs, values = zip(*line.course, strict=True)
    assert (epochs[-1], values[-1]) == (whole.epochs_trained, whole.best.value)
    assert list(epochs) == sorted(epochs)
    assert list(values) == sorted(values)


def test_a_journal_is_read_again_only_where_it_has_changed(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Overviews(storage)
    first = searches(storage, known)
    with monkeypatch.context() as patched:
        patched.setattr(overview, "_whole_lines", lambda path: pytest.fail(f"{path} is read"))
        assert searches(storage, known) == first
        with Lease(storage / "played"):
            assert searches(storage, known)[0].state == "running"
    journal, _ = Journal.reopen(storage / "played")
    journal.append(Resumed(slots=1, began_ms=1))
    journal.close()
    assert searches(storage, known)[0].outcome == "interrupted"


def test_a_pause_is_called_so_and_not_an_interruption(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment), events=30)
    driver.journal.append(Finished("interrupted", "asked to pause by ann@lab"))
    line = Overviews(experiment.folder.parent).of("played")
    assert (line.outcome, line.is_paused, overview_state(line)) == ("interrupted", True, "paused")
    assert "paused" in next(iter(overview_table([line]).columns[1].cells)).plain
    text = stand_text(SearchStanding("played", SearchResult.read(experiment.folder)))
    assert text == "Paused: it can continue where it was. (asked to pause by ann@lab)"


def test_of_a_search_that_is_over_the_trials_with_a_result_are_counted(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(experiment), events=6)
    driver.journal.append(Finished("budget", "3 minutes are used up"))
    line = Overviews(experiment.folder.parent).of("played")
    with_epochs = sum(bool(trial.epochs) for trial in driver.result.trials.values())
    assert (line.state, line.ended, line.counted) == ("ended", 0, with_epochs)
    assert with_epochs > 0
    assert next(iter(overview_table([line]).columns[2].cells)).plain == f"{with_epochs}/9"
