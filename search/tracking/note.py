"""The summary of a search in Markdown, which is the note of its run in MLflow."""

from search.facts.data import source_text
from search.facts.guessing import at_chance
from search.facts.metric import tested_value
from search.facts.parameters import param_text, searched
from search.facts.trials import TOP
from search.journal.result import SearchResult
from search.values.objectives import value_of
from search.views.text.labels import (
    as_good,
    figure_text,
    model_text,
    no_worse,
    outcome_text,
    outcome_with_mark,
    strategy_text,
    superlative,
)
from search.views.text.sentences import (
    guessing_text,
    origin_text,
    remarks,
    risk_text,
    selection_sentences,
    taken_over_text,
)
from search.views.text.tables import front_table, models_table, selection_table
from trainables.errors import counted


def markdown_summary(result: SearchResult) -> str:
    """Format the search's settings, its results and its `TOP` best trials in Markdown."""
    lines = [*_setting_lines(result), *_best_lines(result)]
    lines += filter(None, [guessing_text(result), risk_text(result)])
    if sentences := remarks(result):
        lines += ["", *(f"- {sentence.strip()}" for sentence in sentences)]
    if result.selection is not None and result.selection.verdict:
        lines += [
            "",
            " ".join(map(str, selection_sentences(result))),
            "",
            *markdown_table(selection_table(result)),
        ]
    if result.openings:
        lines += ["", f"The test images were opened {'; '.join(map(str, result.openings))}."]
    if compared := models_table(result):
        lines += ["", "The best trial of each model:", "", *markdown_table(compared)]
    if front_rows := front_table(result):
        lines += [
            "",
            (
                "The Pareto front, the trials for which no other is at least "
                f"{as_good(result.metric)} and {no_worse(result)}:"
            ),
            "",
            *markdown_table(front_rows),
        ]
    return "\n".join([*lines, *_top_lines(result)])


def _setting_lines(result: SearchResult) -> list[str]:
    """Return lines on the space, the data, and the number of trials."""
    experiment, data = result.started.experiment, result.started.data
    images = (
        f"{data['train']:,} images in {data['folds']} folds"
        if data.get("folds")
        else f"{data['train']:,} training, {data['val']:,} validation images"
    )
    return [
        f"**{result.name}**: space `{experiment['space']['name']}` on "
        f"`{source_text(data)}` ({images}), "
        f"{strategy_text(experiment)}, seed {experiment['seed']}.",
        "",
        (
            f"{counted(len(result.trials), 'trial')} ({outcome_text(result)}), "
            f"{counted(result.epochs_trained, 'epoch')} in {result.wall_s:.0f} s."
        ),
        *([f"R{taken_over_text(result)[1:]}."] if result.reused_epochs else []),
    ]


def _best_lines(result: SearchResult) -> list[str]:
    """Return lines on the best trial, an ensemble, and, after a selection, on the chosen one."""
    if result.best is None:
        return []
    metric, answer = result.metric, result.answer
    tested = f", test {metric.title} {tested_value(result.test, metric):.4f}" if result.test else ""
    combined = []
    if answer is not None and answer.members:
        reached = f"validation {metric.title} {figure_text(answer)}{tested}"
        combined = [f"`{answer.trial}`: {model_text(answer)}, {reached}."]
        tested = ""
    primary = result.task.primary
    beside = (
        "" if metric.is_primary else f", validation {primary.title} {result.best.primary_value:.4f}"
    )
    highest = (
        f"`{result.best.trial}`, validation {metric.title} {figure_text(result.best)}"
        f"{tested}{beside}"
    )
    selection = result.selection
    if selection is None or selection.verdict is None:
        return [*combined, f"Best: {highest}."]
    verdict, test = selection.verdict, selection.test
    on_test = f", test {metric.title} {tested_value(test, metric):.4f}" if test else ""
    return [
        *combined,
        (
            f"Chosen: `{verdict.candidate}`, {origin_text(result)} `{verdict.trial}`, "
            f"expected validation {metric.title} {verdict.expected.mean:.4f} "
            f"(`selected/{value_of(metric.name)}_mean`){on_test}."
        ),
        (
            f"The {superlative(metric)} of the search itself, partly by luck: {highest} "
            f"(`best/{value_of(metric.name)}`)."
        ),
    ]


def _top_lines(result: SearchResult) -> list[str]:
    """Return the lines of the table of the `TOP` best trials."""
    paths, marked = searched(result), at_chance(result)
    rows = [
        [
            trial.trial,
            *(param_text(trial.params.get(path, "")) for path in paths),
            str(len(trial.epochs)),
            figure_text(trial),
            outcome_with_mark(trial, marked),
        ]
        for trial in result.ranking[:TOP]
    ]
    titles = ["trial", *paths, "epochs", f"val {result.metric.title}", "outcome"]
    return ["", *markdown_table([titles, *rows])]


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first of the rows has the titles."""
    titles, *body = rows
    return [
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
        *("| " + " | ".join(row) + " |" for row in body),
    ]
