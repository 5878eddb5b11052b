"""Views of the result of a search or a selection: text on the terminal, and JSON."""

import json
import shlex
import sys
from textwrap import wrap

from rich.console import Console
from rich.table import Table

from search.decisions.refinement import edges, refinement_sentences
from search.design.budget import shares_of, shares_text
from search.design.commands import more_trials
from search.design.experiment import Experiment
from search.facts.answer import reference_rows
from search.facts.metric import tested_value
from search.facts.parameters import param_text, searched, value_text
from search.facts.summary import json_selection, json_summary, where_kept
from search.facts.trials import failures_by_kind
from search.journal.guessing import is_answer_at_chance
from search.journal.journal import FILE_NAME
from search.journal.result import ENDED, PAGE, SearchResult, elapsed_s
from search.values.message import Blank, Remedy, Start, going_on, program
from search.values.wording import RUN_LIST
from search.views.base import Finished, View, ViewContext
from search.views.terminal import Terminal, say
from search.views.text.groups import group_lines
from search.views.text.labels import (
    as_good,
    figure_text,
    no_worse,
    outcome_text,
    primary_text,
    reference_text,
)
from search.views.text.robustness import robustness_lines
from search.views.text.sentences import (
    alone_text,
    guessing_text,
    more_labels_text,
    quicker_text,
    request_lines,
    risk_text,
    selection_sentences,
    taken_over_text,
)
from search.views.text.tables import front_table, models_table, selection_table
from search.views.text.verdict import answer_sentences
from trainables.errors import counted
from trainables.export.model import class_of_task

MODELS_VIEW = "?workflowType=machine_learning"
"""Query string with which MLflow's pages show the runs as model training, and not as work with
language models.
"""
TITLE_WIDTH, NAME_WIDTH = 7, 18
"""Maximum widths, in characters, of each line of a column's title and of the first column.

With them, the tables fit a terminal of 80 columns.
"""


class Summary(View):
    """The result as text, on stdout, or on stderr if stdout is reserved for JSON."""

    def __init__(self, context: ViewContext) -> None:
        self.context = context

    def render(self, finished: Finished) -> None:
        """Print the result and the locations of its files."""
        console = Terminal(stderr=self.context.as_json)
        if self.context.is_selection:
            print_selection(finished, console)
        else:
            print_summary(finished, console, advises=self.context.advises)


def open_json(context: ViewContext) -> "JsonSummary | None":
    """Open the view if `--json` was given; otherwise return None."""
    return JsonSummary(context) if context.as_json else None


class JsonSummary(View):
    """The result as one JSON object, the last line on stdout."""

    def __init__(self, context: ViewContext) -> None:
        self.context = context

    def render(self, finished: Finished) -> None:
        """Print the result."""
        result, home = finished.result, finished.experiment.home
        summary = (
            json_selection(result, tracking=finished.tracking, home=home)
            if self.context.is_selection
            else json_summary(result, tracking=finished.tracking, home=home, wall_s=finished.wall_s)
        )
        sys.stdout.write(json.dumps(summary) + "\n")


def nothing_counts(experiment: Experiment, result: SearchResult) -> str:
    """Compose the line for a search without a result, with the command that shows the reasons."""
    name, storage = experiment.name, experiment.storage
    why = (
        Remedy("why", name, storage, arguments=[result.failed[0].trial])
        if result.failed
        else Remedy("status", name, storage, options={"all": True})
    )
    return f"no trial has a result. To see why: {why}"


def print_summary(finished: Finished, console: Console, *, advises: bool = True) -> None:
    """Print the result next to its references, and the locations of its files.

    With `advises`, the possible next steps are printed, too.
    """
    _print_course(finished, console)
    _print_findings(finished.experiment, finished.result, console)
    for title, text in [*_places(finished), *(_next_steps(finished) if advises else [])]:
        say(console, f"  {title:<8} {text}")


def _print_course(finished: Finished, console: Console) -> None:
    """Print the number of trials, the reason of the end, the used budget and the failures."""
    experiment, result = finished.experiment, finished.result
    console.print(
        f"\n[bold]{experiment.name}[/bold]: {counted(len(result.trials), 'trial')} "
        f"({outcome_text(result)}), {counted(result.epochs_trained, 'epoch')} in "
        f"{finished.wall_s:.0f} s",
        soft_wrap=True,
    )
    if result.reused_epochs:
        say(console, f"  {taken_over_text(result)}")
    if risked := risk_text(result):
        say(console, f"  {risked}")
    if result.reason:
        say(console, f"the search ended early: {result.reason}")
    if shares := shares_of(result):
        say(console, f"used {shares_text(shares)}")
    for line in request_lines(result):
        say(console, f"  {line}")
    for kind, trials in failures_by_kind(result).items():
        names = ", ".join(trial.trial for trial in trials[:10])
        say(console, f"  {kind}: {names}{' ...' * (len(trials) > 10)}")
    for name, reason in result.passed_over.items():
        model = result.find(name)
        value = f" ({figure_text(model)})" if model is not None else ""
        say(
            console,
            f"  skipped: {name}{value}, because its checkpoint cannot be used: {reason}",
        )


def _print_findings(experiment: Experiment, result: SearchResult, console: Console) -> None:
    """Print tables and sentences on the best trial, models, the selection and the Pareto front."""
    if result.best:
        console.print(best_table(result))
    else:
        say(console, nothing_counts(experiment, result))
    if comparison := guessing_text(result):
        say(console, comparison)
    if compared := models_table(result):
        console.print("\nthe best trial of each model" if len(result.best_of_models) > 1 else "")
        console.print(side_by_side(compared))
    if chosen := selection_sentences(result):
        console.print()
        for sentence in chosen:
            say(console, str(sentence))
    if rows := front_table(result):
        console.print(
            f"\nthe Pareto front: no other trial is at least {as_good(result.metric)} as one of "
            f"these and {no_worse(result)}"
        )
        console.print(side_by_side(rows))
        if quicker := quicker_text(result, experiment.storage, Start.HERE):
            say(console, str(quicker))
    if alone := alone_text(result, experiment.storage, Start.HERE):
        say(console, str(alone))
    if labels := more_labels_text(result):
        say(console, labels)
    for line in (*group_lines(result), *robustness_lines(result)):
        say(console, line)
    refine = Remedy("refine", experiment.name, experiment.storage)
    for line in refinement_sentences(result, refine):
        say(console, line)
    if result.is_over and result.chosen is not None and not chosen:
        console.print()
        for title, text in answer_sentences(result):
            say(console, f"{title}: {text}")


def _places(finished: Finished) -> list[tuple[str, str]]:
    """List (title, location) of everything that the search has written.

    If the search can be continued, the command for that comes first.
    """
    experiment, result = finished.experiment, finished.result
    best = (
        [("best", f"{result.best.trial}, {where_kept(result.best, experiment.home)}")]
        if result.best is not None
        else []
    )
    go_on = (
        result.unfinished
        or result.outcome not in ENDED
        or (
            len(result.trials) < experiment.planned_trials
            and result.outcome not in ("budget", "gain")
        )
    )
    resume = going_on(experiment.name, experiment.storage, result.outcome)
    onwards = [("continue", str(resume))] if go_on else []
    ensemble = result.ensemble
    if ensemble is not None and result.is_ensemble_chosen:
        best.append(("answer", f"{ensemble.trial}, {where_kept(ensemble, experiment.home)}"))
    return [
        *onwards,
        *best,
        *chosen_line(experiment, result),
        ("journal", f"{experiment.home}/{FILE_NAME}"),
        ("page", page(experiment)),
        ("MLflow", mlflow_command(finished.tracking)),
        *run_list(finished.tracking),
    ]


def _next_steps(finished: Finished) -> list[tuple[str, str]]:
    """List (title, command) of the possible next steps."""
    experiment, result = finished.experiment, finished.result
    name, storage = experiment.name, experiment.storage
    steps = list[tuple[str, str]]()
    if result.best is not None:
        if result.is_over:
            steps.append(("select", str(Remedy("select", name, storage))))
        steps += _uses(experiment, result)
    steps.append(("browse", str(Remedy("ui", storage=storage))))
    if result.refinement is None and (more := more_trials(experiment, result.outcome)):
        steps.append(("more", f"{more} starts new trials"))
    if result.refinement is None and result.is_over and len(experiment.objectives) == 1:
        steps += [
            ("edge", f"{flag}: {Remedy('refine', name, storage)} searches beyond it")
            for flag in edges(result, experiment.space)
        ]
    return steps


def _uses(experiment: Experiment, result: SearchResult) -> list[tuple[str, str]]:
    """List (verb, command) of the verbs that use the answer, which must exist.

    `promote` is left out if the answer is no better than guessing.
    """
    name, storage = experiment.name, experiment.storage
    promote = [] if is_answer_at_chance(result) else [Remedy("promote", name, storage)]
    has_files = class_of_task(experiment.base.task.name).has_files
    predict = Remedy(
        "predict",
        name,
        storage,
        arguments=[Blank("PATHS")],
        options={"out": Blank("FOLDER")} if has_files else {},
    )
    return [(remedy.verb, str(remedy)) for remedy in (*promote, predict)]


def print_selection(finished: Finished, console: Console) -> None:
    """Print the comparison of the candidates, and the chosen one with its checkpoint."""
    experiment, result = finished.experiment, finished.result
    selection = result.selection
    if selection is None:
        return
    seconds = elapsed_s(selection.sessions)
    share = selection.train_s / result.train_s if result.train_s else 0.0
    console.print(
        f"\n[bold]{experiment.name}[/bold]: "
        f"{counted(len(selection.started.candidates), 'candidate')}, "
        f"{counted(len(selection.repeats), 'training')} in {seconds:.0f} s, "
        f"{share:.2g} times as much training as the search",
        soft_wrap=True,
    )
    if selection.outcome != "completed":
        say(
            console,
            f"the selection ended early{f': {selection.reason}' * bool(selection.reason)}. "
            "Continue with: "
            f"{Remedy('select', experiment.name, experiment.storage)}",
        )
    if selection.verdict:
        console.print(side_by_side(selection_table(result)))
        console.print()
    for sentence in (
        *map(str, selection_sentences(result)),
        guessing_text(result),
        *robustness_lines(result),
    ):
        if sentence:
            say(console, sentence)
    opened = [("opened", f"the test set, {opening}") for opening in result.openings]
    for title, text in [
        *chosen_line(experiment, result),
        *opened,
        ("page", page(experiment)),
        ("MLflow", mlflow_command(finished.tracking)),
        *(_uses(experiment, result) if selection.chosen is not None else []),
    ]:
        say(console, f"  {title:<8} {text}")


def chosen_line(experiment: Experiment, result: SearchResult) -> list[tuple[str, str]]:
    """Return [(title, chosen training and its checkpoint)]; empty if none is chosen yet."""
    chosen = result.selection.chosen if result.selection is not None else None
    return (
        [("chosen", f"{chosen.trial}, {where_kept(chosen, experiment.home)}")]
        if chosen is not None
        else []
    )


def page(experiment: Experiment) -> str:
    """Return the path of the report and the command that draws it again.

    If there is no report, return only the command.
    """
    redraw = Remedy("report", experiment.name, experiment.storage)
    return (
        f"{experiment.home}/{PAGE}   redraw with: {redraw}"
        if (experiment.folder / PAGE).exists()
        else str(redraw)
    )


def best_table(result: SearchResult) -> Table:
    """Build a table of the best configuration and the space's reference, with a row per parameter.

    The last rows have the metrics on the validation and the test set.
    """
    rows = reference_rows(result)
    table = Table(box=None, pad_edge=False)
    for title in ("", *(title for title, _, _ in rows)):
        table.add_column(title, justify="right" if title else "left")
    for path in searched(result):
        if any(path in params for _, params, _ in rows):
            table.add_row(
                path,
                *(
                    value_text(trial, path)
                    if trial and trial is result.chosen and trial.params
                    else param_text(params.get(path, ""))
                    for _, params, trial in rows
                ),
            )
    metric = result.metric
    table.add_row(f"val {metric.title}", *(reference_text(result, trial) for _, _, trial in rows))
    test = result.chosen_test
    tested = (
        f"{tested_value(test, metric):.4f}"
        if test
        else ("in the decision" if result.is_improvement else "sealed")
        if result.is_sealed and not result.openings
        else ""
    )
    tests = (tested if trial is result.chosen else "" for _, _, trial in rows)
    table.add_row(f"test {metric.title}", *tests)
    if not metric.is_primary:
        primary = result.task.primary
        table.add_row(f"val {primary.title}", *(primary_text(trial) for _, _, trial in rows))
        if test:
            right = f"{test[primary.name]:.4f}"
            marks = (right if trial is result.chosen else "" for _, _, trial in rows)
            table.add_row(f"test {primary.title}", *marks)
    return table


def side_by_side(rows: list[list[str]]) -> Table:
    """Build a table from rows, the first of which contains the titles; long titles are wrapped."""
    table = Table(box=None, pad_edge=False)
    for column, title in enumerate(rows[0]):
        lines = wrap(title, TITLE_WIDTH, break_long_words=False)
        table.add_column(
            "\n".join(lines),
            justify="left" if column < 2 else "right",
            no_wrap=True,
            max_width=None if column else NAME_WIDTH,
        )
    for row in rows[1:]:
        table.add_row(*row)
    return table


def run_list(tracking: dict[str, str]) -> list[tuple[str, str]]:
    """Return [(title, address)] of MLflow's list of all searches of the same space and data.

    Empty if MLflow has no run of this search.
    """
    if not tracking["parent_run_id"]:
        return []
    uri = tracking["tracking_uri"]
    server = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    page = f"#/experiments/{tracking['experiment_id']}/runs{MODELS_VIEW}"
    return [("runs", f"{server}/{page}&viewStateShareKey={RUN_LIST}")]


def mlflow_command(tracking: dict[str, str]) -> str:
    """Return the address of the search's run in MLflow, or the command that serves this address."""
    uri, page = (
        tracking["tracking_uri"],
        f"#/experiments/{tracking['experiment_id']}/runs/{tracking['parent_run_id']}{MODELS_VIEW}",
    )
    if not tracking["parent_run_id"]:
        return f"{uri} does not contain it yet"
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/{page}"
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}   then http://127.0.0.1:5000/{page}"
