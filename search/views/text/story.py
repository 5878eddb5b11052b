"""The story of a trial as lines of text.

The lines describe the trial's suggestion, its values, its comparisons with other trials at rungs,
its retries and its end.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from search.design.lesson import lesson_of, lessons_in
from search.facts.history import History
from search.facts.metric import tested_value
from search.facts.parameters import param_text
from search.journal.events import (
    Averaged,
    Costed,
    Ended,
    Epoch,
    Evidence,
    Freed,
    Held,
    Opened,
    Paused,
    Pooled,
    Promoted,
    Registration,
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
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.views.text.sentences import against_text, beside_best_text, request_text
from search.views.text.tables import cost_text
from trainables.catalog.entries import Metric

RIVALS_SHOWN = 12


def story_of(events: Iterable[Event], trial: str, history: History) -> Iterator[str]:
    """Describe a trial's events as lines, each of which starts with the duration of the search.

    Args:
        events: the events of the trial, and those that concern no trial (see `read_about`). Events
            of other trials are skipped.
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
    """Describe an event of a trial as lines.

    Args:
        record: the event.
        result: the search up to and including the event; it only needs to contain this trial.
        history: the history of all trials.
    """
    event = record.data
    match event:
        case Suggested():
            yield from _describe_suggested(event, result, history)
        case Running():
            yield f"attempt {event.attempt} started on {event.host or 'this machine'}"
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
            yield f"continues from epoch {event.epoch}, promoted by {event.by}"
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
            yield f"is retried ({event.kind}): {event.reason}"
        case Evidence():
            yield f"stored: {event.file}"
        case Freed():
            yield f"its checkpoints were removed (kept: {event.keep} ones)"
        case Ended():
            kind = f" ({event.kind})" if event.kind else ""
            is_told = event.reason and event.outcome != "stopped"
            yield f"{event.outcome}{kind}" + (f": {event.reason.strip()}" if is_told else "")
        case Opened():
            yield f"the test set was opened for it by {' '.join([event.by, *event.promises])}"
        case Registration():
            yield f"registered as version {event.version} of {event.model}"
        case Averaged():
            yield (
                f"has the average of the weights of {', '.join(event.members)}: "
                f"{result.metric.gap(event.gain)} above them on average on the validation images"
            )
        case Pooled():
            yield (
                f"predicts the mean probabilities of {', '.join(event.members)}, and is "
                f"{beside_best_text(event)}, on the validation images"
            )
        case Tested():
            yield f"tested on the test set: {_tested_text(event.test, result)}"


def _describe_suggested(event: Suggested, result: SearchResult, history: History) -> Iterator[str]:
    experiment = result.started.experiment
    if event.repeat_of:
        yield f"trains {event.repeat_of} again for the selection, with seed {event.seed}"
        return
    ended, active = history.counts[event.trial]
    yield (
        f"suggested by {experiment['algorithm']} (seed {experiment['seed']}) when {ended} "
        f"trials had ended and {active} ran"
    )
    if (lesson := lesson_of(event.params, lessons_in(experiment))) is not None:
        yield f"tried early, because these settings did well before: {lesson.origin}"
    yield from (f"  {path} = {param_text(value)}" for path, value in event.params.items())


def _describe_restored(event: Restored) -> Iterator[str]:
    yield from (f"a checkpoint could not be used: {line}" for line in event.damaged)
    trained = ""
    if (warm_start := event.begun) is not None:
        trained = (
            f", until which {warm_start.trial} of '{warm_start.search}' had trained it "
            f"(epoch {warm_start.epoch})"
        )
    yield f"continued after epoch {event.epoch}{trained}" if event.epoch else "started again"


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
    """Format the metric, such as `macro F1 0.9123`, and the primary metric if that is different."""
    metric, primary = result.metric, result.task.primary
    beside = "" if metric.is_primary else f", {primary.title} {test[primary.name]:.4f}"
    return f"{metric.title} {tested_value(test, metric):.4f}{beside}"


def _describe_rivals(
    record: Event, event: Held | Stopped, metric: Metric, history: History
) -> Iterator[str]:
    """List the trials that had reached the event's rung, the best first, as lines.

    Their values are those that had been measured at the time of the event, and not forecasts.
    Nothing is listed if the event has no rung.
    """
    if event.rung is None:
        return
    best = history.scores_at(event.rung, record.number)
    yield f"  trials that had reached it, by their {metric.title} until then:"
    for place, name in enumerate(sorted(best, key=best.__getitem__, reverse=True), 1):
        if place <= RIVALS_SHOWN or name == event.trial:
            yield f"  {place:>3}. {name} {metric.score(best[name]):.4f}" + (
                "  <- this one" if name == event.trial else ""
            )


def beside_guessing(result: SearchResult, name: str) -> str:
    """Describe a trial that is no better than guessing; empty if it is better, or if not known."""
    guessing, trial = Guessing.of(result), result.find(name)
    if guessing is None or trial is None:
        return ""
    against = guessing.against(trial)
    return "" if against is None or against.is_above else against_text(against, name)
