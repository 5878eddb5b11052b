"""The table of the trials of a search."""

from search.facts.parameters import searched, short_names, value_text
from search.facts.trials import best_first, state_reason
from search.journal.result import FAILED, TrialResult
from search.views.text.labels import figure_text
from search.web.feed import Followed
from search.web.listing import Cell, Column, Listed, Query, Row, listed

PARAM = "param:"
"""Prefix of the key of a searched parameter's column."""
USUAL = ("outcome", "value", "epochs", "seconds", "why")
"""Keys of the columns that are visible by default, besides the columns of the parameters."""


def table_of(followed: Followed, query: Query) -> Listed:
    """Build the requested page of the table of trials; by default, the best trials come first.

    The search must be locked (`Followed.reading`).
    """
    result = followed.result
    trials, paths = best_first(result), searched(result)
    for trial in trials:
        if trial.trial not in followed.rows:
            followed.rows[trial.trial] = _row(trial, paths)
    rows = [followed.rows[trial.trial] for trial in trials]
    names = short_names(paths)
    columns = (
        Column("trial", "trial"),
        Column("outcome", "state"),
        Column("value", f"val {result.metric.title}", is_number=True, hint="at its best epoch"),
        *(Column(f"{PARAM}{path}", names[path].replace("_", " "), hint=path) for path in paths),
        Column("epochs", "epochs", is_number=True, hint="trained epochs, of the planned ones"),
        Column("best", "best at", is_number=True, hint="the epoch of its best value"),
        Column("seconds", "seconds", is_number=True, hint="time of training and validation"),
        Column("why", "why", hint="the reason for its state"),
    )
    usual = [*USUAL, *(f"{PARAM}{path}" for path in paths)]
    return listed(rows, columns, query, usual)


def _row(trial: TrialResult, paths: list[str]) -> Row:
    counts = trial.epochs and trial.outcome not in FAILED
    epochs, reason = len(trial.epochs), state_reason(trial)
    cells = {
        "trial": Cell("", trial.trial),
        "outcome": Cell(trial.outcome, trial.outcome),
        "value": Cell(figure_text(trial) if counts else "", trial.value if counts else None),
        "epochs": Cell(f"{epochs} of {trial.config.get('epochs', 0)}", epochs),
        "best": Cell(str(trial.best_epoch or ""), trial.best_epoch),
        "seconds": Cell(f"{trial.train_s:.1f}", trial.train_s),
        "why": Cell(reason, reason or None),
    }
    for path in paths:
        value = trial.params.get(path)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = value_text(trial, path)
        cells[f"{PARAM}{path}"] = Cell(text, value if is_number else text or None)
    return Row(trial.trial, trial.outcome, cells)
