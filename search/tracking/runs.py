"""A search's runs in MLflow, written from the journal's events.

There is a parent run, below it a child run for each trial, and below that one for each fold. This
is the only module that writes them.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.journal.events import (
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
    Restored,
    Resumed,
    Running,
    Selected,
    Selecting,
    Started,
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
from search.values.wording import RUN_LIST, last_line_of
from search.views.guessing import guess_figures
from search.views.summary import markdown_summary, param_text, reached_text
from trainables.catalog.tasks import DEFAULT_TASK, Metric
from trainables.messages import WarmStart
from trainables.values import Evaluation, Params

STATUS = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
RUN_LIST_TAG = f"mlflow.sharedViewState.{RUN_LIST}"
"""The experiment's tag with a view of its run list (MLflow 3.17)."""
EVIDENCE_TAG, OPENED_TAG = "search.evidence", "test.opened"
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""The most that MLflow takes in one `log_batch`."""
EXPERIMENTS = 500
"""The number of experiments in which runs are looked for at once."""
PIECE = 10_000
"""The number of events that are written at once, so that progress shows."""


def new_title(space: str, data: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Return the title of MLflow's experiment for a new search.

    There is one for each space, data set, task and metric: MLflow marks one metric of an experiment
    as its primary one. The title is recorded in the journal, since a link may lead elsewhere later.

    Args:
        space: the space's name.
        data: what the journal says of the data set.
        base: the config that all trials share, as the journal has it.
    """
    task, metric = task_of(base), metric_of(base)
    source = (
        data["name"] if data["name"] != "folder" else f"folder-{Path(data['root']).resolve().name}"
    )
    other = [task.name] if task.name != DEFAULT_TASK else []
    other += [] if metric.is_primary else [metric.name]
    return "-".join([space, source, *other])


def experiment_title(facts: Started) -> str:
    """Return the title of MLflow's experiment for a search with this first event.

    An event of an earlier version does not hold it; it is computed then.
    """
    return facts.mlflow_experiment or new_title(facts.experiment["space"]["name"], facts.data, {})


def elsewhere(client: Any, search: str) -> Any:
    """Return the experiment, whatever its title, that has runs of the search with this id.

    None if there is none.
    """
    from mlflow.entities import ViewType

    token: str | None = None
    while token != "":
        page = client.search_experiments(ViewType.ALL, max_results=EXPERIMENTS, page_token=token)
        ids, token = [one.experiment_id for one in page], page.token or ""
        if ids and (
            found := client.search_runs(
                ids, f"tags.`search.id` = '{search}'", ViewType.ALL, max_results=1
            )
        ):
            return client.get_experiment(found[0].info.experiment_id)
    return None


def evaluation_figures(told: Evaluated, trial: TrialResult) -> dict[str, float]:
    """Return a run's metrics of its trial's evaluation on the validation part.

    They are its numbers, by their names; those of classification's means over classes; and the
    costs of using its network.
    """
    val, cost = told.val, told.cost
    figures = plain_figures(val)
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


def plain_figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers of an evaluation by their names, without that of its images."""
    return {
        name: value
        for name, value in evaluation.items()
        if isinstance(value, int | float) and name != "images"
    }


def cost_figures(cost: Mapping[str, Any], when: str) -> dict[str, float]:
    """Return a run's metrics of the cost of using its network.

    `eval/...` was measured with nothing beside it, `first/...` with its first epoch.
    """
    figures = {name: cost.get(name) for name in ("parameters", "multiply_adds", "bytes")}
    for batch, times in cost["inference"].items():
        figures |= {
            f"ms_per_image_{batch}": times.get("median_ms"),
            f"ms_per_image_{batch}_p95": times.get("p95_ms"),
        }
    return {f"{when}/{name}": value for name, value in figures.items() if value is not None}


def primary(metric: Metric) -> str:
    """Return the name in MLflow of a metric at a trial's best epoch: `best/val_macro_f1`."""
    return f"best/val_{metric.name}"


def best_figures(metrics: dict[str, float], epoch: int, trial: TrialResult) -> dict[str, float]:
    """Return a run's metrics of its trial's best epoch.

    `metrics` are that epoch's, of the trial or of one fold.
    """
    figures: dict[str, float] = {"best/epoch": epoch}
    if "val/loss" in metrics:
        figures["best/val_loss"] = metrics["val/loss"]
    for one in (trial.task.primary, trial.metric):
        figures[primary(one)] = metrics[one.key]
        if one.deviation_key in metrics:
            figures[f"{primary(one)}_std"] = metrics[one.deviation_key]
    return figures


def trial_note(trial: TrialResult) -> str:
    """Return what MLflow shows as a trial's description: its params, and what became of it."""
    params = ", ".join(f"{path} {param_text(value)}" for path, value in trial.params.items())
    reason = f" ({last_line_of(trial.reason)})" if trial.reason else ""
    reached = f"validation {trial.metric.title} {reached_text(trial)}" if trial.epochs else ""
    return f"{params}: {trial.outcome}{reason}{reached and '; '}{reached}."


def fold_key(trial: str, number: int | str) -> str:
    """Return the key of a fold's run, among runs of trials that are known by their names."""
    return f"{trial} fold {number}"


def leads_out(path: Path, folder: Path) -> bool:
    """Return whether a part of a file or a folder lies outside this folder.

    A journal from elsewhere may name links to files that must not be published.
    """
    return not all(
        found.resolve().is_relative_to(folder.resolve()) for found in (path, *path.rglob("*"))
    )


class Runs:
    """The runs of one search in MLflow, found by tag.

    They are created once, restored if somebody deleted them, and each value is written at most
    once.
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
        """True if the search has run before: MLflow may have it in an experiment whose title was
        changed since.
        """
        self.experiment_id = self.parent = ""
        self.runs: dict[str, str] = {}
        """Run ids by trial, or by its fold (`fold_key`); the parent's under the empty name."""
        self.there: dict[str, dict[str, int]] = {}
        """For each run, the last step of each metric that it had when it was found."""
        self.status: dict[str, str] = {}
        self.wanted: dict[str, tuple[str, int]] = {}
        self.described: set[str] = set()
        """Trials whose params are there."""
        self.stored: dict[str, set[str]] = {}
        """The numbers of the events whose files are stored with each run."""
        self.verdicts: list[str] = []
        """The trainings that were chosen, the latest last."""
        self.waiting: dict[str, dict[str, list[Any]]] = {}

    def project(self, events: list[Event]) -> None:
        """Write these events, which follow the ones before.

        The first call takes the whole journal as it is.
        """
        self.is_old = any(isinstance(event.data, Resumed | Finished) for event in events)
        for first in range(0, len(events), PIECE):
            for event in events[first : first + PIECE]:
                self.result.apply(event)
                self._project_event(event)
            self._flush()

    def leave(self, time_ms: int) -> None:
        """Mark the runs that are still running as cut off: nobody trains them now."""
        for run_id, status in {
            **self.status,
            **{run: wanted for run, (wanted, _) in self.wanted.items()},
        }.items():
            if status == "RUNNING":
                self._queue(run_id, tags={"outcome": "interrupted"})
                self.wanted[run_id] = ("KILLED", time_ms)
        if self.result.selection is not None and self.result.selection.outcome == "running":
            self._queue(self.parent, tags={"selection.outcome": "interrupted"})
        self._flush()

    def _project_event(self, event: Event) -> None:
        match event.data:
            case Started() as told:
                self._start(event, told)
            case Resumed():
                self.wanted[self.parent] = ("RUNNING", 0)
                self._queue(self.parent, tags=self._common_tags())
            case Opened():
                self._log_openings()
            case Tested() as told:
                self._test(event, told)
            case Evidence() as told:
                self._store(event, told)
            case Finished():
                self._finish(event)
            case Selecting():
                self._queue(self.parent, tags={"selection.outcome": "running"})
            case Selected() as told:
                self._select(event, told)
            case Concluded() as told:
                self._conclude(event, told)
            case _ if (trial := self.result.find(event.trial)) is not None:
                self._project_trial(event, trial)

    def _start(self, event: Event, facts: Started) -> None:
        """Find or create the experiment (one a space and data set) and the parent run."""
        self.experiment_id = self._experiment(experiment_title(facts))
        self._find()
        if (
            not self.runs
            and (not facts.mlflow_experiment or self.is_old)
            and (found := elsewhere(self.client, facts.id)) is not None
        ):
            self.experiment_id = self._restored(found)
            self._find()
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
        """Return the id of the experiment of this title: found, restored if deleted, or created."""
        from mlflow.exceptions import MlflowException

        if (found := self.client.get_experiment_by_name(title)) is None:
            metric = self.result.metric
            higher = str(metric.mode == "max").lower()
            tags = {
                "mlflow.experiment.primaryMetric.name": primary(metric),
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
                found = self.client.get_experiment_by_name(title)  # another search was faster
                if found is None:
                    raise
        experiment = self._restored(found)
        if RUN_LIST_TAG not in found.tags:
            view = self._run_list()
            add(lambda: self.client.set_experiment_tag(experiment, RUN_LIST_TAG, view))
        return experiment

    def _run_list(self) -> str:
        """Return the view of an experiment's run list that shows the metric."""
        names = dict.fromkeys((self.result.metric, self.result.task.primary))
        columns = [f"metrics.`{primary(metric)}`" for metric in names]
        columns += [f"metrics.`test/{metric.name}`" for metric in names]
        view = {"orderByKey": "attributes.start_time", "orderByAsc": False}
        return json.dumps({**view, "selectedColumns": ["attributes.`Dataset`", *columns]})

    def _restored(self, found: Any) -> str:
        """Return an experiment's id; restore it first if it was deleted."""
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifact_location(self, title: str) -> str | None:
        """Return a folder beside the SQLite file; None for a server, which has its own.

        It is made here, for its owner only: pictures of images and checkpoints go there.
        """
        if not self.uri.startswith("sqlite:"):
            return None
        artifacts = sqlite_path(self.uri).parent / "mlartifacts"
        with suppress(OSError):  # MLflow reports why nothing can be written there
            for folder in (artifacts, artifacts / title):
                folder.mkdir(mode=0o700, exist_ok=True)
        return (artifacts / title).as_uri()

    def _find(self) -> None:
        """Find the runs that this search has already, and restore those that somebody deleted."""
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
        """Return the run of a trial (or the parent): found or created."""
        if trial not in self.runs:
            tags = {
                "search.name": self.result.name,
                "search.id": self.result.started.id,
                **self._common_tags(),
                **tags,
            }
            made = self.client.create_run(
                self.experiment_id, start_time=event.time_ms, tags=tags, run_name=title
            ).info
            self.runs[trial], self.status[made.run_id] = made.run_id, "RUNNING"
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
            case Restored(begun=WarmStart() as begun):
                told = f"{begun.trial} of {begun.search}, epoch {begun.epoch}"
                self._queue(self._trial_run(event, trial), tags={"begun": told})
            case Evaluated() as evaluated:
                figures = evaluation_figures(evaluated, trial)
                self._log(event, trial, figures, step=evaluated.epoch)
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

    def _log(
        self, event: Event, trial: TrialResult, metrics: dict[str, float], *, step: int = 0
    ) -> None:
        """Write metrics to a trial's run."""
        run_id = self._trial_run(event, trial)
        self._queue(run_id, metrics=metrics, time_ms=event.time_ms, step=step)

    def _log_epoch(self, event: Event, told: Epoch, trial: TrialResult) -> None:
        """Write an epoch's metrics to its trial's run, and those of the folds to theirs."""
        tags = {"precision": told.precision} if told.precision else {}
        self._queue(
            self._trial_run(event, trial),
            metrics=told.metrics,
            time_ms=event.time_ms,
            step=told.epoch,
            tags=tags,
        )
        for number, metrics in enumerate(told.folds, 1):
            self._queue(
                self._fold_run(number, event, trial),
                metrics=metrics,
                time_ms=event.time_ms,
                step=told.epoch,
                tags=tags,
            )

    def _set_status(self, trial: TrialResult, status: str, time_ms: int, *, outcome: str) -> None:
        """Give a trial's run, and those of its folds, this status and outcome."""
        for run_id in (self.runs[trial.trial], *self._fold_runs(trial)):
            self.wanted[run_id] = (status, time_ms)
            self._queue(run_id, tags={"outcome": outcome})

    def _fold_runs(self, trial: TrialResult) -> list[str]:
        """Return the existing runs of a trial's folds, in order."""
        numbers = range(1, max(map(len, trial.folds.values()), default=0) + 1)
        return [
            self.runs[key]
            for number in numbers
            if (key := fold_key(trial.trial, number)) in self.runs
        ]

    def _fold_run(self, number: int, event: Event, trial: TrialResult) -> str:
        """Return the run of a trial's fold, below the trial's: found or created."""
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
        """Return a trial's run, with its params.

        It is found, or created at this event, which is the first to tell of it.
        """
        tags = {
            "mlflow.parentRunId": self.parent,
            "search.role": "trial",
            "search.trial": trial.trial,
        }
        if trial.repeat_of:
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
        """Write a trial's best epoch to its run and to those of its folds."""
        if trial.best_epoch is not None:
            each = [trial.best, *trial.folds.get(trial.best_epoch, [])]
            for run, metrics in zip(
                (self.runs[trial.trial], *self._fold_runs(trial)), each, strict=True
            ):
                self._queue(
                    run,
                    metrics=best_figures(metrics, trial.best_epoch, trial),
                    time_ms=event.time_ms,
                    step=trial.best_epoch,
                )

    def _test(self, event: Event, told: Tested) -> None:
        """Write the test part's metrics to the tested trial's run and to the parent."""
        test = told.test
        metrics = {
            f"test/{name}": value
            for name, value in (plain_figures(test) | test.get("macro", {})).items()
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
        for name, values in test.get("per_class", {}).items():
            metrics |= {
                f"test_class/{_key(name)}/{metric}": values[metric]
                for metric in ("precision", "recall", "f1")
            }
        self._queue(
            self.runs[told.trial],
            metrics=metrics,
            time_ms=event.time_ms,
            step=told.epoch,
        )
        self._queue(
            self.parent, metrics=metrics, time_ms=event.time_ms, step=len(self.result.openings)
        )
        self._log_openings()

    def _log_openings(self) -> None:
        self._queue(self.parent, tags={OPENED_TAG: "; ".join(map(str, self.result.openings))})

    def _select(self, event: Event, verdict: Selected) -> None:
        """Write the choice to the parent and to the chosen training's run.

        An earlier choice is marked as no longer selected.
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

    def _conclude(self, event: Event, told: Concluded) -> None:
        """Write the parent's summary, with the selection in it.

        Runs still open belong to trainings that were cut off.
        """
        self._queue(
            self.parent,
            tags={
                "selection.outcome": told.outcome,
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
        """Return the tag that says whether the answer is better than guessing, if it is known."""
        found = answer_against(self.result)
        return {} if found is None else {"above_chance": str(found.is_above).lower()}

    def _store(self, event: Event, told: Evidence) -> None:
        """Store a copy of a file or a folder, once."""
        trial, path = self.result.find(told.trial), self.folder / told.file
        run_id = self._trial_run(event, trial) if trial is not None else self.parent
        stored = self.stored.setdefault(run_id, set())
        if str(event.number) in stored or not path.exists() or leads_out(path, self.folder):
            return
        self._flush()
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), told.path or None)
        else:
            self.client.log_artifact(run_id, str(path), told.path or None)
        stored.add(str(event.number))
        self._queue(run_id, tags={EVIDENCE_TAG: " ".join(sorted(stored, key=int))})

    def _finish(self, event: Event) -> None:
        """Write the parent's summary; runs still open belong to trials that were cut off."""
        result, session = self.result, len(self.result.sessions)
        if result.best is not None:
            self._queue(
                self.parent,
                metrics={
                    primary(result.task.primary): result.best.primary_value,
                    primary(result.metric): result.best.value,
                },
                time_ms=event.time_ms,
                step=session,
            )
            self._queue(self.parent, tags={"best.trial": result.best.trial})
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
        self.wanted[self.parent] = (
            "FINISHED" if result.outcome in ("completed", "gain") else "KILLED",
            event.time_ms,
        )
        self._cut_off(result.unfinished, event)

    def _cut_off(self, trials: list[TrialResult], event: Event) -> None:
        """Mark the unfinished ones of these trials as cut off, with their best epoch."""
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
        """Keep these for the next batch."""
        from mlflow.entities import Metric, Param, RunTag

        kept = self.waiting.setdefault(run_id, {"metrics": [], "params": [], "tags": []})
        there = self.there.get(run_id, {})
        made_metrics: list[Metric] = [
            Metric(name, float(value), time_ms, step)
            for name, value in (metrics or {}).items()
            if step > there.get(name, -1)
        ]
        made_params: list[Param] = [
            Param(name, str(value)) for name, value in (params or {}).items()
        ]
        made_tags: list[RunTag] = [RunTag(name, value) for name, value in (tags or {}).items()]
        for kind, made in (("metrics", made_metrics), ("params", made_params), ("tags", made_tags)):
            kept[kind] += made

    def _flush(self) -> None:
        """Write what is kept for the next batch, in as few requests as MLflow allows.

        Usually that is one a run, and one more when its status changes.
        """
        for run_id, kept in self.waiting.items():
            kept["tags"] = list({tag.key: tag for tag in kept["tags"]}.values())
            while any(kept.values()):
                batch = {kind: kept[kind][:limit] for kind, limit in BATCH.items()}
                self.client.log_batch(
                    run_id, metrics=batch["metrics"], params=batch["params"], tags=batch["tags"]
                )
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
    """Return a class name with only letters that MLflow's metric names allow."""
    return (
        "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100]
        or "_"
    )
