"""The past states of a search, which are needed to tell the story of a single trial."""

from array import array

from search.journal.events import Ended, Epoch, Freed, Suggested
from search.journal.journal import Event
from search.journal.result import FAILED, SearchResult, elapsed_s


class History:
    """The facts about all trials of a search that the story of a single trial needs.

    It stores three numbers per epoch. With them, the story of a trial can be told from the trial's
    own events; it would take seconds to read the events of thousands of trials again.
    """

    def __init__(self) -> None:
        """Create an empty history; call `apply` with each event."""
        self.ended: set[str] = set()
        self.counts: dict[str, tuple[int, int]] = {}
        """For each trial, (number of ended trials, number of running trials) at its suggestion."""
        self._epochs: dict[str, tuple[array[int], array[int], array[float]]] = {}
        """For each trial, three arrays over its epochs: the events' numbers, epochs and scores."""
        self._failed: dict[str, int] = {}
        """For each failed trial, the number of the event that ended it."""
        self._elapsed_s = array("d")
        """For each event, the duration so far, in seconds, of the search or of its selection."""

    def apply(self, event: Event, result: SearchResult) -> None:
        """Add the next event; `result` must include it, but no later event."""
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
        """Format the duration of the search, or of its selection, until an event: `0:12:05`."""
        return _clock_text(self._elapsed_s[event.number - 1])

    def scores_at(self, rung: int, number: int) -> dict[str, float]:
        """Return the scores of trials at a rung, by trial, as they were known at an event.

        A trial's score is its best one up to the rung. Trials that had not reached the rung by
        then, or had failed, are left out.

        Args:
            rung: the epoch of the rung.
            number: the number of the event. Epochs up to and including this event count.
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


def _clock_text(elapsed: float) -> str:
    seconds = int(elapsed)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
