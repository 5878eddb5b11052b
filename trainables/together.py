"""Trials of one process that train each epoch together: those of one shape as one network (`trainables/fusion.py`), the others in turn.

Each trial has a thread of its own, which saves, reports and waits for decisions as if it were alone, and comes here for each epoch.
"""

import threading
import time
from collections.abc import Hashable, Iterator

from trainables.fusion import shape_of, train_together, why_not
from trainables.loop import EpochMetrics, Training

PATIENCE_S, PATIENCE_SHARE = 0.2, 0.25
"""How long a round waits for a trial that is late, because it saves or is being decided upon: at least this, and this share of a round."""

Outcome = EpochMetrics | Exception


class Together:
    """A meeting place. Trials `join`, ask for their `epochs`, and `leave`; in between each may be late for a round, and misses it."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._present = set[str]()
        self._waiting: dict[str, Training] = {}
        self._done: dict[str, Outcome] = {}
        self._busy = False
        self._took = self._since = 0.0

    def join(self, trial: str) -> None:
        """Expect this trial."""
        with self._news:
            self._present.add(trial)

    def leave(self, trial: str) -> None:
        """Expect it no more."""
        with self._news:
            self._present.discard(trial)
            self._news.notify_all()

    def epochs(self, trial: str, training: Training) -> Iterator[EpochMetrics]:
        """As `Training.epochs`, each in the company of the others."""
        while training.epoch < training.config.epochs:
            yield self._epoch(trial, training)

    def _epoch(self, trial: str, training: Training) -> EpochMetrics:
        with self._news:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting[trial] = training
            self._news.notify_all()
            while trial not in self._done:
                if self._busy:
                    self._news.wait()
                elif (left := self._patience()) > 0:
                    self._news.wait(left)
                else:
                    self._lead()
            outcome = self._done.pop(trial)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _patience(self) -> float:
        """Seconds for which the round still waits."""
        if self._present <= self._waiting.keys():
            return 0.0
        return self._since + max(PATIENCE_S, PATIENCE_SHARE * self._took) - time.monotonic()

    def _lead(self) -> None:
        """Train those that wait, in this thread; others may come meanwhile, for the next round."""
        round_, self._waiting, self._busy = self._waiting, {}, True
        self._news.release()
        start, outcomes = time.monotonic(), dict[str, Outcome]()
        try:
            outcomes = train_round(round_)
        finally:
            self._news.acquire()
            lost = RuntimeError("the round that it was trained in broke off")
            self._done |= {trial: outcomes.get(trial, lost) for trial in round_}
            self._busy, self._took, self._since = False, time.monotonic() - start, time.monotonic()
            self._news.notify_all()


def train_round(trainings: dict[str, Training]) -> dict[str, Outcome]:
    """One epoch of each, by trial. What one of them raises is its outcome and nobody else's."""
    groups: dict[Hashable, list[str]] = {}
    for trial, training in trainings.items():
        groups.setdefault(shape_of(training.config) or trial, []).append(trial)
    outcomes: dict[str, Outcome] = {}
    for group in groups.values():
        outcomes |= train_group({trial: trainings[trial] for trial in group})
    return outcomes


def train_group(trainings: dict[str, Training]) -> dict[str, Outcome]:
    """Fused if that is possible, each by itself if not: also when there is no memory for all at once."""
    if len(trainings) > 1 and not why_not(list(trainings.values())):
        try:
            return dict(zip(trainings, train_together(list(trainings.values())), strict=True))
        except RuntimeError:  # torch's, for memory and for kernels that refuse; it has left all as they were
            pass
    return {trial: train_alone(training) for trial, training in trainings.items()}


def train_alone(training: Training) -> Outcome:
    """One epoch, or what it raised."""
    try:
        return training.next_epoch()
    except Exception as error:  # noqa: BLE001 - it is raised where the trial waits
        return error
