"""Deleting a search: what goes, what stays, and when it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cluster.storage.bucket import Bucket
from search import sync
from search.cli import prompt
from search.design.experiment import Experiment
from search.journal.events import Restored
from search.journal.journal import FILE_NAME
from search.journal.lease import Lease
from search.journal.result import SearchResult
from search.journal.store import home
from search.operations.delete import DeleteRequest, deletion_of
from search.operations.deletion import deletion_lines
from tests.conftest import Command
from tests.support.played import OpenDriver, changed, play
from trainables.machine import size_text
from trainables.messages import WarmStart

WHERE = ("played", "--storage", "searches")


@pytest.fixture
def played(open_driver: OpenDriver, experiment: Experiment, database: str) -> Path:
    """The folder of a search that has ended, with a checkpoint of 100 bytes."""
    play(open_driver(changed(experiment, tracking=database)))
    checkpoint = experiment.folder / "trials" / "t0001" / "epoch-0003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"x" * 100)
    return experiment.folder


def test_it_is_gone_with_all_its_files(played: Path, call: Command) -> None:
    bytes_of = sum(path.stat().st_size for path in played.rglob("*") if path.is_file())
    done = call("search.delete", *WHERE, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first == f"played: 2 files, {size_text(bytes_of)} in"
    assert last == "played was deleted"
    assert not played.exists()
    assert played.parent.exists()


def test_a_link_goes_with_the_search_that_it_leads_to(played: Path) -> None:
    elsewhere = played.rename(played.parent.parent / "elsewhere")
    played.symlink_to(elsewhere)
    home(played.parent, "played").remove()
    assert not played.is_symlink()
    assert not list(elsewhere.iterdir())


def test_a_slash_behind_the_name_is_none_of_it(
    played: Path, call: Command, open_driver: OpenDriver, experiment: Experiment
) -> None:
    heir = open_driver(changed(experiment, name="heir", tracking=""))
    begun = WarmStart("played", "t0001", 1)
    heir.journal.append(Restored(trial="t0001", epoch=0, damaged=[], begun=begun))
    done = call("search.delete", "played/", *WHERE[1:], "--yes", "--keep-runs")
    assert done.stdout.splitlines()[-1] == "played was deleted"
    assert "'heir' reused trainings of this search for 1 trial" in done.stdout
    assert (heir.experiment.folder / FILE_NAME).exists()


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_it_asks(
    answer: bool, played: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def confirm(question: str, *, yes: bool) -> bool:
        asked.append((question, yes))
        return answer

    monkeypatch.setattr("search.delete.can_ask", lambda: True)
    monkeypatch.setattr("search.delete.confirm", confirm)
    done = call("search.delete", *WHERE)
    assert asked == [("Delete 'played'?", False)]
    assert done.returncode == 0
    assert played.exists() is not answer
    assert ("nothing was deleted" in done.stderr) is not answer


def test_where_nobody_can_answer_it_wants_yes(played: Path, call: Command) -> None:
    done = call("search.delete", *WHERE)
    assert done.returncode == 2
    assert done.stderr == (
        "error: nothing was deleted, because the confirmation needs a terminal. Pass --yes to "
        "delete 'played' without confirmation.\n"
    )
    assert (played / FILE_NAME).exists()


def test_one_that_runs_is_refused(played: Path, call: Command) -> None:
    with Lease(played):
        done = call("search.delete", *WHERE, "--yes")
    assert done.returncode == 5
    assert "is being run by process" in done.stderr
    assert (played / FILE_NAME).exists()


@pytest.mark.parametrize("name", ["..", ".", "/", "a/b", "", "../searches"])
def test_what_is_no_name_of_a_search_deletes_nothing(
    name: str, played: Path, call: Command
) -> None:
    done = call("search.delete", name, "--storage", "searches", "--yes")
    assert done.returncode == 2
    assert "cannot be the name of a search" in done.stderr
    assert (played / FILE_NAME).exists()


def test_a_folder_that_is_no_search_is_not_deleted(played: Path, call: Command) -> None:
    other = played.parent / "photographs"
    other.mkdir()
    (other / "one.png").touch()
    done = call("search.delete", "photographs", "--storage", "searches", "--yes")
    assert done.returncode == 2
    assert "no search 'photographs'" in done.stderr
    assert (other / "one.png").exists()


def test_a_damaged_search_can_be_deleted(played: Path, call: Command) -> None:
    (played / FILE_NAME).write_text("nonsense\n")
    done = call("search.delete", *WHERE, "--yes")
    assert done.returncode == 0
    assert "its runs in MLflow are not deleted" in done.stdout
    assert not played.exists()


def test_mlflow_has_its_runs_deleted_and_a_registered_model_stays(
    played: Path, call: Command, database: str
) -> None:
    assert sync.main(["played", "--storage", str(played.parent)]) == 0
    client = MlflowClient(database)
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    parent = next(
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags["search.role"] == "search"
    )
    facts = SearchResult.read(played).started
    client.create_registered_model("flowers")
    client.create_model_version(
        "flowers", "file:///nowhere", parent.info.run_id, tags={"search.id": facts.id}
    )
    done = call("search.delete", *WHERE, "--yes")
    assert f"  10 runs in MLflow ({database})\n" in done.stdout
    assert "  not deleted: models:/flowers/1, which contain the model\n" in done.stdout
    assert f"mlflow gc --backend-store-uri {database} --tracking-uri {database}" in done.stdout
    assert client.search_runs([experiment.experiment_id]) == []
    assert client.get_model_version("flowers", "1").version in ("1", 1)


def test_what_mlflow_has_stays_if_asked(played: Path, call: Command) -> None:
    done = call("search.delete", *WHERE, "--yes", "--keep-runs", "--json")
    told = json.loads(done.stdout)
    assert (told["name"], told["size"]["files"], told["traces"]) == ("played", 2, None)


def test_an_mlflow_that_does_not_answer_keeps_the_search(played: Path, call: Command) -> None:
    done = call("search.delete", *WHERE, "--yes", "--tracking", "http://127.0.0.1:1")
    assert done.returncode == 4
    assert "keep its runs with --keep-runs" in done.stderr
    assert (played / FILE_NAME).exists()


def test_what_other_searches_have_from_it_is_told(
    played: Path, open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(changed(experiment, name="heir", tracking=""))
    for epoch in (1, 2):
        begun = WarmStart("played", "t0001", epoch)
        driver.journal.append(Restored(trial="t0001", epoch=0, damaged=[], begun=begun))
    base = experiment.base.override(
        {"model.name": "resnet18", "model.pretrained": True, "model.weights": f"{played}/trials/x"}
    )
    open_driver(changed(experiment, name="pupil", base=base))
    open_driver(changed(experiment, name="stranger"))
    told = list(
        deletion_lines(
            deletion_of(DeleteRequest(name="played", storage=played.parent, keep_runs=True))
        )
    )
    assert told[-2:] == [
        "  'heir' reused trainings of this search for 1 trial, and has its own copies",
        "  'pupil' starts from weights in this search, and cannot continue afterwards",
    ]


def test_a_search_in_a_bucket_is_deleted_with_its_copies_here(
    played: Path, bucket: Bucket, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(played.parent / "cache"))
    bucket.put((played / FILE_NAME).read_bytes(), f"far/{FILE_NAME}/000001")
    bucket.put(b"x" * 100, "far/trials/t0001/epoch-0003/model.safetensors")
    bucket.put(b"", "farther/file")
    done = call("search.delete", "far", "--storage", bucket, "--yes", "--keep-runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("far: 2 files, ")
    assert list(bucket.listing()) == ["farther/file"]
    assert not list((played.parent / "cache").rglob("far"))


def test_a_mistyped_name_is_never_deleted_unasked(
    played: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "can_ask", lambda: False)
    done = call("search.delete", "playd", "--storage", "searches", "--yes")
    assert (done.returncode, "Did you mean 'played'?" in done.stderr) == (2, True)
    assert (played / FILE_NAME).exists()
