"""The runs of a search in MLflow, written from the events of its journal.

The search has a parent run. Each trial has a child run, and each fold of the trial has a run below
that. Only this module writes metrics, params and tags to these runs.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.facts.guessing import guess_figures
from search.facts.parameters import param_text
from search.journal.events import (
    Averaged,
    Concluded,
    Costed,
    Ended,
    Epoch,
    Evaluated,
    Evidence,
    Finished,
    Held,
    Opened,
    Paused,
    Pooled,
    Registration,
    Restored,
    Resumed,
    Running,
    Selected,
    Selecting,
    Started,
    Stressed,
    Tested,
)
from search.journal.guessing import answer_against
from search.journal.journal import Event
from search.journal.result import (
    UNFINISHED,
    SearchResult,
    TrialResult,
    metric_of,
    task_of,
)
from search.tracking.client import add, client_of, sqlite_path
from search.tracking.data_inputs import data_input
from search.tracking.note import markdown_summary
from search.values.wording import RUN_LIST, last_line_of
from search.views.text.labels import model_text, reached_text
from search.views.text.reliability import beyond_chance
from trainables.catalog.entries import Metric
from trainables.fairness.groups import GROUPS
from trainables.messages import WarmStart
from trainables.robustness.stress_tests import ATTACKED
from trainables.values import Evaluation, Params

STATUS = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
RUN_LIST_TAG = f"mlflow.sharedViewState.{RUN_LIST}"
"""The experiment tag in which MLflow stores a view of the run list (MLflow 3.17)."""
EVIDENCE_TAG, OPENED_TAG = "search.evidence", "test.opened"
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""MLflow's maximum number of entries of each kind in one `log_batch`."""
EXPERIMENTS = 500
"""The maximum number of MLflow experiments in one request that searches for runs."""
AT_ONCE = 10_000
"""The maximum number of events between two flushes, so that progress is visible in MLflow."""


def new_title(space: str, data: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Return the title of the MLflow experiment for a new search.

    There is one experiment per space, data set, task and metric, since MLflow marks one metric of
    an experiment as primary. The title is written to the journal and not computed again, since the
    data folder may be a link whose target changes.

    Args:
        space: the name of the space.
        data: the facts of the data set, as in the journal.
        base: the config that all trials share, as in the journal.
    """
    task, metric = task_of(base), metric_of(base)
    source = (
        data["name"] if data["name"] != "folder" else f"folder-{Path(data['root']).resolve().name}"
    )
    suffixes = [] if task.is_implied else [task.name]
    suffixes += [] if metric.is_primary else [metric.name]
    return "-".join([space, source, *suffixes])


def experiment_title(facts: Started) -> str:
    """Return the title of the MLflow experiment for a search with this first event.

    Usually the event contains the title. It is computed if the event was written by an earlier
    version of this project, which did not record it.
    """
    return facts.mlflow_experiment or new_title(facts.experiment["space"]["name"], facts.data, {})


def find_experiment(client: Any, search: str) -> Any:
    """Find the MLflow experiment that has runs of the search with this id, whatever its title.

    Deleted experiments and runs are searched, too. None if there is no such experiment.
    """
    from mlflow.entities import ViewType

    token: str | None = None
    while token != "":
        page = client.search_experiments(ViewType.ALL, max_results=EXPERIMENTS, page_token=token)
        ids, token = [experiment.experiment_id for experiment in page], page.token or ""
        if ids and (
            runs := client.search_runs(
                ids, f"tags.`search.id` = '{search}'", ViewType.ALL, max_results=1
            )
        ):
            return client.get_experiment(runs[0].info.experiment_id)
    return None


def evaluation_figures(evaluated: Evaluated, trial: TrialResult) -> dict[str, float]:
    """Convert an evaluation on the validation set to metrics of the trial's run.

    They are the numbers of the evaluation, the training time, the cost of inference and, for a
    classifier, means over classes.
    """
    val, cost = evaluated.val, evaluated.cost
    figures = numeric_figures(val)
    figures |= {
        f"{kind}_{name}": value
        for kind in ("macro", "weighted")
        for name, value in val.get(kind, {}).items()
    }
    figures |= {"train_s": trial.train_s}
    if by_metric := val.get("metric"):
        figures |= {by_metric["name"]: by_metric["value"]}
    return {
        f"eval/{name}": value for name, value in figures.items() if value is not None
    } | cost_figures(cost, "eval")


def stress_figures(stressed: Stressed) -> dict[str, float]:
    """Convert an evaluation on corrupted or attacked images to metrics of the trial's run."""
    summary = stressed.summary
    figures = {f"{stressed.evaluation}/{name}": summary.get(name) for name in ("clean", "accuracy")}
    if stressed.evaluation == ATTACKED:
        figures |= {
            f"{ATTACKED}/{row['method']}_{255 * row['epsilon']:g}": row["accuracy"]
            for row in summary.get("table", [])
        }
    return {name: value for name, value in figures.items() if value is not None}


def registration_figures(event: Registration) -> dict[str, float]:
    """Convert the reliability of a registered model to metrics of the search's run."""
    facts, figures = event.reliability, dict[str, float]()
    if own := facts.get("calibration"):
        figures["temperature"] = own["temperature"]
        for suffix, name in (("", "after"), ("_before", "before")):
            figures |= {f"{kind}{suffix}": own[name][kind] for kind in ("ece", "log_loss")}
            figures[f"ece_beyond_chance{suffix}"] = beyond_chance(own[name])
    if own := facts.get("max_error"):
        figures["answered"] = own["answered"] / own["images"]
        figures["error_bound"] = own["bound"]
    if own := facts.get("coverage"):
        figures["set_size"] = own["mean_size"]
    if own := facts.get("unlike"):
        figures["unlike_alarms"] = own["alarms"] / own["of_images"]
    return {f"registered/{name}": value for name, value in figures.items()}


def registration_tags(event: Registration) -> dict[str, str]:
    """Return the tags of the search's run that name its registered model."""
    return {"registered": f"{event.trial} as version {event.version} of {event.model}"}


def write_registration(client: Any, run_id: str, event: Registration, step: int) -> None:
    """Write a registration to the search's run; `step` counts the registrations."""
    from mlflow.entities import Metric, RunTag

    now_ms = time.time_ns() // 1_000_000
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, float(value), now_ms, step)
            for name, value in registration_figures(event).items()
        ],
        tags=[RunTag(name, value) for name, value in registration_tags(event).items()],
    )


def numeric_figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers at the top level of an evaluation, except the number of images."""
    return {
        name: value
        for name, value in evaluation.items()
        if isinstance(value, int | float) and name != "images"
    }


def cost_figures(cost: Mapping[str, Any], when: str) -> dict[str, float]:
    """Convert the inference cost of a network to metrics of its run.

    `when` is their prefix: `eval` if it was measured while nothing else ran, `first` if it was
    measured during the first epoch.
    """
    figures = {name: cost.get(name) for name in ("parameters", "multiply_adds", "bytes")}
    for batch, times in cost["inference"].items():
        figures |= {
            f"ms_per_image_{batch}": times.get("median_ms"),
            f"ms_per_image_{batch}_p95": times.get("p95_ms"),
        }
    return {f"{when}/{name}": value for name, value in figures.items() if value is not None}


def best_metric_name(metric: Metric) -> str:
    """Return MLflow's name of a metric at a trial's best epoch, such as `best/val_macro_f1`."""
    return f"best/val_{metric.name}"


def best_figures(metrics: dict[str, float], epoch: int, trial: TrialResult) -> dict[str, float]:
    """Convert the metrics of a trial's best epoch, or those of a fold, to metrics of its run.

    They have the prefix `best/`, and include the standard deviation over folds if it is known.
    """
    figures: dict[str, float] = {"best/epoch": epoch}
    if "val/loss" in metrics:
        figures["best/val_loss"] = metrics["val/loss"]
    for metric in (trial.task.primary, trial.metric):
        figures[best_metric_name(metric)] = metrics[metric.key]
        if metric.deviation_key in metrics:
            figures[f"{best_metric_name(metric)}_std"] = metrics[metric.deviation_key]
    return figures


def trial_note(trial: TrialResult) -> str:
    """Describe a trial for the page of its run: its params, outcome and best value."""
    params = ", ".join(f"{path} {param_text(value)}" for path, value in trial.params.items())
    reason = f" ({last_line_of(trial.reason)})" if trial.reason else ""
    reached = f"validation {trial.metric.title} {reached_text(trial)}" if trial.epochs else ""
    params = params or model_text(trial)
    return f"{params}: {trial.outcome}{reason}{reached and '; '}{reached}."


def fold_key(trial: str, number: int | str) -> str:
    """Return the key of a fold's run in `Runs.runs`; `number` counts from 1."""
    return f"{trial} fold {number}"


def has_links_out(path: Path, folder: Path) -> bool:
    """True if the file at `path`, or a file in the folder at `path`, is a link out of `folder`.

    A search that was copied from elsewhere may contain links to files that must not be published.
    """
    return not all(
        part.resolve().is_relative_to(folder.resolve()) for part in (path, *path.rglob("*"))
    )


class Runs:
    """Writes the runs of one search to MLflow.

    Existing runs are found by their tags, and restored if somebody has deleted them; missing ones
    are created. Each value is written at most once.
    """

    def __init__(
        self, uri: str, folder: Path, *, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        self.uri, self.folder, self.client, self.on_progress = (
            uri,
            folder,
            client_of(uri),
            on_progress,
        )
        self.result = SearchResult()
        self.is_old = False
        """True if the search was resumed or has finished.

        Its MLflow experiment may then have been renamed.
        """
        self.experiment_id = self.parent = ""
        self.runs: dict[str, str] = {}
        """Maps trials and folds (`fold_key`) to run ids; the parent run has the key ""."""
        self.last_steps: dict[str, dict[str, int]] = {}
        """Maps run ids to the last step of each metric that MLflow had when the run was found."""
        self.status: dict[str, str] = {}
        """Maps run ids to the status that MLflow has."""
        self.next_status: dict[str, tuple[str, int]] = {}
        """Maps run ids to (status, end time in Unix milliseconds), to be written by `_flush`."""
        self.described: set[str] = set()
        """The trials whose params have been written or queued."""
        self.stored: dict[str, set[str]] = {}
        """Maps run ids to the numbers of the events whose files have been uploaded."""
        self.verdicts: list[str] = []
        """The chosen training of each selection, the latest last."""
        self.queues: dict[str, dict[str, list[Any]]] = {}
        """Maps run ids to lists of metrics, params and tags, to be written by `_flush`."""

    def project(self, events: list[Event]) -> None:
        """Write the next events of the journal to MLflow.

        The first call must pass all events so far.
        """
        self.is_old = any(isinstance(event.data, Resumed | Finished) for event in events)
        for first in range(0, len(events), AT_ONCE):
            for event in events[first : first + AT_ONCE]:
                self.result.apply(event)
                self._project_event(event)
            self._flush()

    def leave(self, time_ms: int) -> None:
        """Mark the running runs as interrupted at `time_ms`, because the search has no driver."""
        for run_id, status in {
            **self.status,
            **{run: next_status for run, (next_status, _) in self.next_status.items()},
        }.items():
            if status == "RUNNING":
                self._queue(run_id, tags={"outcome": "interrupted"})
                self.next_status[run_id] = ("KILLED", time_ms)
        if self.result.selection is not None and self.result.selection.outcome == "running":
            self._queue(self.parent, tags={"selection.outcome": "interrupted"})
        self._flush()

    def _project_event(self, event: Event) -> None:
        match event.data:
            case Started() as data:
                self._start(event, data)
            case Resumed():
                self.next_status[self.parent] = ("RUNNING", 0)
                self._queue(self.parent, tags=self._common_tags())
            case Opened():
                self._log_openings()
            case Tested() as data:
                self._test(event, data)
            case Registration() as data:
                self._queue(
                    self.parent,
                    metrics=registration_figures(data),
                    time_ms=event.time_ms,
                    step=len(self.result.registrations),
                    tags=registration_tags(data),
                )
            case Evidence() as data:
                self._store(event, data)
            case Finished():
                self._finish(event)
            case Selecting():
                self._queue(self.parent, tags={"selection.outcome": "running"})
            case Selected() as data:
                self._select(event, data)
            case Concluded() as data:
                self._conclude(event, data)
            case _ if (trial := self.result.find(event.trial)) is not None:
                self._project_trial(event, trial)

    def _start(self, event: Event, facts: Started) -> None:
        """Find or create the experiment and the parent run, and log the data and the options."""
        self.experiment_id = self._experiment(experiment_title(facts))
        self._find_runs()
        if (
            not self.runs
            and (not facts.mlflow_experiment or self.is_old)
            and (experiment := find_experiment(self.client, facts.id)) is not None
        ):
            self.experiment_id = self._restore(experiment)
            self._find_runs()
        self.parent = self._run_of("", event, {"search.role": "search"}, facts.name)
        data = data_input(facts.data)
        add(lambda: self.client.log_inputs(self.parent, datasets=[data]))
        plain = {
            name: value
            for name, value in facts.experiment.items()
            if isinstance(value, str | int | float)
        }
        plain |= (
            {"objectives": ",".join(objectives)}
            if (objectives := facts.experiment.get("objectives"))
            else {}
        )
        if not self.result.metric.is_primary:
            plain["metric"] = self.result.metric.name
        if packed := facts.packing.get("reason", ""):
            self._queue(
                self.parent,
                tags={"packing": f"{facts.packing['members']} trials a worker: {packed}"},
            )
        folds = {"folds": facts.data["folds"]} if facts.data.get("folds") else {}
        self._queue(
            self.parent,
            params={
                **plain,
                "space": facts.experiment["space"]["name"],
                "data": facts.data["name"],
                **folds,
            },
        )

    def _experiment(self, title: str) -> str:
        """Find, restore or create the experiment with this title, and return its id."""
        from mlflow.exceptions import MlflowException

        if (existing := self.client.get_experiment_by_name(title)) is None:
            metric = self.result.metric
            higher = str(metric.mode == "max").lower()
            tags = {
                "mlflow.experiment.primaryMetric.name": best_metric_name(metric),
                "mlflow.experiment.primaryMetric.greaterIsBetter": higher,
                RUN_LIST_TAG: self._run_list(),
            }
            try:
                return str(
                    self.client.create_experiment(
                        title, artifact_location=self._artifact_location(title), tags=tags
                    )
                )
            except MlflowException:
                existing = self.client.get_experiment_by_name(title)  # another search was faster
                if existing is None:
                    raise
        experiment = self._restore(existing)
        if RUN_LIST_TAG not in existing.tags:
            view = self._run_list()
            add(lambda: self.client.set_experiment_tag(experiment, RUN_LIST_TAG, view))
        return experiment

    def _run_list(self) -> str:
        """Return a view of the run list with columns for the metrics, in MLflow's JSON format."""
        names = dict.fromkeys((self.result.metric, self.result.task.primary))
        columns = [f"metrics.`{best_metric_name(metric)}`" for metric in names]
        columns += [f"metrics.`test/{metric.name}`" for metric in names]
        view = {"orderByKey": "attributes.start_time", "orderByAsc": False}
        return json.dumps({**view, "selectedColumns": ["attributes.`Dataset`", *columns]})

    def _restore(self, experiment: Any) -> str:
        """Restore an experiment if it was deleted, and return its id."""
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _artifact_location(self, title: str) -> str | None:
        """Create a folder for artifacts next to the SQLite file, and return its URI.

        Only the owner of the folder can read it, since it will contain pictures of the user's
        images. Without SQLite, the result is None, and the server chooses the place.
        """
        if not self.uri.startswith("sqlite:"):
            return None
        artifacts = sqlite_path(self.uri).parent / "mlartifacts"
        with suppress(OSError):  # MLflow reports why nothing can be written there
            for folder in (artifacts, artifacts / title):
                folder.mkdir(mode=0o700, exist_ok=True)
        return (artifacts / title).as_uri()

    def _find_runs(self) -> None:
        """Find the existing runs of this search, and restore those that somebody deleted."""
        from mlflow.entities import ViewType

        token: str | None = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`search.id` = '{self.result.started.id}'",
                ViewType.ALL,
                max_results=1000,
                order_by=["start_time"],
                page_token=token,
            )
            for run in page:
                self._remember(run)
            token = page.token or ""

    def _remember(self, run: Any) -> None:
        trial, run_id = run.data.tags.get("search.trial", ""), run.info.run_id
        if fold := run.data.tags.get("search.fold", ""):
            trial = fold_key(trial, fold)
        if trial in self.runs:  # created twice, because a response was lost
            self.client.delete_run(run_id)
            return
        if run.info.lifecycle_stage == "deleted":
            self.client.restore_run(run_id)
        self.runs[trial], self.status[run_id] = run_id, run.info.status
        self.described |= {trial} if run.data.params else set()
        self.last_steps[run_id] = {metric.key: metric.step for metric in run.data._metric_objs}
        self.stored[run_id] = set(run.data.tags.get(EVIDENCE_TAG, "").split())

    def _run_of(self, trial: str, event: Event, tags: dict[str, str], title: str) -> str:
        """Return the id of a run, which is created if necessary.

        `trial` is a key of `runs`: a trial, a fold (`fold_key`), or "" for the parent run.
        """
        if trial not in self.runs:
            tags = {
                "search.name": self.result.name,
                "search.id": self.result.started.id,
                **self._common_tags(),
                **tags,
            }
            run = self.client.create_run(
                self.experiment_id, start_time=event.time_ms, tags=tags, run_name=title
            ).info
            self.runs[trial], self.status[run.run_id] = run.run_id, "RUNNING"
            self.on_progress()
        return self.runs[trial]

    def _common_tags(self) -> dict[str, str]:
        selection = self.result.selection
        selects = selection is not None and self.result.current_sessions is selection.sessions
        facts = self.result.started
        if selection is not None and selects:
            facts = facts.changed_by(selection.started)
        origin = facts.provenance
        tags = {
            "seed": str(facts.experiment["seed"]),
            "data.fingerprint": facts.data["fingerprint"],
            **origin,
        }
        tags |= {
            "mlflow.user": origin["user"],
            "mlflow.source.name": "search.select" if selects else "search.run",
            "mlflow.source.type": "LOCAL",
        }
        return tags | (
            {"mlflow.source.git.commit": origin["git.commit"]} if origin["git.commit"] else {}
        )

    def _project_trial(self, event: Event, trial: TrialResult) -> None:
        match event.data:
            case Restored(begun=WarmStart() as warm_start):
                origin = f"{warm_start.trial} of {warm_start.search}, epoch {warm_start.epoch}"
                self._queue(self._trial_run(event, trial), tags={"begun": origin})
            case Evaluated() as evaluated:
                figures = evaluation_figures(evaluated, trial)
                self._log(event, trial, figures, step=evaluated.epoch)
            case Stressed() as stressed:
                self._log(event, trial, stress_figures(stressed), step=stressed.epoch)
            case Costed() as costed:
                self._log(event, trial, cost_figures(costed.cost, "first"))
            case Running():
                run_id = self._trial_run(event, trial)
                self._set_status(trial, "RUNNING", 0, outcome="running")
                self._queue(run_id, tags={"attempt": str(trial.attempt)})
            case Epoch() as epoch:
                self._log_epoch(event, epoch, trial)
            case Held():
                self._trial_run(event, trial)
                self._set_status(trial, "RUNNING", 0, outcome="held")
            case Paused():
                self._trial_run(event, trial)
                self._set_status(trial, "KILLED", event.time_ms, outcome="interrupted")
            case Ended():
                self._end_trial(self._trial_run(event, trial), event, trial)
            case Averaged() as averaged:
                run_id = self._trial_run(event, trial)
                gain = {"average/gain": averaged.gain, "average/gain_error": averaged.error}
                self._log(event, trial, averaged.metrics | gain, step=averaged.epoch)
                self._queue(run_id, tags={"average.members": ", ".join(averaged.members)})
                self._end_trial(run_id, event, trial)
            case Pooled() as combined:
                run_id = self._trial_run(event, trial)
                gain = {"ensemble/gain": combined.gain, "ensemble/gain_error": combined.error}
                self._log(event, trial, combined.metrics | gain, step=1)
                self._queue(run_id, tags={"ensemble.members": ", ".join(combined.members)})
                self._end_trial(run_id, event, trial)

    def _log(
        self, event: Event, trial: TrialResult, metrics: dict[str, float], *, step: int = 0
    ) -> None:
        """Queue metrics for a trial's run."""
        run_id = self._trial_run(event, trial)
        self._queue(run_id, metrics=metrics, time_ms=event.time_ms, step=step)

    def _log_epoch(self, event: Event, data: Epoch, trial: TrialResult) -> None:
        """Queue the metrics of an epoch for the runs of the trial and of its folds."""
        tags = {"precision": data.precision} if data.precision else {}
        self._queue(
            self._trial_run(event, trial),
            metrics=data.metrics,
            time_ms=event.time_ms,
            step=data.epoch,
            tags=tags,
        )
        for number, metrics in enumerate(data.folds, 1):
            self._queue(
                self._fold_run(number, event, trial),
                metrics=metrics,
                time_ms=event.time_ms,
                step=data.epoch,
                tags=tags,
            )

    def _set_status(self, trial: TrialResult, status: str, time_ms: int, *, outcome: str) -> None:
        """Set the status and the outcome of the runs of a trial and its folds."""
        for run_id in (self.runs[trial.trial], *self._fold_runs(trial)):
            self.next_status[run_id] = (status, time_ms)
            self._queue(run_id, tags={"outcome": outcome})

    def _fold_runs(self, trial: TrialResult) -> list[str]:
        """Return the ids of the existing runs of a trial's folds, in order."""
        numbers = range(1, max(map(len, trial.folds.values()), default=0) + 1)
        return [
            self.runs[key]
            for number in numbers
            if (key := fold_key(trial.trial, number)) in self.runs
        ]

    def _fold_run(self, number: int, event: Event, trial: TrialResult) -> str:
        """Return the id of the run of a trial's fold, which is created if necessary."""
        tags = {
            "mlflow.parentRunId": self.runs[trial.trial],
            "search.role": "fold",
            "search.trial": trial.trial,
            "search.fold": str(number),
        }
        tags |= {"seed": str(trial.config["seed"])} if trial.repeat_of else {}
        return self._run_of(
            fold_key(trial.trial, number),
            event,
            {**tags, "outcome": "running"},
            fold_key(trial.trial, number),
        )

    def _trial_run(self, event: Event, trial: TrialResult) -> str:
        """Return the id of a trial's run; at the trial's first event, create it with its params."""
        tags = {
            "mlflow.parentRunId": self.parent,
            "search.role": "trial",
            "search.trial": trial.trial,
        }
        if isinstance(event.data, Averaged):
            tags |= {"search.role": "average", "search.repeat_of": trial.repeat_of}
        elif isinstance(event.data, Pooled):
            tags |= {"search.role": "ensemble"}
        elif trial.repeat_of:
            seed = str(trial.config["seed"])
            tags |= {
                "search.role": "repeat",
                "search.repeat_of": trial.repeat_of,
                "search.seed": seed,
                "seed": seed,
            }
        run_id = self._run_of(trial.trial, event, tags, trial.trial)
        if trial.trial not in self.described:
            self.described.add(trial.trial)
            folds = trial.config.get("data", {}).get("folds")
            self._queue(run_id, params=trial.params | ({"folds": folds} if folds else {}))
        return run_id

    def _end_trial(self, run_id: str, event: Event, trial: TrialResult) -> None:
        if trial.outcome in ("completed", "stopped"):
            self._log_best(trial, event)
        self._set_status(trial, STATUS[trial.outcome], event.time_ms, outcome=trial.outcome)
        self._queue(
            run_id,
            tags={"outcome.reason": trial.reason[-5000:], "mlflow.note.content": trial_note(trial)}
            | ({"outcome.kind": trial.kind} if trial.kind else {}),
        )

    def _log_best(self, trial: TrialResult, event: Event) -> None:
        """Queue the metrics of a trial's best epoch for the runs of the trial and of its folds."""
        if trial.best_epoch is not None:
            metrics_by_run = [trial.best, *trial.folds.get(trial.best_epoch, [])]
            for run, metrics in zip(
                (self.runs[trial.trial], *self._fold_runs(trial)), metrics_by_run, strict=True
            ):
                self._queue(
                    run,
                    metrics=best_figures(metrics, trial.best_epoch, trial),
                    time_ms=event.time_ms,
                    step=trial.best_epoch,
                )

    def _test(self, event: Event, data: Tested) -> None:
        """Queue the metrics on the test set for the runs of the tested trial and of the search."""
        test = data.test
        metrics = {
            f"test/{name}": value
            for name, value in (numeric_figures(test) | test.get("macro", {})).items()
            if value is not None
        }
        metrics |= {
            f"test/weighted_{name}": value
            for name, value in test.get("weighted", {}).items()
            if value is not None
        }
        alone = f"test/members_{self.result.task.primary.name}"
        metrics |= (
            {f"{alone}_{name}": test["members"][name] for name in ("mean", "std")}
            if "members" in test
            else {}
        )
        if by_metric := test.get("metric"):
            metrics |= {f"test/{by_metric['name']}": by_metric["value"]}
        if worst := test.get(GROUPS, {}).get("worst"):
            metrics |= {"test/worst_group_accuracy": worst["accuracy"]}
        for title, attribute in test.get(GROUPS, {}).get("attributes", {}).items():
            keys = _keys(group["name"] for group in attribute["groups"])
            metrics |= {
                f"test_group/{_key(title)}/{keys[group['name']]}/accuracy": group["accuracy"]
                for group in attribute["groups"]
            }
        class_keys = _keys(test.get("per_class", {}))
        for name, values in test.get("per_class", {}).items():
            metrics |= {
                f"test_class/{class_keys[name]}/{metric}": values[metric]
                for metric in ("precision", "recall", "f1")
            }
        self._queue(
            self.runs[data.trial],
            metrics=metrics,
            time_ms=event.time_ms,
            step=data.epoch,
        )
        self._queue(
            self.parent, metrics=metrics, time_ms=event.time_ms, step=len(self.result.openings)
        )
        self._log_openings()

    def _log_openings(self) -> None:
        self._queue(self.parent, tags={OPENED_TAG: "; ".join(map(str, self.result.openings))})

    def _select(self, event: Event, verdict: Selected) -> None:
        """Record the verdict of a selection in the parent run and in the chosen training's run.

        Trainings that were chosen earlier are marked as no longer selected.
        """
        for trial in self.verdicts:
            self._queue(self.runs[trial], tags={"selected": "false"})
        self.verdicts.append(verdict.trial)
        figures = {
            f"selected/val_{self.result.metric.name}_{name}": getattr(verdict.expected, name)
            for name in ("mean", "low", "high", "std")
        }
        step = len(self.verdicts)
        self._queue(
            self.parent,
            metrics={**figures, "selected/search_value": verdict.search_value},
            time_ms=event.time_ms,
            step=step,
        )
        self._queue(
            self.parent,
            tags={"selected.candidate": verdict.candidate, "selected.trial": verdict.trial},
        )
        self._queue(self.runs[verdict.trial], tags={"selected": "true"})

    def _conclude(self, event: Event, data: Concluded) -> None:
        """Write the summary to the parent run, and close the runs of unfinished trainings."""
        self._queue(
            self.parent,
            tags={
                "selection.outcome": data.outcome,
                "mlflow.note.content": markdown_summary(self.result),
            }
            | self._above_chance(),
        )
        self._cut_off(
            list(self.result.selection.repeats.values())
            if self.result.selection is not None
            else [],
            event,
        )

    def _above_chance(self) -> dict[str, str]:
        """Return a tag that is true if the answer is better than guessing; empty if not known."""
        comparison = answer_against(self.result)
        return {} if comparison is None else {"above_chance": str(comparison.is_above).lower()}

    def _store(self, event: Event, evidence: Evidence) -> None:
        """Upload a file or folder of the search, after the queued values have been written.

        The file or folder is skipped if it was uploaded before, is missing, or has links out of the
        search's folder.
        """
        trial, path = self.result.find(evidence.trial), self.folder / evidence.file
        run_id = self._trial_run(event, trial) if trial is not None else self.parent
        stored = self.stored.setdefault(run_id, set())
        if str(event.number) in stored or not path.exists() or has_links_out(path, self.folder):
            return
        self._flush()
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), evidence.path or None)
        else:
            self.client.log_artifact(run_id, str(path), evidence.path or None)
        stored.add(str(event.number))
        self._queue(run_id, tags={EVIDENCE_TAG: " ".join(sorted(stored, key=int))})

    def _finish(self, event: Event) -> None:
        """Write the result and the summary to the parent run, and close unfinished trials' runs."""
        result, session = self.result, len(self.result.sessions)
        if result.best is not None:
            self._queue(
                self.parent,
                metrics={
                    best_metric_name(result.task.primary): result.best.primary_value,
                    best_metric_name(result.metric): result.best.value,
                },
                time_ms=event.time_ms,
                step=session,
            )
            answer = result.answer or result.best
            tags = {"best.trial": result.best.trial, "answer.trial": answer.trial}
            self._queue(self.parent, tags=tags)
        figures = {
            "search/epochs_trained": result.epochs_trained,
            "search/wall_s": result.wall_s,
            "search/train_s": result.train_s,
            "search/slot_efficiency": result.slot_efficiency,
        }
        figures |= {"search/risk": result.risk.chance} if result.risk is not None else {}
        figures |= guess_figures(result)
        self._queue(self.parent, metrics=figures, time_ms=event.time_ms, step=session)
        self._queue(
            self.parent,
            tags={"outcome": result.outcome, "mlflow.note.content": markdown_summary(result)}
            | self._above_chance(),
        )
        self.next_status[self.parent] = (
            "FINISHED" if result.outcome in ("completed", "gain") else "KILLED",
            event.time_ms,
        )
        self._cut_off(result.unfinished, event)

    def _cut_off(self, trials: list[TrialResult], event: Event) -> None:
        """Mark the unfinished trials among these as interrupted, and log their best epochs."""
        for trial in trials:
            if trial.outcome in UNFINISHED and trial.trial in self.runs:
                self._log_best(trial, event)
                self._set_status(trial, "KILLED", event.time_ms, outcome="interrupted")

    def _queue(
        self,
        run_id: str,
        *,
        metrics: dict[str, float] | None = None,
        time_ms: int = 0,
        step: int = 0,
        params: Params | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Add values to a run's next batch, except metrics of steps that MLflow already has."""
        from mlflow.entities import Metric, Param, RunTag

        queue = self.queues.setdefault(run_id, {"metrics": [], "params": [], "tags": []})
        known_steps = self.last_steps.get(run_id, {})
        made_metrics: list[Metric] = [
            Metric(name, float(value), time_ms, step)
            for name, value in (metrics or {}).items()
            if step > known_steps.get(name, -1)
        ]
        made_params: list[Param] = [
            Param(name, str(value)) for name, value in (params or {}).items()
        ]
        made_tags: list[RunTag] = [RunTag(name, value) for name, value in (tags or {}).items()]
        for kind, entries in (
            ("metrics", made_metrics),
            ("params", made_params),
            ("tags", made_tags),
        ):
            queue[kind] += entries

    def _flush(self) -> None:
        """Write the queued values to MLflow in as few requests as possible.

        Usually this takes one request per run, and another if its status changes.
        """
        for run_id, queue in self.queues.items():
            queue["tags"] = list({tag.key: tag for tag in queue["tags"]}.values())
            while any(queue.values()):
                batch = {kind: queue[kind][:limit] for kind, limit in BATCH.items()}
                self.client.log_batch(
                    run_id, metrics=batch["metrics"], params=batch["params"], tags=batch["tags"]
                )
                self.on_progress()
                for kind, limit in BATCH.items():
                    del queue[kind][:limit]
        self.queues.clear()
        for run_id, (status, end_ms) in self.next_status.items():
            if self.status.get(run_id) == status:
                continue
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
            else:
                self.client.set_terminated(run_id, status=status, end_time=end_ms)
            self.status[run_id] = status
            self.on_progress()
        self.next_status.clear()


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Return a key for each name (`_key`); of equal keys, the second and further have a number."""
    keys, counts = dict[str, str](), Counter[str]()
    for name in names:
        counts[key := _key(name)] += 1
        keys[name] = key if counts[key] == 1 else f"{key}_{counts[key]}"
    return keys


def _key(name: str) -> str:
    """Make a class name valid as a part of a metric name of MLflow, with at most 100 characters."""
    return (
        "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100]
        or "_"
    )
