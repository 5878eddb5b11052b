"""Comparisons of trials with guessing, as table rows and JSON-compatible values."""

from typing import Any

from search.journal.guessing import ERROR_RATE, AgainstGuessing, Guessing
from search.journal.result import SearchResult
from search.values.objectives import value_of
from trainables.catalog.guesses import Guess


def at_chance(result: SearchResult) -> set[str]:
    """Names of the trials that are not significantly better than guessing.

    Empty if guessing was not measured.
    """
    guessing = Guessing.of(result)
    if guessing is None:
        return set()
    return {trial.trial for trial in result.ranking if guessing.is_at_chance(trial)}


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
