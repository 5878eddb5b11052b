"""Comparisons with guessing, as sentences, table rows and plain values."""

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
"""The mark, in tables, of trials that are not better than guessing by more than noise."""


def format_value(value: float, metric: Metric) -> str:
    """Format a value for a sentence: `95.2%`, or `0.4878`."""
    return f"{100 * value:.1f}%" if metric.in_percent else f"{value:.4f}"


def guessing_text(result: SearchResult) -> str:
    """Compare the answer with guessing, in a sentence; empty if the comparison is not known."""
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
    """Compare one training, called `name`, with guessing, in a sentence."""
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
    """Text on the error rate, and the number of epochs that share it."""
    among = f" for all {comparison.looks:,} epochs together" if comparison.looks > 1 else ""
    return f"error rate {ERROR_RATE:.0%}{among}"


def at_chance(result: SearchResult) -> set[str]:
    """Names of the trials that are not better than guessing by more than noise."""
    guessing = Guessing.of(result)
    if guessing is None:
        return set()
    return {trial.trial for trial in result.ranking if guessing.is_at_chance(trial)}


def outcome_with_mark(trial: TrialResult, marked: set[str]) -> str:
    """A trial's outcome, followed by `AT_CHANCE` if the trial is marked."""
    return f"{trial.outcome}, {AT_CHANCE}" if trial.trial in marked else trial.outcome


def guess_rows(result: SearchResult) -> list[dict[str, Any]]:
    """The ways to guess as rows of the table of models."""
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
    """A comparison with guessing as JSON-compatible values; None where there is none."""
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
    """The best values of guessing by the search's metric and the primary one, by MLflow's names.

    Each metric may have a different best guess.
    """
    guessing, figures = Guessing.of(result), dict[str, float]()
    for metric in dict.fromkeys((result.metric, result.task.primary)):
        for part in ("val", "test"):
            if guessing is not None and (best := guessing.best(part, metric)) is not None:
                figures[f"guess/{part}_{metric.name}"] = getattr(best, part)[metric.name]
    return figures
