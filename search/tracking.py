"""MLflow's picture of a search: a parent run, a child run a trial. The only module that writes to MLflow.

A projection of the journal: one background thread takes the events and writes them in batches, with the journal's own timestamps, so
training waits for nothing here, and a metric written again changes nothing. What MLflow does not take is still in the journal.
"""

import http.client
import logging
import os
import queue
import re
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cluster.errors import NotReady
from search.journal import Event
from search.result import SearchResult, TrialResult
from search.summary import markdown_summary
from trainables.errors import ConfigError, unknown

PRIMARY_METRIC = "best/val_accuracy"
STATUS = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TRIES, TIMEOUT_S = 2, 3
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""What MLflow takes in one `log_batch`."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


def masked(uri: str) -> str:
    """The URI without its user and password."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


def check_tracking(uri: str) -> None:
    """See whether MLflow can be written to, in at most a few seconds.

    Raises:
        ConfigError: a kind of URI that MLflow no longer takes.
        NotReady: nothing answers, or the SQLite file's folder cannot be written.
    """
    try:
        parts = urlsplit(uri)
        address = (parts.hostname, parts.port)
    except ValueError as error:
        raise ConfigError(f"'{masked(uri)}' is not a tracking URI ({error}). Use --tracking sqlite:///mlflow.db or a server's http:// address.") from error
    kind = parts.scheme.partition("+")[0]
    if kind in ("", "file"):
        raise ConfigError(f"folder tracking is no longer supported by MLflow (got '{uri}'). Use --tracking sqlite:///mlflow.db or a server's http:// address.")
    if kind not in KINDS:
        raise ConfigError(unknown("kind of tracking URI", kind, KINDS))
    if kind == "sqlite":
        if not re.match(r"[^/]+:///(?!:memory:)[^?]", uri):
            raise ConfigError(f"'{uri}' names no file, so nothing would be kept. Use --tracking sqlite:///mlflow.db.")
        folder = sqlite_path(uri).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise NotReady(f"the folder of {uri} is not there or not writable: '{folder}'. Use another --tracking.")
        _open_sqlite(uri)
    elif kind in ("http", "https"):
        _check(uri, lambda: _ask(uri))
    elif address[0]:
        place = (address[0], address[1] or PORTS[kind])
        _check(uri, lambda: socket.create_connection(place, timeout=TIMEOUT_S).close())


def sqlite_path(uri: str) -> Path:
    """The file of an `sqlite:///` URI."""
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _open_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise NotReady(f"{uri} cannot be opened ({error}). Use another --tracking.") from error


def _check(uri: str, attempt: Callable[[], None]) -> None:
    reason = ""
    for _ in range(TRIES):
        try:
            return attempt()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error))
    raise NotReady(f"MLflow not reachable at {masked(uri)} ({reason}). Start it with 'mlflow server', or use --tracking sqlite:///mlflow.db.")


def _ask(uri: str) -> None:
    """Ask a server for its health. One that wants a login answers too: the credentials are MLflow's own business."""
    parts = urlsplit(uri)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        urllib.request.urlopen(plain.rstrip("/") + "/health", timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise OSError(f"HTTP {error.code}") from error


@dataclass(frozen=True)
class Artifacts:
    """A folder of files to be stored with a run."""

    trial: str
    folder: Path
    path: str


Item = Event | Artifacts


class Tracker:
    """Give it the journal's events; it writes them to MLflow in a thread of its own. `close` waits for all of them."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.error = ""
        self.experiment_id = self.parent_run_id = ""
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take an event; returns at once."""
        self._queue.put(event)

    def add_artifacts(self, trial: str, folder: Path, path: str = "") -> None:
        """Store a folder's files, under `path`, with a trial's run, or with the parent run when `trial` is empty."""
        self._queue.put(Artifacts(trial, folder, path))

    def close(self) -> None:
        """Wait until everything given so far is written, or has failed (see `error`)."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            runs = Runs(self.uri)
            while (items := self._take()) is not None:
                runs.project(items)
                self.experiment_id, self.parent_run_id = runs.experiment_id, runs.parent
        except Exception as error:  # noqa: BLE001 - whatever MLflow does wrong, training goes on and the user hears of it once
            lines = str(error).splitlines() or [type(error).__name__]
            self.error = lines[0].replace(self.uri, masked(self.uri))
            while self._take() is not None:
                pass

    def _take(self) -> list[Item] | None:
        """Everything waiting, at least one; None at the end."""
        items = [self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get())
        if items == [None]:
            return None
        if items[-1] is None:
            self._queue.put(None)
        return [item for item in items if item is not None]


class Runs:
    """The runs of one search in MLflow, found by trial."""

    def __init__(self, uri: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        self.uri, self.client = uri, MlflowClient(tracking_uri=uri)
        self.result = SearchResult()
        self.experiment_id = self.parent = ""
        self.children: dict[str, str] = {}
        self.ended: set[str] = set()
        self.waiting: dict[str, dict[str, list[Any]]] = {}

    def project(self, items: list[Item]) -> None:
        """Write these, in order."""
        for item in items:
            if isinstance(item, Event):
                self.result.apply(item)
                self._project_event(item)
            else:
                self._flush()
                self.client.log_artifacts(self.children[item.trial] if item.trial else self.parent, str(item.folder), item.path or None)
        self._flush()

    def _project_event(self, event: Event) -> None:
        trial = self.result.trials.get(event.data.get("trial", ""))
        match event.kind:
            case "started":
                self._start(event)
            case "tested":
                self._test(event)
            case "finished":
                self._finish(event)
            case "running" | "epoch" | "ended" if trial is not None:
                self._project_trial(event, trial)

    def _start(self, event: Event) -> None:
        """The experiment (one a space and data set) and the parent run."""
        facts = event.data
        source = facts["data"]["name"] if facts["data"]["name"] != "folder" else f"folder-{Path(facts['data']['root']).resolve().name}"
        self.experiment_id = self._experiment(f"{facts['experiment']['space']['name']}-{source}")
        for key, value in (("mlflow.experiment.primaryMetric.name", PRIMARY_METRIC), ("mlflow.experiment.primaryMetric.greaterIsBetter", "true")):
            self.client.set_experiment_tag(self.experiment_id, key, value)
        tags = {"search.name": facts["name"], "search.role": "search", **self._common_tags()}
        self.parent = self.client.create_run(self.experiment_id, start_time=event.time_ms, tags=tags, run_name=facts["name"]).info.run_id
        plain = {name: value for name, value in facts["experiment"].items() if isinstance(value, str | int | float)}
        self._wait(self.parent, params={**plain, "space": facts["experiment"]["space"]["name"], "data": facts["data"]["name"]})

    def _experiment(self, title: str) -> str:
        """The experiment of this title: found, brought back if it was deleted, or made."""
        from mlflow.exceptions import MlflowException

        if (found := self.client.get_experiment_by_name(title)) is None:
            try:
                return str(self.client.create_experiment(title, artifact_location=self._artifact_location(title)))
            except MlflowException:
                found = self.client.get_experiment_by_name(title)  # another search was faster
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifact_location(self, title: str) -> str | None:
        """Beside the SQLite file; a server has a place of its own."""
        return (sqlite_path(self.uri).parent / "mlartifacts" / title).as_uri() if self.uri.startswith("sqlite:") else None

    def _common_tags(self) -> dict[str, str]:
        facts = self.result.started
        origin = facts["provenance"]
        tags = {"seed": str(facts["experiment"]["seed"]), "data.fingerprint": facts["data"]["fingerprint"], **origin}
        tags |= {"mlflow.user": origin["user"], "mlflow.source.name": "search.run", "mlflow.source.type": "LOCAL"}
        return tags | ({"mlflow.source.git.commit": origin["git.commit"]} if origin["git.commit"] else {})

    def _project_trial(self, event: Event, trial: TrialResult) -> None:
        if trial.trial not in self.children:
            tags = {
                "mlflow.parentRunId": self.parent,
                "search.name": self.result.name,
                "search.role": "trial",
                "search.trial": trial.trial,
                **self._common_tags(),
            }
            run = self.client.create_run(self.experiment_id, start_time=event.time_ms, tags=tags, run_name=trial.trial)
            self.children[trial.trial] = run.info.run_id
            self._wait(run.info.run_id, params=trial.params)
        run_id = self.children[trial.trial]
        if event.kind == "epoch":
            self._wait(run_id, metrics=event.data["metrics"], time_ms=event.time_ms, step=event.data["epoch"])
        elif event.kind == "ended":
            if trial.best_epoch is not None and trial.outcome in ("completed", "stopped"):
                best = {PRIMARY_METRIC: trial.accuracy, "best/val_loss": trial.best["val/loss"], "best/epoch": trial.best_epoch}
                self._wait(run_id, metrics=best, time_ms=event.time_ms, step=trial.best_epoch)
            self._wait(run_id, tags={"outcome": trial.outcome, "outcome.reason": trial.reason[-5000:]})
            self._end(run_id, STATUS[trial.outcome], event)

    def _test(self, event: Event) -> None:
        """The test part's figures, on the best trial's run and on the parent."""
        test = event.data["test"]
        metrics = {"test/accuracy": test["accuracy"], **{f"test/{name}": value for name, value in test["macro"].items() if value is not None}}
        for name, values in test["per_class"].items():
            metrics |= {f"test_class/{_key(name)}/{metric}": values[metric] for metric in ("precision", "recall", "f1")}
        for run_id in (self.children[event.data["trial"]], self.parent):
            self._wait(run_id, metrics=metrics, time_ms=event.time_ms, step=event.data["epoch"])

    def _finish(self, event: Event) -> None:
        """The parent's summary; runs still open belong to trials that were cut off."""
        result = self.result
        if result.best is not None:
            self._wait(self.parent, metrics={PRIMARY_METRIC: result.best.accuracy}, time_ms=event.time_ms, step=0)
            self._wait(self.parent, tags={"best.trial": result.best.trial})
        figures = {
            "search/epochs_trained": result.epochs_trained,
            "search/wall_s": result.wall_s,
            "search/train_s": result.train_s,
            "search/slot_efficiency": result.slot_efficiency,
        }
        self._wait(self.parent, metrics=figures, time_ms=event.time_ms, step=0)
        self._wait(self.parent, tags={"outcome": result.outcome, "mlflow.note.content": markdown_summary(result)})
        for run_id in set(self.children.values()) - self.ended:
            self._wait(run_id, tags={"outcome": "interrupted"})
            self._end(run_id, "KILLED", event)
        self._end(self.parent, "FINISHED" if result.outcome == "completed" else "KILLED", event)

    def _end(self, run_id: str, status: str, event: Event) -> None:
        self._flush()
        self.client.set_terminated(run_id, status=status, end_time=event.time_ms)
        self.ended.add(run_id)

    def _wait(
        self,
        run_id: str,
        *,
        metrics: dict[str, float] | None = None,
        time_ms: int = 0,
        step: int = 0,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Keep these for the next batch."""
        from mlflow.entities import Metric, Param, RunTag

        kept = self.waiting.setdefault(run_id, {"metrics": [], "params": [], "tags": []})
        made_metrics: list[Metric] = [Metric(name, float(value), time_ms, step) for name, value in (metrics or {}).items()]
        made_params: list[Param] = [Param(name, str(value)) for name, value in (params or {}).items()]
        made_tags: list[RunTag] = [RunTag(name, value) for name, value in (tags or {}).items()]
        for kind, made in (("metrics", made_metrics), ("params", made_params), ("tags", made_tags)):
            kept[kind] += made

    def _flush(self) -> None:
        """Write what waits, in as few requests as MLflow allows: usually one a run."""
        for run_id, kept in self.waiting.items():
            while any(kept.values()):
                batch = {kind: kept[kind][:limit] for kind, limit in BATCH.items()}
                self.client.log_batch(run_id, metrics=batch["metrics"], params=batch["params"], tags=batch["tags"])
                for kind, limit in BATCH.items():
                    del kept[kind][:limit]
        self.waiting.clear()


def _key(name: str) -> str:
    """A class name as MLflow's metric names allow it."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100] or "_"
