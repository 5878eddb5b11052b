"""What a person sees while a search runs: a live table on a terminal, plain lines elsewhere.
Listens to the journal.
"""

import time
from collections.abc import Callable
from statistics import mean
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.budget import shares_of, shares_text
from search.journal.journal import Event
from search.journal.result import FAILED, SearchResult, Selection
from search.phrases import last_line_of
from search.schedulers.asha import expected_epochs
from search.views.summary import figure_text, outcome_text, param_text
from search.views.terminal import say

SHOWN = 5
PLAIN_EVERY_S = 15
DRAWN_EVERY_S, DRAWN_SHARE = 0.25, 0.02
"""How often the table is drawn at most, and the share of the time that this may take: with
thousands of trials it is drawn less often.
"""


def news(event: Event) -> list[str]:
    """What a person should hear of at once."""
    data = event.data
    match event.kind:
        case "ended" if data["outcome"] in FAILED:
            return [
                f"trial {data['trial']} {data['outcome']}: {last_line_of(data['reason'], 'no reason known')}"
            ]
        case "retried":
            return [f"trial {data['trial']} is tried again ({data['kind']}): {data['reason']}"]
        case "waiting":
            return [f"trial {data['trial']} waits: {data['reason']}"]
        case "restored":
            begins = (
                f"it goes on after epoch {data['epoch']}" if data["epoch"] else "it begins anew"
            )
            return [f"trial {data['trial']}: {line}; {begins}" for line in data["damaged"]]
        case "enough":
            return [f"no further trial is started: {data['reason']}"]
        case "dropped":
            return [f"{data['candidate']} leaves the race: {data['reason']}"]
        case "refined":
            count = data["experiment"]["trials"] - data["known"]
            title = f"round {data['round']}: {count} more trials; the best of {data['known']} has {data['before']:.4f}. What changes:"
            return [title, *(f"  {change['text']}" for change in data["changes"])]
        case "settled":
            return [f"the refinement ends: {data['reason']}"]
        case "unevaluated":
            (reason, (first, *_)), count = (
                next(iter(data["reasons"].items())),
                sum(map(len, data["reasons"].values())),
            )
            more = f" and {count - 1} more" if count > 1 else ""
            return [f"not evaluated: {first} ({reason}){more}; the journal has every reason"]
    return []


class Display:
    """Shows progress on stderr between `with` and its end. `say` adds a line of news."""

    def __init__(
        self,
        result: SearchResult,
        planned: int,
        console: Console,
        *,
        may_train: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_train` says whether anything trains, or may still come to."""
        self.result, self.planned, self.may_train = result, planned, may_train
        self.console = console
        self.start, self.before = time.monotonic(), result.epochs_trained
        self.said_at, self.draw_at = self.start, self.start
        self.last = ""
        self.live = (
            Live(
                get_renderable=self._table,
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """One line, above the table where there is one."""
        say(self.console, text)

    def __call__(self, event: Event) -> None:
        """Hear an event of the journal."""
        if event.kind == "refined":
            self.planned = event.data["experiment"]["trials"]
        for line in news(event):
            if line != self.last:
                self.say(line)
            self.last = line
        self.tick()

    def tick(self) -> None:
        """To be called also when nothing happens, several times a second: draws the table; where
        there is none, a line now and then says so.
        """
        now = time.monotonic()
        if self.live and now >= self.draw_at:
            self.live.refresh()
            self.draw_at = now + max(DRAWN_EVERY_S, (time.monotonic() - now) / DRAWN_SHARE)
        elif not self.live and now - self.said_at > PLAIN_EVERY_S:
            self.said_at = now
            self.say(self._line())

    def _line(self) -> str:
        """How far the search is, or what it waits for."""
        result = self.result
        if result.trials and not result.counts.get("running"):
            return f"{self._elapsed():5.0f} s  {outcome_text(result)} of {self.planned}; {self._waits()}"
        best = (
            f"best {figure_text(result.best)} ({result.best.trial})"
            if result.best
            else "no epoch yet"
        )
        return f"{self._elapsed():5.0f} s  {outcome_text(result)} of {self.planned}; {best}; {self._speed():.1f} epochs/s; {self._left()}{self._budget()}"

    def _budget(self) -> str:
        """How much of the budget is used, where there is one."""
        shares = shares_of(self.result)
        return f"; used {shares_text(shares)}" if shares else ""

    def _waits(self) -> str:
        """What happens while no trial runs."""
        if self.may_train():
            return (
                "waiting for a process to train in"
                if self.result.unfinished
                else "waiting for the next trial"
            )
        evaluated = sum(bool(trial.evaluation) for trial in self.result.trials.values())
        return (
            f"evaluated {evaluated} of {len(self.result.ranking)} on the validation part"
            if evaluated
            else "waiting for the evaluation"
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self.start

    def _speed(self) -> float:
        return (self.result.epochs_trained - self.before) / max(self._elapsed(), 1e-9)

    def _left(self) -> str:
        """The time left, if the rest is like what has ended, or where trials wait for each other,
        if as many go on as usual.
        """
        trials = self.result.trials.values()
        ended, about = (
            sum(trial.ended_ms > 0 for trial in trials),
            self.result.started.get("experiment", {}),
        )
        if about.get("scheduler") == "asha" and self._speed():
            rungs = about["horizon"], about.get("grace"), about.get("sure", 0.0)
            usual = mean(
                expected_epochs(trial.config["epochs"], *rungs) for trial in trials if trial.config
            )
            seconds = (usual * self.planned - self.result.epochs_trained) / self._speed()
        else:
            seconds = self._elapsed() / ended * (self.planned - ended) if ended else 0
        if seconds <= 0:
            return "time left unknown"
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
            ("val accuracy", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for trial in result.ranking[:SHOWN]:
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


class RaceDisplay(Display):
    """The same for a selection: its trainings, and a line a candidate."""

    @property
    def _selection(self) -> Selection | None:
        return self.result.selection

    def _line(self) -> str:
        repeats = self._selection.repeats.values() if self._selection is not None else []
        ended, running = (
            sum(trial.ended_ms > 0 for trial in repeats),
            sum(trial.outcome == "running" for trial in repeats),
        )
        left = len(self._selection.dropped) if self._selection is not None else 0
        gone = (
            f"; {left} of the candidates {'has' if left == 1 else 'have'} left the race"
            if left
            else ""
        )
        return f"{self._elapsed():5.0f} s  {ended} trainings ended, {running} running of at most {self.planned}{gone}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title, justify in (
            ("candidate", "left"),
            ("seeds", "right"),
            ("mean val accuracy", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        if (selection := self._selection) is not None:
            completed = [
                trial for trial in selection.repeats.values() if trial.outcome == "completed"
            ]
            for candidate in selection.started["candidates"]:
                values = [trial.accuracy for trial in completed if trial.repeat_of == candidate]
                table.add_row(
                    candidate,
                    str(len(values)),
                    f"{mean(values):.4f}" if values else "",
                    "left" if candidate in selection.dropped else "",
                )
        return Group(Text(self._line()), table)
