"""The interface to Ray Tune: a searcher, a scheduler and a callback that delegate to the driver.

Tune assigns trials to slots; the driver makes all decisions. Tune pickles these three objects, but
they unpickle as None, since a search is resumed from its journal and never from Tune's files.
"""

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread, Timer
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.cli import error_line
from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.runtime.session import LOCAL, dead_parts
from search.decisions.driver import Driver
from search.execution.data_parallel import train_on_workers
from search.execution.failures import (
    innermost,
    keep_traceback,
    killed_for_memory,
    kind_of,
    last_line,
    reason_of,
)
from search.execution.hang_detector import Watch
from search.execution.job import JOB, Handed, Job
from search.execution.pool import Workers
from search.execution.tune_patches import Errors, PlaceholderTrainable, patch_tune
from search.execution.worker import TuneResult
from search.journal.journal import JournalError
from search.values.message import Remedy
from trainables.messages import decode_reports

Tick = Callable[[], None]
LAST_WORDS_S = 10
"""If Tune has not returned this number of seconds after Ray has died, this process is ended."""
LOOK_S = 1.0
"""Seconds between two checks of `RayWatchdog` that Ray is alive."""
SAME_DEATH_S = 5.0
"""If several trials run out of memory within this number of seconds, they are assumed to have
shared a worker.
"""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""ANSI colour codes, which are removed from tracebacks."""

WAITING = {"node:__internal_head__": 0.001}
"""The resources that Tune reserves for a trial whose workers hold the actual resources: a tiny
share of the head node, and no CPU.
"""


def _nothing() -> None:
    return None


def job_in(trial: Trial) -> Job:
    """Return the job that a trial of Tune carries in its config."""
    job: Job = trial.config[JOB]
    return job


class Unpickled:
    """A base class of objects that unpickle as None."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nothing, ()


class DriverSearcher(Unpickled, Searcher):
    """A searcher for Tune that asks the driver for each next trial."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Return True for success; the driver already has these properties."""
        return True

    def suggest(self, trial_id: str) -> Handed | str | None:  # type: ignore[override]
        """Return the config of the next trial in Tune, which contains its job.

        The result is None if no trial can start now, but one may start later: a running trial may
        be retried, or the user may request more trials. It is `Searcher.FINISHED` if no further
        trial will follow.
        """
        suggestion = self.driver.suggest()
        if suggestion is None:
            is_over = self.driver.over and not self.driver.active
            return str(Searcher.FINISHED) if is_over else None
        trial, config = suggestion
        folder = self.driver.experiment.home.place(trial).folder
        request, download = self.driver.handout(trial, config), self.driver.experiment.download
        return {JOB: Job(trial, config.to_dict(), folder, request, download)}

    def on_trial_complete(
        self, trial_id: str, result: TuneResult | None = None, error: bool = False
    ) -> None:
        """Do nothing: `DriverScheduler` and `DriverCallback` have informed the driver."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: all state is in the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a search is resumed from its journal."""


class DriverScheduler(Unpickled, FIFOScheduler):
    """A scheduler for Tune that passes reports to the driver, which decides when a trial stops.

    If a result contains several reports, the decision on the last one counts.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: TuneResult) -> str:
        """Pass the reports to the driver; return STOP if the trial should stop, else CONTINUE.

        A trial on several workers receives the decision through its `Team` and ends by itself, so
        the result is always CONTINUE for it.
        """
        if note := result.get("note", ""):
            self.driver.journal.complain(note)
        reports, job = decode_reports(result["reports"]), job_in(trial)
        over = [self.driver.report(job.trial, report) for report in reports][-1]
        if self.driver.experiment.demand.workers == 1:
            return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)
        if reports[-1].outcome is None:
            team, number = result["team"], result["number"]
            self.driver.journal.when_on_disk(lambda: _decide(team, number, not over))
        return str(TrialScheduler.CONTINUE)


def _decide(team: str, number: int, goes_on: bool) -> None:
    """Tell the workers of a team whether its trial continues after the report with this number."""
    # If the team is gone, so are the workers: the trial is failing, and `on_trial_error` follows.
    with suppress(ValueError):
        ray.get_actor(team).decide.remote(number, goes_on)


class DriverCallback(Unpickled, tune.Callback):
    """A callback for Tune that informs the driver of started and failed trials."""

    def __init__(
        self,
        driver: Driver,
        errors: Errors,
        tick: Tick,
        *,
        shared: bool,
        end_team: Callable[[str], None] = lambda trial: None,
    ) -> None:
        self.driver, self.errors, self.tick, self.shared = driver, errors, tick, shared
        self.end_team = end_team
        self.narrowed = -SAME_DEATH_S
        home = driver.experiment.home
        self.watch = Watch(
            driver.experiment.hang_timeout + home.beats_late_s,
            beats=home.beats,
            every_s=home.beats_every_s,
        )
        self.last_words = RayWatchdog(driver)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Call `tick`, check that Ray is alive, and kill trials that hang.

        Tune calls this method several times a second.

        Raises:
            NotReady: a process of Ray itself has died.
        """
        self.tick()
        if dead := dead_parts():
            self.last_words.start(lost(dead))
            raise NotReady(lost(dead))
        running = (
            trial
            for name in self.driver.active
            if (trial := self.driver.trials[name]).outcome == "running" and not trial.wait_reason
        )
        self.watch.look(
            {self.driver.experiment.trial_folder(trial.trial): trial.attempt for trial in running}
        )

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Inform the driver that the trial has started, and on which host."""
        host = ""
        with suppress(ray.exceptions.RayError):  # the actor died, and `on_trial_error` follows
            host = trial.get_ray_actor_ip() or ""
        self.driver.running(job_in(trial).trial, host=host)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Report a failed trial to the driver, and store its traceback.

        The trial's process died, could not be started, or was killed because it hung; or the
        training raised an error.
        """
        job, error = job_in(trial), self.errors.pop(trial.trial_id, None)
        self.end_team(job.trial)
        name, attempt = job.trial, job.request.attempt
        hung = self.watch.killed.pop(name, "")
        # After a trial was held at a rung, its old attempt may fail while it stops: ignore that.
        if attempt != self.driver.attempt(name):
            return
        if hung:
            self.driver.fail(name, "hung", hung)
            return
        kind = self._kind(error)
        traceback = (
            ""
            if kind == "moved" or killed_for_memory(error)
            else keep_traceback(
                self.driver.experiment.home,
                name,
                attempt,
                COLOURS.sub("", str(error)),
            )
        )
        self.driver.fail(name, kind, reason_of(error, kind), traceback=traceback)

    def _kind(self, error: Any) -> str:
        """Classify a failure as `kind_of` does, with an exception for shared workers.

        If a shared worker was killed because memory ran low, only the first of its trials is
        classified as `memory`. The others are classified as `lost`, which allows more retries.
        """
        kind = kind_of(error)
        if self.shared and killed_for_memory(error):
            since, self.narrowed = time.monotonic() - self.narrowed, time.monotonic()
            return "lost" if since < SAME_DEATH_S else kind
        return kind


class NoProgress(TrialProgressCallback):
    """A progress callback that does nothing, and that keeps Tune from adding its own.

    Tune's own callback keeps a reference to every trial, and asks the process of a failed trial for
    a report. If Ray's memory monitor has killed that process, this aborts the whole search.
    """

    def on_trial_result(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""

    def on_trial_error(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""

    def on_trial_complete(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""


def lost(dead: list[str]) -> str:
    """Format the error message about processes of Ray that died."""
    return f"Ray's {' and '.join(dead)} died; the results so far are kept"


class RayWatchdog:
    """Ends this process if Ray has died and Tune does not return within `LAST_WORDS_S`.

    Otherwise, Ray itself would end the process after a minute, without a message.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.timer: Timer | None = None
        self.over, self.lock = Event(), Lock()

    def watch(self) -> None:
        """Start a thread that checks that Ray is alive, even while a step of Tune is blocked."""
        Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.over.wait(LOOK_S):
            if dead := dead_parts():
                return self.start(lost(dead))

    def start(self, reason: str) -> None:
        """Start the timer that ends this process, unless it runs already or was cancelled."""
        with self.lock:
            if self.timer is None and not self.over.is_set():
                self.timer = Timer(LAST_WORDS_S, self.say, [reason])
                self.timer.start()

    def cancel(self) -> None:
        """Stop the thread and the timer, after Tune has returned."""
        self.over.set()
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()

    def say(self, reason: str) -> None:
        """Write the last event, print the reason and how to resume, and end the process."""
        self.driver.close("lost", reason)
        self.driver.journal.patient = False
        with suppress(JournalError):
            self.driver.finish()
        experiment = self.driver.experiment
        go_on = Remedy("resume", experiment.name, experiment.storage)
        sys.stderr.write(error_line(f"{reason}. Continue with: {go_on}"))
        sys.stderr.flush()
        os._exit(ExitCode.NOT_READY)


def tune_search(driver: Driver, workers: Workers, *, slots: int, tick: Tick) -> None:
    """Run trials until the driver suggests no more. The trials have no access to the test set.

    Args:
        driver: the driver of the search.
        workers: the pool of workers.
        slots: the maximum number of trials that run at the same time.
        tick: called several times a second.

    Raises:
        NotReady: Ray failed; the results until then are in the journal.
    """
    for name in ("ray.tune", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with scratch(driver) as folder, patch_tune(workers, driver) as errors:
        callback = DriverCallback(
            driver, errors, tick, shared=workers.members > 1, end_team=workers.end_team
        )
        tuner = tune.Tuner(
            _trainable(workers, slots),
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(driver),
                scheduler=DriverScheduler(driver),
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=driver.experiment.demand.workers == 1,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                callbacks=[callback, NoProgress()],
                progress_reporter=tune.CLIReporter(),  # in a notebook Tune would add an output
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        callback.last_words.watch()
        went_well = False
        try:
            tuner.fit()
            went_well = True
        except (ray.exceptions.RayError, tune.TuneError, ConnectionError) as error:
            first = innermost(error)
            if not isinstance(first, ray.exceptions.RayError | tune.TuneError | OSError):
                raise first from error
            raise NotReady(
                f"Ray failed ({last_line(first)}). The results so far are kept, and the search can "
                "be continued."
            ) from error
        finally:
            workers.end_teams(at_once=not went_well)
            callback.last_words.cancel()


@contextmanager
def scratch(driver: Driver) -> Iterator[Path]:
    """Yield a folder for Tune's own files, which this project does not read; remove it on exit.

    On a cluster with a shared folder, Tune's folder is inside the folder of the search. Otherwise
    it is a temporary folder of this machine.
    """
    experiment = driver.experiment
    own = experiment.address == LOCAL or not experiment.home.is_shared
    folder = (
        Path(tempfile.mkdtemp(prefix="search-")) if own else (experiment.folder / "ray").absolute()
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(workers: Workers, slots: int) -> Any:
    """Return the trainable that Tune runs for each trial, with the resources that Tune reserves.

    It is a placeholder for a worker of the pool. With several workers per trial, it is a function
    that takes a team of workers and waits for it.
    """
    demand = workers.demand
    if demand.workers == 1:
        resources = (
            {"cpu": demand.cpus, "gpu": demand.gpus}
            if workers.members == 1
            else tune.PlacementGroupFactory([WAITING])
        )
        return tune.with_resources(PlaceholderTrainable, resources)
    led = tune.with_parameters(train_on_workers, teams=workers.start_teams(slots))
    return tune.with_resources(led, tune.PlacementGroupFactory([WAITING]))
