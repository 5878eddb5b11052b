"""A search's result in words and tables: for the terminal's end, for MLflow's note, for `--json`."""

from pathlib import Path
from typing import Any

from search.result import SearchResult, TrialResult
from trainables.config import TrialConfig
from trainables.errors import printable

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
