"""A search's trials as CSV, as lines of JSON, and as pandas has them."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from cluster.storage.bucket import Bucket
from search.api import result
from search.design.experiment import Experiment
from search.facts.trials import trial_table
from search.journal.journal import FILE_NAME
from tests.conftest import Command
from tests.support.played import OpenDriver, play, report


@pytest.fixture
def storage(open_driver: OpenDriver, experiment: Experiment) -> Path:
    """A place with the search `played`, one trial of which has failed at once."""
    driver = open_driver(experiment)
    trial, _ = driver.suggest()  # type: ignore[misc]
    driver.running(trial)
    driver.report(trial, report(1, outcome="failed", reason="no"))
    play(driver)
    return experiment.folder.parent


def test_csv_holds_what_pandas_has(storage: Path, call: Command) -> None:
    done = call("search.export", "played", "--storage", storage, "--csv", "trials.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "trials.csv\n", "")
    read = pd.read_csv(storage.parent / "trials.csv")
    pd.testing.assert_frame_equal(read, result("played", storage=storage).trials)


def test_parameters_of_an_earlier_space_keep_their_column(storage: Path) -> None:
    told = result("played", storage=storage)._result
    whole = trial_table(told)
    path, *_ = domains = told.started.experiment["space"]["domains"]
    del domains[path]
    later = trial_table(told)
    assert set(later.columns) == set(whole.columns)
    assert later.rows == whole.rows


def test_without_a_file_it_goes_to_stdout_and_what_is_unknown_is_empty(
    storage: Path, call: Command
) -> None:
    first, *rows = csv.DictReader(
        call("search.export", "played", "--storage", storage).stdout.splitlines()
    )
    assert (first["outcome"], first["value"], len(rows)) == ("failed", "", 8)
    assert {row["params.epochs"] for row in rows} == {"3", "6", "9"}


def test_json_is_an_object_a_line(storage: Path, call: Command) -> None:
    done = call("search.export", "played", "--storage", storage, "--json")
    first, *_ = lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(first) == trial_table(result("played", storage=storage)._result).columns
    assert (first["value"], len(lines)) == (None, 9)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--csv", "photo.jpg"], "--csv 'photo.jpg' must end in .csv."),
        (["--csv", "none/a.csv"], "is in 'none', which is not a folder. Create it first."),
        (["--csv", "folder.csv"], "--csv 'folder.csv' is a folder. Pass the path of a file."),
        (["--csv", "--json"], "--csv and --json cannot be combined. Leave one of them out."),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    words: list[str], line: str, storage: Path, tmp_path: Path, call: Command
) -> None:
    (tmp_path / "folder.csv").mkdir()
    done = call("search.export", "played", "--storage", storage, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert line in done.stderr


def test_a_search_in_a_bucket_is_exported_too(
    storage: Path, bucket: Bucket, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(storage.parent / "cache"))
    bucket.put((storage / "played" / FILE_NAME).read_bytes(), f"far/{FILE_NAME}/000001")
    done = call("search.export", "far", "--storage", bucket)
    assert len(done.stdout.splitlines()) == 10
