"""The best value so far of a search, against time and against trained epochs."""

from array import array
from dataclasses import dataclass

from search.facts.series import BestSoFar
from trainables.catalog.tasks import Metric


@dataclass(frozen=True)
class CourseRecord:
    """A value that is better than all earlier ones."""

    seconds: float
    """Seconds since the search began, without the time between its sessions."""
    epochs: int
    """Number of epochs of all trials until then."""
    value: float
    trial: str


class Course:
    """The successive best values of a search. Values of failed trials do not count."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.records: list[CourseRecord] = []
        self.seconds, self.epochs = 0.0, 0
        """Time of the last epoch, and number of trained epochs."""
        self._best = BestSoFar(metric)
        self._trials: list[str] = []
        self._failed: set[str] = set()
        self._seconds, self._epochs, self._values = array("d"), array("L"), array("d")

    @property
    def count(self) -> int:
        """Number of epochs that were added."""
        return len(self._trials)

    def add(self, trial: str, seconds: float, value: float, *, is_own: bool = True) -> bool:
        """Add an epoch; return True if it is a record.

        `is_own` is False for an epoch that is reused from another trial, which costs nothing.
        """
        self.seconds, self.epochs = seconds, self.epochs + is_own
        self._trials.append(trial)
        self._seconds.append(seconds)
        self._epochs.append(self.epochs)
        self._values.append(value)
        return self._take(len(self._trials) - 1)

    def drop(self, trial: str) -> None:
        """Remove the records of a trial that has failed."""
        self._failed.add(trial)
        if any(record.trial == trial for record in self.records):
            self.records, self._best = [], BestSoFar(self.metric)
            for place in range(len(self._trials)):
                self._take(place)

    def _take(self, place: int) -> bool:
        value = self._values[place]
        if self._trials[place] in self._failed or not self._best.add(value):
            return False
        record = CourseRecord(self._seconds[place], self._epochs[place], value, self._trials[place])
        self.records.append(record)
        return True
