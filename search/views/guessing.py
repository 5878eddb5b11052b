"""Guessing beside what was found, in words, rows and plain values."""

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


def shown(value: float, metric: Metric) -> str:
    """Return a value as the sentences here show it: `95.2%`, or `0.4878`."""
    return f"{100 * value:.1f}%" if metric.in_percent else f"{value:.4f}"


def guessing_text(result: SearchResult) -> str:
    """Return how the answer compares with guessing, in a sentence; empty if that is not known."""
    found, answer = answer_against(result), result.chosen
    if found is None or answer is None:
        return ""
    tie = f" {tie_text(result)}" if is_tie(result) else ""
    return f"{against_text(found, answer.trial)}{tie}"


def tie_text(result: SearchResult) -> str:
    """Return that all trials of a search have the same value."""
    count = len(result.ranking)
    both = "Both" if count == 2 else f"All {count:,}"
    value = shown(result.ranking[0].value, result.metric)
    return f"{both} trials tie at {value}, so that none is better than another."


def against_text(found: AgainstGuessing, name: str) -> str:
    """Return how one training, of this name, compares with guessing, in a sentence."""
    metric = found.metric
    values = (
        f"{found.guess.doing} reaches {shown(found.guessed, metric)} {metric.title} on the "
        f"{found.images:,} {found.part} images, {name} {shown(found.value, metric)}"
    )
    if not found.is_above:
        luck = f", which may be luck ({_rate(found)})" if found.difference > 0 else ""
        return f"No better than guessing: {values}{luck}."
    return (
        f"Better than guessing: {values}, at least {metric.gap(found.low)} better ({_rate(found)})."
    )


def _rate(found: AgainstGuessing) -> str:
    """Return the error rate, and what shares it."""
    among = f" for all {found.looks:,} epochs together" if found.looks > 1 else ""
    return f"error rate {ERROR_RATE:.0%}{among}"


def at_chance(result: SearchResult) -> set[str]:
    """Return the names of the trials that are not better than guessing by more than noise."""
    guessing = Guessing.of(result)
    if guessing is None:
        return set()
    return {trial.trial for trial in result.ranking if guessing.is_at_chance(trial)}


def outcome_with_mark(trial: TrialResult, marked: set[str]) -> str:
    """Return a trial's outcome, with `AT_CHANCE` behind it if it is one of those marked."""
    return f"{trial.outcome}, {AT_CHANCE}" if trial.trial in marked else trial.outcome


def guess_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Return the ways to guess as rows of the table of models."""
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


def above_chance(found: AgainstGuessing | None) -> dict[str, Any] | None:
    """Return a comparison with guessing as plain values; None where there is none."""
    if found is None:
        return None
    return {
        "above": found.is_above,
        "guess": found.guess.title,
        "part": found.part,
        "images": found.images,
        "value": found.value,
        "guessed": found.guessed,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "error_rate": ERROR_RATE,
        "looks": found.looks,
    }


def guess_figures(result: SearchResult) -> dict[str, float]:
    """Return the best that guessing reaches by the metric and the primary one, by MLflow's names.

    That may be a different guess for each of them.
    """
    guessing, figures = Guessing.of(result), dict[str, float]()
    for metric in dict.fromkeys((result.metric, result.task.primary)):
        for part in ("val", "test"):
            if guessing is not None and (best := guessing.best(part, metric)) is not None:
                figures[f"guess/{part}_{metric.name}"] = getattr(best, part)[metric.name]
    return figures
