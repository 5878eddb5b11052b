"""The MLflow projection against a real SQLite store."""

import base64
import http.server
import socket
import sqlite3
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlExperiment, SqlExperimentTag
from sqlalchemy import event
from sqlalchemy.orm import Session

from cluster.errors import NotReady
from cluster.secrets import redact
from search.decisions.driver import Driver
from search.design.experiment import Experiment, absolute
from search.journal.events import (
    Epoch,
    Evaluated,
    Evidence,
    Resumed,
    Running,
    Selected,
    Selecting,
    Started,
    Suggested,
    Tested,
    Unevaluated,
)
from search.journal.journal import Event, Journal
from search.journal.result import SearchResult
from search.sync import main as sync
from search.tracking import runs as runs_module
from search.tracking import tracker as tracker_module
from search.tracking.client import client_of, sqlite_path
from search.tracking.model_registry import Registry
from search.tracking.runs import Runs, _keys, new_title
from search.tracking.tracker import Tracker
from search.tracking.uri import TIMEOUT_S, TRIES, check_tracking
from search.values.statistics import Expected
from search.views.text.sentences import risk_text
from tests.support.in_mlflow import contents, runs
from tests.support.played import (
    OpenDriver,
    changed,
    evaluation,
    good_lr_wins,
    play,
    reopened,
    report,
    started_event,
)
from trainables.config import TrialConfig
from trainables.errors import ConfigError

TEST = {
    "accuracy": 0.75,
    "macro": {"precision": 0.8, "recall": 0.75, "f1": 0.77, "auc": None},
    "per_class": {"a/b*ü": {"precision": 0.8, "recall": 0.7, "f1": 0.7, "images": 2}},
}


BUSY_S = 600
"""How long the database of a busy machine may take, where a second tracker must not begin before
the first has ended.
"""


@pytest.fixture
def uri(database: str) -> str:
    return database


def train(config: TrialConfig, epoch: int) -> dict[str, Any]:
    return (
        report(epoch, 0, "diverged", "loss is inf")
        if config.optimizer.lr == 0.1
        else good_lr_wins(config, epoch)
    )


def tracked(
    uri: str, search: Experiment, open_driver: OpenDriver, *, finish: bool = True
) -> tuple[Tracker, Any]:
    """Play a search into MLflow."""
    driver = open_driver(search)
    tracker = Tracker(uri, search.folder)
    driver.journal.listeners.append(tracker)
    if finish:
        play(driver, train, slots=2)
    return tracker, driver


def test_a_search_in_mlflow_is_the_search_in_the_journal(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, changed(experiment, scheduler="asha", sure=0.5), open_driver)
    tracker.close()
    assert tracker.error == ""
    parent, children = runs(uri, tracker)
    client, result = MlflowClient(uri), driver.result
    by_trial = {child.data.tags["search.trial"]: child for child in children}
    assert by_trial.keys() == result.trials.keys()
    assert len(children) == 9
    for name, trial in result.trials.items():
        child = by_trial[name]
        assert child.data.params == {path: str(value) for path, value in trial.params.items()}
        assert (
            child.info.status
            == {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED"}[trial.outcome]
        )
        assert child.data.tags["outcome"] == trial.outcome
        assert f": {trial.outcome}" in child.data.tags["mlflow.note.content"]
        for metric in ("train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s"):
            points = {
                point.step: point.value
                for point in client.get_metric_history(child.info.run_id, metric)
            }
            assert points == {epoch: values[metric] for epoch, values in trial.epochs.items()}
        if trial.outcome == "diverged":
            assert "best/val_accuracy" not in child.data.metrics
        else:
            assert child.data.metrics["best/val_accuracy"] == trial.primary_value
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best.trial"] == result.best.trial
    assert parent.data.metrics["search/risk"] == pytest.approx(result.risk.chance)
    assert risk_text(result) in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["data.fingerprint"] == "f00d"
    assert "| t0" in parent.data.tags["mlflow.note.content"]
    tags = client.get_experiment(tracker.experiment_id).tags
    assert tags["mlflow.experiment.primaryMetric.name"] == "best/val_accuracy"
    assert "metrics.`best/val_accuracy`" in tags["mlflow.sharedViewState.models"]


def test_test_figures_and_artifacts_reach_the_best_trial_and_the_parent(
    uri: str, experiment: Experiment, open_driver: OpenDriver, tmp_path: Path
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    trial, _ = driver.suggest()
    driver.running(trial, host="")
    driver.report(trial, report(1, 0.5, "completed"))
    driver.journal.append(
        Tested(
            trial=trial,
            epoch=1,
            test=TEST | {"ece": 0.1, "weighted": {"f1": 0.7, "auc": None}},
        )
    )
    (experiment.folder / "evidence").mkdir()
    (experiment.folder / "evidence" / "test.json").write_text("{}")
    driver.journal.append(Evidence(trial=trial, file="evidence", path="deep"))
    driver.journal.append(Evidence(trial="", file="evidence/test.json", path=""))
    driver.journal.append(Evidence(trial="", file="gone", path=""))
    driver.finish()
    tracker.close()
    assert tracker.error == ""
    parent, (child,) = runs(uri, tracker)
    for run in (parent, child):
        assert run.data.metrics["test/accuracy"] == 0.75
        assert run.data.metrics["test_class/a_b_ü/f1"] == 0.7
        assert (run.data.metrics["test/ece"], run.data.metrics["test/weighted_f1"]) == (0.1, 0.7)
        assert not {"test/auc", "test/weighted_auc"} & run.data.metrics.keys()
    client = MlflowClient(uri)
    assert [item.path for item in client.list_artifacts(child.info.run_id, "deep")] == [
        "deep/test.json"
    ]
    assert [item.path for item in client.list_artifacts(parent.info.run_id)] == ["test.json"]


def test_an_evaluation_reaches_its_trials_run_once(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    """Its run has ended then, and stays so; what a baseline does not have, and an area that does
    not exist, are left out.
    """
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    play(driver, train, slots=2)
    first, second = driver.result.ranking[:2]
    driver.journal.append(Evaluated(trial=first.trial, epoch=first.best_epoch, **evaluation()))
    plain = evaluation()
    plain["cost"] |= {"parameters": None, "multiply_adds": None}
    driver.journal.append(Evaluated(trial=second.trial, epoch=second.best_epoch, **plain))
    driver.journal.append(Unevaluated(reasons={"damaged": ["t0009"]}))
    tracker.close()
    assert tracker.error == ""
    found = {child.data.tags["search.trial"]: child for child in runs(uri, tracker)[1]}
    metrics = {
        name.removeprefix("eval/"): value
        for name, value in found[first.trial].data.metrics.items()
        if name.startswith("eval/")
    }
    assert metrics == {
        "accuracy": 0.75,
        "ece": 0.125,
        **{
            f"{kind}_{name}": value
            for kind in ("macro", "weighted")
            for name, value in (("precision", 0.5), ("recall", 0.25))
        },
        "macro_f1": 0.5,
        "weighted_f1": 0.625,
        "parameters": 1234567,
        "multiply_adds": 7654321,
        "bytes": 4_940_000,
        "train_s": first.train_s,
        "ms_per_image_batch_1": 1.5,
        "ms_per_image_batch_1_p95": 3.0,
        "ms_per_image_batch_64": 1.5 / 64,
        "ms_per_image_batch_64_p95": 3.0 / 64,
    }
    assert found[first.trial].info.status == "FINISHED"
    assert not {"eval/parameters", "eval/multiply_adds"} & found[second.trial].data.metrics.keys()
    assert sum("eval/accuracy" in child.data.metrics for child in found.values()) == 2
    before = contents(uri, tracker)
    again = Tracker(uri, experiment.folder)
    again.close()
    assert (again.error, contents(uri, again)) == ("", before)


def test_no_run_is_left_running_when_a_search_is_cut_off(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    trial, _ = driver.suggest()
    driver.running(trial, host="")
    driver.close("interrupted", "Ctrl-C twice")
    driver.finish()
    tracker.close()
    parent, (child,) = runs(uri, tracker)
    assert {parent.info.status, child.info.status} == {"KILLED"}
    assert child.data.tags["outcome"] == "interrupted"


def test_training_does_not_wait_for_mlflow_and_its_error_is_told_once(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        tracker, driver = tracked(
            f"http://user:secret@127.0.0.1:{port}", experiment, open_driver, finish=False
        )
        play(driver, train, slots=2)
        connection, _ = silent.accept()  # it was asked, and has not answered to this moment
        assert driver.result.is_over
        connection.close()
    tracker.close(patience_s=0.5)
    assert tracker.error
    assert "secret" not in tracker.error
    assert driver.result.outcome == "completed"


class Answers(http.server.ThreadingHTTPServer):
    """An HTTP server that answers requests for its health, and all others, with these codes."""

    def __init__(self) -> None:
        self.health, self.code = 200, 200
        self.logins: list[str | None] = []
        """What the others logged in with."""
        answers = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if healthy := self.path == "/health":
                    assert "Authorization" not in self.headers
                else:
                    answers.logins.append(self.headers["Authorization"])
                self.send_response(answers.health if healthy else answers.code)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.uri = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Such a server, asked by somebody who has no login yet."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Answers() as answers:
        threading.Thread(target=answers.serve_forever, args=(0.05,), daemon=True).start()
        yield answers
        answers.shutdown()


def test_a_server_that_answers_is_ready(server: Answers) -> None:
    for server.health in (200, 401, 403):
        check_tracking(server.uri)
    server.health = 500
    with pytest.raises(NotReady, match="HTTP 500"):
        check_tracking(server.uri)
    server.health, server.code = 200, 503
    with pytest.raises(NotReady, match=r"MLflow cannot be reached at .* \(HTTP 503\)"):
        check_tracking(server.uri)


@pytest.mark.parametrize("code", [401, 403])
def test_a_server_that_refuses_the_login_is_not_ready(
    server: Answers, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.code = code
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    with pytest.raises(NotReady) as caught:
        check_tracking(server.uri)
    assert str(caught.value) == f"MLflow at {server.uri} refuses this login ({code}). {remedy}"
    assert server.logins == [f"Basic {base64.b64encode(b'me:hunter2').decode()}"]


def test_a_certificate_of_ones_own_is_taken_where_mlflow_is_told_of_it(
    server: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=me",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(
        ["openssl", "req", "-x509", *words, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    uri = server.uri.replace("http", "https")
    with pytest.raises(NotReady, match="CERTIFICATE_VERIFY_FAILED"):
        check_tracking(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    check_tracking(uri)
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    with pytest.warns(match="Unverified HTTPS request"):
        check_tracking(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "http://no-such-host.invalid:5000",
        "http://user:secret@127.0.0.1:9",
        "postgresql://user:secret@127.0.0.1:9/db",
    ],
)
def test_a_server_that_does_not_answer_is_asked_twice_and_reported(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, timeouts = socket.create_connection, list[float]()

    def counted(address: tuple[str, int], timeout: float, *rest: Any) -> socket.socket:
        timeouts.append(timeout)
        return connect(address, timeout, *rest)

    monkeypatch.setattr(socket, "create_connection", counted)
    with pytest.raises(NotReady, match="MLflow cannot be reached at") as caught:
        check_tracking(uri)
    assert timeouts == [TIMEOUT_S] * TRIES
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:///tmp/mlruns"])
def test_folder_tracking_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="MLflow no longer supports a folder as the tracking URI"):
        check_tracking(uri)


@pytest.mark.parametrize("uri", ["databricks", "databricks://prod", "databricks-uc"])
def test_databricks_is_refused_in_a_line(uri: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"Databricks is not supported as a tracking server \(got '{uri}'\)"
    ):
        check_tracking(uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:abc", "postgresql://h:abc/db", "http://[::1"])
def test_a_uri_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="is not a tracking URI"):
        check_tracking(uri)


def test_a_login_in_the_uri_is_not_part_of_the_host(server: Answers) -> None:
    check_tracking(server.uri.replace("//", "//user:secret@"))
    assert server.logins == [f"Basic {base64.b64encode(b'user:secret').decode()}"]


def test_a_file_that_is_no_database_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text(
        "this is no database, but it is long enough to be taken for one " * 10
    )
    with pytest.raises(NotReady, match="cannot be opened"):
        check_tracking(f"sqlite:///{tmp_path}/mlflow.db")


def test_to_project_again_changes_nothing(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    search = changed(experiment, scheduler="asha")
    tracker, _ = tracked(uri, search, open_driver)
    tracker.close(BUSY_S)
    before = contents(uri, tracker)
    again = Tracker(uri, search.folder)
    again.close(BUSY_S)
    assert (again.error, again.parent_run_id) == ("", tracker.parent_run_id)
    assert contents(uri, again) == before


def test_a_resumed_search_goes_on_in_the_same_runs(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    play(driver, train, slots=2, events=30)
    tracker.close(BUSY_S)
    again = reopened(driver)
    second = Tracker(uri, experiment.folder)
    again.journal.listeners.append(second)
    play(again, train, slots=2)
    second.close(BUSY_S)
    parent, children = runs(uri, second)
    assert second.parent_run_id == tracker.parent_run_id
    assert sorted(child.data.tags["search.trial"] for child in children) == sorted(
        again.result.trials
    )
    assert {parent.info.status, *(child.info.status for child in children)} <= {
        "FINISHED",
        "FAILED",
    }
    client = MlflowClient(uri)
    for child in children:
        steps = [
            point.step for point in client.get_metric_history(child.info.run_id, "val/accuracy")
        ]
        assert steps == sorted(again.result.trials[child.data.tags["search.trial"]].epochs)


def test_epochs_that_the_journal_lost_and_a_trial_told_again_are_not_doubled(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    """The end of the journal is gone, but MLflow had it: the same epochs come again with other
    times.
    """
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    play(driver, train, events=6)
    tracker.close(BUSY_S)
    lines = driver.journal.path.read_bytes().splitlines(keepends=True)
    driver.journal.path.write_bytes(b"".join(lines[:-2]))
    again = reopened(driver)
    second = Tracker(uri, experiment.folder)
    again.journal.listeners.append(second)
    play(again, train)
    second.close(BUSY_S)
    _, children = runs(uri, second)
    assert len(children) == 9
    client = MlflowClient(uri)
    for child in children:
        steps = [
            point.step for point in client.get_metric_history(child.info.run_id, "val/accuracy")
        ]
        assert (
            len(steps)
            == len(set(steps))
            == len(again.result.trials[child.data.tags["search.trial"]].epochs)
        )


def test_a_paused_trial_is_not_left_running(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    trial, _ = driver.suggest()
    driver.running(trial, host="")
    driver.close("interrupted", "stopped by SIGINT")
    driver.report(trial, report(1))
    tracker.close()
    _, (child,) = runs(uri, tracker)
    assert (child.info.status, child.data.tags["outcome"]) == ("KILLED", "interrupted")


class Flaky(MlflowClient):
    """A client some of whose calls fail, after they were carried out."""

    fails: ClassVar[list[str]] = []

    def create_run(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("create_run", super().create_run(*arguments, **options))

    def log_batch(self, *arguments: Any, **options: Any) -> Any:
        return self._lose("log_batch", super().log_batch(*arguments, **options))

    def _lose(self, name: str, answer: Any) -> Any:
        if name in self.fails:
            self.fails.remove(name)
            raise ConnectionError(f"the answer to {name} was lost")
        return answer


class Down(MlflowClient):
    """A client one of whose batches never arrives."""

    left = 1

    def log_batch(self, *arguments: Any, **options: Any) -> Any:
        if type(self).left:
            type(self).left -= 1
            raise ConnectionError("nobody there")
        return super().log_batch(*arguments, **options)


def test_a_run_that_was_made_just_before_an_outage_gets_its_params(
    uri: str, experiment: Experiment, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "MlflowClient", Down)
    monkeypatch.setattr(Down, "left", 1)
    monkeypatch.setattr(tracker_module, "RETRY_S", (0,))
    tracker, _ = tracked(uri, experiment, open_driver)
    tracker.close()
    assert (tracker.error, Down.left) == ("", 0)
    parent, children = runs(uri, tracker)
    assert parent.data.params["algorithm"] == "grid"
    assert all(child.data.params.keys() == {"optimizer.lr", "epochs"} for child in children)


def test_a_trial_that_died_before_it_ran_has_a_run_once_it_has_something_to_keep(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    trial, _ = driver.suggest()
    (experiment.folder / "errors.txt").write_text("no such luck")
    driver.fail(trial, "lost", "its process was lost", traceback="errors.txt")
    assert driver.attempt(trial) == 2
    driver.running(driver.suggest()[0])
    driver.report(trial, report(1))
    tracker.close()
    assert tracker.error == ""
    _, (child,) = runs(uri, tracker)
    assert child.data.metrics["val/accuracy"] == 0.5
    assert [
        file.path for file in MlflowClient(uri).list_artifacts(child.info.run_id, "errors")
    ] == ["errors/errors.txt"]


def test_a_new_database_and_the_artifacts_beside_it_are_their_owners_only(
    uri: str, experiment: Experiment, open_driver: OpenDriver, tmp_path: Path
) -> None:
    (tmp_path / "fresh").mkdir()
    client_of(f"sqlite:///{tmp_path}/fresh/mlflow.db")
    assert stat.S_IMODE((tmp_path / "fresh" / "mlflow.db").stat().st_mode) == 0o600
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    (experiment.folder / "picture.png").write_bytes(b"pixels")
    driver.journal.append(Evidence(trial="", file="picture.png", path=""))
    tracker.close()
    (picture,) = (tmp_path / "mlartifacts").rglob("picture.png")
    assert picture.read_bytes() == b"pixels"
    artifacts = tmp_path / "mlartifacts"
    own = artifacts / picture.relative_to(artifacts).parts[0]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (artifacts, own)] == [0o700, 0o700]


def test_a_journal_can_send_no_file_that_is_not_the_searchs(
    uri: str, experiment: Experiment, open_driver: OpenDriver, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    (experiment.folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (experiment.folder / "kept.txt").write_text("ours")
    (experiment.folder / "folder").mkdir()
    (experiment.folder / "folder" / "link.txt").symlink_to(tmp_path / "secret.txt")
    for name in (
        f"../../{tmp_path.name}/secret.txt",
        str(tmp_path / "secret.txt"),
        "link.txt",
        "folder",
        "kept.txt",
    ):
        driver.journal.append(Evidence(trial="", file=name, path=""))
    tracker.close()
    assert [file.path for file in MlflowClient(uri).list_artifacts(tracker.parent_run_id)] == [
        "kept.txt"
    ]


@pytest.mark.parametrize(
    "lost", [["create_run"], ["create_run", "create_run", "log_batch"], ["log_batch"] * 3]
)
def test_an_answer_that_was_lost_makes_no_second_run_and_no_second_point(
    uri: str,
    experiment: Experiment,
    open_driver: OpenDriver,
    monkeypatch: pytest.MonkeyPatch,
    lost: list[str],
) -> None:
    monkeypatch.setattr(mlflow, "MlflowClient", Flaky)
    monkeypatch.setattr(tracker_module, "RETRY_S", (0,))
    Flaky.fails = lost
    heard: list[str] = []
    driver = open_driver(experiment)
    tracker = Tracker(uri, experiment.folder, say=heard.append)
    driver.journal.listeners.append(tracker)
    play(driver, train, slots=2)
    tracker.close()
    assert (tracker.error, Flaky.fails) == ("", [])
    assert [text[:20] for text in heard] == ["MLflow does not acce", "MLflow accepts the r"]
    parent, children = runs(uri, tracker)
    assert (
        len(MlflowClient(uri).search_runs([tracker.experiment_id], run_view_type=ViewType.ALL))
        == 10
    )
    assert parent.info.status == "FINISHED"
    client = MlflowClient(uri)
    assert (
        sum(len(client.get_metric_history(child.info.run_id, "val/loss")) for child in children)
        == driver.result.epochs_trained
    )


@pytest.mark.parametrize(
    ("data", "is_news"), [(Evidence("", "data.json", ""), False), (Running("t0001", 1), True)]
)
def test_mlflow_is_left_alone_until_a_trial_runs(data: Any, is_news: bool) -> None:
    """On a small machine its import would delay the first trials by seconds."""
    waiting = SimpleNamespace(_news=threading.Event())
    Tracker.__call__(cast(Tracker, waiting), Event(1, 0, data))
    assert waiting._news.is_set() == is_news


def test_runs_deleted_in_the_ui_are_brought_back(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, _ = tracked(uri, experiment, open_driver)
    tracker.close()
    client, (parent, children) = MlflowClient(uri), runs(uri, tracker)
    for run in (parent, children[0]):
        client.delete_run(run.info.run_id)
    again = Tracker(uri, experiment.folder)
    again.close()
    assert len(runs(uri, again)[1]) == 9
    assert again.parent_run_id == tracker.parent_run_id


def test_a_database_that_is_locked_is_waited_for(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver, finish=False)
    play(driver, train, events=1)
    wait_until(lambda: tracker.parent_run_id != "")
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        play(driver, train, slots=2)
        assert driver.result.is_over
        assert other.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (
            0,
        ), "the search has ended, and MLflow still waits"
        other.execute("COMMIT")
    tracker.close()
    assert tracker.error == ""
    assert len(runs(uri, tracker)[1]) == 9


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BUSY_S
    while not condition():
        assert time.monotonic() < end, "waited ten minutes in vain"
        time.sleep(0.05)


def test_an_experiment_deleted_in_the_ui_is_brought_back(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, _ = tracked(uri, experiment, open_driver)
    tracker.close()
    MlflowClient(uri).delete_experiment(tracker.experiment_id)
    again, _ = tracked(uri, changed(experiment, name="again"), open_driver)
    again.close()
    assert again.error == ""
    assert again.experiment_id == tracker.experiment_id
    assert len(runs(uri, again)[1]) == 9


@pytest.mark.parametrize("is_there", [False, True])
def test_searches_that_begin_at_the_same_moment_share_an_experiment(
    uri: str, experiment: Experiment, tmp_path: Path, is_there: bool
) -> None:
    """Each looks for the experiment, its view and its data set before the other has added them."""
    client, name = MlflowClient(uri), "nine-digits"
    if is_there:  # made by a version that kept no view of the list of runs
        client.create_experiment(name)
    both, kinds = threading.Barrier(2), (SqlExperiment, SqlExperimentTag, SqlDataset)
    met: set[tuple[int, type]] = set()

    def look_first(session: Session, *_: object) -> None:
        """Wait, once for each kind of row, until both are about to add one."""
        for kind in kinds:
            me = (threading.get_ident(), kind)
            if me not in met and any(isinstance(row, kind) for row in session.new):
                met.add(me)
                both.wait(BUSY_S)
                return

    def write(search: str) -> str:
        began = {**started_event(), "id": search}
        told = Started(name=search, experiment=experiment.describe(), **began)
        written = Runs(uri, tmp_path)
        try:
            written.project([Event(1, 0, told)])
        except BaseException:
            both.abort()
            raise
        return written.experiment_id

    event.listen(Session, "before_flush", look_first)
    try:
        with ThreadPoolExecutor(2) as at_once:
            experiments = set(at_once.map(write, ["anna", "ben"]))
    finally:
        event.remove(Session, "before_flush", look_first)
    assert len(met) == 4, "both wrote two kinds of row at the same moment"
    (shared,) = experiments
    assert "mlflow.sharedViewState.models" in client.get_experiment(shared).tags
    found = client.search_runs([shared])
    assert {run.data.tags["search.id"] for run in found} == {"anna", "ben"}
    assert all(run.inputs and len(run.inputs.dataset_inputs) == 1 for run in found)


def test_a_kind_of_uri_that_nobody_knows_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown kind of tracking URI 'htp'\. Known: .* Did you mean 'http'"
    ):
        check_tracking("htp://127.0.0.1:5000")


def test_a_question_mark_in_an_sqlite_uri_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'sqlite:////tmp/what\?/mlflow\.db' must not contain a '\?'\. "
        r"Write it as %3F in --tracking\.",
    ):
        check_tracking("sqlite:////tmp/what?/mlflow.db")


def test_a_database_in_a_folder_whose_name_means_something_in_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "what? 100% #1%20"
    folder.mkdir()
    monkeypatch.chdir(folder)
    uri = absolute("sqlite:///mlflow.db")
    assert sqlite_path(uri) == folder / "mlflow.db"
    MlflowClient(uri).search_experiments()
    assert (folder / "mlflow.db").stat().st_size
    check_tracking(uri)


def test_an_sqlite_file_in_no_folder_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="does not exist or is not writable"):
        check_tracking(f"sqlite:///{tmp_path}/none/mlflow.db")


def test_a_password_is_masked() -> None:
    assert redact("postgresql://u:p@h:5/db") == "postgresql://***@h:5/db"
    assert redact("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def select_twice(driver: Driver) -> None:
    """Append a selection's events: of two verdicts the second prefers another, and none ends it."""
    origin = {**driver.result.started.provenance, "git.commit": "1a7e57"}
    terms = Selecting(
        candidates=["t0001", "t0002"],
        seeds=2,
        alpha=0.05,
        slots=2,
        provenance=origin,
        began_ms=time.time_ns() // 1_000_000,
    )
    driver.journal.append(terms)
    for name in terms.candidates:
        known = driver.result.trials[name]
        driver.journal.append(
            Suggested(
                trial=f"{name}-s1",
                params=known.params,
                config={**known.config, "seed": 1},
                repeat_of=name,
                seed=1,
            )
        )
        driver.journal.append(Running(trial=f"{name}-s1", attempt=1))
        driver.journal.append(Epoch(trial=f"{name}-s1", epoch=1, metrics=report(1).metrics))
    for mean, name in ((0.9, "t0001"), (0.8, "t0002")):
        expected = Expected(mean=mean, low=mean, high=mean, std=0.0, seeds=2)
        names = {"candidate": name, "trial": f"{name}-s1", "leader": name}
        driver.journal.append(
            Selected(
                **names,
                expected=expected,
                search_value=1.0,
                rows=[],
                alpha=0.05,
                level=0.95,
            )
        )


def test_of_two_verdicts_the_last_one_counts(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver)
    select_twice(driver)
    tracker.close()
    assert not tracker.error
    parent, children = runs(uri, tracker)
    assert (
        parent.data.metrics["selected/val_accuracy_mean"],
        parent.data.tags["selection.outcome"],
    ) == (0.8, "running")
    assert {
        run.data.tags["search.trial"]: run.data.tags["selected"]
        for run in children
        if "selected" in run.data.tags
    } == {
        "t0001-s1": "false",
        "t0002-s1": "true",
    }


def test_a_selection_that_was_cut_off_says_so(
    uri: str, experiment: Experiment, open_driver: OpenDriver
) -> None:
    tracker, driver = tracked(uri, experiment, open_driver)
    select_twice(driver)
    tracker.close()
    assert not tracker.error
    begun_ms = driver.result.trials["t0009"].started_ms
    assert sync(["played", "--storage", str(experiment.storage), "--tracking", uri]) == 0
    parent, children = runs(uri, tracker)
    repeats = [run for run in children if run.data.tags["search.role"] == "repeat"]
    assert parent.data.tags["selection.outcome"] == "interrupted"
    assert {
        (run.data.tags["git.commit"], run.data.tags["mlflow.source.name"]) for run in repeats
    } == {("1a7e57", "search.select")}
    assert parent.data.tags["git.commit"] == "c0ffee"
    assert ({run.data.tags["seed"] for run in repeats}, parent.data.tags["seed"]) == ({"1"}, "0")
    assert [run.info.status for run in repeats] == ["KILLED", "KILLED"]
    assert all(run.info.end_time >= run.info.start_time >= begun_ms for run in repeats)


def runs_by_title(client: MlflowClient, *titles: str) -> list[list[Run]]:
    """Return the runs of all experiments that have any, which are to have these titles."""
    runs = {
        one.name: client.search_runs([one.experiment_id], "", ViewType.ALL)
        for one in client.search_experiments(ViewType.ALL)
    }
    with_runs = {title: found for title, found in runs.items() if found}
    assert list(with_runs) == list(titles)
    return list(with_runs.values())


@pytest.mark.parametrize(
    ("is_titled", "piece"), [(True, runs_module.AT_ONCE), (True, 4), (False, runs_module.AT_ONCE)]
)
def test_a_search_stays_in_its_experiment_whatever_becomes_of_links_roots_and_titles(
    uri: str,
    experiment: Experiment,
    tmp_path: Path,
    is_titled: bool,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Journals of the first version do not have the experiment's title: there it is found by the
    search's runs. A long journal is written in pieces.
    """
    monkeypatch.setattr(runs_module, "AT_ONCE", piece)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    link = tmp_path / "images"
    link.symlink_to(tmp_path / "first")
    started = started_event()
    data = {**started["data"], "name": "folder", "root": str(link)}
    title = new_title("nine", data, {})
    assert title == "nine-folder-first"
    journal = Journal(experiment.folder)
    driver = Driver(changed(experiment, trials=2), journal)
    known = {"mlflow_experiment": title} if is_titled else {}
    journal.append(
        Started(
            name=experiment.name,
            experiment=driver.experiment.describe(),
            **{**started, **known, "data": data},
        )
    )
    play(driver)
    words = [experiment.name, "--storage", str(experiment.storage), "--tracking", uri]
    assert sync(words) == 0
    client = MlflowClient(uri)
    link.unlink()
    link.symlink_to(tmp_path / "second")
    assert sync(words) == 0
    titled = client.get_experiment_by_name(title)
    assert titled is not None
    client.rename_experiment(titled.experiment_id, "a better title")
    assert sync(words) == 0
    journal.append(
        Resumed(
            slots=1,
            began_ms=started["began_ms"],
            data={**data, "root": str(tmp_path / "elsewhere")},
        )
    )
    driver.finish()
    journal.close()
    assert sync(words) == 0
    (found,) = runs_by_title(client, "a better title")
    assert sorted(run.data.tags.get("search.trial", "") for run in found) == ["", "t0001", "t0002"]
    result = SearchResult.read(experiment.folder)
    (parent,) = (run for run in found if run.data.tags["search.role"] == "search")
    assert Registry(uri, result, experiment.storage).run.info.run_id == parent.info.run_id


def test_names_that_differ_only_in_symbols_have_keys_of_their_own() -> None:
    assert _keys(["<30", ">30", "old"]) == {"<30": "_30", ">30": "_30_2", "old": "old"}
