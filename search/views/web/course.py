"""The best so far of a search, epoch by epoch, against time and against epochs."""

from array import array
from dataclasses import dataclass

from search.views.series import BestSoFar
from trainables.catalog.tasks import Metric


@dataclass(frozen=True)
class Record:
    """A value that was better than all before."""

    seconds: float
    """Since the search began, the time between its sessions left out."""
    epochs: int
    """Epochs of all trials by then."""
    value: float
    trial: str


class Course:
    """The records of a search. What a trial reached counts no more once that trial has failed."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.records: list[Record] = []
        self.seconds, self.epochs = 0.0, 0
        """The time of the last epoch, and the number of epochs that were trained."""
        self._best = BestSoFar(metric)
        self._trials: list[str] = []
        self._failed: set[str] = set()
        self._seconds, self._epochs, self._values = array("d"), array("L"), array("d")

    @property
    def count(self) -> int:
        """The number of epochs that it has heard of."""
        return len(self._trials)

    def add(self, trial: str, seconds: float, value: float, *, is_own: bool = True) -> bool:
        """Take an epoch, and return whether it is a record.

        `is_own` is false of one that another trial had trained, which costs nothing.
        """
        self.seconds, self.epochs = seconds, self.epochs + is_own
        self._trials.append(trial)
        self._seconds.append(seconds)
        self._epochs.append(self.epochs)
        self._values.append(value)
        return self._take(len(self._trials) - 1)

    def drop(self, trial: str) -> None:
        """Take a trial's values back: it has failed."""
        self._failed.add(trial)
        if any(record.trial == trial for record in self.records):
            self.records, self._best = [], BestSoFar(self.metric)
            for place in range(len(self._trials)):
                self._take(place)

    def _take(self, place: int) -> bool:
        value = self._values[place]
        if self._trials[place] in self._failed or not self._best.add(value):
            return False
        record = Record(self._seconds[place], self._epochs[place], value, self._trials[place])
        self.records.append(record)
        return True
