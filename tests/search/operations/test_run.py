"""The real command: Ray, Tune, MLflow and torch, on scikit-learn's digits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.metrics import f1_score, roc_auc_score

from cluster.exit_codes import ExitCode
from search.journal.guessing import is_answer_at_chance
from search.journal.journal import read
from search.journal.result import SearchResult, checkpoint_of
from search.spaces.find import find
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.pages import block
from tests.support.ports import free_port
from tests.support.real import Done, children_of, metrics_of, run_in, wait_for
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.evaluation.evaluate import predictions

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Search = Callable[..., Done]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, Done]:
    """One finished search with Bayesian suggestions and early stops, one trial at a time; with the
    checkpoints of all of them.
    """
    folder = tmp_path_factory.mktemp("smoke")
    shutil.copy(empty_database, folder)
    return folder, run_in(
        folder,
        "--keep",
        "all",
        "--space",
        "smoke",
        "--name",
        "first",
        "--concurrency",
        1,
        "--trials",
        6,
        "--max-epochs",
        3,
        "--set",
        "epochs=3",
    )


@pytest.mark.promise
def test_a_search_ends_well_and_says_where_everything_is(smoke: tuple[Path, Done]) -> None:
    folder, (done, summary) = smoke
    assert done.returncode == 0
    assert summary["outcome"] == "completed"
    assert sum(summary["trials"].values()) == 6
    assert 0 < summary["slot_efficiency"] < 1
    assert summary["slots"] == 1
    assert (folder / summary["journal"]).is_file()
    assert "-m search.report first" in done.stderr
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.promise
def test_the_readmes_example_classifies_with_the_best_network(
    smoke: tuple[Path, Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (_, summary) = smoke
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(block("python", "chances = predictions(").replace("NAME", summary["name"]), names)
    right = names["chances"].argmax(axis=1) == names["dataset"].val.targets
    assert right.mean() == pytest.approx(summary["best"]["val_accuracy"], abs=1e-9)


@pytest.mark.promise
def test_mlflow_holds_what_the_journal_holds(smoke: tuple[Path, Done]) -> None:
    folder, (_, summary) = smoke
    result = SearchResult.read((folder / summary["journal"]).parent)
    client, children = MlflowClient(f"sqlite:///{folder}/mlflow.db"), children_of(summary, folder)
    assert {child.data.tags["search.trial"] for child in children} == result.trials.keys()
    assert len(children) == 6
    points = sum(
        len(client.get_metric_history(child.info.run_id, "val/accuracy")) for child in children
    )
    assert (
        points
        == summary["epochs_trained"]
        == sum(event.kind == "epoch" for event in read(folder / summary["journal"]))
    )
    everything = client.search_runs([summary["mlflow"]["experiment_id"]])
    assert {run.info.status for run in everything} <= {"FINISHED", "KILLED"}
    parent = client.get_run(summary["mlflow"]["parent_run_id"])
    assert parent.data.metrics["test/accuracy"] == summary["best"]["test_accuracy"]
    assert parent.data.tags["version.torch"]
    assert {"curves.png", "report.html"} <= {
        item.path for item in client.list_artifacts(parent.info.run_id)
    }
    page = (folder / summary["journal"]).with_name("report.html").read_text()
    assert page.count("data:image/webp;base64,") == min(
        12, round(359 * (1 - summary["best"]["test_accuracy"]))
    )
    assert "Missing" not in page


@pytest.mark.promise
def test_the_best_trials_evidence_is_in_mlflow(smoke: tuple[Path, Done]) -> None:
    folder, (_, summary) = smoke
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (best,) = (
        child
        for child in children_of(summary, folder)
        if child.data.tags["search.trial"] == summary["best"]["trial_id"]
    )
    assert {item.path for item in client.list_artifacts(best.info.run_id)} == {
        "checkpoint",
        "config.json",
        "curves.png",
        "test.json",
        "test_confusion.png",
        "test_roc.png",
        "val.json",
    }
    local = Path(client.download_artifacts(best.info.run_id, "", str(folder)))
    state = checkpoint.load(local / "checkpoint")
    assert state["extra"]["metrics"]["val/accuracy"] == summary["best"]["val_accuracy"]
    config = TrialConfig.from_dict(json.loads((local / "config.json").read_text()))
    assert {path: config.value(path) for path in summary["best"]["params"]} == summary["best"][
        "params"
    ]
    test = json.loads((local / "test.json").read_text())
    assert test["accuracy"] == summary["best"]["test_accuracy"]
    assert sum(map(sum, test["confusion_matrix"])) == test["images"] == 359


@pytest.mark.promise
def test_every_finished_trial_is_evaluated_as_its_checkpoint_is_when_loaded(
    smoke: tuple[Path, Done],
) -> None:
    """On the validation part, before the test."""
    folder, (_, summary) = smoke
    home = (folder / summary["journal"]).parent
    result = SearchResult.read(home)
    dataset = load(TrialConfig.from_dict(result.trials["t0001"].config).data)
    kinds = [event.kind for event in read(home / "journal.jsonl")]
    assert kinds.count("evaluated") == len(result.trials) == 6
    assert "unevaluated" not in kinds
    assert max(number for number, kind in enumerate(kinds) if kind == "evaluated") < kinds.index(
        "tested"
    )
    for name, trial in result.trials.items():
        val = trial.evaluation.val
        path = checkpoint_of(trial, home)
        chances = predictions(TrialConfig.from_dict(trial.config), dataset, dataset.val, path)
        assert val["accuracy"] == pytest.approx(trial.primary_value)
        assert val["weighted"]["f1"] == pytest.approx(
            f1_score(dataset.val.targets, chances.argmax(axis=1), average="weighted")
        )
        assert val["macro"]["auc"] == pytest.approx(
            roc_auc_score(dataset.val.targets, chances, multi_class="ovr")
        )
        assert "roc" not in val
        assert (
            json.loads((home / "trials" / name / "evidence" / "val.json").read_text())["roc"]["3"][
                "auc"
            ]
            == val["auc"]["3"]
        )


@pytest.mark.promise
def test_evaluations_and_costs_are_in_the_journal_in_mlflow_and_in_the_summary(
    smoke: tuple[Path, Done],
) -> None:
    """Trials of one network share what it costs."""
    folder, (done, summary) = smoke
    home = (folder / summary["journal"]).parent
    result = SearchResult.read(home)
    in_mlflow = {
        child.data.tags["search.trial"]: child.data.metrics
        for child in children_of(summary, folder)
    }
    assert in_mlflow.keys() == result.trials.keys()
    for name, trial in result.trials.items():
        val, cost = trial.evaluation.val, trial.evaluation.cost
        path = checkpoint_of(trial, home)
        assert cost["bytes"] == (path / "model.safetensors").stat().st_size
        assert (cost["parameters"], cost["multiply_adds"]) == (
            80 + 1168 + 8320 + 1290,
            64 * 8 * 9 + 16 * 16 * 72 + 64 * 128 + 1280,
        )
        assert (
            0
            < cost["inference"]["batch_1"]["median_ms"]
            <= cost["inference"]["batch_1"]["p95_ms"]
            == in_mlflow[name]["eval/ms_per_image_batch_1_p95"]
        )
        assert (in_mlflow[name]["eval/macro_f1"], in_mlflow[name]["eval/ece"]) == (
            val["macro"]["f1"],
            val["ece"],
        )
    assert len({json.dumps(trial.evaluation.cost) for trial in result.trials.values()}) == 1
    (row,) = summary["models"]
    assert (row["model"], row["trial_id"], row["macro_f1"]) == (
        "table2",
        result.best.trial,
        result.best.evaluation.val["macro"]["f1"],
    )  # type: ignore[union-attr]
    assert "ms/image" in done.stderr


def test_a_resume_evaluates_what_was_not_and_names_a_damaged_checkpoint(
    smoke: tuple[Path, Done], tmp_path: Path, inline: Inline
) -> None:
    """The search was cut off after its second evaluation, and the worst trial's checkpoint has been
    damaged since.
    """
    folder, (_, summary) = smoke
    shutil.copytree(folder / "searches", tmp_path / "searches")
    journal = tmp_path / summary["journal"]
    worst = SearchResult.read(journal.parent).ranking[-1]
    lines = journal.read_text().splitlines(keepends=True)
    last = [number for number, line in enumerate(lines) if '"event": "evaluated"' in line][1]
    journal.write_text("".join(lines[: last + 1]))
    (checkpoint_of(worst, journal.parent) / "model.safetensors").write_bytes(b"damaged")
    done, again = inline("resume", "first")
    assert done.returncode == 0, done.stderr
    assert again["best"] == summary["best"]
    told = [line for line in done.stderr.splitlines() if "not evaluated" in line]
    assert len(told) == 1
    assert f"not evaluated: {worst.trial} (" in told[0]
    assert "is damaged" in told[0]
    events = read(journal)
    evaluated = [event.data.trial for event in events if event.kind == "evaluated"]
    assert (
        sorted(evaluated)
        == sorted({*evaluated})
        == sorted(
            result for result in SearchResult.read(journal.parent).trials if result != worst.trial
        )
    )
    (failed,) = (event.data.reasons for event in events if event.kind == "unevaluated")
    assert list(failed.values()) == [[worst.trial]]


def test_of_several_models_the_best_of_each_is_told(tmp_path: Path, inline: Inline) -> None:
    space = tmp_path / "space.py"
    space.write_text(
        "from search.space import Choice, SearchSpace\n"
        "def space(): return SearchSpace({'model.name': Choice('table2', 'multi_scale'), "
        "'seed': Choice(*range(500))},\n"
        "    base={'model.width': 2, 'epochs': 1, 'data.train_limit': 100})\n"
    )
    words = [
        "--algorithm",
        "random",
        "--scheduler",
        "fifo",
        "--trials",
        1000,
        "--budget",
        "7epochs",
        "--name",
        "s",
    ]
    done, summary = inline("run", "--space", f"{space}:space", *words)
    result = SearchResult.read(tmp_path / "searches" / "s")
    # So little training may not beat guessing.
    assert done.returncode == (ExitCode.AT_CHANCE if is_answer_at_chance(result) else 0)
    assert (result.outcome, len(result.ranking)) == ("budget", 7)
    assert all(trial.evaluation for trial in result.ranking)
    assert [row["model"] for row in summary["models"]] == list(result.best_of_models)
    assert len(summary["models"]) == 2
    assert all(row["ms_per_image_batch_64"] > 0 for row in summary["models"])
    assert "the best trial of each model" in done.stderr


@pytest.mark.promise
def test_the_optuna_study_was_told_the_truth(smoke: tuple[Path, Done]) -> None:
    folder, (_, summary) = smoke
    home = (folder / summary["journal"]).parent
    study = optuna.load_study(
        study_name="first", storage=JournalStorage(JournalFileBackend(str(home / "optuna.log")))
    )
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    told = {
        trial.user_attrs["trial"]: (trial.state, trial.intermediate_values)
        for trial in study.trials
    }
    result = SearchResult.read(home)
    assert told == {
        name: (
            states[trial.outcome],
            {epoch: metrics["val/accuracy"] for epoch, metrics in trial.epochs.items()},
        )
        for name, trial in result.trials.items()
    }
    assert "stopped" in result.counts


@pytest.mark.promise
def test_the_report_of_a_real_search(
    smoke: tuple[Path, Done], call: Command, tmp_path: Path
) -> None:
    folder, (_, summary) = smoke
    done = call("search.report", "first", "--storage", folder / "searches", "--out", "page.html")
    assert done.returncode == 0
    assert summary["best"]["trial_id"] in (tmp_path / done.stdout.strip()).read_text()


@pytest.mark.promise
def test_nothing_of_tunes_own_files_is_left(smoke: tuple[Path, Done]) -> None:
    folder, (_, summary) = smoke
    home = (folder / summary["journal"]).parent
    assert {path.name for path in home.iterdir()} == {
        "data.json",
        "data.png",
        "journal.jsonl",
        "lock.json",
        "optuna.log",
        "pictures",
        "report.html",
        "requests",
        "trials",
    }
    assert not [
        path for path in home.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")
    ]


def test_bayes_and_asha_repeat_with_one_trial_at_a_time(
    smoke: tuple[Path, Done], tmp_path: Path, inline: Inline
) -> None:
    """Also with the other executor."""
    folder, (_, first) = smoke
    _, second = inline(
        "run",
        "--space",
        "smoke",
        "--name",
        "again",
        "--concurrency",
        1,
        "--trials",
        6,
        "--max-epochs",
        3,
        "--set",
        "epochs=3",
    )
    assert metrics_of(first, folder) == metrics_of(second, tmp_path)


def test_what_an_earlier_search_has_trained_is_not_trained_again(
    smoke: tuple[Path, Done], tmp_path: Path, inline: Inline
) -> None:
    """The same search in the same storage: the same trials, each with checkpoints, an evaluation
    and a run of its own, and nothing trained.
    """
    folder, (_, first) = smoke
    shutil.copytree(folder / "searches", tmp_path / "searches")
    words = [
        "--space",
        "smoke",
        "--name",
        "again",
        "--concurrency",
        1,
        "--trials",
        6,
        "--max-epochs",
        3,
        "--set",
        "epochs=3",
    ]
    done, again = inline("run", *words)
    assert done.returncode == 0, done.stderr
    assert metrics_of(again, tmp_path) == metrics_of(first, folder)
    assert (again["epochs_trained"], again["epochs_taken_over"], again["train_s"]) == (
        0,
        first["epochs_trained"],
        0,
    )
    assert {key: value for key, value in again["best"].items() if key != "checkpoint"} == {
        key: value for key, value in first["best"].items() if key != "checkpoint"
    }
    assert "trainings of earlier searches (first) with the same code" in done.stderr
    assert f"reused {first['epochs_trained']} epochs (6 trials) of 'first'" in done.stderr
    result = SearchResult.read(tmp_path / "searches" / "again")
    assert all(trial.evaluation for trial in result.ranking)
    begun = {
        child.data.tags["search.trial"]: child.data.tags["begun"]
        for child in children_of(again, tmp_path)
    }
    assert begun["t0001"].startswith("t0001 of first, epoch ")
    shutil.rmtree(tmp_path / "searches" / "first")
    checkpoint.verify(checkpoint_of(result.ranking[0], tmp_path / "searches" / "again"))


@pytest.mark.slow(60)
@pytest.mark.long
def test_two_workers_stop_when_told_and_train_on_to_the_accuracy_of_one(
    tmp_path: Path, inline: Inline
) -> None:
    """They are stopped by a budget as at a rung: between two epochs, by the trial's gate."""
    settings = ["--set", "data.train_limit=400", "--set", "epochs=4", "--set", "optimizer.lr=0.01"]
    words = ["--space", "smoke", "--scheduler", "fifo", "--trials", 1, "--max-epochs", 4, *settings]
    _, one = inline("run", *words, "--name", "one")
    done, cut = run_in(tmp_path, *words, "--name", "two", "--workers", 2, "--budget", "2epochs")
    assert done.returncode == 0, done.stderr
    assert "are reused" not in done.stderr, "what two have trained is another training"
    assert (cut["outcome"], cut["epochs_trained"]) == ("budget", 2)
    assert sorted(
        path.name
        for path in checkpoint.list_checkpoints(tmp_path / "searches" / "two" / "trials" / "t0001")
    ) == ["epoch-0001", "epoch-0002"]
    command = [sys.executable, "-m", "search.resume", "two", "--json", "--budget", "4epochs"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout.splitlines()[-1])
    assert two["trials"] == {"completed": 1}
    assert two["best"]["params"] == one["best"]["params"]
    assert two["epochs_trained"] == one["epochs_trained"] == 4
    assert two["models"][0]["macro_f1"] == pytest.approx(one["models"][0]["macro_f1"], abs=0.01)
    assert two["best"]["val_accuracy"] == pytest.approx(one["best"]["val_accuracy"], abs=0.01)


@pytest.mark.usefixtures("database")
@pytest.mark.slow(60)
@pytest.mark.long
def test_two_workers_wait_at_a_rung_and_go_on_when_they_are_told(tmp_path: Path) -> None:
    """In one session: what is trained beyond the rung is trained after the trial was let through
    it.
    """
    settings = ["--set", "model.width=8", "--set", "epochs=2", "--set", "data.train_limit=300"]
    _, summary = run_in(
        tmp_path,
        "--space",
        "smoke",
        "--trials",
        2,
        "--max-epochs",
        2,
        "--sure",
        0.999,
        *settings,
        "--workers",
        2,
        "--name",
        "s",
    )
    home = tmp_path / "searches" / "s"
    assert (summary["trials"], summary["epochs_trained"]) == ({"completed": 2}, 4)
    events = read(home / "journal.jsonl")
    assert "t0001" in {event.data.trial for event in events if event.kind == "held"}
    for trial in ("t0001", "t0002"):
        (told,) = (
            event.time_ms
            for event in events
            if event.kind == "promoted" and event.data.trial == trial
        )
        first, second = sorted(
            checkpoint.list_checkpoints(home / "trials" / trial), key=lambda path: path.name
        )
        assert (
            first.stat().st_mtime_ns // 1_000_000 <= told <= second.stat().st_mtime_ns // 1_000_000
        )


@pytest.mark.slow(60)
def test_the_whole_grid_is_visited_once_and_what_is_the_same_is_trained_once(
    tmp_path: Path, inline: Inline
) -> None:
    """Of one epoch each, configurations that differ in their epochs alone are the same training."""
    words = ("--space", "table3", "--algorithm", "grid", "--scheduler", "fifo")
    small = ("--set", "data.train_limit=200")
    done, summary = inline("run", *words, *small, "--max-epochs", 1, "--name", "grid")
    assert done.returncode == 0
    assert summary["trials"] == {"completed": 243}
    assert (summary["epochs_trained"], summary["epochs_taken_over"]) == (81, 162)
    assert "reused 162 epochs (162 trials) of this search" in done.stderr
    result = SearchResult.read(tmp_path / "searches" / "grid")
    assert all(
        checkpoint_of(trial, tmp_path / "searches" / "grid").is_dir() and trial.evaluation
        for trial in result.ranking
    )
    visited = [tuple(sorted(trial.params.items())) for trial in result.trials.values()]
    assert sorted(visited) == sorted(
        tuple(sorted(point.items())) for point in find("table3").points()
    )
    assert len(children_of(summary, tmp_path)) == 243


def test_a_diverged_trial_is_never_best_and_the_exit_code_says_it(
    tmp_path: Path, inline: Inline
) -> None:
    space = tmp_path / "space.py"
    space.write_text(
        "from search.space import *\nspace = SearchSpace({'optimizer.lr': Choice(0.01, 1e6)}, "
        "base={'model.name': 'deep_cnn', 'epochs': 2})\n"
    )
    words = ("--algorithm", "grid", "--scheduler", "fifo", "--name", "d")
    done, summary = inline("run", "--space", f"{space}:space", *words)
    assert done.returncode == 3
    assert summary["trials"] == {"completed": 1, "diverged": 1}
    assert summary["best"]["params"]["optimizer.lr"] == 0.01
    assert "diverged: train/loss is" in done.stderr
    statuses = {
        child.data.params["optimizer.lr"]: child.info.status
        for child in children_of(summary, tmp_path)
    }
    assert statuses == {"0.01": "FINISHED", "1000000.0": "FAILED"}


@pytest.mark.usefixtures("database")
@pytest.mark.promise
def test_one_ctrl_c_lets_each_trial_finish_its_epoch(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "search.run",
        "--json",
        "--space",
        "table3",
        "--name",
        "cut",
        "--scheduler",
        "fifo",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "searches" / "cut" / "journal.jsonl"
    wait_for(lambda: journal.exists() and '"event": "epoch"' in journal.read_text(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130
    summary = json.loads(out.splitlines()[-1])
    assert summary["outcome"] == "interrupted"
    assert "stopping: each trial finishes its current epoch" in err
    result = SearchResult.read(journal.parent)
    assert {trial.outcome for trial in result.trials.values()} <= {"completed", "interrupted"}
    # MLflow is waited for five seconds here; a busy machine may take longer, and says how to go on.
    if "MLflow did not accept all results" in err:
        subprocess.run(
            [sys.executable, "-m", "search.sync", "cut"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()], max_results=5000
    )
    assert len(runs) == 1 + len(result.trials)
    assert "RUNNING" not in {run.info.status for run in runs}


@pytest.fixture
def mlflow_server(tmp_path: Path, database: str) -> Iterator[str]:
    """A real MLflow server on a free port."""
    port = free_port()
    words = [
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        database,
    ]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [
        sys.executable,
        "-m",
        "mlflow",
        *words,
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=600)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except OSError:
        return False


def test_a_search_is_recorded_on_a_real_server(
    tmp_path: Path, mlflow_server: str, call: Command
) -> None:
    words = ("--space", "smoke", "--name", "served", "--trials", 3, "--executor", "inline")
    done = call("search.run", *words, "--tracking", mlflow_server, "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0
    children = children_of(summary, tmp_path)
    assert len(children) == 3
    client = MlflowClient(mlflow_server)
    points = sum(
        len(client.get_metric_history(child.info.run_id, "val/accuracy")) for child in children
    )
    assert points == summary["epochs_trained"]
    assert f"{mlflow_server}/#/experiments/" in done.stderr
    assert {item.path for item in client.list_artifacts(summary["mlflow"]["parent_run_id"])} == {
        "curves.png",
        "data.json",
        "data.png",
        "report.html",
    }


@pytest.mark.promise
def test_a_dry_run_plans_and_starts_nothing(call: Command, tmp_path: Path) -> None:
    done = call(
        "search.run",
        "--space",
        "table3",
        "--dry-run",
        "--algorithm",
        "grid",
        "--scheduler",
        "fifo",
        "--device",
        "cpu",
    )
    assert done.returncode == 0
    assert "243 configurations, 2,430 epochs at most" in done.stdout
    assert (
        "  10 classes, 1,079 training, 359 validation, 359 test images of 1 x 8 x 8 "
        "(channels, height, width)\n"
    ) in done.stdout
    assert "nothing was started" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_traditional_way_is_searched_like_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: Inline
) -> None:
    """Each trial is complete after its one epoch, the best is tested from its checkpoint, and a
    resume finds nothing left to do.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("--algorithm", "random", "--trials", 6, "--set", "data.train_limit=300")
    done, summary = inline("run", "--space", "baselines", "--name", "old", *words)
    assert done.returncode == 0, done.stderr
    result = SearchResult.read((tmp_path / summary["journal"]).parent)
    assert {trial.outcome for trial in result.trials.values()} == {"completed"}
    assert {(len(trial.epochs), trial.config["epochs"]) for trial in result.trials.values()} == {
        (1, 1)
    }
    assert summary["best"]["val_accuracy"] > 0.8
    assert summary["best"]["test_accuracy"] == pytest.approx(
        summary["best"]["val_accuracy"], abs=0.1
    )
    state = checkpoint.load(tmp_path / summary["best"]["checkpoint"])
    assert state["extra"]["metrics"]["val/accuracy"] == summary["best"]["val_accuracy"]
    assert len(children_of(summary, tmp_path)) == 6
    again, _ = inline("resume", "old")
    assert again.returncode == 0, again.stderr
    assert SearchResult.read((tmp_path / summary["journal"]).parent).trials == result.trials


@pytest.mark.promise
def test_a_plan_of_the_traditional_way_counts_one_epoch_a_trial(call: Command) -> None:
    done = call(
        "search.run",
        "--space",
        "baselines",
        "--dry-run",
        "--algorithm",
        "grid",
        "--scheduler",
        "asha",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    assert "96 configurations, 96 epochs at most" in done.stdout


FAMILIES = """
from search.space import Choice, SearchSpace
space = SearchSpace({"model.name": Choice("mobilenet_v3_small", "svm", "alexnet")}, \
base={"epochs": 1, "batch_size": 64})
"""


@pytest.mark.promise
def test_families_and_baselines_stand_side_by_side_and_what_cannot_fit_is_left_out(
    tmp_path: Path, inline: Inline
) -> None:
    """AlexNet is left out of a search on images of 8 x 8 pixels, which is complete without it; a
    resume has nothing to do.
    """
    (tmp_path / "space.py").write_text(FAMILIES)
    words = ("--algorithm", "grid", "--scheduler", "fifo", "--name", "families")
    done, summary = inline("run", "--space", "space.py", *words)
    assert done.returncode == 0, done.stderr
    assert (
        "note: a model was left out: alexnet needs images of at least 63 x 63 pixels (got 8 x 8)."
        in done.stderr
    )
    assert "  continue " not in done.stderr
    compared = {row["model"]: row for row in summary["models"]}
    assert set(compared) == {"mobilenet_v3_small", "svm"}
    assert compared["mobilenet_v3_small"]["parameters"] == 1_528_106
    assert all(row["macro_f1"] > 0 and row["ms_per_image_batch_1"] > 0 for row in compared.values())
    before = (tmp_path / summary["journal"]).read_bytes()
    again, _ = inline("resume", "families")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / summary["journal"]).read_bytes() == before
