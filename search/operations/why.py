"""python -m search.why NAME TRIAL: the story of one trial.

What suggested it, what it reached, against which trials it was stopped, its retries.
"""

import argparse
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cluster.cli import Parser
from search.cli.options import storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.facts.guessing import against_text
from search.facts.metric import tested_value
from search.facts.summary import cost_text, param_text, request_text
from search.journal.events import (
    Costed,
    Ended,
    Epoch,
    Evidence,
    Freed,
    Held,
    Opened,
    Paused,
    Promoted,
    Requested,
    Restored,
    Retried,
    Running,
    Stopped,
    Suggested,
    Tested,
    Waiting,
)
from search.journal.guessing import Guessing
from search.journal.journal import FILE_NAME, Event, read
from search.journal.result import FAILED, SearchResult, elapsed_s
from search.process.guard import guarded
from trainables.catalog.tasks import Metric
from trainables.errors import ConfigError, printable

RIVALS_SHOWN = 12


class History:
    """The facts about all trials of a search that the story of a single trial needs.

    It stores three numbers per epoch. With them, the story of a trial needs only the trial's own
    events; reading those of thousands of trials again would take seconds.
    """

    def __init__(self) -> None:
        """Create an empty history; call `apply` with each event."""
        self.ended: set[str] = set()
        self.counts: dict[str, tuple[int, int]] = {}
        """For each trial, the numbers of ended and of running trials when it was suggested."""
        self._epochs: dict[str, tuple[array[int], array[int], array[float]]] = {}
        """For each trial, three arrays over its epochs: the events' numbers, epochs and scores."""
        self._failed: dict[str, int] = {}
        """For each failed trial, the number of the event that ended it."""
        self._elapsed_s = array("d")
        """For each event, the running time so far of the search, or of the event's selection."""

    def apply(self, event: Event, result: SearchResult) -> None:
        """Add the next event; `result` must already include it, and no later one."""
        data, name = event.data, event.trial
        of_trial = data.trials[0] if isinstance(data, Freed) and data.trials else name
        is_searched = not of_trial or of_trial in result.trials
        self._elapsed_s.append(
            elapsed_s(result.sessions if is_searched else result.current_sessions)
        )
        if name not in result.trials:
            return
        if isinstance(data, Epoch):
            numbers, epochs, scores = self._epochs.setdefault(
                name, (array("q"), array("q"), array("d"))
            )
            numbers.append(event.number)
            epochs.append(data.epoch)
            scores.append(result.metric.score_of(data.metrics))
        elif isinstance(data, Suggested):
            running = result.current_sessions[-1].running if result.current_sessions else 0
            self.counts[name] = len(self.ended), running
        elif isinstance(data, Ended):
            self.ended.add(name)
            if data.outcome in FAILED:
                self._failed[name] = event.number

    def time_of(self, event: Event) -> str:
        """The running time of the search at an event, as text such as `0:12:05`."""
        return _clock_text(self._elapsed_s[event.number - 1])

    def scores_at(self, rung: int, number: int) -> dict[str, float]:
        """Collect the best scores up to a rung of all trials that had reached it before an event.

        Trials that had failed by then are left out.

        Args:
            rung: the epoch of the rung.
            number: the number of the event, which is included.
        """
        best_scores = {}
        for name, epochs in self._epochs.items():
            if self._failed.get(name, number + 1) <= number:
                continue
            scores: dict[int, float] = {}
            for at, epoch, score in zip(*epochs, strict=True):
                if at > number:
                    break
                if epoch <= rung:
                    scores[epoch] = score
            if rung in scores:
                best_scores[name] = max(scores.values())
        return best_scores


def story(events: Sequence[Event], trial: str) -> Iterator[str]:
    """Describe a trial's events in lines, given all events of its search."""
    history, result = History(), SearchResult()
    for event in events:
        result.apply(event)
        history.apply(event, result)
    return story_of(events, trial, history)


def story_of(events: Iterable[Event], trial: str, history: History) -> Iterator[str]:
    """Describe a trial's events in lines.

    Args:
        events: the events of the trial, and those that belong to no trial (see `read_about`);
            events of other trials are skipped.
        trial: the trial's name.
        history: the history of all trials, at least up to the last of these events.
    """
    result = SearchResult()
    for event in events:
        if event.trial not in ("", trial):
            continue
        result.apply(event)
        if event.trial == trial or (isinstance(event.data, Freed) and trial in event.data.trials):
            for line in describe_event(event, result, history):
                yield f"{history.time_of(event):>9}  {line}"


def describe_event(record: Event, result: SearchResult, history: History) -> Iterator[str]:
    """Describe an event of the trial in lines.

    Args:
        record: the event.
        result: the search with this trial only, up to and including the event.
        history: the history of all trials.
    """
    event = record.data
    match event:
        case Suggested():
            yield from _describe_suggested(event, result, history)
        case Running():
            yield f"attempt {event.attempt} began on {event.host or 'this machine'}"
        case Restored():
            yield from _describe_restored(event)
        case Epoch():
            yield _epoch_text(event, result)
        case Costed():
            yield f"its network: {cost_text(event.cost)}"
        case Held():
            yield f"held by {event.by}: {event.reason}"
            yield from _describe_rivals(record, event, result.metric, history)
        case Promoted():
            yield f"goes on from epoch {event.epoch}, says {event.by}"
        case Stopped():
            yield f"stopped by {event.by}: {event.reason}"
            yield from _describe_rivals(record, event, result.metric, history)
        case Requested():
            yield request_text(event)
        case Waiting():
            yield f"waited: {event.reason}"
        case Paused():
            yield f"paused: {event.reason}"
        case Retried():
            yield f"to be tried again ({event.kind}): {event.reason}"
        case Evidence():
            yield f"kept: {event.file}"
        case Freed():
            yield f"its checkpoints were removed ({event.keep} ones were to be kept)"
        case Ended():
            kind = f" ({event.kind})" if event.kind else ""
            is_told = event.reason and event.outcome != "stopped"
            yield f"{event.outcome}{kind}" + (f": {event.reason.strip()}" if is_told else "")
        case Opened():
            yield f"the test part was opened for it by {event.by}"
        case Tested():
            yield f"tested on the test part: {_tested_text(event.test, result)}"


def _describe_suggested(event: Suggested, result: SearchResult, history: History) -> Iterator[str]:
    experiment = result.started.experiment
    if event.repeat_of:
        yield f"{event.repeat_of} again, for the selection, with seed {event.seed}"
        return
    ended, active = history.counts[event.trial]
    yield (
        f"suggested by {experiment['algorithm']} (seed {experiment['seed']}) when {ended} "
        f"trials had ended and {active} ran"
    )
    yield from (f"  {path} = {param_text(value)}" for path, value in event.params.items())


def _describe_restored(event: Restored) -> Iterator[str]:
    yield from (f"a checkpoint could not be used: {line}" for line in event.damaged)
    trained = ""
    if (warm_start := event.begun) is not None:
        trained = (
            f", until which {warm_start.trial} of '{warm_start.search}' had trained it "
            f"(epoch {warm_start.epoch})"
        )
    yield f"went on after epoch {event.epoch}{trained}" if event.epoch else "began anew"


def _epoch_text(event: Epoch, result: SearchResult) -> str:
    trial, metrics = result.find(event.trial), event.metrics
    assert trial is not None
    metric, primary = trial.metric, trial.task.primary
    best = ", its best" if trial.best_epoch == event.epoch else ""
    folds = (
        f" ± {metrics[metric.deviation_key]:.4f} ({len(event.folds)} folds)" if event.folds else ""
    )
    beside = "" if metric.is_primary else f", val {primary.title} {metrics[primary.key]:.4f}"
    loss = f", {metric.loss.replace('/', ' ')} {metrics[metric.loss]:.4f}"
    loss = loss if metric.loss != metric.key else ""
    return (
        f"epoch {event.epoch}: val {metric.title} {metrics[metric.key]:.4f}{folds}{best}"
        f"{beside}{loss}, {metrics['time/epoch_s']:.1f} s"
    )


def _tested_text(test: Mapping[str, Any], result: SearchResult) -> str:
    """Describe the metric, such as "macro F1 0.9123", and the primary metric if it is another."""
    metric, primary = result.metric, result.task.primary
    beside = "" if metric.is_primary else f", {primary.title} {test[primary.name]:.4f}"
    return f"{metric.title} {tested_value(test, metric):.4f}{beside}"


def _describe_rivals(
    record: Event, event: Held | Stopped, metric: Metric, history: History
) -> Iterator[str]:
    """List the trials that had reached the event's rung by then, best first, in lines.

    Their values are those measured by then, not forecasts. Empty if the event has no rung.
    """
    if event.rung is None:
        return
    best = history.scores_at(event.rung, record.number)
    yield f"  those who had come there, by {metric.title} until then:"
    for place, name in enumerate(sorted(best, key=best.__getitem__, reverse=True), 1):
        if place <= RIVALS_SHOWN or name == event.trial:
            yield f"  {place:>3}. {name} {metric.score(best[name]):.4f}" + (
                "  <- this one" if name == event.trial else ""
            )


def _clock_text(elapsed: float) -> str:
    seconds = int(elapsed)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def command(args: argparse.Namespace) -> int:
    """Print the story of the trial, and return the exit code.

    Raises:
        ConfigError: there is no such trial.
    """
    folder = search_of(args).opened()
    events = read(folder / FILE_NAME)
    result = SearchResult.of(events, folder)
    if result.find(args.trial) is None:
        names = list(result.trials)
        raise ConfigError(
            f"no trial '{args.trial}' in {args.name}"
            + (f", which has {names[0]} to {names[-1]}." if names else ", which has none yet.")
        )
    print(f"{args.trial} of {args.name}")
    for line in story(events, args.trial):
        print(printable(line))
    if note := beside_guessing(result, args.trial):
        print(printable(note))
    return 0


def beside_guessing(result: SearchResult, name: str) -> str:
    """Note that a trial is no better than guessing; empty if it is better, or if unknown."""
    guessing, trial = Guessing.of(result), result.find(name)
    if guessing is None or trial is None:
        return ""
    against = guessing.against(trial)
    return "" if against is None or against.is_above else against_text(against, name)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the story, and return the exit code (see `ExitCode`)."""
    parser = Parser(prog="python -m search.why", description=__doc__, formatter_class=HelpFormatter)
    storage_option(parser)
    parser.add_argument("trial", metavar="TRIAL", help="the trial, such as t0001")
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
