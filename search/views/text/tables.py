"""Tables as rows of text, which are shared by the terminal, the report and MLflow's note."""

from collections.abc import Callable, Mapping
from typing import Any

from search.facts.guessing import guess_rows
from search.facts.selection import finalists
from search.facts.summary import models
from search.journal.pareto import front
from search.journal.result import SearchResult
from search.values.objectives import OBJECTIVES, objective_value, value_of
from search.views.text.labels import figure_text, network_text
from trainables.errors import printable

Columns = dict[str, tuple[str, Callable[[Any], str]]]
"""The columns of a table, by key: (title, function that formats a value)."""


MODEL_COLUMNS: Columns = {
    "model": ("model", str),
    "trial_id": ("trial", str),
    "macro_f1": ("macro F1", "{:.4f}".format),
    "ms_per_image_batch_1": (OBJECTIVES["latency"].column, OBJECTIVES["latency"].form),
    "ms_per_image_batch_64": ("in batches of 64", "{:.3g}".format),
    "parameters": (OBJECTIVES["parameters"].column, OBJECTIVES["parameters"].form),
    "train_s": ("train s", lambda s: f"{s:.1f}" if s < 1000 else f"{s:.0f}"),
}
"""The columns of the table of models, apart from the metrics on the validation set.

The inference times are those of a single image, and of an image in a batch of 64.
"""


def model_columns(result: SearchResult) -> Columns:
    """Return the columns of the table of models.

    They include the task's primary metric and, before it, the ranking metric if it is another one.
    If macro F1 ranks the trials, it is not repeated: its value at the best epoch is also its value
    in the evaluation.
    """
    metric, primary, names = result.metric, result.task.primary, ("model", "trial_id")
    of_value = {} if metric.is_primary else {"value": (f"val {metric.title}", "{:.4f}".format)}
    of_primary = {value_of(primary.name): (f"val {primary.title}", "{:.4f}".format)}
    other_columns = {
        key: column
        for key, column in MODEL_COLUMNS.items()
        if key not in (*names, "macro_f1" if metric.name == "macro_f1" else "")
    }
    return {**{key: MODEL_COLUMNS[key] for key in names}, **of_value, **of_primary, **other_columns}


def models_table(result: SearchResult) -> list[list[str]]:
    """Build the table of models: a row of titles, a row per model, and a row per way to guess.

    Empty if there is only one model, without a macro F1: the table would only repeat known values.
    """
    rows, columns = models(result), model_columns(result)
    known_keys = {key for row in rows for key, value in row.items() if value is not None}
    columns = {key: column for key, column in columns.items() if key in known_keys}
    if len(rows) < 2 and not any(row["macro_f1"] is not None for row in rows):
        return []
    cells = [
        [
            "" if row.get(key) is None else printable(form(row[key]))
            for key, (_, form) in columns.items()
        ]
        for row in (*rows, *guess_rows(result))
    ]
    return [[title for title, _ in columns.values()], *cells]


OBJECTIVE_COLUMNS: Columns = {
    name: (objective.column, objective.form) for name, objective in OBJECTIVES.items()
}
"""The columns of the objectives besides the metric."""


def front_table(result: SearchResult) -> list[list[str]]:
    """Build the table of the Pareto front: a row of titles, and a row per trial, the best first.

    Empty if the metric is the only objective.
    """
    names, costs = result.further_objectives, result.costs
    rows = [
        [
            trial.trial,
            network_text(trial, result),
            figure_text(trial),
            str(len(trial.epochs)),
            *(_objective_cell(name, costs[trial.trial]) for name in names),
        ]
        for trial in front(result)
    ]
    return (
        [
            [
                "trial",
                "network",
                f"val {result.metric.title}",
                "epochs",
                *(OBJECTIVE_COLUMNS[name][0] for name in names),
            ],
            *rows,
        ]
        if rows
        else []
    )


def _objective_cell(name: str, cost: Mapping[str, Any]) -> str:
    """Format a value in an objective for a table; empty if the model does not have it."""
    value = objective_value(name, cost)
    return "" if value is None else OBJECTIVE_COLUMNS[name][1](value)


def cost_text(cost: Mapping[str, Any]) -> str:
    """Format the costs of `trainables.evaluation.cost`: `0.138 ms/image, 0.023 M weights`."""
    return ", ".join(
        f"{text} {OBJECTIVE_COLUMNS[name][0]}"
        for name in OBJECTIVE_COLUMNS
        if (text := _objective_cell(name, cost))
    )


SELECTION_COLUMNS: Columns = {
    "candidate": ("trial", str),
    "model": ("model", str),
    "search_value": ("in search", "{:.4f}".format),
    "mean": ("mean", "{:.4f}".format),
    "std": ("std", "{:.4f}".format),
    "seeds": ("seeds", str),
    "p": ("p", lambda p: f"{p:.2g}" if p >= 0.001 else f"{p:.0e}"),
    "ms_per_image": ("ms/image", "{:.3g}".format),
    "state": ("", str),
}
"""The columns of the table of candidates, with the value that the search measured and the results
over fresh seeds.
"""


def selection_table(result: SearchResult) -> list[list[str]]:
    """Build the table of a selection's candidates: a row of titles, and a row per candidate.

    The chosen candidate comes first. The selection must have a verdict.
    """
    cells = [
        [
            "" if (value := getattr(row, key)) is None else printable(form(value))
            for key, (_, form) in SELECTION_COLUMNS.items()
        ]
        for row in finalists(result)
    ]
    return [[title for title, _ in SELECTION_COLUMNS.values()], *cells]
