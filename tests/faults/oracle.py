"""The facts of a search, from three independent witnesses.

These are the epochs that were trained (`truth.jsonl`), the journal, and MLflow. The journal is read
here as plain lines: the oracle shares no code with what it judges.
"""

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tests.faults.harness import Done, Search

Epoch = tuple[str, int]


@dataclass(frozen=True)
class Dialect:
    """A program's way to write to MLflow: the metrics of an epoch, and the trial of a run.

    The trial is "" for a run that is nobody's.
    """

    metrics: frozenset[str]
    accuracy: str
    trial_of: Callable[[Run], str]
    roots: frozenset[str] = frozenset()


OURS = Dialect(
    frozenset({"train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s"}),
    "val/accuracy",
    lambda run: run.data.tags.get("search.trial") or run.data.tags.get("search.role", ""),
    frozenset({"search"}),
)
PEERS = Dialect(
    frozenset({"train_loss", "val_accuracy"}),
    "val_accuracy",
    lambda run: run.data.tags.get("trial_name", "").partition("_")[2],
)
"""Ray's MLflowLoggerCallback: `trial_name` is the function's name and the trial's id."""


@dataclass(frozen=True)
class Account:
    """`trained`: distinct (trial, epoch) pairs. `again`: how often one was trained once more, by
    trial. The rest should be empty.

    `lost` are epochs that are in truth or journal, and not in MLflow with all their metrics;
    `doubled` metrics that MLflow holds twice for an epoch; `untrue` accuracies in MLflow that no
    training gave; `runs` trials (and `search`) with their number of runs, deleted ones included,
    where that is not one; `zombies` runs still RUNNING; `strays` runs that are not of a search, or
    lie in Default.
    """

    trained: int
    again: Counter[str]
    lost: set[Epoch]
    doubled: set[tuple[str, int, str]]
    untrue: set[Epoch]
    runs: dict[str, int]
    zombies: list[str]
    strays: list[str]


def account(search: Search, uri: str = "", dialect: Dialect = OURS) -> Account:
    """Hear all three witnesses."""
    with _as_it_is(uri or search.tracking) as tracking:
        return _account(search, MlflowClient(tracking), dialect)


def _account(search: Search, client: MlflowClient, dialect: Dialect) -> Account:
    everything = all_runs(client)
    mine = [
        run
        for run in everything
        if run.data.tags.get("search.name") == search.name and dialect.trial_of(run)
    ]
    truth: dict[Epoch, list[float]] = {}
    for line in search.truth():
        if not line["diverged"]:
            truth.setdefault((line["trial"], line["epoch"]), []).append(line["val_accuracy"])
    own, others = dict(truth), taken_over(search)
    truth |= {
        epoch: truth[source]
        for epoch, source in others.items()
        if source in truth and epoch not in truth
    }
    journal = {(event["trial"], event["epoch"]) for event in search.events("epoch")}
    rows = metric_rows(client, mine, dialect)
    started = (
        {event["trial"] for event in search.events("running")}
        | {trial for trial, _ in truth}
        | dialect.roots
    )
    runs = Counter(map(dialect.trial_of, mine))
    whole = {
        epoch
        for epoch in truth.keys() | journal
        if all(rows.get((*epoch, name)) for name in dialect.metrics)
    }
    told = {
        (trial, epoch): values
        for (trial, epoch, name), values in rows.items()
        if name == dialect.accuracy
    }
    return Account(
        trained=len(own),
        again=Counter(
            {trial: times for trial in {trial for trial, _ in own} if (times := _again(own, trial))}
        ),
        lost=(truth.keys() | journal) - whole,
        doubled={row for row, values in rows.items() if len(values) > 1},
        untrue={
            epoch for epoch, values in told.items() if not set(values) <= set(truth.get(epoch, []))
        },
        runs={trial: runs[trial] for trial in started | runs.keys() if runs[trial] != 1},
        zombies=[
            run.info.run_name or run.info.run_id
            for run in mine
            if run.info.status in ("RUNNING", "SCHEDULED")
        ],
        strays=[
            run.info.run_name or run.info.run_id
            for run in everything
            if not dialect.trial_of(run) or run.info.experiment_id == "0"
        ],
    )


def taken_over(search: Search) -> dict[Epoch, Epoch]:
    """The epochs that a trial did not train, and those that another has trained for it, in the
    order in which they were taken over.
    """
    found: dict[Epoch, Epoch] = {}
    reached: dict[str, int] = {}
    for event in search.events():
        if event["event"] == "epoch":
            reached[event["trial"]] = event["epoch"]
        elif event["event"] == "restored" and "begun" in event:
            begun = event["begun"]
            for epoch in range(reached.get(event["trial"], 0) + 1, begun["epoch"] + 1):
                source = (begun["trial"], epoch)
                found[event["trial"], epoch] = found.get(source, source)
    return found


@contextmanager
def _as_it_is(tracking: str) -> Iterator[str]:
    """A copy of an SQLite file: MLflow keeps files open, and would go on reading one that a test
    has replaced since.
    """
    if not tracking.startswith("sqlite:///"):
        yield tracking
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "mlflow.db"
        with (
            closing(sqlite3.connect(tracking.removeprefix("sqlite:///"))) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        yield f"sqlite:///{copy}"


WRITTEN = ("n", "time_ms", "elapsed_ms", "crc")
"""The parts of a line that differ each time that it is written."""


def stops(search: Search) -> list[dict[str, Any]]:
    """Return the stops and what each rested on, without line numbers, times and checksums."""
    return [
        {key: value for key, value in event.items() if key not in WRITTEN}
        for event in search.events("stopped")
    ]


def assert_stops_explained(search: Search, *, rungs: Sequence[int] = (1, 2)) -> None:
    """No trial went beyond a rung that was not let go on there; each that was stopped waited there;
    and how many trainings had come to a rung by then is so: trials that differ in their number of
    epochs alone are one.
    """
    came: dict[int, set[str]] = {rung: set() for rung in rungs}
    waits: dict[str, int] = {}
    training: dict[str, str] = {}
    goes_on: set[tuple[str, int]] = set()
    stopped = 0
    for event in search.events():
        trial, epoch = event.get("trial", ""), event.get("epoch", 0)
        match event["event"]:
            case "suggested":
                training[trial] = event.get("stem", trial)
            case "epoch":
                assert epoch - 1 not in rungs or (trial, epoch - 1) in goes_on, event
                if epoch in rungs:
                    came[epoch].add(training[trial])
            case "held":
                assert event["rivals"] == len(came[event["rung"]]), event
                waits[trial] = event["rung"]
            case "promoted":
                rung = max(
                    rung for rung in rungs if rung <= epoch
                )  # it may know of more epochs: others have trained them
                assert training[trial] in came[rung], event
                goes_on.add((trial, rung))
            case "ended" if event["outcome"] in ("diverged", "failed"):
                for trials in came.values():
                    trials.discard(training[trial])
            case "stopped":
                stopped += 1
                assert (waits[trial], event["rivals"]) == (
                    event["rung"],
                    len(came[event["rung"]]),
                ), event
    assert stopped


def _again(truth: dict[Epoch, list[float]], trial: str) -> int:
    return sum(len(times) - 1 for (whose, _), times in truth.items() if whose == trial)


def all_runs(client: MlflowClient, view: int = ViewType.ALL) -> list[Run]:
    """Every run of every experiment, deleted ones included unless `view` says otherwise."""
    experiments = [found.experiment_id for found in client.search_experiments(view_type=view)]
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            experiments, run_view_type=view, max_results=5000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def metric_rows(
    client: MlflowClient, runs: list[Run], dialect: Dialect
) -> dict[tuple[str, int, str], list[float]]:
    """The values that MLflow holds by trial, epoch and metric; one is right."""
    rows: dict[tuple[str, int, str], list[float]] = {}
    for run in runs:
        for name in dialect.metrics & run.data.metrics.keys():
            for metric in client.get_metric_history(run.info.run_id, name):
                rows.setdefault((dialect.trial_of(run), metric.step, name), []).append(metric.value)
    return rows


def assert_contract(
    search: Search, *, kills: int = 0, undisturbed: Search | None = None, uri: str = ""
) -> Account:
    """Nothing lost, nothing doubled, nothing left behind; at most one epoch trained again for each
    trial that was killed.

    With `undisturbed`, a finished search without faults, the trials, their curves and the best must
    be the same to the last digit.
    """
    found = account(search, uri)
    assert not found.lost, f"lost: {sorted(found.lost)}"
    assert not found.doubled, f"doubled: {sorted(found.doubled)}"
    assert not found.untrue, f"untrue: {sorted(found.untrue)}"
    assert not found.runs, f"runs: {found.runs}"
    assert not found.zombies, f"RUNNING for ever: {found.zombies}"
    assert not found.strays, f"strays: {found.strays}"
    assert found.again.total() <= kills, (
        f"{found.again.total()} epochs trained again after {kills} kills: {found.again}"
    )
    if undisturbed is not None:
        assert story(search) == story(undisturbed)
    return found


def assert_same_best(done: Done, undisturbed: Done) -> None:
    """The best trial, its parameters and its metrics are those of the undisturbed search."""
    best, expected = (
        {key: value for key, value in one.summary["best"].items() if key != "checkpoint"}
        for one in (done, undisturbed)
    )
    assert best == expected
    assert done.summary["epochs_trained"] == undisturbed.summary["epochs_trained"]


def story(search: Search) -> dict[str, tuple[Any, ...]]:
    """Each trial's params, outcome and curve, without the times. An epoch told twice would be in
    its curve twice.
    """
    told: dict[str, list[Any]] = {
        event["trial"]: [event["params"], None, []] for event in search.events("suggested")
    }
    for event in search.events():
        if event["event"] == "ended":
            told[event["trial"]][1] = event["outcome"]
        elif event["event"] == "epoch":
            metrics = {
                name: value
                for name, value in event["metrics"].items()
                if not name.startswith("time/")
            }
            told[event["trial"]][2].append((event["epoch"], metrics))
    return {trial: tuple(facts) for trial, facts in told.items()}
