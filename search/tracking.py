"""MLflow's picture of a search: a parent run, a child run a trial, below that one a fold. The only module that writes to MLflow.

A projection of the journal: one background thread reads the file and writes what is new in batches, with the journal's own timestamps.
Training waits for nothing here. When MLflow fails, the thread begins again from the journal's first line: runs are found by their tags,
and what they have already is not written twice. So a search that was cut off, an outage and a second projection all end alike.
"""

import http.client
import logging
import os
import re
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from cluster.errors import NotReady
from search.journal import FILE_NAME, DamagedJournal, Event, Tail
from search.result import UNFINISHED, SearchResult, TrialResult
from search.secrets import masked
from search.summary import markdown_summary
from trainables.errors import ConfigError, unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_TRACKING = "sqlite:///mlflow.db"
PRIMARY_METRIC = "best/val_accuracy"
STATUS = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TRIES, TIMEOUT_S = 2, 3
EVIDENCE_TAG, OPENED_TAG = "search.evidence", "test.opened"
PIECE = 10_000
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""What MLflow takes in one `log_batch`."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""No telemetry, no pickles, no second try behind our back (a request whose answer was lost may have been carried out), and no model's requirements
from a project that happens to lie in the working directory.
"""

EVERY_S = 5.0
"""How often new events are written: what comes meanwhile makes one batch, and a trial shorter than this three requests in all."""
RETRY_S = (1, 2, 5, 10, 20, 30)
PATIENCE_S = 30.0
"""How long a search that is over waits for an MLflow that takes nothing."""


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
        if "?" in uri:
            raise ConfigError(f"'{uri}' cannot hold a '?'. Write it as %3F in --tracking.")
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
    """The file of an `sqlite:///` URI, as SQLAlchemy reads it: `%20` in it is a space."""
    return Path(unquote(uri.removeprefix("sqlite:///"))).absolute()


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


class Tracker:
    """Tell it of the journal's events; it writes the journal to MLflow in a thread of its own. `close` waits until MLflow has all of it."""

    def __init__(self, uri: str, folder: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
        self.uri, self.folder, self.say = uri, folder, say
        self.error = ""
        """Why MLflow does not take what it should; empty while it does."""
        self.runs: Runs | None = None
        self.experiment_id = self.parent_run_id = ""
        self._tail = Tail(folder / FILE_NAME)
        self._progress = time.monotonic()
        self._news, self._closing, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Hear of an event; returns at once. What comes before the first trial runs waits for it: the processors have enough to do."""
        if event.kind not in ("started", "suggested"):
            self._news.set()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is written, or MLflow has taken nothing for so long (then `error` says why)."""
        self._progress = time.monotonic()
        self._closing.set()
        self._news.set()
        try:
            while self._thread.is_alive() and time.monotonic() - self._progress < patience_s:
                self._thread.join(0.1)
        finally:
            self._given_up.set()
            if self._thread.is_alive() and not self.error:
                self.error = "it has not answered yet"

    def _run(self) -> None:
        tries = 0
        while not self._given_up.is_set():
            self._news.wait()
            self._news.clear()
            last = self._closing.is_set()
            try:
                self._project()
            except DamagedJournal as error:
                self.error = str(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever MLflow does wrong, training goes on
                self._note(error)
                tries += 1
                self._news.set()
                self._closing.wait(RETRY_S[min(tries, len(RETRY_S)) - 1])
                self._given_up.wait(1)
            else:
                tries = 0
                if last:
                    return
                self._closing.wait(EVERY_S)

    def _project(self) -> None:
        if self.runs is None:
            self.runs, self._tail = Runs(self.uri, self.folder, on_progress=self._step), Tail(self.folder / FILE_NAME)
        for batch in batched(self._tail.new()):
            self.runs.project(batch)
        self.experiment_id, self.parent_run_id = self.runs.experiment_id, self.runs.parent
        if self.error:
            self.error = ""
            self.say("MLflow takes everything again")

    def _step(self) -> None:
        self._progress = time.monotonic()

    def _note(self, error: Exception) -> None:
        self.runs = None
        lines = str(error).splitlines() or [type(error).__name__]
        text = masked(lines[0])[:300]
        if not self.error:
            self.say(f"MLflow does not take the results ({text}). Training goes on; the journal has them, and they are written when MLflow is back.")
        self.error = text


def troubles() -> tuple[type[Exception], ...]:
    """What MLflow raises when it, its server, its database or that one's driver is in trouble; requests' errors are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError


def batched(events: list[Event]) -> Iterator[list[Event]]:
    """A long journal in pieces, so that progress shows."""
    for first in range(0, len(events), PIECE):
        yield events[first : first + PIECE]


def evaluation_figures(event: dict[str, Any], trial: TrialResult) -> dict[str, float]:
    """What a run says of its trial's evaluation on the validation part, and of what its network costs."""
    val, cost = event["val"], event["cost"]
    figures = {name: val[name] for name in ("accuracy", "ece")}
    figures |= {f"{kind}_{name}": value for kind in ("macro", "weighted") for name, value in val[kind].items()}
    figures |= {name: cost[name] for name in ("parameters", "multiply_adds", "bytes")} | {"train_s": trial.train_s}
    for batch, times in cost["inference"].items():
        figures |= {f"ms_per_image_{batch}": times["median_ms"], f"ms_per_image_{batch}_p95": times["p95_ms"]}
    return {f"eval/{name}": value for name, value in figures.items() if value is not None}


def uri_of(result: SearchResult, wanted: str | None) -> str:
    """Where MLflow is: as `--tracking` says, else as the search does, else the environment."""
    return str(wanted or result.started["experiment"]["tracking"] or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING)


def experiment_title(facts: dict[str, Any]) -> str:
    """MLflow's experiment for a search that started so: one a space and data set."""
    source = facts["data"]["name"] if facts["data"]["name"] != "folder" else f"folder-{Path(facts['data']['root']).resolve().name}"
    return f"{facts['experiment']['space']['name']}-{source}"


def client_of(uri: str) -> "MlflowClient":
    """MLflow's client in an environment that is set for it, silent but for errors. `MLFLOW_REGISTRY_URI` may name another place for models."""
    os.environ.update(ENVIRONMENT)
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def best_figures(metrics: dict[str, float], epoch: int) -> dict[str, float]:
    """What a run says of its trial's best epoch, which has these metrics (of the trial, or of one fold)."""
    figures = {PRIMARY_METRIC: metrics["val/accuracy"], "best/val_loss": metrics["val/loss"], "best/epoch": epoch}
    return figures | ({"best/val_accuracy_std": metrics["val/accuracy_std"]} if "val/accuracy_std" in metrics else {})


def fold_key(trial: str, number: int | str) -> str:
    """What a fold's run is known by, where a trial's is by its name."""
    return f"{trial} fold {number}"


def leads_out(path: Path, folder: Path) -> bool:
    """Whether something of a file or a folder lies outside this folder: a journal from elsewhere may name links to what is nobody's business."""
    return not all(found.resolve().is_relative_to(folder.resolve()) for found in (path, *path.rglob("*")))


class Runs:
    """The runs of one search in MLflow, found by tag: made once, brought back when somebody deleted them, written to at most once."""

    def __init__(self, uri: str, folder: Path, *, on_progress: Callable[[], None] = lambda: None) -> None:
        self.uri, self.folder, self.client, self.on_progress = uri, folder, client_of(uri), on_progress
        self.result = SearchResult()
        self.experiment_id = self.parent = ""
        self.runs: dict[str, str] = {}
        """Run ids by trial, or by its fold (`fold_key`); the parent's under the empty name."""
        self.there: dict[str, dict[str, int]] = {}
        """What each run had when it was found: the last step of each metric."""
        self.status: dict[str, str] = {}
        self.wanted: dict[str, tuple[str, int]] = {}
        self.described: set[str] = set()
        """Trials whose params are there."""
        self.stored: dict[str, set[str]] = {}
        """The numbers of the events whose files are stored with each run."""
        self.waiting: dict[str, dict[str, list[Any]]] = {}

    def project(self, events: list[Event]) -> None:
        """Write these, which follow the ones before."""
        for event in events:
            self.result.apply(event)
            self._project_event(event)
        self._flush()

    def leave(self, time_ms: int) -> None:
        """Mark what still runs as cut off: nobody trains it now."""
        for run_id, status in {**self.status, **{run: wanted for run, (wanted, _) in self.wanted.items()}}.items():
            if status == "RUNNING":
                self._wait(run_id, tags={"outcome": "interrupted"})
                self.wanted[run_id] = ("KILLED", time_ms)
        self._flush()

    def _project_event(self, event: Event) -> None:
        trial = self.result.find(event.data.get("trial", ""))
        match event.kind:
            case "started":
                self._start(event)
            case "resumed":
                self.wanted[self.parent] = ("RUNNING", 0)
                self._wait(self.parent, tags=self._common_tags())
            case "tested":
                self._test(event)
            case "evidence":
                self._store(event)
            case "finished":
                self._finish(event)
            case "selected":
                self._select(event)
            case "concluded":
                self._conclude(event)
            case "evaluated" if trial is not None:
                metrics = evaluation_figures(event.data, trial)
                self._wait(self._trial_run(event, trial), metrics=metrics, time_ms=event.time_ms, step=event.data["epoch"])
            case "running" | "epoch" | "paused" | "ended" if trial is not None:
                self._project_trial(event, trial)

    def _start(self, event: Event) -> None:
        """The experiment (one a space and data set) and the parent run."""
        facts = event.data
        self.experiment_id = self._experiment(experiment_title(facts))
        self._find()
        self.parent = self._run_of("", event, {"search.role": "search"}, facts["name"])
        plain = {name: value for name, value in facts["experiment"].items() if isinstance(value, str | int | float)}
        if packed := facts.get("packing", {}).get("reason", ""):
            self._wait(self.parent, tags={"packing": f"{facts['packing']['members']} trials a worker: {packed}"})
        folds = {"folds": facts["data"]["folds"]} if facts["data"].get("folds") else {}
        self._wait(self.parent, params={**plain, "space": facts["experiment"]["space"]["name"], "data": facts["data"]["name"], **folds})

    def _experiment(self, title: str) -> str:
        """The experiment of this title: found, brought back if it was deleted, or made."""
        from mlflow.exceptions import MlflowException

        if (found := self.client.get_experiment_by_name(title)) is None:
            try:
                made = str(self.client.create_experiment(title, artifact_location=self._artifact_location(title)))
                for key, value in (("mlflow.experiment.primaryMetric.name", PRIMARY_METRIC), ("mlflow.experiment.primaryMetric.greaterIsBetter", "true")):
                    self.client.set_experiment_tag(made, key, value)
                return made
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

    def _find(self) -> None:
        """The runs that this search has already; what somebody deleted is brought back."""
        from mlflow.entities import ViewType

        token: str | None = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`search.id` = '{self.result.started['id']}'",
                ViewType.ALL,
                max_results=1000,
                order_by=["start_time"],
                page_token=token,
            )
            for run in page:
                self._know(run)
            token = page.token or ""

    def _know(self, run: Any) -> None:
        trial, run_id = run.data.tags.get("search.trial", ""), run.info.run_id
        if fold := run.data.tags.get("search.fold", ""):
            trial = fold_key(trial, fold)
        if trial in self.runs:  # made twice, because an answer was lost and came too late
            self.client.delete_run(run_id)
            return
        if run.info.lifecycle_stage == "deleted":
            self.client.restore_run(run_id)
        self.runs[trial], self.status[run_id] = run_id, run.info.status
        self.described |= {trial} if run.data.params else set()
        self.there[run_id] = {metric.key: metric.step for metric in run.data._metric_objs}
        self.stored[run_id] = set(run.data.tags.get(EVIDENCE_TAG, "").split())

    def _run_of(self, trial: str, event: Event, tags: dict[str, str], title: str) -> str:
        """The run of a trial (or the parent): found or made."""
        if trial not in self.runs:
            tags = {"search.name": self.result.name, "search.id": self.result.started["id"], **tags, **self._common_tags()}
            made = self.client.create_run(self.experiment_id, start_time=event.time_ms, tags=tags, run_name=title).info
            self.runs[trial], self.status[made.run_id] = made.run_id, "RUNNING"
            self.on_progress()
        return self.runs[trial]

    def _common_tags(self) -> dict[str, str]:
        facts = self.result.started
        origin = facts["provenance"]
        tags = {"seed": str(facts["experiment"]["seed"]), "data.fingerprint": facts["data"]["fingerprint"], **origin}
        tags |= {"mlflow.user": origin["user"], "mlflow.source.name": "search.run", "mlflow.source.type": "LOCAL"}
        return tags | ({"mlflow.source.git.commit": origin["git.commit"]} if origin["git.commit"] else {})

    def _project_trial(self, event: Event, trial: TrialResult) -> None:
        run_id = self._trial_run(event, trial)
        if event.kind == "running":
            self._want(trial, "RUNNING", 0, outcome="running")
            self._wait(run_id, tags={"attempt": str(trial.attempt)})
        elif event.kind == "epoch":
            tags = {"precision": event.data["precision"]} if "precision" in event.data else {}
            self._wait(run_id, metrics=event.data["metrics"], time_ms=event.time_ms, step=event.data["epoch"], tags=tags)
            for number, metrics in enumerate(event.data.get("folds", []), 1):
                self._wait(self._fold_run(number, event, trial), metrics=metrics, time_ms=event.time_ms, step=event.data["epoch"], tags=tags)
        elif event.kind == "paused":
            self._want(trial, "KILLED", event.time_ms, outcome="interrupted")
        else:
            self._end_trial(run_id, event, trial)

    def _want(self, trial: TrialResult, status: str, time_ms: int, *, outcome: str) -> None:
        """Give a trial's run, and those of its folds, this status and outcome."""
        for run_id in (self.runs[trial.trial], *self._fold_runs(trial)):
            self.wanted[run_id] = (status, time_ms)
            self._wait(run_id, tags={"outcome": outcome})

    def _fold_runs(self, trial: TrialResult) -> list[str]:
        """The runs of a trial's folds that there are, in order."""
        numbers = range(1, max(map(len, trial.folds.values()), default=0) + 1)
        return [self.runs[key] for number in numbers if (key := fold_key(trial.trial, number)) in self.runs]

    def _fold_run(self, number: int, event: Event, trial: TrialResult) -> str:
        """The run of a trial's fold, below the trial's: found or made."""
        tags = {"mlflow.parentRunId": self.runs[trial.trial], "search.role": "fold", "search.trial": trial.trial, "search.fold": str(number)}
        return self._run_of(fold_key(trial.trial, number), event, {**tags, "outcome": "running"}, fold_key(trial.trial, number))

    def _trial_run(self, event: Event, trial: TrialResult) -> str:
        """A trial's run, with its params: found, or made at this event, which tells of it first."""
        tags = {"mlflow.parentRunId": self.parent, "search.role": "trial", "search.trial": trial.trial}
        if trial.repeat_of:
            tags |= {"search.role": "repeat", "search.repeat_of": trial.repeat_of, "search.seed": str(trial.config["seed"])}
        run_id = self._run_of(trial.trial, event, tags, trial.trial)
        if trial.trial not in self.described:
            self.described.add(trial.trial)
            folds = trial.config.get("data", {}).get("folds")
            self._wait(run_id, params=trial.params | ({"folds": folds} if folds else {}))
        return run_id

    def _end_trial(self, run_id: str, event: Event, trial: TrialResult) -> None:
        if trial.best_epoch is not None and trial.outcome in ("completed", "stopped"):
            each = [trial.best, *trial.folds.get(trial.best_epoch, [])]
            for run, metrics in zip((run_id, *self._fold_runs(trial)), each, strict=True):
                self._wait(run, metrics=best_figures(metrics, trial.best_epoch), time_ms=event.time_ms, step=trial.best_epoch)
        self._want(trial, STATUS[trial.outcome], event.time_ms, outcome=trial.outcome)
        self._wait(run_id, tags={"outcome.reason": trial.reason[-5000:]} | ({"outcome.kind": trial.kind} if trial.kind else {}))

    def _test(self, event: Event) -> None:
        """The test part's figures, on the best trial's run and on the parent."""
        test = event.data["test"]
        metrics = {"test/accuracy": test["accuracy"], **{f"test/{name}": value for name, value in test["macro"].items() if value is not None}}
        metrics |= {f"test/weighted_{name}": value for name, value in test.get("weighted", {}).items() if value is not None}
        metrics |= {"test/ece": test["ece"]} if "ece" in test else {}
        metrics |= {f"test/members_accuracy_{name}": test["members"][name] for name in ("mean", "std")} if "members" in test else {}
        for name, values in test["per_class"].items():
            metrics |= {f"test_class/{_key(name)}/{metric}": values[metric] for metric in ("precision", "recall", "f1")}
        self._wait(self.runs[event.data["trial"]], metrics=metrics, time_ms=event.time_ms, step=event.data["epoch"])
        self._wait(self.parent, metrics=metrics, time_ms=event.time_ms, step=len(self.result.openings))
        self._wait(self.parent, tags={OPENED_TAG: "; ".join(map(str, self.result.openings))})

    def _select(self, event: Event) -> None:
        """What was chosen, on the parent and on the chosen training's run."""
        verdict, selection = event.data, self.result.selection
        figures = {f"selected/val_accuracy_{name}": verdict["expected"][name] for name in ("mean", "low", "high", "std")}
        step = sum(len(trial.epochs) for trial in selection.repeats.values()) if selection is not None else 0
        self._wait(self.parent, metrics={**figures, "selected/search_value": verdict["search_value"]}, time_ms=event.time_ms, step=step)
        self._wait(self.parent, tags={"selected.candidate": verdict["candidate"], "selected.trial": verdict["trial"]})
        self._wait(self.runs[verdict["trial"]], tags={"selected": "true"})

    def _conclude(self, event: Event) -> None:
        """The parent's summary, with the selection in it; runs still open belong to trainings that were cut off."""
        self._wait(self.parent, tags={"selection.outcome": event.data["outcome"], "mlflow.note.content": markdown_summary(self.result)})
        self._cut_off(list(self.result.selection.repeats.values()) if self.result.selection is not None else [], event)

    def _store(self, event: Event) -> None:
        """A folder's or a file's copy, once."""
        trial, path = self.result.find(event.data["trial"]), self.folder / event.data["file"]
        run_id = self._trial_run(event, trial) if trial is not None else self.parent
        stored = self.stored.setdefault(run_id, set())
        if str(event.number) in stored or not path.exists() or leads_out(path, self.folder):
            return
        self._flush()
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), event.data["path"] or None)
        else:
            self.client.log_artifact(run_id, str(path), event.data["path"] or None)
        stored.add(str(event.number))
        self._wait(run_id, tags={EVIDENCE_TAG: " ".join(sorted(stored, key=int))})

    def _finish(self, event: Event) -> None:
        """The parent's summary; runs still open belong to trials that were cut off."""
        result, session = self.result, len(self.result.sessions)
        if result.best is not None:
            self._wait(self.parent, metrics={PRIMARY_METRIC: result.best.accuracy}, time_ms=event.time_ms, step=session)
            self._wait(self.parent, tags={"best.trial": result.best.trial})
        figures = {
            "search/epochs_trained": result.epochs_trained,
            "search/wall_s": result.wall_s,
            "search/train_s": result.train_s,
            "search/slot_efficiency": result.slot_efficiency,
        }
        self._wait(self.parent, metrics=figures, time_ms=event.time_ms, step=session)
        self._wait(self.parent, tags={"outcome": result.outcome, "mlflow.note.content": markdown_summary(result)})
        self.wanted[self.parent] = ("FINISHED" if result.outcome == "completed" else "KILLED", event.time_ms)
        self._cut_off(result.unfinished, event)

    def _cut_off(self, trials: list[TrialResult], event: Event) -> None:
        """Those of these trials that have not come to their end were cut off."""
        for trial in trials:
            if trial.outcome in UNFINISHED and trial.trial in self.runs:
                self._want(trial, "KILLED", event.time_ms, outcome="interrupted")

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
        there = self.there.get(run_id, {})
        made_metrics: list[Metric] = [Metric(name, float(value), time_ms, step) for name, value in (metrics or {}).items() if step > there.get(name, -1)]
        made_params: list[Param] = [Param(name, str(value)) for name, value in (params or {}).items()]
        made_tags: list[RunTag] = [RunTag(name, value) for name, value in (tags or {}).items()]
        for kind, made in (("metrics", made_metrics), ("params", made_params), ("tags", made_tags)):
            kept[kind] += made

    def _flush(self) -> None:
        """Write what waits, in as few requests as MLflow allows: usually one a run, and one more when its status changes."""
        for run_id, kept in self.waiting.items():
            kept["tags"] = list({tag.key: tag for tag in kept["tags"]}.values())
            while any(kept.values()):
                batch = {kind: kept[kind][:limit] for kind, limit in BATCH.items()}
                self.client.log_batch(run_id, metrics=batch["metrics"], params=batch["params"], tags=batch["tags"])
                self.on_progress()
                for kind, limit in BATCH.items():
                    del kept[kind][:limit]
        self.waiting.clear()
        for run_id, (status, end_ms) in self.wanted.items():
            if self.status.get(run_id) == status:
                continue
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
            else:
                self.client.set_terminated(run_id, status=status, end_time=end_ms)
            self.status[run_id] = status
            self.on_progress()
        self.wanted.clear()


def _key(name: str) -> str:
    """A class name as MLflow's metric names allow it."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100] or "_"
