"""Comparisons of trials with guessing, as table rows and JSON-compatible values."""

from typing import Any

from search.journal.guessing import ERROR_RATE, AgainstGuessing, Guessing
from search.journal.result import SearchResult
from search.values.objectives import value_of
from trainables.catalog.guesses import Guess


def at_chance(result: SearchResult) -> set[str]:
    """Return the names of the trials that are not significantly better than guessing.

    Empty if the values of guessing are not known.
    """
    guessing = Guessing.of(result)
    if guessing is None:
        return set()
    return {trial.trial for trial in result.ranking if guessing.is_at_chance(trial)}


def guess_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Return a row for the table of models for each way to guess; empty if none is known."""
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
    """Convert a comparison with guessing to JSON-compatible values; None stays None."""
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
    """Return the best values of guessing, by their names in MLflow, such as `guess/val_accuracy`.

    There is a value for the search's metric and for the task's primary metric, on the validation
    and on the test set. Each may come from a different way to guess.
    """
    guessing, figures = Guessing.of(result), dict[str, float]()
    for metric in dict.fromkeys((result.metric, result.task.primary)):
        for part in ("val", "test"):
            if guessing is not None and (best := guessing.best(part, metric)) is not None:
                figures[f"guess/{part}_{metric.name}"] = getattr(best, part)[metric.name]
    return figures
