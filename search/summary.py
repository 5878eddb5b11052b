"""A search's result in words and tables: for the terminal's end, for MLflow's note, for `--json`."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.result import SearchResult, TrialResult
from trainables.config import TrialConfig
from trainables.errors import printable
from trainables.models.registry import MODELS

TOP = 10


def param_text(value: Any) -> str:
    """A parameter's value for people: 0.001234 rather than 0.0012339999."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def accuracy_text(trial: TrialResult | None) -> str:
    """`0.9721`, or `0.8997 (stopped at epoch 3 of 20)`, or that it was not tried."""
    if trial is None or not trial.epochs:
        return "not tried"
    stopped = f" (stopped at epoch {len(trial.epochs)} of {trial.config['epochs']})" if trial.outcome == "stopped" else ""
    return f"{trial.accuracy:.4f}{stopped}"


def outcome_text(result: SearchResult) -> str:
    """`48 completed, 11 stopped, 1 diverged`."""
    order = ("completed", "stopped", "diverged", "failed", "interrupted", "running", "pending")
    counts = result.counts
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if outcome in counts) or "no trials"


def searched(result: SearchResult) -> list[str]:
    """The paths that were searched, in the space's order."""
    return list(result.started["experiment"]["space"]["domains"])


def short_names(paths: list[str]) -> dict[str, str]:
    """A word for each path: `optimizer.lr` is `lr`, `model.name` is `model`; the path itself where the word would mean two."""
    words = {path: path.removesuffix(".name") if path.endswith(".name") else path.rpartition(".")[2] for path in paths}
    taken = Counter(words.values())
    return {path: word if taken[word] == 1 else path for path, word in words.items()}


def is_baseline(trial: TrialResult) -> bool:
    """Whether it is fitted without a network; a model that is no longer registered counts as a network."""
    model = MODELS.get(trial.config["model"]["name"])
    return model is not None and model.kind == "baseline"


def ms_per_image(trial: TrialResult) -> float | None:
    """Milliseconds for one image alone; None where that was not measured."""
    found: float | None = trial.evaluation.get("cost", {}).get("inference", {}).get("batch_1", {}).get("median_ms")
    return found


def reference_rows(result: SearchResult) -> list[tuple[str, dict[str, Any], TrialResult | None]]:
    """The best configuration found and, where the space names one, the reference with its trial, if it was tried."""
    rows: list[tuple[str, dict[str, Any], TrialResult | None]] = []
    if result.best is not None:
        rows.append(("found", result.best.params, result.best))
    space = result.started["experiment"]["space"]
    if space["reference"]:
        same = (trial for trial in result.trials.values() if trial.config and _is_at(TrialConfig.from_dict(trial.config), space["reference"]))
        rows.append((space["reference_title"], space["reference"], next(same, None)))
    return rows


def _is_at(config: TrialConfig, reference: dict[str, Any]) -> bool:
    return all(config.value(path) == value for path, value in reference.items())


def models(result: SearchResult) -> list[dict[str, Any]]:
    """The best trial of each model, the best model first: how good it is on the validation part and what it costs, as plain values. What was not
    measured is None, and so is what a model does not have.
    """
    return [_model(name, trial) for name, trial in result.best_of_models.items()]


def _model(name: str, trial: TrialResult) -> dict[str, Any]:
    found = trial.evaluation
    val, cost = found.get("val", {}), found.get("cost", {})
    times = cost.get("inference", {})
    return {
        "model": name,
        "trial_id": trial.trial,
        "outcome": trial.outcome,
        "val_accuracy": trial.accuracy,
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


MODEL_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "model": ("model", str),
    "trial_id": ("trial", str),
    "val_accuracy": ("val accuracy", "{:.4f}".format),
    "macro_f1": ("macro F1", "{:.4f}".format),
    "ms_per_image_batch_1": ("ms/image", "{:.3g}".format),
    "ms_per_image_batch_64": ("of 64", "{:.3g}".format),
    "parameters": ("weights", lambda count: f"{count / 1e6:.3g} M"),
    "train_s": ("train s", "{:.1f}".format),
}
"""What the table of models shows, with a title and a format for each; the times are of one image alone and of one among 64."""


def models_table(result: SearchResult) -> list[list[str]]:
    """The models side by side, as text: a row of titles and one a model. Empty where there is nothing to say beside the best trial."""
    rows = models(result)
    if len(rows) < 2 and not any(row["macro_f1"] is not None for row in rows):
        return []
    cells = [["" if row[key] is None else printable(form(row[key])) for key, (_, form) in MODEL_COLUMNS.items()] for row in rows]
    return [[title for title, _ in MODEL_COLUMNS.values()], *cells]


def markdown_summary(result: SearchResult) -> str:
    """What the search was, how it went, and its ten best trials."""
    experiment, data = result.started["experiment"], result.started["data"]
    lines = [
        f"**{result.name}**: space `{experiment['space']['name']}` on `{data['name']}` ({data['train']:,} training, {data['val']:,} validation images), "
        f"{experiment['algorithm']} + {experiment['scheduler']}, seed {experiment['seed']}.",
        "",
        f"{len(result.trials)} trials ({outcome_text(result)}), {result.epochs_trained:,} epochs in {result.wall_s:.0f} s.",
    ]
    if result.best is not None:
        tested = f", test accuracy {result.test['accuracy']:.4f}" if result.test else ""
        lines.append(f"Best: `{result.best.trial}`, validation accuracy {result.best.accuracy:.4f}{tested}.")
    if compared := models_table(result):
        titles, *rows = compared
        lines += ["", "The best trial of each model:", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    paths = searched(result)
    lines += ["", "| trial | " + " | ".join(paths) + " | epochs | val accuracy | outcome |", "|---" * (len(paths) + 4) + "|"]
    for trial in result.ranking[:TOP]:
        values = " | ".join(param_text(trial.params.get(path, "")) for path in paths)
        lines.append(f"| {trial.trial} | {values} | {len(trial.epochs)} | {trial.accuracy:.4f} | {trial.outcome} |")
    return "\n".join(lines)


def checkpoint_of(trial: TrialResult, folder: Path) -> Path:
    """Where the checkpoint of a trial's best epoch is, in a search's folder."""
    return folder / "trials" / trial.trial / f"epoch-{trial.best_epoch:04d}"


def json_summary(result: SearchResult, *, tracking: dict[str, str], journal: Path) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "name": result.name,
        "outcome": result.outcome,
        "best": None if result.best is None else _best(result, result.best, journal.parent),
        "passed_over": result.passed_over,
        "models": models(result),
        "trials": result.counts,
        "epochs_trained": result.epochs_trained,
        "wall_s": round(result.wall_s, 3),
        "train_s": round(result.train_s, 3),
        "slots": result.started["slots"],
        "slot_efficiency": round(result.slot_efficiency, 4),
        "mlflow": tracking,
        "journal": str(journal),
    }


def _best(result: SearchResult, best: TrialResult, folder: Path) -> dict[str, Any]:
    return {
        "trial_id": best.trial,
        "params": best.params,
        "val_accuracy": best.accuracy,
        "test_accuracy": result.test.get("accuracy"),
        "epoch": best.best_epoch,
        "checkpoint": str(checkpoint_of(best, folder)),
    }
