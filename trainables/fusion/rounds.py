"""Trials of one process that train each epoch together: those of one shape as one network
(`trainables/fusion/stack.py`), the others in turn.

Each trial has a thread of its own, which saves, reports and waits for decisions as if it were
alone, and comes here for each epoch.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from trainables.fusion.stack import PartialUpdateError, shape_of, train_together, why_not
from trainables.messages import EpochMetrics
from trainables.training.loop import Training

PATIENCE_S, PATIENCE_SHARE = 0.2, 0.25
"""How long a round waits for a trial that is late, because it saves or is being decided upon: at
least this, and this share of a round.
"""

BEAT_S = 0.5
"""How often a step is passed on as a sign of life of all."""

Outcome = EpochMetrics | Exception


class FusionRounds:
    """A meeting place. Trials `join`, ask for their `epochs`, and `leave`; in between each may be
    late for a round, and misses it.
    """

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._present = set[str]()
        self._waiting: dict[str, Training] = {}
        self._done: dict[str, Outcome] = {}
        self._beats: dict[str, Callable[[], None]] = {}
        self._beaten = 0.0
        self._refused: dict[tuple[Hashable, int], str] = {}
        self._notes: list[str] = []
        self._busy = False
        self._took = self._since = 0.0

    def join(self, trial: str) -> None:
        """Expect this trial."""
        with self._news:
            self._present.add(trial)

    def leave(self, trial: str) -> None:
        """Expect it no more."""
        with self._news:
            self._beats.pop(trial, None)
            self._present.discard(trial)
            self._news.notify_all()

    def epochs(self, trial: str, training: Training) -> Iterator[EpochMetrics]:
        """As `Training.epochs`, each in the company of the others. While one trains, all are alive."""
        self._beats[trial] = training.on_step
        training.on_step = self._beat
        while training.epoch < training.config.epochs:
            yield self._epoch(trial, training)

    def note(self) -> str:
        """What should be told and has not been yet; empty if nothing is to be."""
        with self._news:
            return self._notes.pop() if self._notes else ""

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > BEAT_S:
            self._beaten = time.monotonic()
            for beat in list(self._beats.values()):
                beat()

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
            outcomes = self.train_round(round_)
        finally:
            self._news.acquire()
            lost = RuntimeError("the round that it was trained in broke off")
            self._done |= {trial: outcomes.get(trial, lost) for trial in round_}
            self._busy, self._took, self._since = False, time.monotonic() - start, time.monotonic()
            self._news.notify_all()

    def train_round(self, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """One epoch of each, by trial. What one of them raises is its outcome and nobody else's."""
        groups: dict[Hashable, list[str]] = {}
        for trial, training in trainings.items():
            groups.setdefault(shape_of(training.config) or trial, []).append(trial)
        outcomes: dict[str, Outcome] = {}
        for shape, group in groups.items():
            outcomes |= self.train_group(shape, {trial: trainings[trial] for trial in group})
        return outcomes

    def train_group(self, shape: Hashable, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """Fused if that is possible, each by itself if not: also when there is no memory for so
        many at once, which is not tried twice.
        """
        size = shape, len(trainings)
        if (
            len(trainings) > 1
            and size not in self._refused
            and not why_not(list(trainings.values()))
        ):
            try:
                return dict(zip(trainings, train_together(list(trainings.values())), strict=True))
            except PartialUpdateError as error:
                return dict.fromkeys(trainings, error)
            except RuntimeError as error:  # torch's, for memory and for kernels that refuse; it has left all as they were
                self._refused[size] = (str(error).splitlines() or [type(error).__name__])[0][:200]
                with self._news:
                    self._notes.append(
                        f"{len(trainings)} trials cannot be trained as one network, and are trained in turn ({self._refused[size]})"
                    )
        return {trial: train_alone(training) for trial, training in trainings.items()}


def train_alone(training: Training) -> Outcome:
    """One epoch, or what it raised."""
    try:
        return training.next_epoch()
    except Exception as error:  # noqa: BLE001 - it is raised where the trial waits
        return error
