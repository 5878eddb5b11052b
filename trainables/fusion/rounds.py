"""Trials of one process that train each epoch together.

Those of one shape train as one network (`trainables/fusion/stack.py`), the others in turn. Each
trial has a thread of its own, which saves, reports and waits for decisions as if it were alone, and
comes here for each epoch.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from trainables.fusion.stack import PartialUpdateError, shape_of, train_together, why_not
from trainables.messages import EpochMetrics
from trainables.training.loop import Training

PATIENCE_S, PATIENCE_SHARE = 0.2, 0.25
"""The time that a round waits for a late trial: so many seconds, or so large a share of a round.

A trial is late because it saves or waits for a decision. The longer time counts, and the share is
of the round before.
"""

BEAT_S = 0.5
"""The least time between two heartbeats, in seconds; a step of one trial counts for all."""

Outcome = EpochMetrics | Exception


class FusionRounds:
    """Rounds in which the trials that wait train one epoch together.

    Trials `join`, ask for their `epochs`, and `leave`; in between each may be late for a round, and
    misses it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = set[str]()
        self._waiting: dict[str, Training] = {}
        self._done: dict[str, Outcome] = {}
        self._beats: dict[str, Callable[[], None]] = {}
        self._last_beat = 0.0
        self._refused: dict[tuple[Hashable, int], str] = {}
        self._notes: list[str] = []
        self._busy = False
        self._round_s = self._waiting_since = 0.0

    def join(self, trial: str) -> None:
        """Expect this trial in each round from now on."""
        with self._changed:
            self._present.add(trial)

    def leave(self, trial: str) -> None:
        """Expect this trial no more."""
        with self._changed:
            self._beats.pop(trial, None)
            self._present.discard(trial)
            self._changed.notify_all()

    def epochs(self, trial: str, training: Training) -> Iterator[EpochMetrics]:
        """Train as `Training.epochs` does, each epoch together with the other trials.

        While one trial trains, heartbeats are sent for all.
        """
        self._beats[trial] = training.on_step
        training.on_step = self._beat
        while training.epoch < training.config.epochs:
            yield self._epoch(trial, training)

    def note(self) -> str:
        """Return a message that has not been reported yet, once; empty if there is none."""
        with self._changed:
            return self._notes.pop() if self._notes else ""

    def _beat(self) -> None:
        if time.monotonic() - self._last_beat > BEAT_S:
            self._last_beat = time.monotonic()
            for beat in list(self._beats.values()):
                beat()

    def _epoch(self, trial: str, training: Training) -> EpochMetrics:
        with self._changed:
            if not self._waiting:
                self._waiting_since = time.monotonic()
            self._waiting[trial] = training
            self._changed.notify_all()
            while trial not in self._done:
                if self._busy:
                    self._changed.wait()
                elif (left := self._patience_left()) > 0:
                    self._changed.wait(left)
                else:
                    self._run_round()
            outcome = self._done.pop(trial)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _patience_left(self) -> float:
        """Return the seconds for which the round still waits."""
        if self._present <= self._waiting.keys():
            return 0.0
        return (
            self._waiting_since + max(PATIENCE_S, PATIENCE_SHARE * self._round_s) - time.monotonic()
        )

    def _run_round(self) -> None:
        """Train the trials that wait, in this thread.

        Others may come meanwhile, for the next round.
        """
        round_, self._waiting, self._busy = self._waiting, {}, True
        self._changed.release()
        start, outcomes = time.monotonic(), dict[str, Outcome]()
        try:
            outcomes = self.train_round(round_)
        finally:
            self._changed.acquire()
            lost = RuntimeError("the round that it was trained in broke off")
            self._done |= {trial: outcomes.get(trial, lost) for trial in round_}
            self._busy = False
            self._round_s, self._waiting_since = time.monotonic() - start, time.monotonic()
            self._changed.notify_all()

    def train_round(self, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """Train one epoch of each, and return the outcomes by trial.

        An exception that one trial raises is its own outcome and no other trial's.
        """
        groups: dict[Hashable, list[str]] = {}
        for trial, training in trainings.items():
            groups.setdefault(shape_of(training.config) or trial, []).append(trial)
        outcomes: dict[str, Outcome] = {}
        for shape, group in groups.items():
            outcomes |= self.train_group(shape, {trial: trainings[trial] for trial in group})
        return outcomes

    def train_group(self, shape: Hashable, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """Train trials of one shape as one network if possible, else one after another.

        The latter is also done where there is not the memory for so many at once; that is not tried
        twice.
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
            # torch's, for memory and for kernels that refuse; it has left all as they were.
            except RuntimeError as error:
                self._refused[size] = (str(error).splitlines() or [type(error).__name__])[0][:200]
                with self._changed:
                    self._notes.append(
                        f"{len(trainings)} trials cannot be trained as one network, "
                        f"and are trained in turn ({self._refused[size]})"
                    )
        return {trial: train_alone(training) for trial, training in trainings.items()}


def train_alone(training: Training) -> Outcome:
    """Train one epoch; return its metrics, or the exception that it raised."""
    try:
        return training.next_epoch()
    except Exception as error:  # noqa: BLE001 - it is raised where the trial waits
        return error
