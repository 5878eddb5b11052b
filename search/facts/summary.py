"""The result of a search, or of its selection, as JSON-compatible values."""

import json
from pathlib import Path

from search.decisions.refinement import refinement_facts
from search.design.budget import shares_of
from search.facts.answer import group_facts
from search.facts.guessing import above_chance
from search.facts.metric import tested_value
from search.facts.selection import average_facts
from search.facts.trials import value_facts
from search.journal.guessing import answer_against
from search.journal.journal import FILE_NAME
from search.journal.pareto import front
from search.journal.result import DATA_REPORT, SearchResult, TrialResult, checkpoint_of
from search.journal.store import Home
from search.values.objectives import objective_value
from trainables.catalog.entries import Metric
from trainables.disk import read_regular
from trainables.values import Json


def json_summary(
    result: SearchResult, *, tracking: dict[str, str], home: Home, wall_s: float
) -> Json:
    """Build the object that `--json` prints.

    Args:
        result: the search.
        tracking: the tracking URI and the ids of MLflow's experiment and parent run.
        home: the storage of the search.
        wall_s: the duration of all sessions in seconds, including the time after the journal's last
            event.
    """
    return {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": result.outcome,
        "best": None if result.best is None else _best(result, result.best, home),
        **_ensemble(result, home),
        "above_chance": above_chance(answer_against(result)),
        "guesses": result.started.data.get("guesses", []),
        "passed_over": result.passed_over,
        "models": models(result),
        "front": _front(result, home),
        **refinement_facts(result),
        **group_facts(result),
        **_robustness(result),
        **registration_facts(result),
        "trials": result.counts,
        "risk": result.risk.chance if result.risk is not None else None,
        "epochs_trained": result.epochs_trained,
        "epochs_taken_over": sum(epochs for _, epochs in result.reused_epochs.values()),
        "wall_s": round(wall_s, 3),
        "train_s": round(result.train_s, 3),
        "slots": result.started.slots,
        "slot_efficiency": round(result.slot_efficiency, 4),
        "budget": {limit: round(share, 4) for limit, share in shares_of(result).items()},
        "requests": request_facts(result),
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
        "data": _data(home),
    }


def json_selection(result: SearchResult, *, tracking: dict[str, str], home: Home) -> Json:
    """Build the object that `search.select --json` prints; for the arguments see `json_summary`."""
    selection, chosen = result.selection, result.chosen
    verdict = selection.verdict if selection is not None else None
    facts = verdict.to_json() if verdict is not None else {}
    checkpoint = where_kept(chosen, home) if facts and chosen is not None else None
    test = selection.test if selection is not None else {}
    return {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": selection.outcome if selection is not None else None,
        **{
            key: facts.get(key)
            for key in (
                "candidate",
                "trial",
                "leader",
                "expected",
                "search_value",
                "alpha",
                "level",
                "rows",
            )
        },
        f"test_{result.task.primary.name}": test.get(result.task.primary.name),
        "test_value": tested_value(test, result.metric),
        "above_chance": above_chance(answer_against(result)),
        "openings": [str(opening) for opening in result.openings],
        "checkpoint": checkpoint,
        **group_facts(result),
        **_robustness(result),
        **registration_facts(result),
        "trainings": len(selection.repeats) if selection is not None else 0,
        **(average_facts(selection) if selection is not None else {}),
        "train_s": round(selection.train_s, 3) if selection is not None else 0,
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
    }


def metric_facts(metric: Metric) -> dict[str, str]:
    """Return the name of the metric that ranks trials, and its mode: `max` or `min`."""
    return {"metric": metric.name, "mode": metric.mode}


def request_facts(result: SearchResult) -> list[Json]:
    """Convert the answered requests to JSON-compatible values."""
    return [
        {"time_ms": answered_request.time_ms, **answered_request.request.to_json()}
        for answered_request in result.requests.values()
    ]


def registration_facts(result: SearchResult) -> Json:
    """Return the registered models, the earliest first; empty if there is none."""
    if not result.registrations:
        return {}
    return {
        "registered": [
            {"time_ms": registration.time_ms, **registration.event.to_json()}
            for registration in result.registrations
        ]
    }


def models(result: SearchResult) -> list[Json]:
    """Return the best trial of each model as JSON-compatible values, the best model first.

    A row has the model's values on the validation set and its costs. A value that was not measured,
    or that the model does not have, is None.
    """
    return [_model(name, trial) for name, trial in result.best_of_models.items()]


def where_kept(trial: TrialResult, home: Home) -> str:
    """Return the location of a trial's best checkpoint, in a folder or a bucket, for display."""
    return f"{home}/{checkpoint_of(trial, Path())}"


def _best(result: SearchResult, best: TrialResult, home: Home) -> Json:
    test = result.test if best is result.answer else {}
    return {
        **_trial(best),
        f"test_{best.task.primary.name}": test.get(best.task.primary.name),
        "test_value": tested_value(test, result.metric),
        "epoch": best.best_epoch,
        "checkpoint": where_kept(best, home),
    }


def _ensemble(result: SearchResult, home: Home) -> Json:
    """Return the ensemble that is the answer of the search itself; empty if a trial is."""
    combined, ensemble = result.combined, result.ensemble
    if combined is None or ensemble is None or ensemble is not result.answer:
        return {}
    facts = ("trial", "members", "metrics", "gain", "error")
    return {
        "ensemble": {
            **{name: getattr(combined, name) for name in facts},
            f"test_{ensemble.task.primary.name}": result.test.get(ensemble.task.primary.name),
            "checkpoint": where_kept(ensemble, home),
        }
    }


def _front(result: SearchResult, home: Home) -> list[Json]:
    names, costs = result.further_objectives, result.costs
    return [
        {
            **_trial(trial),
            **{name: objective_value(name, costs[trial.trial]) for name in names},
            "outcome": trial.outcome,
            "checkpoint": where_kept(trial, home),
        }
        for trial in front(result)
    ]


def _trial(trial: TrialResult) -> Json:
    return {"trial_id": trial.trial, "params": trial.params, **value_facts(trial)}


def _model(name: str, trial: TrialResult) -> Json:
    val = trial.evaluation.val if trial.evaluation is not None else {}
    cost = trial.cost
    times = cost.get("inference", {})
    return {
        "model": name,
        "trial_id": trial.trial,
        "outcome": trial.outcome,
        **value_facts(trial),
        "macro_f1": val.get("macro", {}).get("f1"),
        "weighted_f1": val.get("weighted", {}).get("f1"),
        "ece": val.get("ece"),
        "ms_per_image_batch_1": times.get("batch_1", {}).get("median_ms"),
        "ms_per_image_batch_64": times.get("batch_64", {}).get("median_ms"),
        "parameters": cost.get("parameters"),
        "multiply_adds": cost.get("multiply_adds"),
        "bytes": cost.get("bytes"),
        "train_s": round(trial.train_s, 3),
    }


def _robustness(result: SearchResult) -> Json:
    """Return the results of `--evaluate` by trial; empty unless the search has this option."""
    if not result.started.experiment.get("evaluate"):
        return {}
    again = result.selection.trainings if result.selection is not None else {}
    trials = [*result.trials.values(), *result.ensembles.values(), *again.values()]
    return {"robustness": {trial.trial: trial.robustness for trial in trials if trial.robustness}}


def _data(home: Home) -> Json | None:
    """Load the data report that is stored with a search; None if it cannot be read."""
    try:
        report: Json = json.loads(read_regular(home.read(DATA_REPORT)))
    except (OSError, ValueError):
        return None
    return report
