"""The standing of a search as lines of text and a table of its trials."""

import math
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.design.commands import more_trials
from search.design.experiment import Experiment
from search.facts.data import source_text
from search.facts.guessing import at_chance
from search.facts.standing import SearchStanding, Stage
from search.facts.trials import state_reason
from search.journal.result import SearchResult, TrialResult
from search.values.message import Remedy, going_on
from search.values.wording import duration
from search.views.text.labels import (
    best_text,
    figure_text,
    outcome_text,
    outcome_with_mark,
    strategy_text,
    used_text,
)
from search.views.text.sentences import guessing_text, remarks, risk_text, selection_sentences
from trainables.errors import ConfigError, counted, printable

SHOWN_TRIALS = 40
"""The default number of latest trials in the table."""
MIN_ROWS, BESIDE = 3, 4
"""The minimum number of trials to show on a screen, and the number of lines that the titles, the
caption and the prompt occupy.
"""


def stage_text(standing: SearchStanding) -> str:
    """Describe the current stage of a search, with the command that continues it."""
    result = standing.result
    if standing.holder and standing.stage is not Stage.SELECTING:
        return f"running now ({standing.holder})"
    go_on = f"; continue with: {going_on(standing.name, standing.storage, result.outcome)}"
    if (ago_s := standing.cut_off_s) is not None:
        return f"cut off {duration(ago_s)} ago{go_on}"
    reason = f" ({result.reason})" if result.reason else ""
    is_open = result.unfinished or result.outcome in ("interrupted", "lost", "stopped")
    return f"{result.outcome}{reason}{go_on if is_open else ''}"


def standing_lines(standing: SearchStanding) -> list[str]:
    """Describe a search in a few lines, which include the command that continues it."""
    result = standing.result
    experiment, data = result.started.experiment, result.started.data
    sessions = f" in {len(result.sessions)} sessions" if len(result.sessions) > 1 else ""
    best = f"; {best_text(result)}" if result.best else ""
    what = f"{experiment['space']['name']} on {source_text(data)}"
    return [
        f"{result.name}: {what}, {strategy_text(experiment)}, seed {experiment['seed']}",
        f"  {stage_text(standing)}",
        (
            f"  {outcome_text(result)} of {experiment['trials']}; {result.epochs_trained:,} "
            f"epochs, {duration(result.wall_s)}{sessions}{best}{used_text(result)}"
        ),
        *(f"  {text}" for text in filter(None, [guessing_text(result), risk_text(result)])),
        *(f"  {text}" for text in remarks(result)),
        *selection_lines(standing),
    ]


def selection_lines(standing: SearchStanding) -> list[str]:
    """Describe a search's selection in lines; empty if there is none."""
    result, selection = standing.result, standing.result.selection
    if selection is None:
        return []
    runs = standing.stage is Stage.SELECTING
    stands = (
        f"running now ({standing.holder})"
        if runs
        else "cut off"
        if selection.outcome == "running"
        else selection.outcome
    )
    ended = sum(trial.ended_ms > 0 for trial in selection.repeats.values())
    go_on = (
        ""
        if runs or selection.outcome == "completed"
        else f"; continue with: {Remedy('select', standing.name, standing.storage)}"
    )
    line = (
        f"  selection {stands}: {counted(len(selection.started.candidates), 'candidate')}, "
        f"{counted(ended, 'training')} ended"
    )
    return [line + go_on, *race_lines(result)]


def race_lines(result: SearchResult) -> list[str]:
    """Describe the candidates that were dropped, and the selection's result, as lines."""
    dropped = result.selection.dropped if result.selection is not None else {}
    return [
        *(f"    {name} was dropped: {candidate.reason}" for name, candidate in dropped.items()),
        *(f"    {text}" for text in selection_sentences(result)),
    ]


def trials_table(
    result: SearchResult, count: int = SHOWN_TRIALS, *, rows: int | None = None
) -> Table:
    """Build a table of the latest trials, the best trial, and the trials that have not ended.

    Trials that wait at a rung are only included if they are among the latest ones, since there may
    be many.

    Args:
        result: the search.
        count: the number of latest trials.
        rows: the maximum number of trials, so that each is on a single line; None for no limit.
    """
    table = Table(box=None, pad_edge=False, expand=rows is not None)
    for title, justify in (
        ("trial", "left"),
        ("outcome", "left"),
        ("epochs", "right"),
        (f"val {result.metric.title}", "right"),
        ("why", "left"),
    ):
        table.add_column(
            title,
            justify=justify,  # type: ignore[arg-type]
            overflow="fold" if rows is None else "ellipsis",
            no_wrap=rows is not None,
            ratio=1 if rows is not None and title == "why" else None,  # use the rest of the line
        )
    trials = _trials_to_show(result, count)
    if rows is not None and len(trials) > rows:
        # The order of priority is: the best trial, trials that have not ended, the latest trials.
        best, order = result.best, list(reversed(trials))
        order.sort(key=lambda trial: (trial is not best, bool(trial.ended_ms)))
        trials = [trial for trial in trials if trial in order[:rows]]
    if more := len(result.trials) - len(trials):
        table.caption = f"{counted(more, 'more trial')}: --all"
    marked = at_chance(result)
    for trial in trials:
        figure = figure_text(trial) if trial.epochs else ""
        table.add_row(
            trial.trial,
            outcome_with_mark(trial, marked),
            f"{len(trial.epochs)}/{trial.config.get('epochs', 0)}",
            figure,
            Text(printable(state_reason(trial))),
        )
    return table


def _trials_to_show(result: SearchResult, count: int) -> list[TrialResult]:
    trials, best = list(result.trials.values()), result.best
    return [
        trial
        for trial in trials[:-count]
        if trial is best or not (trial.ended_ms or trial.outcome == "held")
    ] + trials[-count:]


def status_lines(standing: SearchStanding) -> list[str]:
    """Describe a search in a few lines, which include the command that adds trials to it."""
    lines, result = standing_lines(standing), standing.result
    with suppress(ConfigError):  # this version cannot continue a search of some others
        experiment = Experiment.from_description(
            standing.name, result.started.experiment, standing.storage
        )
        if result.refinement is None and (more := more_trials(experiment, result.outcome)):
            lines.append(f"  more trials: {more}")
    return lines


def rows_left(console: Console, text_lines: list[str]) -> int:
    """Return the number of trials that fit on the screen below these lines, at least `MIN_ROWS`."""
    used = sum(max(1, math.ceil(len(line) / console.width)) for line in text_lines)
    return max(MIN_ROWS, console.height - used - BESIDE)
