"""A baseline as a trial: a single fit, which counts and is reported as one epoch.

    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    (epoch,) = Fitting(config, dataset).epochs()

The config's augmentation, optimizer, batch size and precision are ignored. Baselines always run on
the CPU.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from trainables.baselines.base import Beat, Fitted, load_baseline, no_beat
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.messages import EpochMetrics
from trainables.values import State

BUSY_SHARE = 0.05
"""The minimum processor time of a process that works, as a share of the elapsed time.

A process that uses less counts as idle, and sends no heartbeat.
"""


class Fitting:
    """The fit of a baseline, used in place of a `Training`.

    It has the part of `Training`'s interface that a trial needs: epochs, and a state to save and
    restore.
    """

    precision = ""
    device = "cpu"

    def __init__(
        self, config: TrialConfig, dataset: Dataset, *, on_step: Beat | None = None
    ) -> None:
        self.config, self.dataset, self.on_step = config, dataset, on_step or no_beat
        self.baseline = load_baseline(config)
        self.fitted: Fitted = None
        self.epoch = 0

    @property
    def epochs_done(self) -> float:
        """The number of epochs that are done: 1 after the fit."""
        return self.epoch

    def epochs(self) -> Iterator[EpochMetrics]:
        """Yield the metrics of the only epoch; nothing if that epoch has already finished."""
        if not self.epoch:
            yield self.next_epoch()

    def next_epoch(self) -> EpochMetrics:
        """Fit the baseline, and measure it on the validation set.

        The learning rate is reported as 0. The reported time includes the wait for features.
        """
        start = time.perf_counter()
        with keep_alive(self.on_step):
            self.fitted = self.baseline.fit(self.dataset, self.on_step)
            values = self.baseline.measure(self.fitted, self.dataset, self.on_step)
        self.epoch = 1
        return EpochMetrics(1, {"lr": 0.0, **values, "time/epoch_s": time.perf_counter() - start})

    def state(self) -> State:
        """Return the state for a checkpoint; it has no classifier before the fit."""
        return {"epoch": self.epoch, **self.baseline.state(self.fitted)}

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned."""
        self.epoch = state["epoch"]
        self.fitted = self.baseline.restore(state, self.dataset)


@contextmanager
def keep_alive(beat: Beat, every_s: float = 1.0) -> Iterator[None]:
    """Send heartbeats while this process computes, even during a single long step.

    `beat` is called about every `every_s` seconds by a thread, but only if the process has used
    processor time since the last check (`BUSY_SHARE`): a process that uses none is considered hung.
    """
    over = threading.Event()

    def watch() -> None:
        before = time.process_time()
        while not over.wait(every_s):
            spent, before = time.process_time() - before, time.process_time()
            if spent > BUSY_SHARE * every_s:
                beat()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
