"""python -m search.status NAME: what is done, what runs, what was stopped and why."""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.cli import Parser
from cluster.secrets import redact
from search.cli.options import storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.decisions.refinement import refinement_facts, refinement_sentences
from search.design.budget import shares_of, shares_text
from search.design.commands import more_trials
from search.design.experiment import Experiment
from search.facts.guessing import above_chance, at_chance, guessing_text, outcome_with_mark
from search.facts.summary import (
    deviation,
    figure_text,
    metric_facts,
    outcome_text,
    request_facts,
    request_lines,
    risk_text,
    selection_sentences,
    source_text,
    strategy_text,
)
from search.journal.guessing import answer_against
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from search.journal.store import BucketHome, Home, Storage
from search.process.guard import guarded
from search.process.liveness import Liveness
from search.values.message import Remedy, going_on
from search.values.objectives import value_of
from search.values.wording import duration, last_line_of
from search.views.live import news
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted, printable

SHOWN_TRIALS = 40
"""The default number of latest trials in the table."""
EVERY_S = 10.0
"""Seconds between two checks of a followed search in a bucket; a fifth of that in a folder."""
MIN_ROWS, BESIDE = 3, 4
"""The minimum number of trials on a screen, and its lines for titles, caption and prompt."""


def state(result: SearchResult, holder: str, name: str, storage: Storage) -> str:
    """Describe the current state of the search, with the command that continues it.

    The arguments are those of `lines`.
    """
    if holder and result.current_sessions is result.sessions:
        return f"running now ({holder})"
    if result.outcome == "running":
        ago = max(0, time.time() - result.sessions[-1].last_ms / 1000)
        return f"cut off {duration(ago)} ago; go on with: {Remedy('resume', name, storage)}"
    unfinished = (
        f"; go on with: {going_on(name, storage, result.outcome)}"
        if result.unfinished or result.outcome in ("interrupted", "lost", "stopped")
        else ""
    )
    return result.outcome + (f" ({result.reason})" if result.reason else "") + unfinished


def lines(result: SearchResult, holder: str, name: str, storage: Storage) -> list[str]:
    """Describe the search in a few lines.

    Args:
        result: the search.
        holder: the driver that runs it; empty if none does.
        name: the search's name, for commands in the text.
        storage: the place where it is stored, for commands in the text.
    """
    experiment, data = result.started.experiment, result.started.data
    sessions = f" in {len(result.sessions)} sessions" if len(result.sessions) > 1 else ""
    best = f"; best {figure_text(result.best)} ({result.best.trial})" if result.best else ""
    used = f"; used {shares_text(shares)}" if (shares := shares_of(result)) else ""
    what = f"{experiment['space']['name']} on {source_text(data)}"
    return [
        f"{result.name}: {what}, {strategy_text(experiment)}, seed {experiment['seed']}",
        f"  {state(result, holder, name, storage)}",
        (
            f"  {outcome_text(result)} of {experiment['trials']}; {result.epochs_trained:,} "
            f"epochs, {duration(result.wall_s)}{sessions}{best}{used}"
        ),
        *(f"  {text}" for text in filter(None, [guessing_text(result), risk_text(result)])),
        *(f"  {text}" for text in refinement_sentences(result)),
        *(f"  {text}" for text in request_lines(result)),
        *selection_lines(result, holder, name, storage),
    ]


def selection_lines(result: SearchResult, holder: str, name: str, storage: Storage) -> list[str]:
    """Describe the search's selection in lines; empty if there is none.

    The arguments are those of `lines`.
    """
    selection = result.selection
    if selection is None:
        return []
    runs = bool(holder) and result.current_sessions is selection.sessions
    stands = (
        f"running now ({holder})"
        if runs
        else "cut off"
        if selection.outcome == "running"
        else selection.outcome
    )
    ended = sum(trial.ended_ms > 0 for trial in selection.repeats.values())
    count = len(selection.started.candidates)
    go_on = (
        ""
        if runs or selection.outcome == "completed"
        else f"; go on with: {Remedy('select', name, storage)}"
    )
    line = (
        f"  selection {stands}: {count} candidate{'s' * (count != 1)}, {ended} "
        f"training{'s' * (ended != 1)} ended"
    )
    return [line + go_on, *race_lines(result)]


def race_lines(result: SearchResult) -> list[str]:
    """Describe, in lines, the candidates that have dropped out, and the selection's result."""
    dropped = result.selection.dropped if result.selection is not None else {}
    return [
        *(f"    {name} left: {candidate.reason}" for name, candidate in dropped.items()),
        *(f"    {text}" for text in selection_sentences(result)),
    ]


def table(result: SearchResult, count: int = SHOWN_TRIALS, *, rows: int | None = None) -> Table:
    """Build a table with a row for each trial of interest.

    These are the latest trials, the best, and all that have not ended, except those that wait at a
    rung, of which there may be many.

    Args:
        result: the search.
        count: the number of latest trials.
        rows: the maximum number of trials, each then on a single line; None for no limit.
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
            ratio=1 if rows is not None and title == "why" else None,  # takes the rest of the line
        )
    trials = _trials_to_show(result, count)
    if rows is not None and len(trials) > rows:
        # If there is too little room: first the best trial, then those that have not ended, then
        # the latest ones.
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
            Text(printable(why(trial))),
        )
    return table


def _trials_to_show(result: SearchResult, count: int) -> list[TrialResult]:
    trials, best = list(result.trials.values()), result.best
    return [
        trial
        for trial in trials[:-count]
        if trial is best or not (trial.ended_ms or trial.outcome == "held")
    ] + trials[-count:]


def why(trial: TrialResult) -> str:
    """Short reason for a trial's state, and for its retries; empty if there is none."""
    again = f"tried again after: {', '.join(trial.retries)}" if trial.retries else ""
    reason = trial.wait_reason or trial.hold_reason or last_line_of(trial.reason)
    return "; ".join(
        text for text in (f"waiting: {reason}" if trial.wait_reason else reason, again) if text
    )


def command(args: argparse.Namespace) -> int:
    """Print the search's state, or follow it with --follow, and return the exit code."""
    home = search_of(args)
    if args.follow:
        if args.json or args.all:
            raise ConfigError("--follow: leave --json and --all out.")
        return Follow(args, home).run()
    result, holder = SearchResult.kept_in(home)
    if args.json:
        print(json.dumps(as_json(result, holder)))
        return 0
    console, text_lines = Terminal(), status_lines(args, result, holder)
    for line in text_lines:
        say(console, line)
    if result.trials:
        count = len(result.trials) if args.all else SHOWN_TRIALS
        rows = rows_left(console, text_lines) if console.is_terminal and not args.all else None
        console.print(table(result, count, rows=rows), markup=False)
    return 0


def status_lines(args: argparse.Namespace, result: SearchResult, holder: str) -> list[str]:
    """Describe the search in a few lines, with the commands that continue it."""
    text_lines = lines(result, holder, args.name, args.storage)
    recorded = result.started.experiment
    with suppress(ConfigError):  # written by another version, which this one cannot continue
        experiment = Experiment.from_description(args.name, recorded, args.storage)
        if result.refinement is None and (more := more_trials(experiment, result.outcome)):
            text_lines.append(f"  more trials: {more}")
    return text_lines


def rows_left(console: Console, text_lines: list[str]) -> int:
    """Number of trials that fit on the screen below these lines, at least `MIN_ROWS`."""
    used = sum(max(1, math.ceil(len(line) / console.width)) for line in text_lines)
    return max(MIN_ROWS, console.height - used - BESIDE)


class Follow:
    """Show a search until it ends: redrawn on a terminal, or else with a line for each change."""

    def __init__(
        self, args: argparse.Namespace, home: Home, wait: Callable[[float], None] = time.sleep
    ) -> None:
        """Prepare to follow a search.

        Args:
            args: the command line.
            home: the search's place in the storage.
            wait: sleeps for a number of seconds between two checks.
        """
        self.args, self.home, self.liveness = args, home, Liveness(home, wait)
        self.console, self.result = Terminal(), SearchResult()
        self.tail = home.tail()
        self.last = ""

    def run(self) -> int:
        """Show the search until it ends, and return the exit code.

        Raises:
            JournalError: the search was cut off before its first event.
        """
        live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        with live or nullcontext():
            while True:
                # Check the lock before reading the journal: a driver writes its last lines before
                # it releases the lock, so this loop does not end without them.
                holder = self.home.holder()
                events = self._new()
                for event in events:
                    self.result.apply(event)
                gone_text = self._gone_text(holder, events)
                if gone_text:
                    holder = ""
                if not holder:
                    self.result.cut_off()
                current = self.result.until_now(holder)
                if current.sessions and live is not None:
                    live.update(self._draw(current, holder), refresh=True)
                elif current.sessions:
                    self._print(current, events, holder)
                elif not holder:
                    SearchResult.read(self.home.opened())  # raises an error with the cause
                if not holder:
                    break
                every_s = EVERY_S if isinstance(self.home, BucketHome) else EVERY_S / 5
                self.liveness.wait(every_s)
        if gone_text:
            say(self.console, gone_text)
        return 0

    def _new(self) -> list[Event]:
        """Read the events since the last check; empty if there is no journal yet."""
        try:
            return self.tail.new()
        except FileNotFoundError:
            return []

    def _gone_text(self, holder: str, events: list[Event]) -> str:
        """Text that says that the driver has probably died; empty if it seems to be alive."""
        self.liveness.look(events)
        if not holder or not self.liveness.is_lost:
            return ""
        quiet = duration(self.liveness.quiet_s)
        return f"cut off, as it seems: {holder}; nothing was written for {quiet}"

    def _draw(self, result: SearchResult, holder: str) -> Group:
        text_lines = status_lines(self.args, result, holder)
        texts = [Text(printable(redact(line))) for line in text_lines]
        rows = rows_left(self.console, text_lines)
        return Group(*texts, *([table(result, rows=rows)] if result.trials else []))

    def _print(self, result: SearchResult, events: list[Event], holder: str) -> None:
        """Print the whole state the first and the last time, and otherwise a line per new event."""
        if not self.last or not holder:
            for line in status_lines(self.args, result, holder):
                say(self.console, line)
        else:
            for line in (line for event in events for line in news(event)):
                say(self.console, line)
        best = result.best
        reached = f"; best {figure_text(best)} ({best.trial})" if best is not None else ""
        line = f"{outcome_text(result)} of {result.started.experiment['trials']}{reached}"
        if self.last and holder and line != self.last:
            say(self.console, line)
        self.last = line


def as_json(result: SearchResult, holder: str) -> dict[str, object]:
    """Convert the search's state to JSON-compatible values.

    `holder` is the driver that runs it; empty if none does.
    """
    trials = {
        name: {
            "outcome": trial.outcome,
            "reason": trial.reason,
            "kind": trial.kind,
            "epochs": len(trial.epochs),
            "attempt": trial.attempt,
            "retries": trial.retries,
            value_of(trial.task.primary.name): trial.primary_value if trial.epochs else None,
            "value": trial.value if trial.epochs else None,
            **deviation(trial),
        }
        for name, trial in result.trials.items()
    }
    facts: dict[str, object] = {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": result.outcome,
        "reason": result.reason,
        "holder": holder,
        "counts": result.counts,
        "above_chance": above_chance(answer_against(result)),
        "risk": result.risk.chance if result.risk is not None else None,
        "requests": request_facts(result),
        "trials": trials,
    }
    facts |= refinement_facts(result)
    if (selection := result.selection) is None:
        return facts
    trainings = {name: training.outcome for name, training in selection.repeats.items()}
    chosen = {key: getattr(selection.verdict, key, None) for key in ("candidate", "trial")}
    return {
        **facts,
        "selection": {
            "outcome": selection.outcome,
            "reason": selection.reason,
            "trainings": trainings,
            **chosen,
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the state, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.status", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument("--all", action="store_true", help="show all trials, however many they are")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on until the search ends: drawn anew on a terminal, elsewhere a line a change",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
