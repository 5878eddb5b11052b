"""The progress of a running search as a view: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.design.budget import limit, shares_of
from search.facts.metric import interval
from search.facts.parameters import param_text
from search.journal.events import (
    Dropped,
    Ended,
    Enough,
    Epoch,
    Refined,
    Requested,
    Restored,
    Retried,
    Settled,
    Unevaluated,
    Waiting,
)
from search.journal.guessing import answer_against
from search.journal.journal import Event
from search.journal.result import FAILED, SearchResult, Selection
from search.schedulers.rungs import expected_epochs
from search.values.wording import duration, last_line_of
from search.views.base import View, ViewContext
from search.views.terminal import say
from search.views.text.labels import (
    best_text,
    figure_text,
    interval_text,
    outcome_text,
    used_text,
)
from search.views.text.sentences import request_text
from trainables.checkpoints.heartbeat import Beat
from trainables.errors import counted

TOP_TRIALS = 5
FINISHING = "ending the trials that run"
"""The words for the time left once the budget is used up."""
PLAIN_EVERY_S = 15
DRAWN_EVERY_S, DRAWN_SHARE = 0.25, 0.02
"""Minimum seconds between two redraws of the table, and maximum share of the time that is spent on
drawing. With thousands of trials, the table is therefore redrawn less often.
"""


def news(event: Event) -> list[str]:
    """Format an event that a person should see immediately as lines; empty for most events."""
    match event.data:
        case Ended() as data if data.outcome in FAILED:
            why = last_line_of(data.reason, "no reason known")
            return [f"trial {data.trial} {data.outcome}: {why}"]
        case Retried() as data:
            return [f"trial {data.trial} is retried ({data.kind}): {data.reason}"]
        case Waiting() as data:
            return [f"trial {data.trial} waits: {data.reason}"]
        case Restored() as data:
            begins = f"it continues after epoch {data.epoch}" if data.epoch else "it starts again"
            return [f"trial {data.trial}: {line}; {begins}" for line in data.damaged]
        case Requested() as data:
            return [request_text(data)]
        case Enough() as data:
            return [f"no further trial is started: {data.reason}"]
        case Dropped() as data:
            return [f"candidate {data.candidate} is dropped: {data.reason}"]
        case Refined() as data:
            return _round(data)
        case Settled() as data:
            return [f"the refinement ends: {data.reason}"]
        case Unevaluated() as data:
            reason, (first, *_) = next(iter(data.reasons.items()))
            count = sum(map(len, data.reasons.values()))
            more = f" and {count - 1} more" if count > 1 else ""
            return [f"not evaluated: {first} ({reason}){more}; the journal contains every reason"]
    return []


def _round(data: Refined) -> list[str]:
    """Format the start of a round of a refinement as lines."""
    title = (
        f"round {data.round}: {counted(data.experiment['trials'] - data.known, 'more trial')}; "
        f"the best of {data.known} has {data.before:.4f}. What changes:"
    )
    return [title, *(f"  {change.text}" for change in data.changes)]


def best_model(result: SearchResult) -> str:
    """Return the name of the best trial's model; empty if there is none, or no other model."""
    best = result.best
    if best is None or "model.name" not in result.started.experiment["space"]["domains"]:
        return ""
    return str(best.config["model"]["name"])


def answer_text(result: SearchResult) -> str:
    """Format the best trial so far, which must exist, with the interval of its value.

    If it is not significantly better than guessing, the text says so.
    """
    best = result.best
    assert best is not None
    bounds = interval(best, result.images)
    between = f", {interval_text(bounds)}" if bounds is not None else ""
    against = answer_against(result)
    guessed = (
        f"; not yet clearly better than {against.guess.method or 'guessing'} "
        f"({against.guessed:.4f})"
        if against is not None and not against.is_above
        else ""
    )
    return (
        f"the best so far is {best_model(result)} ({best.trial}): val {best.metric.title} "
        f"{figure_text(best)}{between}{guessed}"
    )


@dataclass(frozen=True)
class Before:
    """The resources that a search had used before its session began."""

    epochs: int
    shares: dict[str, float]
    """Used share of each limit of the budget, by the limit's text."""
    ended: int = 0
    """Number of finished trials."""

    @classmethod
    def of(cls, result: SearchResult) -> Self:
        """Record the resources that a search has used so far."""
        return cls(result.epochs_trained, shares_of(result), result.ended)


@dataclass(frozen=True)
class Pace:
    """The rate at which epochs (or trials) finish while others are running."""

    ended: int
    """Number of epochs (or trials) that finished in this session."""
    at_work: int
    """Number of epochs (or trials) that are running now."""
    elapsed_s: float
    """Duration of the session so far, in seconds."""
    since_s: float
    """Seconds since the last epoch (or trial) finished."""

    @property
    def per_s(self) -> float:
        """Number of epochs (or trials) that finish per second.

        It is measured up to the end of the last epoch. But it is at most the rate that would result
        if all running epochs finished now, so that it falls while nothing finishes.
        """
        until_s = max(self.elapsed_s - self.since_s, 1e-9)
        return min(self.ended / until_s, (self.ended + self.at_work) / max(self.elapsed_s, 1e-9))

    def left_s(self, count: float) -> float:
        """Estimate the seconds until `count` more epochs (or trials) finish.

        The running ones are included in `count`.

        The time since the last epoch finished is subtracted. But the estimate is at least the time
        that would result if all running epochs finished now, and the others at the resulting rate.
        It is 0 before the first epoch has finished.
        """
        if not self.ended:
            return 0.0
        usual = count * (self.elapsed_s - self.since_s) / self.ended - self.since_s
        at_best = (count - self.at_work) * self.elapsed_s / (self.ended + self.at_work)
        return max(usual, at_best)


def pace_of(result: SearchResult, before: Before, elapsed_s: float) -> Pace:
    """Return the rate at which the epochs of the current session finish.

    Args:
        result: the search.
        before: the resources that it had used when the session began.
        elapsed_s: the duration of the session so far, in seconds.
    """
    session = result.current_sessions[-1] if result.current_sessions else None
    since_s = (session.elapsed_ms - session.epoch_ms) / 1000 if session is not None else 0.0
    running = result.counts.get("running", 0)
    return Pace(result.epochs_trained - before.epochs, running, elapsed_s, since_s)


def time_left(result: SearchResult, planned: int, before: Before, elapsed_s: float) -> float | None:
    """Estimate the remaining seconds of a session; None if that is not possible.

    With asha, where trials wait at rungs, the estimate assumes the usual share of promotions.
    Otherwise it assumes that the remaining trials take as long as the finished ones. If the budget
    will be used up earlier, the estimate is the time until then.

    Args:
        result: the search.
        planned: the number of its trials.
        before: the resources that it had used when the session began.
        elapsed_s: the duration of the session so far, in seconds.
    """
    experiment = result.started.experiment
    ended, pace = result.ended, pace_of(result, before, elapsed_s)
    trained = result.epochs_trained
    if experiment.get("scheduler") == "asha" and pace.ended > 0:
        rungs = experiment["horizon"], experiment.get("grace"), experiment.get("sure", 0.0)
        usual = mean(
            expected_epochs(trial.config["epochs"], *rungs)
            for trial in result.trials.values()
            if trial.config
        )
        seconds = pace.left_s(usual * planned - trained)
    else:
        session = result.current_sessions[-1] if result.current_sessions else None
        since_s = (session.elapsed_ms - session.ended_ms) / 1000 if session is not None else 0.0
        trials = replace(pace, ended=ended - before.ended, since_s=since_s)
        seconds = trials.left_s(planned - ended)
    if seconds <= 0:
        return None
    return min([seconds, *_budget_left(result, before, pace)])


def _budget_left(result: SearchResult, before: Before, pace: Pace) -> Iterator[float]:
    """Yield the estimated seconds until each limit of the budget is used up."""
    for text, share in shares_of(result).items():
        budget_limit, remaining = limit(text), max(0.0, 1 - share)
        used = share - before.shares.get(text, 0.0)
        if budget_limit.of == "time":
            yield remaining * budget_limit.amount
        elif budget_limit.of == "epochs" and pace.ended > 0:
            yield max(0.0, pace.left_s(remaining * budget_limit.amount))
        elif used > 0:
            yield pace.elapsed_s / used * remaining


def open_display(context: ViewContext) -> "Display | None":
    """Open and show the view; None if nothing is left to run."""
    driver = context.driver
    if driver is None:
        return None
    home = driver.experiment.home

    def read_beats(trials: list[str]) -> list[Beat | None]:
        return home.beats([Path(home.place(trial).folder) for trial in trials])

    display = (RaceDisplay if context.is_selection else Display)(
        driver.result,
        context.planned,
        context.console,
        may_train=lambda: driver.outstanding > 0,
        count_time=driver.count_time,
        read_beats=read_beats,
        table=context.may_draw,
    )
    display.show()
    return display


class Display(View):
    """The progress of a search, shown from `show` until `close`."""

    def __init__(
        self,
        result: SearchResult,
        planned: int,
        console: Console,
        *,
        may_train: Callable[[], bool] = lambda: True,
        count_time: Callable[[], None] = lambda: None,
        read_beats: Callable[[list[str]], list[Beat | None]] = lambda trials: [None] * len(trials),
        table: bool = True,
    ) -> None:
        """Start the clock; nothing is drawn before `show`.

        Args:
            result: the search, which the driver updates.
            planned: the number of planned trials; for a selection, the maximum number of trainings.
            console: the console on which the progress is shown.
            may_train: returns True while a trial runs or may still start.
            count_time: adds the time since the last event to the result.
            read_beats: returns the last heartbeats of trials, by which the progress within a long
                epoch is shown.
            table: True to draw a table if the console is a terminal, False to print plain lines.
        """
        self.result, self.planned, self.may_train = result, planned, may_train
        self.console, self.count_time = console, count_time
        self.start, self.before = time.monotonic(), Before.of(result)
        self.said_at, self.draw_at = self.start, self.start
        self.last, self.leader = "", best_model(result)
        self.long_epochs = LongEpochs(read_beats)
        self.live = (
            Live(
                get_renderable=self._table,
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            if table and self.console.is_terminal
            else None
        )

    def show(self) -> None:
        """Show the table, if there is one; lines printed later appear above it."""
        if self.live:
            self.live.start()

    def close(self) -> None:
        """Remove the table."""
        if self.live:
            self.live.stop()

    def apply(self, event: Event) -> None:
        """Print an event that a person should see, and update the number of planned trials."""
        if isinstance(event.data, Refined):
            self.planned = event.data.experiment["trials"]
        if isinstance(event.data, Requested):
            self.planned = event.data.changes.get("trials", self.planned)
        for line in news(event):
            if line != self.last:
                say(self.console, line)
            self.last = line
        if isinstance(event.data, Epoch):
            self.long_epochs.end_epoch()
        if isinstance(event.data, Epoch) and (leader := best_model(self.result)) != self.leader:
            self.leader = leader
            say(self.console, f"{self._elapsed():5.0f} s  {answer_text(self.result)}")
        self.tick()

    def tick(self) -> None:
        """Redraw the table if this is due; without a table, print a line every `PLAIN_EVERY_S`."""
        now = time.monotonic()
        if self.live and now >= self.draw_at:
            self.live.refresh()
            self.draw_at = now + max(DRAWN_EVERY_S, (time.monotonic() - now) / DRAWN_SHARE)
        elif not self.live and now - self.said_at > PLAIN_EVERY_S:
            self.said_at = now
            say(self.console, self._line())

    def _line(self) -> str:
        """Format the progress of the search, or the reason why it waits, in one line."""
        result = self.result
        self.count_time()
        if result.trials and not result.counts.get("running"):
            return (
                f"{self._elapsed():5.0f} s  {outcome_text(result)} of {self.planned}; "
                f"{self._waits()}"
            )
        best = best_text(result) or "no epoch yet"
        if within := self.long_epochs.text(result):
            best += f"; {within}"
        speed = f"{speed}; " if (speed := self._speed()) else ""
        return (
            f"{self._elapsed():5.0f} s  {outcome_text(result)} of {self.planned}; {best}; "
            f"{speed}{self._time_left_text()}{used_text(result)}"
        )

    def _waits(self) -> str:
        """Describe why no trial is running."""
        if self.may_train():
            return (
                "waiting for a training process"
                if self.result.unfinished
                else "waiting for the next trial"
            )
        evaluated = sum(bool(trial.evaluation) for trial in self.result.trials.values())
        return (
            f"evaluated {evaluated} of {len(self.result.ranking)} on the validation set"
            if evaluated
            else "waiting for the evaluation"
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self.start

    def _speed(self) -> str:
        """Format the rate in epochs per second, or per minute or hour if it is low.

        Empty before the first epoch.
        """
        per_s = pace_of(self.result, self.before, self._elapsed()).per_s
        if not per_s:
            return ""
        return next(
            f"{per_s * seconds:.1f} epochs/{unit}"
            for unit, seconds in (("s", 1), ("min", 60), ("h", 3600))
            if per_s * seconds >= 0.1 or unit == "h"
        )

    def _time_left_text(self) -> str:
        seconds = time_left(self.result, self.planned, self.before, self._elapsed())
        if seconds is None:
            return "time left unknown"
        if seconds < 1:
            return FINISHING
        return (
            f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"
        )

    def _table(self) -> Group:
        result = self.result
        table = Table(box=None, pad_edge=False)
        for title, justify in (
            ("trial", "left"),
            ("params", "left"),
            ("epochs", "right"),
            (f"val {result.metric.title}", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for trial in result.ranking[:TOP_TRIALS]:
            values = "  ".join(
                f"{path.rpartition('.')[2]} {param_text(value)}"
                for path, value in trial.params.items()
            )
            table.add_row(
                trial.trial,
                Text(values, overflow="ellipsis", no_wrap=True),
                str(len(trial.epochs)),
                figure_text(trial),
                trial.outcome,
            )
        return Group(Text(self._line()), table)


class LongEpochs:
    """Measures how far running trials are within epochs that take long, by their heartbeats."""

    def __init__(
        self,
        read_beats: Callable[[list[str]], list[Beat | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.read_beats, self.clock = read_beats, clock
        self._ended_at = self._read_at = clock()
        self._readings: dict[tuple[str, int], tuple[float, float]] = {}
        """Maps (trial, epoch) to the first reading: (time in seconds, share that was done)."""
        self._text = ""

    def end_epoch(self) -> None:
        """Record that a trial has reported an epoch."""
        self._ended_at, self._text = self.clock(), ""

    def text(self, result: SearchResult) -> str:
        """Describe the epoch of which the most is done: `t0001: 43% of epoch 1, about 4 min left`.

        Empty if some trial has reported an epoch lately, or if nothing is known. The heartbeats are
        read every `PLAIN_EVERY_S` seconds.
        """
        now = self.clock()
        if now - max(self._ended_at, self._read_at) < PLAIN_EVERY_S:
            return self._text
        self._read_at = now
        running = [trial for trial in result.trials.values() if trial.outcome == "running"]
        readings, lines = {}, list[tuple[float, str]]()
        beats = self.read_beats([trial.trial for trial in running])
        for trial, beat in zip(running, beats, strict=True):
            if beat is None or beat.attempt != trial.attempt:
                continue
            share = beat.epochs - trial.reached
            if not 0 < share < 1:  # not known, or of another epoch
                continue
            key = (trial.trial, trial.reached + 1)
            began, first = readings[key] = self._readings.get(key, (now, share))
            rest = ""
            if share > first:
                rest = f", about {duration((1 - share) * (now - began) / (share - first))} left"
            lines.append((share, f"{key[0]}: {share:.0%} of epoch {key[1]}{rest}"))
        self._readings, self._text = readings, max(lines)[1] if lines else ""
        return self._text


class RaceDisplay(Display):
    """The progress of a selection: its trainings, and a line for each candidate."""

    @property
    def _selection(self) -> Selection | None:
        return self.result.selection

    def _line(self) -> str:
        repeats = self._selection.repeats.values() if self._selection is not None else []
        ended = sum(trial.ended_ms > 0 for trial in repeats)
        running = sum(trial.outcome == "running" for trial in repeats)
        dropped = len(self._selection.dropped) if self._selection is not None else 0
        dropped_text = f"; {counted(dropped, 'candidate')} dropped" if dropped else ""
        epochs = counted(sum(len(trial.own_epochs) for trial in repeats), "epoch")
        return (
            f"{self._elapsed():5.0f} s  {counted(ended, 'training')} ended, {running} running of "
            f"at most {self.planned}; {epochs}{dropped_text}"
        )

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title, justify in (
            ("candidate", "left"),
            ("seeds", "right"),
            (f"mean val {self.result.metric.title}", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        if (selection := self._selection) is not None:
            completed = [
                trial for trial in selection.repeats.values() if trial.outcome == "completed"
            ]
            for candidate in selection.started.candidates:
                values = [trial.value for trial in completed if trial.repeat_of == candidate]
                table.add_row(
                    candidate,
                    str(len(values)),
                    f"{mean(values):.4f}" if values else "",
                    "dropped" if candidate in selection.dropped else "",
                )
        return Group(Text(self._line()), table)
