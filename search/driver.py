"""The decisions of a search: what is tried next, what is stopped, how each trial ended.

Each is in the journal before anybody acts on it. No Ray here: Tune asks these questions in a real search (`tuning`), and a test or a
replay of recorded curves may ask them just as well.
"""

import time
from collections.abc import Callable
from typing import Any

from search.algorithms.base import Algorithm
from search.algorithms.registry import ALGORITHMS
from search.experiment import Experiment
from search.journal import Journal
from search.result import SearchResult
from search.schedulers.base import Scheduler, Stop
from search.schedulers.registry import SCHEDULERS
from trainables.config import TrialConfig
from trainables.errors import ConfigError


class Driver:
    """Answers for one search; `result` is what it knows."""

    def __init__(self, experiment: Experiment, journal: Journal, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.experiment, self.journal, self.clock = experiment, journal, clock
        self.algorithm: Algorithm = ALGORITHMS[experiment.algorithm](experiment.space, experiment.seed)
        self.scheduler: Scheduler = SCHEDULERS[experiment.scheduler](experiment.horizon)
        self.result = SearchResult()
        journal.listeners.insert(0, self.result.apply)
        self.deadline = clock() + experiment.time_budget if experiment.time_budget else None
        self.closing: tuple[str, str] | None = None

    def suggest(self) -> tuple[str, TrialConfig] | None:
        """A new trial; None when there will be no more. Params that make no valid config are a failed trial, and the next is asked for."""
        if self._closed() or len(self.result.trials) >= self.experiment.planned_trials:
            return None
        trial = f"t{len(self.result.trials) + 1:04d}"
        params = self.algorithm.ask(trial)
        if params is None:
            return None
        try:
            config = self.experiment.config(params)
        except ConfigError as error:
            self.journal.append("suggested", trial=trial, params=params, config={})
            self._end(trial, "failed", str(error))
            return self.suggest()
        self.journal.append("suggested", trial=trial, params=params, config=config.to_dict())
        return trial, config

    def running(self, trial: str, **where: Any) -> None:
        """A trial has got its slot."""
        self.journal.append("running", trial=trial, **where)

    def report(self, trial: str, report: dict[str, Any]) -> bool:
        """Hear a trial's `Report` after an epoch; True when the trial is over."""
        stop = None
        if report["metrics"]:
            self.journal.append("epoch", trial=trial, epoch=report["epoch"], metrics=report["metrics"])
            self.algorithm.report(trial, report["epoch"], report["metrics"]["val/accuracy"])
            stop = self.scheduler.on_epoch(trial, report["epoch"], self.result.trials[trial].accuracy)
        if report["outcome"] is not None:
            self._end(trial, report["outcome"], report["reason"])
            return True
        by = self.experiment.scheduler
        if stop is None and self._closed():
            by, reason = self.closing or ("", "")
            stop = Stop(reason)
        if stop is None:
            return False
        self.journal.append("stopped", trial=trial, epoch=report["epoch"], by=by, **stop.to_dict())
        self._end(trial, "stopped", stop.reason)
        return True

    def fail(self, trial: str, reason: str) -> None:
        """A trial's process is gone, or it raised."""
        if self.result.trials[trial].outcome in ("pending", "running"):
            self._end(trial, "failed", reason)

    def close(self, by: str, reason: str) -> None:
        """Start nothing more, and stop each running trial after its epoch. The first reason given stays."""
        self.closing = self.closing or (by, reason)

    def finish(self) -> None:
        """Write the search's own outcome as the last line. A trial that never told its end has failed, unless the search was cut off."""
        if self.closing is None:
            for trial in list(self.result.trials):
                self.fail(trial, "it ended without a word")
        by, reason = self.closing or ("completed", "")
        self.journal.append("finished", outcome=by, reason=reason)

    def _closed(self) -> bool:
        if self.deadline is not None and self.clock() >= self.deadline:
            self.close("time_budget", f"the time budget of {self.experiment.time_budget:g} s is used up")
        return self.closing is not None

    def _end(self, trial: str, outcome: str, reason: str) -> None:
        self.journal.append("ended", trial=trial, outcome=outcome, reason=reason)
        value = self.result.trials[trial].accuracy if outcome in ("completed", "stopped") else None
        self.algorithm.tell(trial, outcome, value)
