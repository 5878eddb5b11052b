"""Texts of the web pages about the state of a search and its latest decisions."""

from collections.abc import Iterator
from dataclasses import dataclass

from search.facts.history import History
from search.facts.overview import Overview, is_paused
from search.facts.standing import SearchStanding, Stage
from search.journal.events import Ended, Held, Promoted, Stopped, TrialEvent
from search.journal.journal import Event
from search.journal.result import FAILED, SearchResult
from search.values.wording import duration
from search.views.live import FINISHING, Before, news, time_left
from search.views.overview_table import BEFORE_ALL, state_word
from search.views.text.story import describe_event
from trainables.errors import counted

OUTCOMES = {**BEFORE_ALL, "completed": "done", "lost": "cluster lost"}
"""Words for outcomes of searches that are not running. For any other outcome, the state of the
search is shown (`state_word`).
"""
WHY = {
    "completed": "Finished: all trials are done.",
    "budget": "Finished: its budget is used up.",
    "gain": "Finished: more trials did not seem worthwhile.",
    "stopped": "Finished: it was asked to stop.",
    "lost": "It ended when its machines were lost. It can continue where it was.",
    "interrupted": "It was interrupted, and can continue where it was.",
}
"""Sentences on the end of a search, by its outcome."""


@dataclass(frozen=True)
class NewsLine:
    """A decision or another event in one line of text."""

    time_ms: int
    """The Unix time of the event, in milliseconds."""
    trial: str
    """The trial that the event concerns; empty if it concerns none."""
    text: str


def news_lines(event: Event, result: SearchResult) -> Iterator[NewsLine]:
    """Yield lines of text about an event; nothing if it is not interesting for people.

    Args:
        event: the event.
        result: the result of the search, which already includes the event.
    """
    match event.data:
        case Stopped() | Held() | Promoted():
            texts = [next(describe_event(event, result, History()))]
        case Ended() as ended if ended.outcome not in (*FAILED, "stopped"):
            texts = [ended.outcome]
        case _:
            texts = news(event)
    trial = event.trial if isinstance(event.data, TrialEvent) else ""
    for text in texts:
        yield NewsLine(event.time_ms, trial, text.removeprefix(f"trial {trial} "))


def overview_state(line: Overview) -> str:
    """Describe the state of a search in one or two words, for the list of searches."""
    if line.state in ("broken", "running"):
        return line.state
    return OUTCOMES.get(line.outcome) or state_word(line)


def stand_text(standing: SearchStanding) -> str:
    """Describe the state of a search in a sentence and, if it has ended, the reason."""
    result = standing.result
    if standing.stage is Stage.RUNNING:
        return f"Running{_at_work(result)}."
    if standing.stage is Stage.SELECTING:
        return "Its best trials are being trained again with fresh seeds, to choose one."
    if (ago_s := standing.cut_off_s) is not None:
        return (
            f"Cut off {duration(ago_s)} ago: no process is running it. It can continue where it "
            "was."
        )
    if is_paused(result):
        return f"Paused: it can continue where it was. ({result.reason})"
    why = WHY.get(result.outcome, f"It ended: {result.outcome}.")
    return f"{why} ({result.reason})" if result.reason and result.outcome != "completed" else why


def _at_work(result: SearchResult) -> str:
    if running := result.counts.get("running", 0):
        return f": {counted(running, 'trial')} in training"
    is_last = result.ended >= int(result.started.experiment["trials"])
    return ": its trials have ended, and are being evaluated" if is_last else ""


def left_text(result: SearchResult, before: Before, planned: int) -> str:
    """Describe the estimated remaining time of a running search; empty if it is not known.

    Args:
        result: the result of the search.
        before: the resources that the search had used before its current session.
        planned: the planned number of trials.
    """
    seconds = time_left(result, planned, before, result.sessions[-1].elapsed_ms / 1000)
    if seconds is None:
        return ""
    return f"about {duration(seconds)} left" if seconds >= 1 else FINISHING
