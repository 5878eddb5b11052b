"""`search.select` on a real search: one opening of the test part, and a selection that is cut off
goes on as if it had not been.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from search import select as selection
from tests.faults.conftest import OpenSearch
from tests.faults.harness import GRID, INLINE, Done, Search
from tests.faults.oracle import all_runs, assert_contract

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TERMS = ("--top", "3", "--seeds", "3")


@pytest.fixture(scope="module")
def sealed(open_search: OpenSearch) -> Search:
    """A search that has come to its end and left the test part closed."""
    search = open_search()
    done = search.run(*GRID, "--sealed", *INLINE).finish()
    assert done.code == 0, done.err
    assert done.summary["best"]["test_accuracy"] is None
    assert not search.events("opened")
    return search


def copy_of(search: Search, open_search: OpenSearch, folder: Path) -> Search:
    """The search once more, in a folder and a database of its own."""
    shutil.copytree(
        search.folder, folder / "copy", ignore=shutil.ignore_patterns("faults-*", "mlartifacts")
    )
    copy = open_search(folder=folder / "copy")
    shutil.copy(search.faults / "truth.jsonl", copy.faults)
    return copy


def select(search: Search, *terms: str, executor: str = "inline") -> Search:
    words = ("--tracking", search.tracking, "--json", "--executor", executor)
    return search.start("select", search.name, *words, *(terms or TERMS))


def verdict_of(done: Done) -> dict[str, Any]:
    """Return what was chosen, without the times of images."""
    rows = [
        {name: value for name, value in row.items() if name not in ("ms_per_image", "state")}
        for row in done.summary["rows"]
    ]
    return {
        "rows": sorted(rows, key=lambda row: str(row["candidate"])),
        "leader": done.summary["leader"],
    }


@pytest.fixture(scope="module")
def selected(
    sealed: Search, open_search: OpenSearch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Search, Done]:
    """A selection without any fault."""
    search = copy_of(sealed, open_search, tmp_path_factory.mktemp("selected"))
    return search, select(search).finish()


@pytest.mark.promise
def test_a_selection_says_what_to_expect_and_opens_the_test_part_once(
    selected: tuple[Search, Done],
) -> None:
    search, done = selected
    assert done.code == 0, done.err
    summary = done.summary
    chosen = next(row for row in summary["rows"] if row["state"] == "chosen")
    accuracies = {event["trial"]: event for event in search.events("epoch")}
    assert summary["candidate"] == chosen["candidate"]
    assert summary["trial"].startswith(f"{chosen['candidate']}-s")
    assert summary["expected"]["mean"] == pytest.approx(np.mean(chosen["accuracies"]))
    assert summary["expected"]["low"] < summary["expected"]["mean"] < summary["expected"]["high"]
    assert summary["trial"] in accuracies
    (opened,), (tested,) = search.events("opened"), search.events("tested")
    assert (opened["trial"], opened["by"]) == (summary["trial"], "search.select")
    assert opened["n"] < tested["n"]
    assert summary["test_accuracy"] == tested["test"]["accuracy"]
    assert Path(summary["checkpoint"]).is_dir() or (search.folder / summary["checkpoint"]).is_dir()
    assert_contract(search)


@pytest.mark.promise
def test_mlflow_has_the_trainings_the_verdict_and_the_opening(
    selected: tuple[Search, Done],
) -> None:
    search, done = selected
    runs = all_runs(MlflowClient(search.tracking))
    (parent,) = (run for run in runs if run.data.tags.get("search.role") == "search")
    repeats = {
        run.data.tags["search.trial"]: run
        for run in runs
        if run.data.tags.get("search.role") == "repeat"
    }
    assert repeats.keys() == {
        event["trial"] for event in search.events("suggested") if event.get("repeat_of")
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in repeats.values()} == {parent.info.run_id}
    assert parent.data.tags["selected.trial"] == done.summary["trial"]
    assert parent.data.metrics["selected/val_accuracy_mean"] == pytest.approx(
        done.summary["expected"]["mean"]
    )
    assert parent.data.metrics["test/accuracy"] == done.summary["test_accuracy"]
    assert parent.data.tags["test.opened"].endswith(f"by search.select for {done.summary['trial']}")
    assert repeats[done.summary["trial"]].data.tags["selected"] == "true"
    assert "Expect a validation accuracy of " in parent.data.tags["mlflow.note.content"]


@pytest.mark.promise
def test_a_second_call_opens_nothing_and_says_the_same(selected: tuple[Search, Done]) -> None:
    search, done = selected
    before = search.journal.read_bytes()
    again = select(search).finish()
    assert again.code == 0, again.err
    assert search.journal.read_bytes() == before
    assert again.summary == done.summary
    assert (
        "already chosen, from the same candidates with the same seeds; nothing is left to do"
        in again.err
    )


def test_a_later_opening_is_announced_with_the_one_before(
    undisturbed: tuple[Search, Done], open_search: OpenSearch, tmp_path: Path
) -> None:
    """A search that was not sealed has opened the test part at its end. A second selection goes on
    from the trainings of the first.
    """
    search = copy_of(undisturbed[0], open_search, tmp_path)
    first = select(search, "--top", "1", "--seeds", "2").finish()
    assert first.code == 0, first.err
    (by_search, by_selection) = first.summary["openings"]
    assert f"by search.run for {first.summary['candidate']}" in by_search
    assert f"note: the test set was already used on {by_search}" in first.err
    assert f"the test set was already used on {by_selection}" not in first.err
    second = select(search, "--top", "2", "--seeds", "2").finish()
    assert second.code == 0, second.err
    assert second.summary["openings"][:2] == [by_search, by_selection]
    assert len(search.events("selecting")) == 2
    trained = [event["trial"] for event in search.events("suggested") if event.get("repeat_of")]
    assert len(trained) == len(set(trained)) == 4


def trained(search: Search, epochs: int) -> Search:
    """Once the running selection has heard of so many epochs: the workers of one that was killed
    may train on for a moment.
    """
    told = len(search.events("epoch"))
    return search.wait_until(
        lambda: len(search.events("epoch")) >= told + epochs, what=f"{epochs} epochs"
    )


def test_a_selection_that_is_killed_and_paused_comes_to_the_same_verdict(
    sealed: Search, selected: tuple[Search, Done], open_search: OpenSearch, tmp_path: Path
) -> None:
    """Killed early, paused by Ctrl-C, killed late."""
    search = copy_of(sealed, open_search, tmp_path)
    trained(select(search, executor="tune"), 3).kill9()
    trained(select(search, executor="tune"), 3).interrupt(signal.SIGINT)
    paused = search.finish()
    assert paused.code == 130
    assert paused.summary["outcome"] == "interrupted"
    assert not search.events("opened")
    trained(select(search, executor="tune"), 3).kill9()
    done = select(search).finish()
    assert done.code == 0, done.err
    assert verdict_of(done) == verdict_of(selected[1])
    assert len(search.events("opened")) == len(search.events("tested")) == 1
    assert_contract(search, kills=2)


def test_a_search_that_has_not_come_to_its_end_is_refused(
    sealed: Search, open_search: OpenSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = copy_of(sealed, open_search, tmp_path)
    lines = search.journal.read_bytes().splitlines(keepends=True)
    search.journal.write_bytes(
        b"".join(line for line in lines if json.loads(line)["event"] != "finished")
    )
    assert (
        selection.main(
            ["--storage", str(search.storage), search.name, "--tracking", search.tracking]
        )
        == 5
    )
    said = capsys.readouterr().err
    assert "was interrupted before it had finished" in said
    assert "search.resume s" in said
