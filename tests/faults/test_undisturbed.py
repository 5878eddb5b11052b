"""The harness itself: a search without faults keeps the contract, and the oracle sees each way to
break it.
"""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.harness import Done, Search
from tests.faults.oracle import account, all_runs, assert_contract

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_an_undisturbed_search_keeps_the_contract(undisturbed: tuple[Search, Done]) -> None:
    search, done = undisturbed
    assert done.code == 0, done.err
    found = assert_contract(search, kills=0, undisturbed=search)
    assert found.trained == done.summary["epochs_trained"] == 27


def test_the_oracle_sees_what_is_wrong(undisturbed: tuple[Search, Done], tmp_path: Path) -> None:
    search, _ = undisturbed
    shutil.copytree(search.folder, tmp_path / "copy")
    copy = Search(tmp_path / "copy", name="again")
    copy.name, copy.faults = search.name, tmp_path / "copy" / search.faults.name
    client = MlflowClient(copy.tracking)
    first, second, *_ = (run for run in all_runs(client) if run.data.tags["search.role"] == "trial")
    client.log_metric(first.info.run_id, "val/accuracy", 2.0, timestamp=1, step=1)
    client.update_run(second.info.run_id, status="RUNNING")
    client.create_run("0", run_name="stray")
    deleted = client.create_run(first.info.experiment_id, tags=second.data.tags).info.run_id
    client.delete_run(deleted)
    lines = (copy.faults / "truth.jsonl").read_text().splitlines()
    unheard = lines[0].replace('"epoch": 1', '"epoch": 4')
    (copy.faults / "truth.jsonl").write_text("\n".join([*lines, lines[0], unheard]) + "\n")
    found = account(copy)
    assert (
        [trial for trial, _, _ in found.doubled]
        == [trial for trial, _ in found.untrue]
        == [first.data.tags["search.trial"]]
    )
    assert found.zombies == [
        second.info.run_name,
        *(run.info.run_name for run in all_runs(client) if run.info.run_id == deleted),
    ]
    assert found.runs == {second.data.tags["search.trial"]: 2}
    assert found.strays == ["stray"]
    assert [epoch for _, epoch in found.lost] == [4]
    assert found.again.total() == 1
    with pytest.raises(AssertionError, match="lost"):
        assert_contract(copy)
