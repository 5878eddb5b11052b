"""Rounds, in which the trials of a process train an epoch together.

Each trial has its own thread, which saves, reports and waits for decisions independently of the
other trials. To train, it iterates over `FusionRounds.epochs`, which blocks until a round has
trained the trial's next epoch. In a round, trials of the same shape are trained as one network
(`trainables/fusion/stack.py`), and the others one after another.

A round starts when all trials that have joined are waiting for it, or after a short time
(`PATIENCE_S`). So a trial that is late, because it saves or waits for the driver, does not delay
the others; it takes part in the next round. The grouping of trials affects only the speed: up to
rounding, an epoch has the same result in any group.

There is no thread for the rounds themselves. The first waiting thread whose patience ends trains
the epoch for all trials, while the other threads wait on the condition `_changed`, whose lock
guards all state. The lock is released during training, so that further trials can queue for the
next round.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from trainables.fusion.stack import PartialUpdateError, incompatibility, shape_of, train_together
from trainables.messages import EpochMetrics
from trainables.training.loop import Training

PATIENCE_S, PATIENCE_SHARE = 0.2, 0.25
"""The longest time that a round waits for late trials.

It is the larger of `PATIENCE_S` seconds and `PATIENCE_SHARE` of the last round's time. A trial is
late while it saves or waits for a decision.
"""

BEAT_S = 0.5
"""The minimum time between two heartbeats, in seconds; a step sends heartbeats of all trials."""

Outcome = EpochMetrics | Exception


class FusionRounds:
    """Rounds in which all waiting trials train one epoch together.

    A trial calls `join` once, iterates over its `epochs`, and calls `leave` when it has finished.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = set[str]()
        """The trials that have joined and not left; a round waits for them."""
        self._waiting: dict[str, Training] = {}
        """The trials whose threads wait for the next round."""
        self._done: dict[str, Outcome] = {}
        """The outcomes that the trials' threads have not collected yet."""
        self._beats: dict[str, Callable[[], None]] = {}
        self._last_beat = 0.0
        self._refused: dict[tuple[Hashable, int], str] = {}
        """The reason why a group could not be fused, by its shape and its number of members."""
        self._notes: list[str] = []
        self._busy = False
        """True while a thread trains a round."""
        self._round_s = self._waiting_since = 0.0

    def join(self, trial: str) -> None:
        """Register a trial: rounds wait for it from now on."""
        with self._changed:
            self._present.add(trial)

    def leave(self, trial: str) -> None:
        """Unregister a trial: rounds no longer wait for it."""
        with self._changed:
            self._beats.pop(trial, None)
            self._present.discard(trial)
            self._changed.notify_all()

    def epochs(self, trial: str, training: Training) -> Iterator[EpochMetrics]:
        """Train like `Training.epochs`, each epoch in a round with the other trials.

        Each step sends heartbeats for all trials, because one thread trains for all of them.
        """
        self._beats[trial] = training.on_step
        training.on_step = self._beat
        while training.epoch < training.config.epochs:
            yield self._epoch(trial, training)

    def note(self) -> str:
        """Remove and return a message that was not reported yet; empty if there is none."""
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
                elif (patience_s := self._patience_left()) > 0:
                    self._changed.wait(patience_s)
                else:
                    self._run_round()
            outcome = self._done.pop(trial)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _patience_left(self) -> float:
        """Return the seconds that the next round still waits; 0 or less if it may start."""
        if self._present <= self._waiting.keys():
            return 0.0
        return (
            self._waiting_since + max(PATIENCE_S, PATIENCE_SHARE * self._round_s) - time.monotonic()
        )

    def _run_round(self) -> None:
        """Train the waiting trials in this thread.

        The thread must hold the lock, which is released during the training. Trials that arrive in
        the meantime wait for the next round.
        """
        round_, self._waiting, self._busy = self._waiting, {}, True
        self._changed.release()
        start, outcomes = time.monotonic(), dict[str, Outcome]()
        try:
            outcomes = self.train_round(round_)
        finally:
            self._changed.acquire()
            lost = RuntimeError("the round in which the trial was trained was aborted")
            self._done |= {trial: outcomes.get(trial, lost) for trial in round_}
            self._busy = False
            self._round_s, self._waiting_since = time.monotonic() - start, time.monotonic()
            self._changed.notify_all()

    def train_round(self, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """Train one epoch of each trial, and return the outcomes by trial.

        An exception in the training of one trial is the outcome of this trial only.
        """
        groups: dict[Hashable, list[str]] = {}
        for trial, training in trainings.items():
            groups.setdefault(shape_of(training.config) or trial, []).append(trial)
        outcomes: dict[str, Outcome] = {}
        for shape, group in groups.items():
            outcomes |= self.train_group(shape, {trial: trainings[trial] for trial in group})
        return outcomes

    def train_group(self, shape: Hashable, trainings: dict[str, Training]) -> dict[str, Outcome]:
        """Train trials of the same shape as one network if possible, else one after another.

        If fusion fails, for example for lack of memory, they are trained one after another, and
        fusion is not tried again for this shape and this number of trials.
        """
        size = shape, len(trainings)
        if (
            len(trainings) > 1
            and size not in self._refused
            and not incompatibility(list(trainings.values()))
        ):
            try:
                return dict(zip(trainings, train_together(list(trainings.values())), strict=True))
            except PartialUpdateError as error:
                return dict.fromkeys(trainings, error)
            # torch raises this for lack of memory, or in a kernel. No training has been changed.
            except RuntimeError as error:
                self._refused[size] = (str(error).splitlines() or [type(error).__name__])[0][:200]
                with self._changed:
                    self._notes.append(
                        f"{len(trainings)} trials cannot be trained as one network, "
                        f"and are trained one after another ({self._refused[size]})"
                    )
        return {trial: train_alone(training) for trial, training in trainings.items()}


def train_alone(training: Training) -> Outcome:
    """Train one epoch, and return its metrics or the exception that was raised."""
    try:
        return training.next_epoch()
    except Exception as error:  # noqa: BLE001 - it is raised in the trial's own thread
        return error
