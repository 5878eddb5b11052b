"""python -m search.why NAME TRIAL: the story of one trial.

What suggested it, what it reached, against which trials it was stopped, its retries.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.cli import Parser
from search.cli.main import HelpFormatter, guarded, storage_option
from search.journal.journal import FILE_NAME, Event, read
from search.journal.result import FAILED, SearchResult, TrialResult
from search.journal.store import home
from search.views.metric import tested_value
from search.views.summary import cost_text, param_text
from trainables.errors import ConfigError, printable

RIVALS_SHOWN = 12


def story(events: list[Event], trial: str) -> Iterator[str]:
    """Yield a trial's events as lines."""
    result = SearchResult()
    for event in events:
        result.apply(event)
        if event.data.get("trial") == trial:
            yield from (f"{_since(result, event):>9}  {line}" for line in tell(event, result))


def tell(event: Event, result: SearchResult) -> Iterator[str]:
    """Yield lines about one event of the trial.

    `result` is the search up to and including this event.
    """
    data, trial = event.data, result.find(event.data["trial"])
    assert trial is not None
    match event.kind:
        case "suggested":
            yield from _tell_suggested(event, result)
        case "running":
            yield f"attempt {data['attempt']} began on {data.get('host') or 'this machine'}"
        case "restored":
            yield from _tell_restored(event)
        case "epoch":
            yield _epoch_text(data, trial, is_best=trial.best_epoch == data["epoch"])
        case "costed":
            yield f"its network: {cost_text(data['cost'])}"
        case "held":
            yield f"held by {data['by']}: {data['reason']}"
            yield from _tell_rivals(event, result)
        case "promoted":
            yield f"goes on from epoch {data['epoch']}, says {data['by']}"
        case "stopped":
            yield f"stopped by {data['by']}: {data['reason']}"
            yield from _tell_rivals(event, result)
        case "waiting":
            yield f"waited: {data['reason']}"
        case "paused":
            yield f"paused: {data['reason']}"
        case "retried":
            yield f"to be tried again ({data['kind']}): {data['reason']}"
        case "evidence":
            yield f"kept: {data['file']}"
        case "ended":
            kind = f" ({data['kind']})" if data.get("kind") else ""
            yield f"{data['outcome']}{kind}" + (
                f": {data['reason'].strip()}"
                if data["reason"] and data["outcome"] != "stopped"
                else ""
            )
        case "opened":
            yield f"the test part was opened for it by {data['by']}"
        case "tested":
            yield f"tested on the test part: {_tested_text(data['test'], result)}"


def _tell_suggested(event: Event, result: SearchResult) -> Iterator[str]:
    experiment = result.started["experiment"]
    if repeat_of := event.data.get("repeat_of"):
        yield f"{repeat_of} again, for the selection, with seed {event.data['seed']}"
        return
    heard = sum(trial.ended_ms > 0 for trial in result.trials.values())
    active = sum(trial.outcome == "running" for trial in result.trials.values())
    yield (
        f"suggested by {experiment['algorithm']} (seed {experiment['seed']}) when {heard} trials "
        f"had ended and {active} ran"
    )
    yield from (f"  {path} = {param_text(value)}" for path, value in event.data["params"].items())


def _tell_restored(event: Event) -> Iterator[str]:
    data, begun = event.data, event.data.get("begun")
    yield from (f"a checkpoint could not be used: {line}" for line in data["damaged"])
    trained = ""
    if begun:
        trained = (
            f", until which {begun['trial']} of '{begun['search']}' had trained it "
            f"(epoch {begun['epoch']})"
        )
    yield f"went on after epoch {data['epoch']}{trained}" if data["epoch"] else "began anew"


def _epoch_text(data: Mapping[str, Any], trial: TrialResult, *, is_best: bool) -> str:
    metrics, metric, primary = data["metrics"], trial.metric, trial.task.primary
    best = ", its best" if is_best else ""
    folds = (
        f" ± {metrics[metric.deviation_key]:.4f} ({len(data['folds'])} folds)"
        if data.get("folds")
        else ""
    )
    beside = "" if metric.is_primary else f", val {primary.title} {metrics[primary.key]:.4f}"
    loss = f", {metric.loss.replace('/', ' ')} {metrics[metric.loss]:.4f}"
    return (
        f"epoch {data['epoch']}: val {metric.title} {metrics[metric.key]:.4f}{folds}{best}"
        f"{beside}{loss}, {metrics['time/epoch_s']:.1f} s"
    )


def _tested_text(test: Mapping[str, Any], result: SearchResult) -> str:
    """Return `accuracy 0.9500`, or by another metric `macro F1 0.9123, accuracy 0.9500`."""
    metric, primary = result.metric, result.task.primary
    beside = "" if metric.is_primary else f", {primary.title} {test[primary.name]:.4f}"
    return f"{metric.title} {tested_value(test, metric):.4f}{beside}"


def _tell_rivals(event: Event, result: SearchResult) -> Iterator[str]:
    """Yield the trials that had reached this rung by then, the best first.

    Their values are those that they had shown, not those that are forecast.
    """
    rung = event.data.get("rung")
    if rung is None:
        return
    there = {
        name: trial
        for name, trial in result.trials.items()
        if rung in trial.epochs and trial.outcome not in FAILED
    }
    metric = result.metric
    yield f"  those who had come there, by {metric.title} until then:"
    best = {
        name: max(metric.score_of(m) for e, m in trial.epochs.items() if e <= rung)
        for name, trial in there.items()
    }
    for place, name in enumerate(sorted(best, key=best.__getitem__, reverse=True), 1):
        if place <= RIVALS_SHOWN or name == event.data["trial"]:
            yield f"  {place:>3}. {name} {metric.score(best[name]):.4f}" + (
                "  <- this one" if name == event.data["trial"] else ""
            )


def _since(result: SearchResult, event: Event) -> str:
    seconds = max(0, event.time_ms - result.started_ms) // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def command(args: argparse.Namespace) -> int:
    """Print the story and return the exit code."""
    folder = home(args.storage, args.name).opened()
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
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, print, and return the exit code (see `search.cli.main`)."""
    parser = Parser(prog="python -m search.why", description=__doc__, formatter_class=HelpFormatter)
    storage_option(parser)
    parser.add_argument("trial", metavar="TRIAL", help="the trial, such as t0001")
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
