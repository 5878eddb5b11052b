"""Rounds, in which the trials of a process train an epoch together.

Each trial has a thread of its own, which saves, reports and waits for decisions as if the trial
were alone. Only to train its epochs it iterates over `FusionRounds.epochs`, which blocks until a
round has trained the next one. In a round, trials of the same shape are trained as one network
(`trainables/fusion/stack.py`), and the others one after another.

A round starts when all trials that have joined are waiting for it, or after a short time
(`PATIENCE_S`), so that a trial that is late (it saves, or waits for the driver) does not hold up
the others; it takes part in the next round. Which trials take part in a round affects only the
speed: up to rounding, an epoch has the same result in any group.

There is no thread for the rounds themselves. The first waiting thread whose patience ends trains
the epoch for all trials, while the other threads wait on the condition `_changed`, which guards all
state. It is released during training, so that further trials can queue for the next round.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from trainables.fusion.stack import PartialUpdateError, incompatibility, shape_of, train_together
from trainables.messages import EpochMetrics
from trainables.training.loop import Training

PATIENCE_S, PATIENCE_SHARE = 0.2, 0.25
"""The time that a round waits for late trials, in seconds and as a share of the last round's time.

The longer of the two applies. A trial is late while it saves or waits for a decision.
"""

BEAT_S = 0.5
"""The least time between two heartbeats, in seconds; a step of one trial counts for all trials."""

Outcome = EpochMetrics | Exception


class FusionRounds:
    """Rounds in which all waiting trials train one epoch together.

    A trial calls `join` once, then iterates over its `epochs`, and calls `leave` at its end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._present = set[str]()
        """The trials that have joined and not left, for which a round waits."""
        self._waiting: dict[str, Training] = {}
        """The trials whose threads wait for the next round."""
        self._done: dict[str, Outcome] = {}
        """The outcomes that the trials' threads have not fetched yet."""
        self._beats: dict[str, Callable[[], None]] = {}
        self._last_beat = 0.0
        self._refused: dict[tuple[Hashable, int], str] = {}
        """The reason why a shape could not be fused with this number of members."""
        self._notes: list[str] = []
        self._busy = False
        """True while a thread trains a round."""
        self._round_s = self._waiting_since = 0.0

    def join(self, trial: str) -> None:
        """Let rounds wait for this trial from now on."""
        with self._changed:
            self._present.add(trial)

    def leave(self, trial: str) -> None:
        """Let rounds no longer wait for this trial."""
        with self._changed:
            self._beats.pop(trial, None)
            self._present.discard(trial)
            self._changed.notify_all()

    def epochs(self, trial: str, training: Training) -> Iterator[EpochMetrics]:
        """Train like `Training.epochs`, each epoch together with the other trials.

        Each step sends heartbeats for all trials, because the thread that trains works for all.
        """
        self._beats[trial] = training.on_step
        training.on_step = self._beat
        while training.epoch < training.config.epochs:
            yield self._epoch(trial, training)

    def note(self) -> str:
        """Return and remove a message that was not reported yet; empty if there is none."""
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
        """Return the seconds for which the next round still waits for late trials."""
        if self._present <= self._waiting.keys():
            return 0.0
        return (
            self._waiting_since + max(PATIENCE_S, PATIENCE_SHARE * self._round_s) - time.monotonic()
        )

    def _run_round(self) -> None:
        """Train the waiting trials in this thread, which holds the lock and releases it meanwhile.

        Trials that arrive in the meantime wait for the next round.
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

        An exception in the training of one trial is only that trial's outcome.
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

        If the memory is not enough for this number of trials, they are trained one after another,
        and fusion is not tried again for this shape and number.
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
            # By torch, for lack of memory or in a kernel. Up to then no training was changed.
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
    except Exception as error:  # noqa: BLE001 - it is raised in the trial's own thread
        return error
