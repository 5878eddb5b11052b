"""A search with folds whose driver and workers are killed comes to the same end as one that nobody
touched.
"""

import os
import signal

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import OpenSearch
from tests.faults.harness import INLINE, TINY, Search
from tests.faults.oracle import all_runs, story

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FOLDS, TRIALS, EPOCHS = 3, 2, 3
SLOW = {"do": "sleep", "seconds": 0.15}
WORDS = (
    "--space",
    TINY,
    "--algorithm",
    "grid",
    "--scheduler",
    "fifo",
    "--folds",
    FOLDS,
    "--trials",
    TRIALS,
    "--set",
    "data.train_limit=200",
)


def folds_told(search: Search) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Each epoch's folds in the journal, without the times. An epoch told twice would be found out
    by `story`.
    """
    without = [
        (
            event,
            [
                {name: value for name, value in fold.items() if not name.startswith("time/")}
                for fold in event["folds"]
            ],
        )
        for event in search.events("epoch")
    ]
    return {(event["trial"], event["epoch"]): folds for event, folds in without}


def test_kills_in_the_middle_of_an_epochs_folds_change_nothing(open_search: OpenSearch) -> None:
    """A worker dies between two folds of an epoch, then the driver: the same curves of all folds,
    and each point in MLflow once.
    """
    undisturbed, search = open_search(), open_search()
    assert undisturbed.run(*WORDS, *INLINE).finish().code == 0
    search.plan(SLOW, {"do": "hold", "epoch": EPOCHS})
    search.run(*WORDS).wait_for_epochs(FOLDS + 2)
    os.kill(search.truth()[-1]["pid"], signal.SIGKILL)
    search.plan(SLOW, {"do": "hold", "trial": "t0002", "epoch": EPOCHS})
    all_but_held = (TRIALS * EPOCHS - 1) * FOLDS
    search.wait_for_epochs(min(len(search.truth()) + FOLDS + 1, all_but_held))
    search.kill9()
    search.plan()
    end = search.resume().finish()
    assert end.code == 0, end.err
    assert story(search) == story(undisturbed)
    assert folds_told(search) == folds_told(undisturbed)
    assert search.events("retried")
    client = MlflowClient(search.tracking)
    runs = all_runs(client)
    assert "RUNNING" not in {run.info.status for run in runs}
    folds = {
        (run.data.tags["search.trial"], int(run.data.tags["search.fold"])): run
        for run in runs
        if run.data.tags["search.role"] == "fold"
    }
    assert len(runs) == 1 + TRIALS + TRIALS * FOLDS
    assert len(folds) == TRIALS * FOLDS
    for (trial, number), run in folds.items():
        points = [
            (point.step, point.value)
            for point in client.get_metric_history(run.info.run_id, "val/accuracy")
        ]
        assert sorted(points) == [
            (epoch, folds_told(search)[trial, epoch][number - 1]["val/accuracy"])
            for epoch in range(1, EPOCHS + 1)
        ]
