"""Comparisons of trials with guessing, as sentences, table rows and JSON-compatible values."""

from typing import Any

from search.journal.guessing import (
    ERROR_RATE,
    AgainstGuessing,
    Guessing,
    answer_against,
    is_tie,
)
from search.journal.result import SearchResult, TrialResult
from search.values.objectives import value_of
from trainables.catalog.guesses import Guess
from trainables.catalog.tasks import Metric

AT_CHANCE = "at chance"
"""Mark in tables for trials that are not significantly better than guessing."""


def format_value(value: float, metric: Metric) -> str:
    """Format a value for a sentence: `95.2%`, or `0.4878`."""
    return f"{100 * value:.1f}%" if metric.in_percent else f"{value:.4f}"


def guessing_text(result: SearchResult) -> str:
    """Compare the answer with guessing, in sentences; empty if there is no comparison."""
    comparison, answer = answer_against(result), result.chosen
    if comparison is None or answer is None:
        return ""
    tie = f" {tie_text(result)}" if is_tie(result) else ""
    return f"{against_text(comparison, answer.trial)}{tie}"


def tie_text(result: SearchResult) -> str:
    """Sentence for a search whose trials all have the same value."""
    count = len(result.ranking)
    all_trials = "Both" if count == 2 else f"All {count:,}"
    value = format_value(result.ranking[0].value, result.metric)
    return f"{all_trials} trials tie at {value}, so that none is better than another."


def against_text(comparison: AgainstGuessing, name: str) -> str:
    """Compare a training with guessing, in a sentence that calls it `name`."""
    metric = comparison.metric
    values = (
        f"{comparison.guess.doing} reaches {format_value(comparison.guessed, metric)} "
        f"{metric.title} on the {comparison.images:,} {comparison.part} images, "
        f"{name} {format_value(comparison.value, metric)}"
    )
    if not comparison.is_above:
        luck = f", which may be luck ({_rate(comparison)})" if comparison.difference > 0 else ""
        return f"No better than guessing: {values}{luck}."
    return (
        f"Better than guessing: {values}, at least {metric.gap(comparison.low)} better "
        f"({_rate(comparison)})."
    )


def _rate(comparison: AgainstGuessing) -> str:
    """Format the error rate of the test, and the number of epochs for which it holds jointly."""
    among = f" for all {comparison.looks:,} epochs together" if comparison.looks > 1 else ""
    return f"error rate {ERROR_RATE:.0%}{among}"


def at_chance(result: SearchResult) -> set[str]:
    """Names of the trials that are not significantly better than guessing.

    Empty if guessing was not measured.
    """
    guessing = Guessing.of(result)
    if guessing is None:
        return set()
    return {trial.trial for trial in result.ranking if guessing.is_at_chance(trial)}


def outcome_with_mark(trial: TrialResult, marked: set[str]) -> str:
    """A trial's outcome, followed by `AT_CHANCE` if the trial is marked."""
    return f"{trial.outcome}, {AT_CHANCE}" if trial.trial in marked else trial.outcome


def guess_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Rows for the table of models, one for each way to guess; empty if none was measured."""
    guessing = Guessing.of(result)
    return [_row(guess, result) for guess in guessing.guesses] if guessing is not None else []


def _row(guess: Guess, result: SearchResult) -> dict[str, Any]:
    primary = result.task.primary.name
    return {
        "model": guess.title,
        value_of(primary): guess.val.get(primary),
        "value": guess.val.get(result.metric.name),
        "macro_f1": guess.val.get("macro_f1"),
    }


def above_chance(comparison: AgainstGuessing | None) -> dict[str, Any] | None:
    """A comparison with guessing as JSON-compatible values; None if there is no comparison."""
    if comparison is None:
        return None
    return {
        "above": comparison.is_above,
        "guess": comparison.guess.title,
        "part": comparison.part,
        "images": comparison.images,
        "value": comparison.value,
        "guessed": comparison.guessed,
        "difference": comparison.difference,
        "low": comparison.low,
        "high": comparison.high,
        "error_rate": ERROR_RATE,
        "looks": comparison.looks,
    }


def guess_figures(result: SearchResult) -> dict[str, float]:
    """Best values of guessing, by their names in MLflow, such as `guess/val_accuracy`.

    They cover the search's metric and the task's primary metric, on the validation and the test
    set. Each may come from a different way to guess.
    """
    guessing, figures = Guessing.of(result), dict[str, float]()
    for metric in dict.fromkeys((result.metric, result.task.primary)):
        for part in ("val", "test"):
            if guessing is not None and (best := guessing.best(part, metric)) is not None:
                figures[f"guess/{part}_{metric.name}"] = getattr(best, part)[metric.name]
    return figures
